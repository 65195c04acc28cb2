//! The sandboxes Pyro is compared with, each given the guests' own root file system: read-only below, a writable layer above.
//!
//! With root that is a loop mount and an overlay over a tmpfs, both in the run's mount namespace; without, a copy. A peer that does not
//! work on this host is reported with its own words, never hidden and never a failure.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    command::{self, command},
    sample::Samples,
};

/// Limits below those of hosts that let nobody raise one; podman's own defaults are above.
const PODMAN_LIMITS: [&str; 2] = ["nofile=1024:1024", "nproc=1024:1024"];
/// gVisor's ways to run a program, best first. Old builds lack some, and `kvm` needs what this comparison is about not needing.
const RUNSC_PLATFORMS: [&str; 2] = ["systrap", "ptrace"];
const CONTAINER: &str = "pyro-bench";

/// One way to run `/bin/true` in a fresh sandbox.
#[derive(Debug)]
pub(crate) struct OneShot {
    /// Name and isolation, for the table.
    pub(crate) subject: String,
    /// The command, or why it does not work here. `{id}` stands for a name that was not used yet.
    argv: Result<Vec<String>, String>,
    runs: u32,
}

/// A sandbox that lives, and how to run a command in it.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) subject: String,
    /// What is put before a command, or why there is no such sandbox here.
    pub(crate) exec: Result<Vec<String>, String>,
    stop: Vec<Vec<String>>,
}

/// Every peer, on one root file system.
#[derive(Debug)]
pub(crate) struct Peers {
    folder: PathBuf,
    root: PathBuf,
    runsc_platform: Option<&'static str>,
}

impl Peers {
    /// Prepares root file system and bundles.
    pub(crate) async fn prepare(run: &Path, image: &Path) -> Result<Self> {
        let folder = run.join("peers");
        fs::create_dir_all(&folder)?;
        let root = if rustix::process::geteuid().is_root() { mount_root(&folder, image).await? } else { copy_root(&folder, image).await? };
        let mut peers = Self { folder, root, runsc_platform: None };
        peers.write_bundle("true", &["/bin/true"]).await?;
        peers.write_bundle("sleep", &["/bin/sleep", "86400"]).await?;
        for platform in RUNSC_PLATFORMS {
            let works = command::time(command(&peers.runsc(platform, &["run", "-bundle", &peers.path("true"), "probe"]))).await.is_ok();
            if works {
                peers.runsc_platform = Some(platform);
                break;
            }
        }
        Ok(peers)
    }

    /// Returns the guests' root file system as a folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns every way to run `/bin/true` once; each was tried.
    pub(crate) async fn one_shots(&self) -> Vec<OneShot> {
        let root = self.root.to_string_lossy().into_owned();
        let bundle = self.path("true");
        let platform = self.runsc_platform.unwrap_or("ptrace");
        let bwrap = ["bwrap", "--unshare-all", "--die-with-parent", "--bind", &root, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"];
        let candidates = [
            ("bwrap: namespaces, host kernel".to_owned(), strings(&bwrap)),
            ("crun run: namespaces + capabilities, host kernel".to_owned(), self.crun(&["run", "--bundle", &bundle, "{id}"])),
            ("podman run: same + seccomp, host kernel".to_owned(), self.podman(&["run", "--rm"], &["/bin/true"])),
            (format!("runsc run: user-space kernel ({platform})"), self.runsc(platform, &["run", "-bundle", &bundle, "{id}"])),
            (format!("runsc do: user-space kernel ({platform})"), self.runsc(platform, &["do", "-root", &root, "/bin/true"])),
        ];
        let mut peers = Vec::new();
        for (subject, argv) in candidates {
            let mut peer = OneShot { subject, argv: Ok(argv), runs: 0 };
            if let Err(error) = peer.time().await {
                peer.argv = Err(format!("{error:#}"));
            }
            peers.push(peer);
        }
        peers
    }

    /// Starts a sandbox of every peer that has an `exec`.
    pub(crate) async fn live(&self) -> Vec<Live> {
        let platform = self.runsc_platform.unwrap_or("ptrace");
        let bundle = self.path("sleep");
        let candidates = [
            (
                "crun exec".to_owned(),
                self.crun(&["run", "--detach", "--bundle", &bundle, CONTAINER]),
                self.crun(&["exec", CONTAINER]),
                vec![self.crun(&["delete", "--force", CONTAINER])],
            ),
            (
                "podman exec".to_owned(),
                self.podman(&["run", "--detach", "--name", CONTAINER], &["/bin/sleep", "86400"]),
                self.podman_base(&["exec", CONTAINER]),
                vec![self.podman_base(&["rm", "--force", "--time", "0", CONTAINER])],
            ),
            (
                format!("runsc exec ({platform})"),
                self.runsc(platform, &["run", "-detach", "-bundle", &bundle, CONTAINER]),
                self.runsc(platform, &["exec", CONTAINER]),
                vec![self.runsc(platform, &["kill", CONTAINER, "KILL"]), self.runsc(platform, &["delete", "-force", CONTAINER])],
            ),
        ];
        let mut peers = Vec::new();
        for (subject, start, exec, stop) in candidates {
            let mut peer = Live { subject, exec: Ok(exec), stop };
            let outcome = async {
                command::detach(command(&start)).await?;
                peer.time(&["/bin/true"]).await
            };
            if let Err(error) = outcome.await {
                peer.exec = Err(format!("{error:#}"));
            }
            peers.push(peer);
        }
        peers
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn crun(&self, arguments: &[&str]) -> Vec<String> {
        // Without cgroups: not every host lets them be made, and it is the faster way.
        [strings(&["crun", "--root", &self.path("crun"), "--cgroup-manager=disabled"]), strings(arguments)].concat()
    }

    fn runsc(&self, platform: &str, arguments: &[&str]) -> Vec<String> {
        let platform = format!("--platform={platform}");
        [strings(&["runsc", "--root", &self.path("runsc"), "--network=none", "--ignore-cgroups", &platform]), strings(arguments)].concat()
    }

    fn podman_base(&self, arguments: &[&str]) -> Vec<String> {
        let (root, run, tmp) = (self.path("podman"), self.path("podman-run"), self.path("podman-tmp"));
        [strings(&["podman", "--root", &root, "--runroot", &run, "--tmpdir", &tmp]), strings(arguments)].concat()
    }

    fn podman(&self, run: &[&str], program: &[&str]) -> Vec<String> {
        let root = self.root.to_string_lossy();
        let mut arguments = run.to_vec();
        arguments.extend(["--network", "none", "--cgroups=disabled", "--log-driver", "none"]);
        arguments.extend(PODMAN_LIMITS.iter().flat_map(|limit| ["--ulimit", limit]));
        arguments.extend(["--rootfs", &root]);
        arguments.extend(program);
        self.podman_base(&arguments)
    }

    /// Writes an OCI bundle: what `crun spec` makes, with our root file system and program.
    async fn write_bundle(&self, name: &str, program: &[&str]) -> Result<()> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        let mut spec = command(&["crun", "spec"]);
        if !rustix::process::geteuid().is_root() {
            spec.arg("--rootless");
        }
        spec.current_dir(&folder);
        if command::time(spec).await.is_err() {
            // Without crun there is no bundle, and the peers that want one say so.
            return Ok(());
        }
        let path = folder.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?).context("`crun spec` wrote no JSON")?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(program);
        config["root"] = json!({ "path": self.root, "readonly": false });
        Ok(fs::write(&path, serde_json::to_vec(&config)?)?)
    }
}

impl OneShot {
    /// Returns why this peer does not work here.
    pub(crate) fn problem(&self) -> Option<&String> {
        self.argv.as_ref().err()
    }

    /// Runs it once and keeps the time. A peer that fails in the middle of a run is out of it from then on.
    pub(crate) async fn sample(&mut self, samples: &mut Samples) {
        match self.time().await {
            Ok(elapsed) => samples.push(elapsed),
            Err(error) => self.argv = Err(format!("{error:#}")),
        }
    }

    /// Runs it once; returns milliseconds from its start to its end.
    async fn time(&mut self) -> Result<f64> {
        let argv = self.argv.clone().map_err(anyhow::Error::msg)?;
        self.runs += 1;
        let id = format!("{CONTAINER}-{}", self.runs);
        let argv: Vec<String> = argv.into_iter().map(|argument| if argument == "{id}" { id.clone() } else { argument }).collect();
        Ok(command::time(command(&argv)).await?.0)
    }
}

impl Live {
    /// Runs a command in it; returns milliseconds from its start to its end.
    pub(crate) async fn time(&self, program: &[&str]) -> Result<f64> {
        Ok(command::time(command(&self.argv(program)?)).await?.0)
    }

    /// Keeps a sample, or the reason why there are no more.
    pub(crate) fn keep(&mut self, sample: Result<f64>, samples: &mut Samples) {
        match sample {
            Ok(value) => samples.push(value),
            Err(error) => self.exec = Err(format!("{error:#}")),
        }
    }

    /// Returns the whole command line.
    pub(crate) fn argv(&self, program: &[&str]) -> Result<Vec<String>> {
        let exec = self.exec.clone().map_err(anyhow::Error::msg)?;
        Ok([exec, strings(program)].concat())
    }

    /// Ends the sandbox. What resists ends with the run's namespace.
    pub(crate) async fn stop(self) {
        for argv in &self.stop {
            drop(command::detach(command(argv)).await);
        }
    }
}

fn strings(parts: &[&str]) -> Vec<String> {
    parts.iter().map(ToString::to_string).collect()
}

async fn mount_root(folder: &Path, image: &Path) -> Result<PathBuf> {
    let path = |name: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    };
    let (lower, layer, root) = (path("image")?, path("layer")?, path("root")?);
    mount(&["-o", "ro,loop", &image.to_string_lossy(), &lower.to_string_lossy()]).await?;
    mount(&["-t", "tmpfs", "pyro-bench", &layer.to_string_lossy()]).await?;
    let (upper, work) = (path("layer/upper")?, path("layer/work")?);
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    mount(&["-t", "overlay", "pyro-bench", "-o", &options, &root.to_string_lossy()]).await?;
    Ok(root)
}

async fn mount(arguments: &[&str]) -> Result<()> {
    command::time(command(&[&["mount"], arguments].concat())).await.context("cannot mount the peers' root file system")?;
    Ok(())
}

/// Takes the files out of the image without mounting it; `debugfs` is of e2fsprogs, which Pyro needs anyway.
async fn copy_root(folder: &Path, image: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    fs::create_dir_all(&root)?;
    let request = format!("rdump / {}", root.display());
    // Ownership cannot be kept without root; `debugfs` says so for every file and goes on.
    let path = "/usr/sbin/debugfs";
    command::time(command(&[path, "-R", &request, &image.to_string_lossy()])).await.context("cannot copy the peers' root file system")?;
    ensure!(root.join("usr/bin/true").is_file(), "`debugfs` copied no root file system");
    Ok(root)
}
