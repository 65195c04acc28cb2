//! What a new workspace begins with when a model names nothing: a folder of the host, or a clean clone made by this server.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use pyro_sdk::ErrorKind;
use tokio::{process::Command, sync::watch};

use super::{answer::Refusal, is_alive, server::Server};

/// How long a call waits for a clone; chat hosts give a call up at 60 s.
const CLONE_WAIT: Duration = Duration::from_secs(40);
/// How long a clone may take.
const CLONE_DEADLINE: Duration = Duration::from_secs(1800);
/// How much of what Git says is told.
const REASON_MAX_CHARS: usize = 600;

/// Where the project is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum ProjectSource {
    /// Nowhere: workspaces begin empty.
    #[default]
    None,
    /// A folder or an archive of the host.
    Path(PathBuf),
    /// A repository that is cloned anew for this server.
    Repository {
        /// As Git takes it.
        url: String,
        /// Branch, tag or commit; the remote's own choice without one.
        reference: Option<String>,
    },
}

/// What a clone has come to.
type Outcome = Option<Result<PathBuf, String>>;

/// A clone that was begun, shared by all calls of a server.
#[derive(Debug, Default)]
pub(super) struct Clone {
    outcome: tokio::sync::Mutex<Option<watch::Receiver<Outcome>>>,
}

impl ProjectSource {
    /// Finds the Git checkout that a folder belongs to.
    pub(crate) fn checkout_around(folder: &Path) -> Self {
        folder.ancestors().find(|ancestor| ancestor.join(".git").exists()).map_or(Self::None, |root| Self::Path(root.to_owned()))
    }

    /// Says in a few words what workspaces begin with.
    pub(super) fn description(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Path(path) => Some(path.display().to_string()),
            Self::Repository { url, reference: Some(reference) } => Some(format!("{} at {reference}", without_credentials(url))),
            Self::Repository { url, reference: None } => Some(without_credentials(url)),
        }
    }

    /// Returns the path to seed from.
    pub(super) async fn path(&self, server: &Server) -> Result<Option<PathBuf>, Refusal> {
        let (url, reference) = match self {
            Self::None => return Ok(None),
            Self::Path(path) => return Ok(Some(path.clone())),
            Self::Repository { url, reference } => (url, reference),
        };
        let mut outcome = {
            let mut begun = server.clone_of_source().outcome.lock().await;
            // One that failed is tried again: the network may be back.
            let usable = begun.as_ref().filter(|outcome| !matches!(&*outcome.borrow(), Some(Err(_))));
            match usable {
                Some(outcome) => outcome.clone(),
                None => {
                    let sources = server.pyro().await?.dirs().cache.join("sources");
                    begun.insert(begin(sources, url.clone(), reference.clone())).clone()
                }
            }
        };
        let waited = tokio::time::timeout(CLONE_WAIT, outcome.wait_for(Option::is_some)).await;
        match waited.map(|outcome| outcome.ok().and_then(|outcome| outcome.clone())) {
            Ok(Some(Ok(path))) => Ok(Some(path)),
            Ok(Some(Err(reason))) => Err(Refusal::of_kind(
                ErrorKind::Io,
                format!("cannot clone {}: {reason}", without_credentials(url)),
                "pass seed_path, or ask the operator to correct --repo-url and --repo-ref".to_owned(),
            )),
            Ok(None) => Err(Refusal::of_kind(ErrorKind::Io, "the clone was given up".to_owned(), "call again".to_owned())),
            Err(_) => Err(Refusal::of_kind(
                ErrorKind::DeadlineExceeded,
                format!("{} is being cloned for the first time", without_credentials(url)),
                "the clone goes on; call again in half a minute".to_owned(),
            )),
        }
    }
}

impl Clone {
    /// Removes what was cloned.
    pub(super) async fn remove(&self) {
        let done = self.outcome.lock().await.as_ref().and_then(|outcome| outcome.borrow().clone());
        if let Some(Ok(path)) = done {
            drop(tokio::fs::remove_dir_all(path).await);
        }
    }
}

/// Begins a clone that goes on whoever waits for it, and ends with this process.
fn begin(sources: PathBuf, url: String, reference: Option<String>) -> watch::Receiver<Outcome> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let cloned = tokio::time::timeout(CLONE_DEADLINE, clone(&sources, &url, reference.as_deref())).await;
        let cloned = cloned.unwrap_or_else(|_| Err(format!("it took longer than {} s", CLONE_DEADLINE.as_secs())));
        drop(sender.send(Some(cloned)));
    });
    receiver
}

async fn clone(sources: &Path, url: &str, reference: Option<&str>) -> Result<PathBuf, String> {
    sweep(sources);
    std::fs::create_dir_all(sources).map_err(|error| error.to_string())?;
    let prefix = format!("{}-", std::process::id());
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(sources).map_err(|error| error.to_string())?;
    let path = folder.path();
    git(path, &["init", "--quiet", "--template="]).await?;
    git(path, &["remote", "add", "--", "origin", url]).await?;
    let wanted = reference.unwrap_or("HEAD");
    let shallow = git(path, &["fetch", "--quiet", "--depth=1", "--no-recurse-submodules", "--", "origin", wanted]).await;
    match (shallow, reference) {
        (Ok(()), _) => check_out(path, "FETCH_HEAD").await?,
        (Err(reason), None) => return Err(reason),
        // A server need not give out a commit that no branch points to; then everything is fetched and looked through.
        (Err(reason), Some(reference)) => {
            let fetched = git(path, &["fetch", "--quiet", "--tags", "--no-recurse-submodules", "origin"]).await;
            let found = match fetched {
                Ok(()) => check_out(path, reference).await,
                Err(error) => Err(error),
            };
            found.map_err(|_| reason)?;
        }
    }
    Ok(folder.keep())
}

async fn check_out(folder: &Path, commit: &str) -> Result<(), String> {
    git(folder, &["checkout", "--quiet", "--detach", "--end-of-options", commit]).await
}

/// Runs Git without anything of the user's or of the repository's that would run by itself.
async fn git(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("git");
    command
        .args(["-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "core.fsmonitor=false"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_LFS_SKIP_SMUDGE", "1")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = command.output().await.map_err(|error| format!("cannot run `git` ({error}); install it with `apt-get install git`"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(without_credentials(&reason.trim().replace('\n', "; ").chars().take(REASON_MAX_CHARS).collect::<String>()))
}

/// Removes clones of servers that have died.
fn sweep(sources: &Path) {
    for entry in std::fs::read_dir(sources).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split_once('-').and_then(|(pid, _)| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !is_alive(pid)) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Takes user and password out of addresses in a text.
pub(crate) fn without_credentials(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| match word.split_once("://") {
            Some((scheme, rest)) => {
                let authority = rest.find('/').unwrap_or(rest.len());
                match rest[..authority].rfind('@') {
                    Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
                    None => word.to_owned(),
                }
            }
            None => word.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_an_address_are_not_told() {
        assert_eq!(without_credentials("fatal: 'https://me:secret@host/a@b' x"), "fatal: 'https://host/a@b' x");
        assert_eq!(without_credentials("git@host:a/b"), "git@host:a/b");
    }

    #[test]
    fn checkout_is_found_from_inside_and_elsewhere_there_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("repo/src/deep");
        std::fs::create_dir_all(&inside).expect("writable");
        std::fs::create_dir(folder.path().join("repo/.git")).expect("writable");
        assert_eq!(ProjectSource::checkout_around(&inside), ProjectSource::Path(folder.path().join("repo")));
        assert_eq!(ProjectSource::checkout_around(folder.path()), ProjectSource::None);
    }

    #[tokio::test]
    async fn branch_tag_and_commit_are_cloned_clean_and_what_is_not_there_is_said() {
        let home = tempfile::tempdir().expect("a folder");
        let origin = home.path().join("origin");
        std::fs::create_dir(&origin).expect("writable");
        let run = |arguments: Vec<&'static str>| {
            let origin = origin.clone();
            async move { git(&origin, &arguments).await.expect("git works") }
        };
        run(vec!["init", "--quiet", "--initial-branch=main"]).await;
        for (text, tag) in [("one", "v1"), ("two", "v2")] {
            std::fs::write(origin.join("file"), text).expect("writable");
            run(vec!["add", "."]).await;
            run(vec!["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=x"]).await;
            run(vec!["tag", tag]).await;
        }
        std::fs::write(origin.join("untracked"), "").expect("writable");
        let url = format!("file://{}", origin.display());
        let first = std::fs::read_to_string(origin.join(".git/refs/tags/v1")).expect("readable");
        for (reference, text) in [(None, "two"), (Some("main"), "two"), (Some("v1"), "one"), (Some(first.trim()), "one")] {
            let path = clone(&home.path().join("sources"), &url, reference).await.expect("cloned");
            assert_eq!(std::fs::read_to_string(path.join("file")).expect("readable"), text, "{reference:?}");
            assert!(!path.join("untracked").exists());
        }
        let reason = clone(&home.path().join("sources"), &url, Some("nothing")).await.expect_err("there is none");
        assert!(reason.contains("nothing"), "{reason}");
        for option in ["--upload-pack=touch x", "-x"] {
            assert!(clone(&home.path().join("sources"), option, None).await.is_err());
        }
    }
}
