//! MCP clients of others, and a server for those that speak HTTP. `script/install-test-clients` installs the clients.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use crate::{Home, pool};

/// A server answers in a twentieth of a second; a busy machine is slower by some tens.
const SERVER_START: Duration = Duration::from_secs(20);

/// Returns the folder of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository")
}

/// Returns the binary under test, for clients that start their server themselves.
#[must_use]
pub fn pyro() -> String {
    pool::binary().to_string_lossy().into_owned()
}

/// Returns the folder in which a client's package is installed: `node` or `python`.
///
/// # Panics
/// They are not installed: `make test` does that before the tests.
#[must_use]
pub fn clients(part: &str) -> PathBuf {
    let target = pool::binary().ancestors().nth(2).expect("target/PROFILE/pyro").join("mcp-clients");
    assert!(target.join("installed").is_file(), "the MCP clients are not installed: run `script/install-test-clients` (make test does)");
    target.join(part)
}

/// Returns Python with the official client, for a program of its own.
#[must_use]
pub fn python(home: &Home) -> Command {
    let mut command = home.program(&clients("python").join("bin/python"));
    // Its programs lie in the source tree, which stays as it is.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Returns Node, for a program of its own.
#[must_use]
pub fn node(home: &Home) -> Command {
    home.program(&clients("python").join("bin/node"))
}

/// Copies folders of the repository to where Node finds the installed packages: above the program that imports them.
///
/// # Panics
/// They cannot be copied.
#[must_use]
pub fn player(folders: &[&str]) -> tempfile::TempDir {
    let place = tempfile::Builder::new().prefix("run-").tempdir_in(clients("node")).expect("the target folder is writable");
    for folder in folders {
        let copied = Command::new("cp").arg("-r").arg(repository().join(folder)).arg(place.path()).status();
        assert!(copied.is_ok_and(|status| status.success()), "cannot copy `{folder}`");
    }
    place
}

/// A server on a port of its own. It ends with this value.
#[derive(Debug)]
pub struct HttpServer {
    /// Where it is reached.
    pub url: String,
    /// What a client must show.
    pub token: String,
    child: Child,
}

impl HttpServer {
    /// Starts `pyro mcp serve --http 127.0.0.1:0` and waits until it says where it is.
    ///
    /// # Panics
    /// It does not say so in time.
    #[must_use]
    pub fn start(home: &Home, more: &[&str]) -> Self {
        let token = "a-token-of-this-test".to_owned();
        let mut arguments = vec!["mcp", "serve", "--http", "127.0.0.1:0"];
        arguments.extend(more);
        let mut command = home.command(&arguments);
        command.env("PYRO_MCP_TOKEN", &token).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("pyro starts");
        let stderr = child.stderr.take().expect("it was piped");
        let (sender, receiver) = mpsc::channel();
        let reader = std::thread::spawn(move || watch(stderr, &sender));
        match receiver.recv_timeout(SERVER_START) {
            Ok(url) => Self { url, token, child },
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("no server: {}", reader.join().expect("the reader does not panic"));
            }
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what a server says to its end, since a full pipe would stop it, and tells where it listens.
fn watch(stderr: ChildStderr, sender: &mpsc::Sender<String>) -> String {
    let mut said = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some(url) = line.split_once("[mcp-serve] url=").and_then(|(_, rest)| rest.split_whitespace().next()) {
            let _ = sender.send(url.to_owned());
        }
        said.push_str(&line);
        said.push('\n');
    }
    said
}
