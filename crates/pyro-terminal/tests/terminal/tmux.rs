//! A second opinion: tmux shows the same bytes, and its screen must say what a read says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::programs::{self, NAMES, SIZE};
use crate::read_at;

/// How long a pane may take to show a file of a few KiB on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(20);

/// Streams that begin at the top of the screen, so that a read says the whole of it.
const SYNTHETIC: [(&str, &str); 15] = [
    ("moves", "\x1b[Hone\x1b[3;10Hten\x1b[2Aup\x1b[1Bdown\x1b[20Gcolumn\x1b[5dline"),
    ("region", "\x1b[H1\r\n2\r\n3\r\n4\r\n5\x1b[2;4r\x1b[4;1H\n\nnew\x1b[2;1H\x1bMtop"),
    ("margins", "\x1b[H\x1b[5;8r\x1b[7;3H\x1b[99Aup\x1b[99Bdown\x1b[2;1H\x1b[99Babove\x1b[20;1H\x1b[3Abelow"),
    ("origin", "\x1b[H\x1b[5;8r\x1b[?6h\x1b[2;3Hin\x1b[12Gcolumn\x1b[1Aup\x1b[2Edown\x1b[?6l\x1b[Hout"),
    ("bad region", "\x1b[H\x1b[40;50r\x1b[20;1Ha\n\n\n\nb\x1b[9;3rc"),
    ("lines", "\x1b[H1\r\n2\r\n3\r\n4\x1b[2;1H\x1b[2L\x1b[Minserted\x1b[5;1H\x1b[1L-"),
    ("characters", "\x1b[Habcdef\x1b[3G\x1b[2@XY\x1b[7G\x1b[P\x1b[1X\x1b[70G12345\x1b[72G\x1b[50P"),
    ("insert", "\x1b[Habcdef\x1b[3G\x1b[4hXY\x1b[4lZ"),
    ("erase", "\x1b[Hone two\r\nthree four\r\nfive\x1b[2;6H\x1b[1J\x1b[K\x1b[3;2H\x1b[1K"),
    ("erase below", "\x1b[Hone\r\ntwo\r\nthree\x1b[2;2H\x1b[J"),
    ("clear", "\x1b[Hone\r\ntwo\x1b[2J after"),
    ("tabs", "\x1b[Ha\tb\tc\x1b[3g\x1b[20G\x1bH\r\td\x1b[Ze\x1b[3;80Hx\x1b[Zy"),
    ("wrap", "\x1b[H\x1b[78Gabcdef\x1b[2;79H\u{65e5}\u{672c}\x1b[4;80Hx\ry\x1b[6;80Hz\tw"),
    ("no wrap", "\x1b[H\x1b[?7l\x1b[78Gabcdef\x1b[?7h"),
    ("saved", "\x1b[H\x1b[3;5H\x1b7\x1b[9;9Hfar\x1b8near\x1b[2b"),
];

/// A private server, which ends with its panes when the test does.
struct Server {
    /// Holds its socket and the streams it shows.
    folder: PathBuf,
}

impl Server {
    #[expect(clippy::print_stdout, reason = "a skipped test says why")]
    fn start() -> Option<Self> {
        match Command::new("tmux").arg("-V").output() {
            Ok(_) => {
                let folder = std::env::temp_dir().join(format!("pyro-terminal-{}", std::process::id()));
                std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
                Some(Self { folder })
            }
            Err(error) => {
                println!("skipped: no second opinion without `tmux`: {error}");
                None
            }
        }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-f", "/dev/null", "-u", "-S"])
            .arg(self.folder.join("socket"))
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .output()
            .expect("tmux answered its version before");
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("tmux writes UTF-8 when told `-u`")
    }

    /// Shows the file in a pane of its own and waits until the pane says `expected`.
    fn check(&self, name: &str, file: &Path, capture: &[&str], expected: &str) {
        let (columns, rows) = (SIZE.columns.to_string(), SIZE.rows.to_string());
        let session = name.replace(' ', "-");
        let command = format!("stty raw -echo; cat '{}'; exec sleep 60", file.display());
        self.run(&["new-session", "-d", "-s", &session, "-x", &columns, "-y", &rows, &command]);
        let begun = Instant::now();
        loop {
            let shown = self.run(&[&["capture-pane", "-p", "-t", &session], capture].concat());
            let shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
            let shown = shown.join("\n");
            if shown.trim_end() == expected {
                return;
            }
            if begun.elapsed() > DEADLINE {
                assert_eq!(expected, shown.trim_end(), "{name}: ours, then tmux's");
            }
            std::thread::sleep(INTERVAL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may not have started, and what is left in a temporary folder does no harm.
        let _ = Command::new("tmux").arg("-S").arg(self.folder.join("socket")).arg("kill-server").output();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn tmux_shows_what_a_read_says() {
    let Some(server) = Server::start() else { return };
    for name in NAMES {
        let plain = read_at(SIZE, b"", &programs::bytes(name));
        // With its scrollback, but for full-screen programs; those have no lines that go on in the next row.
        let capture: &[&str] = if plain.full_screen { &[] } else { &["-J", "-S", "-"] };
        server.check(name, &programs::path(&format!("{name}.bytes")), capture, &plain.text);
    }
    for (name, stream) in SYNTHETIC {
        let file = server.folder.join(name);
        std::fs::write(&file, stream).unwrap();
        server.check(name, &file, &["-J"], &read_at(SIZE, b"", stream.as_bytes()).text);
    }
}
