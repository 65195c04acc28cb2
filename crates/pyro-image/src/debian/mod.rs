//! Builds an environment from Debian packages.
//!
//! Everything from the network is fetched first, by apt, as a private apt of our own: indexes and packages in the cache folder, the host's
//! proxy and certificates, its sources, its keys. mmdebstrap then installs without the network. So an interrupted pull goes on where it
//! stopped (apt resumes even half a package), and what is installed is exactly what one state of the indexes named.
//!
//! The working folder belongs to the caller, who removes it whatever happens.

mod apt;
mod sources;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use self::apt::{Apt, Package};
use crate::error::{Error, Result};
use crate::files;
use crate::modules;
use crate::progress::{Reporter, phase};
use crate::tool::{Tool, World};

/// Follows to the kernel package of the day; the flavour for virtual machines, a tenth of the general one.
const KERNEL_METAPACKAGE: &str = "linux-image-cloud-amd64";
const KERNEL_PREFIX: &str = "linux-image-";
/// Held while packages are fetched, or removed.
pub(crate) const CACHE_LOCK: &str = "apt.lock";
/// Where the host says where its packages come from.
const HOST_APT: &str = "/etc/apt";
/// One script, because without root all of it must happen in one user namespace.
const FINISH: &str = include_str!("finish.sh");
const LABEL: &str = "pyro-root";
const IMAGE_UUID: &str = "50795f72-6f00-4000-8000-726f6f740000";

/// What to build.
pub(crate) struct Request<'a> {
    pub(crate) codename: &'static str,
    pub(crate) packages: &'static [&'static str],
    /// An apt folder or a sources file to use instead of the host's.
    pub(crate) apt_sources: Option<&'a Path>,
    /// Kept between pulls.
    pub(crate) cache: &'a Path,
    /// Empty, and of this pull alone.
    pub(crate) working: &'a Path,
    /// Existing folder for `root.ext4`, `vmlinuz` and `modules.cpio`.
    pub(crate) result: &'a Path,
}

/// What was built, beside the files.
pub(crate) struct Built {
    pub(crate) kernel_version: String,
    pub(crate) package_count: u32,
    pub(crate) content_bytes: u64,
}

/// Builds the environment.
pub(crate) fn build(request: &Request<'_>, reporter: &mut Reporter<'_>) -> Result<Built> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(Error::UnsupportedArchitecture { architecture: std::env::consts::ARCH });
    }
    // A missing program is told before the first byte is fetched.
    for tool in [Tool::APT_GET, Tool::APT_CACHE, Tool::DPKG_DEB, Tool::MMDEBSTRAP, Tool::MKE2FS, Tool::E2FSCK] {
        tool.locate()?;
    }
    let world = World::for_root_file_systems()?;
    let (kernel_package, kernel_name, package_total) = fetch(request, reporter)?;
    let kernel = unpack_kernel(request, &kernel_package, &kernel_name, reporter)?;
    install(request, world, package_total, reporter)?;
    let facts = write_image(request, world, &kernel, reporter)?;
    take_kernel(request, &kernel, reporter)?;
    remove_tree(world, &request.working.join("root"))?;
    Ok(Built { kernel_version: kernel.version, ..facts })
}

/// Removes a tree that may hold files of a user namespace's other users.
pub(crate) fn remove_tree(world: World, path: &Path) -> Result<()> {
    let arguments: [&OsStr; 4] = ["--recursive".as_ref(), "--force".as_ref(), "--one-file-system".as_ref(), path.as_ref()];
    Tool::RM.run("remove a working folder", &world, &arguments, &mut |_| {})
}

/// Fetches all packages and stages those of this environment; returns the kernel's file and package name, and how many packages there are.
fn fetch(request: &Request<'_>, reporter: &mut Reporter<'_>) -> Result<(PathBuf, String, u64)> {
    files::make_folder(request.cache)?;
    // Environments share the indexes and packages, and apt gives up rather than wait for another apt.
    let _lock = files::FileLock::acquire(&request.cache.join(CACHE_LOCK), || {
        reporter.step(phase::RESOLVE, "waiting for another pull's downloads");
    })?;
    let sources = sources::read(request.apt_sources.unwrap_or(HOST_APT.as_ref()), request.codename)?;
    stage_referenced(request, &sources)?;
    let apt = Apt::open(&request.cache.join(format!("debian-{}", request.codename)), &sources.stanzas)?;
    reporter.step(phase::RESOLVE, "reading package indexes");
    apt.update(&mut |done| reporter.part(phase::RESOLVE, "reading package indexes", done, sources.index_count))?;
    reporter.step(phase::RESOLVE, "choosing packages");
    let kernel_name = apt
        .dependencies(KERNEL_METAPACKAGE)?
        .into_iter()
        .find(|name| name.starts_with(KERNEL_PREFIX))
        .ok_or(Error::NoKernel { package: KERNEL_METAPACKAGE, problem: "is not there, or depends on no kernel" })?;
    let mut wanted = apt.minimal_base()?;
    wanted.extend(request.packages.iter().map(|&name| name.to_owned()));
    let packages = apt.resolve(&wanted)?;
    let kernel = apt.resolve_alone(&kernel_name)?;
    let total: u64 = packages.iter().chain([&kernel]).map(|package| package.size_bytes).sum();
    let detail = format!("{} packages of {} MiB, less what is in the cache", packages.len() + 1, total.div_ceil(1 << 20));
    reporter.step(phase::DOWNLOAD, detail);
    let mut on_progress = |done, detail: &str| reporter.part(phase::DOWNLOAD, detail, done, apt::STATUS_TOTAL);
    apt.download(&wanted, &mut on_progress)?;
    let kernel_file = apt.download_alone(&kernel_name, &kernel, &mut on_progress)?;
    apt.drop_outdated()?;
    stage_apt(request, &apt, &packages)?;
    Ok((kernel_file, kernel_name, packages.len() as u64))
}

/// Copies the keyrings and mirror lists the sources refer to, and the sources themselves, to where the image will get them from.
fn stage_referenced(request: &Request<'_>, sources: &sources::Sources) -> Result<()> {
    let staged = request.working.join("files");
    for file in &sources.referenced {
        let target = staged.join(file.strip_prefix("/").unwrap_or(file));
        make_public_folders(&staged, target.parent().unwrap_or(&staged))?;
        fs_err::copy(file, &target).map_err(|source| Error::io("read", file, source))?;
    }
    let folder = staged.join("etc/apt/sources.list.d");
    make_public_folders(&staged, &folder)?;
    for path in [folder.join("debian.sources"), request.working.join("debian.sources")] {
        fs_err::write(&path, &sources.stanzas).map_err(|source| Error::io("write", &path, source))?;
    }
    Ok(())
}

/// Gives mmdebstrap the indexes and packages it may use: links into the cache, so staging costs nothing.
fn stage_apt(request: &Request<'_>, apt: &Apt, packages: &[Package]) -> Result<()> {
    let archives = request.working.join("archives");
    let lists = request.working.join("lists");
    for folder in [&archives, &lists] {
        make_public_folders(request.working, folder)?;
    }
    for package in packages {
        link_or_copy(&apt.archives().join(&package.file_name), &archives.join(&package.file_name))?;
    }
    let source = apt.lists();
    let entries = fs_err::read_dir(&source).map_err(|error| Error::io("list", &source, error))?;
    for entry in entries.flatten() {
        let is_index = entry.file_type().is_ok_and(|kind| kind.is_file()) && entry.file_name() != "lock";
        if is_index {
            link_or_copy(&entry.path(), &lists.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Makes `folder` and what lies between it and `base`, readable for all: the modes end up in the image.
fn make_public_folders(base: &Path, folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let between: Vec<_> = folder.ancestors().take_while(|path| *path != base).collect();
    for path in std::iter::once(base).chain(between.into_iter().rev()) {
        match fs_err::create_dir(path) {
            Ok(()) => {
                fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(|source| Error::io("make", path, source))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::io("make", path, source)),
        }
    }
    Ok(())
}

fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    // The cache may be on another file system.
    if fs_err::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs_err::copy(from, to).map(|_| ()).map_err(|source| Error::io("copy", from, source))
}

/// The kernel, unpacked into the working folder.
struct Kernel {
    version: String,
    image: PathBuf,
    modules: PathBuf,
}

fn unpack_kernel(request: &Request<'_>, package: &Path, name: &str, reporter: &mut Reporter<'_>) -> Result<Kernel> {
    reporter.step(phase::KERNEL, format!("unpacking {name}"));
    let folder = request.working.join("kernel");
    Tool::DPKG_DEB.run("unpack the kernel", &World::Host, &["-x".as_ref(), package.as_ref(), folder.as_ref()], &mut |_| {})?;
    let version = name.strip_prefix(KERNEL_PREFIX).unwrap_or(name).to_owned();
    let image = folder.join("boot").join(format!("vmlinuz-{version}"));
    // Debian 12 keeps the modules in /lib, later releases in /usr/lib.
    let modules =
        ["lib/modules", "usr/lib/modules"].map(|parent| folder.join(parent).join(&version)).into_iter().find(|path| path.is_dir());
    match modules {
        Some(modules) if image.is_file() => Ok(Kernel { version, image, modules }),
        _ => Err(Error::NoKernel { package: KERNEL_METAPACKAGE, problem: "leads to a package without a kernel image and modules" }),
    }
}

fn install(request: &Request<'_>, world: World, package_total: u64, reporter: &mut Reporter<'_>) -> Result<()> {
    reporter.step(phase::INSTALL, "installing packages");
    let working = request.working;
    let hook = |from: &str, to: &str| {
        let mut hook = OsString::from("--setup-hook=sync-in ");
        hook.push(quoted(&working.join(from)));
        hook.push(format!(" {to}"));
        hook
    };
    // Without root mmdebstrap makes its own user namespace and hands the system over as a tar; see finish.sh.
    let (mode, format, target, world) = match world {
        World::OwnUsers => ("--mode=unshare", "--format=tar", working.join("root.tar"), World::Host),
        World::OwnMounts | World::Host => ("--mode=root", "--format=directory", working.join("root"), world),
    };
    let mut arguments: Vec<OsString> =
        [mode, format, "--variant=minbase", "--verbose", "--skip=update,check/signed-by,output/dev"].map(Into::into).into();
    arguments.push(format!("--include={}", request.packages.join(",")).into());
    // The guest's own rules are in finish.sh; these apply to the installation itself.
    for exclusion in ["doc/*", "info/*", "lintian/*", "locale/*", "man/*"] {
        arguments.push(format!("--dpkgopt=path-exclude=/usr/share/{exclusion}").into());
    }
    for inclusion in ["doc/*/copyright", "locale/locale.alias"] {
        arguments.push(format!("--dpkgopt=path-include=/usr/share/{inclusion}").into());
    }
    arguments.push("--setup-hook=mkdir -p \"$1/var/cache/apt/archives\" \"$1/var/lib/apt/lists\"".into());
    arguments.push(hook("archives", "/var/cache/apt/archives"));
    arguments.push(hook("lists", "/var/lib/apt/lists"));
    arguments.push(request.codename.into());
    arguments.push(target.into());
    arguments.push(working.join("debian.sources").into());
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    // dpkg tells each package twice, when it unpacks it and when it sets it up.
    let mut done = 0;
    Tool::MMDEBSTRAP.run("install the packages", &world, &arguments, &mut |line| {
        if line.starts_with("Unpacking ") || line.starts_with("Setting up ") {
            done += 1;
            let detail = line.trim_end_matches("...").split(" (").next().unwrap_or(line).trim();
            reporter.part(phase::INSTALL, detail, done, package_total * 2);
        } else if let Some(stage) = line.strip_prefix("I: ") {
            reporter.part(phase::INSTALL, stage.trim_end_matches('.'), done, package_total * 2);
        }
    })
}

/// Quotes a path for the word splitting of mmdebstrap's hooks.
fn quoted(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut bytes = vec![b'\''];
    for &byte in path.as_os_str().as_bytes() {
        if byte == b'\'' {
            bytes.extend_from_slice(b"'\\''");
        } else {
            bytes.push(byte);
        }
    }
    bytes.push(b'\'');
    OsString::from_vec(bytes)
}

fn write_image(request: &Request<'_>, world: World, kernel: &Kernel, reporter: &mut Reporter<'_>) -> Result<Built> {
    reporter.step(phase::IMAGE, "writing the root image");
    let script = request.working.join("finish.sh");
    let archive = request.working.join("root.tar");
    let variables = [
        ("root", request.working.join("root").into_os_string()),
        ("archive", if archive.exists() { archive.into_os_string() } else { OsString::new() }),
        ("modules", kernel.modules.clone().into_os_string()),
        ("kernel", kernel.version.clone().into()),
        ("files", request.working.join("files").into_os_string()),
        ("image", request.result.join("root.ext4").into_os_string()),
        ("label", LABEL.into()),
        ("uuid", IMAGE_UUID.into()),
    ];
    fs_err::write(&script, FINISH).map_err(|source| Error::io("write", &script, source))?;
    // The values are arguments, never part of the script's text: a path may hold anything.
    let names: Vec<_> = variables.iter().enumerate().map(|(index, (name, _))| format!("{name}=${}", index + 1)).collect();
    let starter: OsString = format!("{}; . \"${{{}}}\"", names.join("; "), variables.len() + 1).into();
    let mut arguments: Vec<&OsStr> = vec!["-euc".as_ref(), &starter, "finish".as_ref()];
    arguments.extend(variables.iter().map(|(_, value)| value.as_os_str()));
    arguments.push(script.as_os_str());
    let mut built = Built { kernel_version: String::new(), package_count: 0, content_bytes: 0 };
    Tool::SHELL.run("write the root image", &world, &arguments, &mut |line| match line
        .strip_prefix("pyro:")
        .and_then(|fact| fact.split_once(' '))
    {
        Some(("packages", value)) => built.package_count = value.parse().unwrap_or_default(),
        Some(("content_bytes", value)) => built.content_bytes = value.parse().unwrap_or_default(),
        _ => {}
    })?;
    Ok(built)
}

/// Copies the kernel and archives its modules, from the image's tree since depmod has run there.
fn take_kernel(request: &Request<'_>, kernel: &Kernel, reporter: &mut Reporter<'_>) -> Result<()> {
    reporter.step(phase::IMAGE, format!("taking kernel {}", kernel.version));
    let target = request.result.join("vmlinuz");
    fs_err::copy(&kernel.image, &target).map_err(|source| Error::io("write", &target, source))?;
    let tree = request.working.join("root/usr/lib/modules").join(&kernel.version);
    let archive = modules::archive(&tree, &kernel.version)?;
    let target = request.result.join("modules.cpio");
    fs_err::write(&target, archive).map_err(|source| Error::io("write", &target, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_word_splitting_of_hooks() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
