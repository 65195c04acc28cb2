//! The environments of one host: which are built, building them, and removing what nothing uses.
//!
//! On disk, below `DATA/environments`:
//!
//! ```text
//! DIGEST/{root.ext4, vmlinuz, modules.cpio, environment.json}   never changed once it has this name
//! names/NAME.json                                               which digest a name means now
//! partial-…/                                                    a pull at work, or the remains of one
//! locks/{store, NAME}                                           stable names, never removed
//! ```
//!
//! Two locks, taken in this order: a name's, for a whole pull, so that the second of two pulls waits and finds it done; and the store's, for
//! the moments in which folders appear and vanish. A working folder belongs to whoever holds the lock of its `owner` file: when the kernel
//! has given that up, the owner is dead and anyone may clean.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;

use crate::catalog::{self, Definition, EnvironmentName, Source};
use crate::debian;
use crate::digest::{DIGESTED_FILES, EnvironmentDigest};
use crate::error::{Error, Result};
use crate::files::{self, FileLock};
use crate::progress::{PullProgress, Reporter, phase};
use crate::record::{self, EnvironmentRecord, FORMAT_VERSION, NameRecord};
use crate::tool::{Tool, World};

const RECORD: &str = "environment.json";
const OWNER: &str = "owner";
const PARTIAL_PREFIX: &str = "partial-";
/// Folder of the packages within the cache.
const PACKAGES: &str = "packages";

/// A built environment; its files are read-only and never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Name it was pulled under.
    pub name: EnvironmentName,
    /// Its content.
    pub digest: EnvironmentDigest,
    /// Folder of its files.
    pub folder: PathBuf,
    /// When it was built.
    pub created_at_unix_ms: u64,
    /// What it takes on the host's disk.
    pub size_bytes: u64,
    /// Bytes of the files in its root file system.
    pub content_bytes: u64,
    /// How many packages are installed in it.
    pub package_count: u32,
    /// Version of its kernel, the name of its folder in `/lib/modules`.
    pub kernel_version: String,
    /// Format of its record on disk.
    pub format_version: u32,
}

impl Environment {
    /// Returns the root file system: raw ext4, sparse, without a journal, to be attached read-only.
    #[must_use]
    pub fn root_image(&self) -> PathBuf {
        self.folder.join(DIGESTED_FILES[0])
    }

    /// Returns the kernel, a bzImage.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.folder.join(DIGESTED_FILES[1])
    }

    /// Returns the newc archive with `/modules/*.ko` and `/modules/order`, one file name per line in loading order.
    #[must_use]
    pub fn modules_archive(&self) -> PathBuf {
        self.folder.join(DIGESTED_FILES[2])
    }
}

/// One line of `pyro env list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the catalog says.
    pub definition: &'static Definition,
    /// What is built of it.
    pub environment: Option<Environment>,
}

/// How a pull is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// Builds again although the environment is there.
    pub force: bool,
    /// An apt folder such as `/etc/apt`, or a sources file, to use instead of the host's.
    pub apt_sources: Option<PathBuf>,
}

/// What a prune may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneScope {
    /// Environments no name means any more, and remains of interrupted pulls.
    Unreferenced,
    /// Also environments that a name means but nothing uses, and downloaded packages.
    Unused,
}

/// What a prune has taken, or would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrunedWhat {
    /// The remains of an interrupted pull.
    Partial,
    /// An environment no name means any more.
    Superseded(EnvironmentDigest),
    /// An environment that a name meant and nothing used.
    Unused(EnvironmentName, EnvironmentDigest),
    /// Downloaded packages.
    Packages,
}

/// One thing a prune has taken, or would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// What it was.
    pub what: PrunedWhat,
    /// What it took on the host's disk.
    pub bytes: u64,
}

/// The environments of one data folder.
#[derive(Clone, Debug)]
pub struct Environments {
    folder: PathBuf,
    cache: PathBuf,
}

impl Environments {
    /// Opens the environments below `data_dir`, making what is missing; downloads go to `cache_dir`, which may be emptied at any time.
    pub fn open(data_dir: &Path, cache_dir: &Path) -> Result<Self> {
        let store = Self { folder: data_dir.join("environments"), cache: cache_dir.to_owned() };
        for name in ["names", "locks"] {
            files::make_folder(&store.folder.join(name))?;
        }
        Ok(store)
    }

    /// Returns every environment of the catalog and what is built of it.
    pub fn list(&self) -> Result<Vec<Entry>> {
        catalog::all().iter().map(|definition| Ok(Entry { definition, environment: self.find(definition.name)? })).collect()
    }

    /// Returns what `name` means now, if it is built.
    pub fn find(&self, name: EnvironmentName) -> Result<Option<Environment>> {
        match record::read::<NameRecord>(&self.name_path(name))? {
            Some(record) => self.by_digest(&record.digest),
            None => Ok(None),
        }
    }

    /// Like [`Self::find`], but a damaged record counts as not built: pulling is what mends it.
    fn find_sound(&self, name: EnvironmentName) -> Result<Option<Environment>> {
        match self.find(name) {
            Err(Error::Record { .. }) => Ok(None),
            found => found,
        }
    }

    /// Returns the environment with this content, also one that no name means any more.
    pub fn by_digest(&self, digest: &EnvironmentDigest) -> Result<Option<Environment>> {
        let folder = self.folder.join(digest.as_str());
        let Some(record) = record::read::<EnvironmentRecord>(&folder.join(RECORD))? else { return Ok(None) };
        // A file removed by hand means pulling again, not a machine that fails to boot.
        if !DIGESTED_FILES.iter().all(|name| folder.join(name).is_file()) {
            return Ok(None);
        }
        Ok(Some(Environment {
            name: record.name,
            digest: digest.clone(),
            size_bytes: files::disk_usage(&folder),
            folder,
            created_at_unix_ms: record.created_at_unix_ms,
            content_bytes: record.content_bytes,
            package_count: record.package_count,
            kernel_version: record.kernel_version,
            format_version: record.format_version,
        }))
    }

    /// Builds the environment unless it is there, and returns it.
    ///
    /// Of two pulls of one name the second waits and takes what the first has built, forced or not. A pull that is killed leaves a working
    /// folder that the next pull or prune removes; the packages it has fetched stay in the cache.
    pub fn pull(&self, name: EnvironmentName, options: &PullOptions, on_progress: &mut dyn FnMut(PullProgress)) -> Result<Environment> {
        self.pull_with(name, options.force, on_progress, |definition, working, result, reporter| match definition.source {
            Source::DebianPackages { codename, packages } => debian::build(
                &debian::Request {
                    codename,
                    packages,
                    apt_sources: options.apt_sources.as_deref(),
                    cache: &self.cache.join(PACKAGES),
                    working,
                    result,
                },
                reporter,
            ),
        })
    }

    /// Does what a pull does around the building itself.
    fn pull_with(
        &self,
        name: EnvironmentName,
        force: bool,
        on_progress: &mut dyn FnMut(PullProgress),
        build: impl FnOnce(&Definition, &Path, &Path, &mut Reporter<'_>) -> Result<debian::Built>,
    ) -> Result<Environment> {
        let before = self.find_sound(name)?;
        if let Some(environment) = &before
            && !force
        {
            return Ok(environment.clone());
        }
        let mut reporter = Reporter(on_progress);
        let _pulling = FileLock::acquire(&self.folder.join("locks").join(name.file_stem()), || {
            reporter.step(phase::RESOLVE, format!("waiting for another pull of `{name}`"));
        })?;
        if let Some(environment) = self.find_sound(name)?
            && before
                .is_none_or(|before| before.created_at_unix_ms != environment.created_at_unix_ms || before.digest != environment.digest)
        {
            return Ok(environment);
        }
        self.clean_partials(DryRun::No)?;
        let working = Working::make(self)?;
        let (scratch, result) = (working.folder.join("work"), working.folder.join("result"));
        files::make_folder(&scratch)?;
        files::make_folder(&result)?;
        let built = build(catalog::find(name), &scratch, &result, &mut reporter)?;
        reporter.step(phase::VERIFY, "checking the root image");
        let image = result.join(DIGESTED_FILES[0]);
        Tool::E2FSCK.run("check the root image", &World::Host, &["-fn".as_ref(), image.as_ref()], &mut |_| {})?;
        let digest = EnvironmentDigest::of(&result, &mut |done, total| reporter.part(phase::VERIFY, "computing the digest", done, total))?;
        let record = EnvironmentRecord {
            format_version: FORMAT_VERSION,
            name,
            created_at_unix_ms: now_unix_ms(),
            content_bytes: built.content_bytes,
            package_count: built.package_count,
            kernel_version: built.kernel_version,
        };
        reporter.step(phase::PUBLISH, format!("publishing {digest}"));
        self.publish(&result, &digest, &record)?;
        working.remove()?;
        self.by_digest(&digest)?.ok_or_else(|| {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            Error::io("read", self.folder.join(digest.as_str()), missing)
        })
    }

    /// Gives a finished folder its final name, then points the environment's name to it.
    fn publish(&self, result: &Path, digest: &EnvironmentDigest, record: &EnvironmentRecord) -> Result<()> {
        let path = result.join(RECORD);
        record::write(&path, record)?;
        for name in DIGESTED_FILES {
            let path = result.join(name);
            let failed = |source| Error::io("sync", &path, source);
            let file = fs::File::open(&path).map_err(failed)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o444)).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        let _store = self.lock()?;
        let folder = self.folder.join(digest.as_str());
        // Equal content built twice: the new folder replaces the old, whose record may be damaged or whose files may be gone.
        if folder.exists() && self.by_digest(digest).ok().flatten().is_none() {
            self.discard(&folder)?;
        }
        if !folder.exists() {
            fs::rename(result, &folder).map_err(|source| Error::io("publish", &folder, source))?;
            files::sync_folder(&self.folder)?;
        }
        record::write(
            &self.name_path(record.name),
            &NameRecord { format_version: FORMAT_VERSION, name: record.name, digest: digest.clone() },
        )
    }

    /// Removes what nothing uses, or with `dry_run` says what it would remove.
    ///
    /// `in_use` answers for workspaces, templates and snapshots. It is asked under the store's lock, so no pull publishes meanwhile; whoever
    /// starts to use an environment must be excluded by the caller.
    pub fn prune(&self, scope: PruneScope, in_use: &dyn Fn(&EnvironmentDigest) -> bool, dry_run: bool) -> Result<Vec<Pruned>> {
        let dry_run = if dry_run { DryRun::Yes } else { DryRun::No };
        let mut pruned = self.clean_partials(dry_run)?;
        let store = self.lock()?;
        let mut named = Vec::new();
        for definition in catalog::all() {
            if let Some(record) = record::read::<NameRecord>(&self.name_path(definition.name))? {
                named.push(record);
            }
        }
        for digest in self.digests()? {
            if in_use(&digest) {
                continue;
            }
            let names: Vec<_> = named.iter().filter(|record| record.digest == digest).map(|record| record.name).collect();
            let what = match (names.first(), scope) {
                (None, PruneScope::Unreferenced | PruneScope::Unused) => PrunedWhat::Superseded(digest.clone()),
                (Some(name), PruneScope::Unused) => PrunedWhat::Unused(*name, digest.clone()),
                (Some(_), PruneScope::Unreferenced) => continue,
            };
            let folder = self.folder.join(digest.as_str());
            pruned.push(Pruned { what, bytes: files::disk_usage(&folder) });
            if dry_run == DryRun::No {
                // Names first: one that points to nothing reads as not built, a folder without a name is found by the next prune.
                for name in names {
                    let path = self.name_path(name);
                    fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
                }
                self.discard(&folder)?;
            }
        }
        drop(store);
        if scope == PruneScope::Unused {
            pruned.extend(self.clean_packages(dry_run)?);
        }
        Ok(pruned)
    }

    fn clean_packages(&self, dry_run: DryRun) -> Result<Option<Pruned>> {
        let folder = self.cache.join(PACKAGES);
        if !folder.is_dir() {
            return Ok(None);
        }
        // A pull that is fetching uses them.
        let Some(_lock) = FileLock::try_acquire(&folder.join(debian::CACHE_LOCK))? else { return Ok(None) };
        let mut bytes = 0;
        for entry in list(&folder)?.into_iter().filter(|path| path.is_dir()) {
            bytes += files::disk_usage(&entry);
            if dry_run == DryRun::No {
                fs::remove_dir_all(&entry).map_err(|source| Error::io("remove", &entry, source))?;
            }
        }
        Ok((bytes > 0).then_some(Pruned { what: PrunedWhat::Packages, bytes }))
    }

    fn digests(&self) -> Result<Vec<EnvironmentDigest>> {
        let mut digests: Vec<EnvironmentDigest> =
            list(&self.folder)?.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect();
        digests.sort();
        Ok(digests)
    }

    /// Removes the working folders whose owners are dead.
    fn clean_partials(&self, dry_run: DryRun) -> Result<Vec<Pruned>> {
        let _store = self.lock()?;
        let mut pruned = Vec::new();
        for folder in list(&self.folder)? {
            let is_partial = folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PARTIAL_PREFIX));
            if !is_partial || FileLock::try_acquire(&folder.join(OWNER))?.is_none() {
                continue;
            }
            pruned.push(Pruned { what: PrunedWhat::Partial, bytes: files::disk_usage(&folder) });
            if dry_run == DryRun::No {
                remove_working(&folder)?;
            }
        }
        Ok(pruned)
    }

    /// Removes a published folder in a way that leaves a partial one, never half an environment, when it is interrupted.
    fn discard(&self, folder: &Path) -> Result<()> {
        let aside = self.folder.join(unique_partial());
        fs::rename(folder, &aside).map_err(|source| Error::io("remove", folder, source))?;
        remove_working(&aside)
    }

    fn lock(&self) -> Result<FileLock> {
        FileLock::acquire(&self.folder.join("locks/store"), || {})
    }

    fn name_path(&self, name: EnvironmentName) -> PathBuf {
        self.folder.join("names").join(format!("{}.json", name.file_stem()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DryRun {
    Yes,
    No,
}

/// The working folder of one pull; dropping it removes it, as far as that goes.
struct Working {
    folder: PathBuf,
    _owner: FileLock,
}

impl Working {
    fn make(store: &Environments) -> Result<Self> {
        // Under the store's lock: between making the folder and locking its file, a cleaner would take it for an orphan.
        let _store = store.lock()?;
        let folder = store.folder.join(unique_partial());
        files::make_folder(&folder)?;
        let owner = FileLock::acquire(&folder.join(OWNER), || {})?;
        Ok(Self { folder, _owner: owner })
    }

    fn remove(self) -> Result<()> {
        remove_working(&self.folder)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // After a failure its error is the one to tell, and the next pull cleans what stays.
        let _ = remove_working(&self.folder);
    }
}

fn remove_working(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        // Files of other users of a user namespace can only be removed inside one.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => debian::remove_tree(World::for_root_file_systems()?, folder),
        Err(source) => Err(Error::io("remove", folder, source)),
    }
}

fn unique_partial() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{PARTIAL_PREFIX}{}-{nanos}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

fn now_unix_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|source| Error::io("list", folder, source))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|source| Error::io("list", folder, source))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    struct Fixture {
        _folder: tempfile::TempDir,
        store: Environments,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let store = Environments::open(&folder.path().join("data"), &folder.path().join("cache")).unwrap();
        Fixture { _folder: folder, store }
    }

    fn base() -> EnvironmentName {
        "debian:12-base".parse().unwrap()
    }

    /// Stands in for the Debian builder, with a real but empty root image.
    fn build(content: &str) -> impl FnOnce(&Definition, &Path, &Path, &mut Reporter<'_>) -> Result<debian::Built> {
        move |_, _, result, _| {
            crate::write_blank_ext4(&result.join("root.ext4"), 16 << 20, "test")?;
            fs::write(result.join("vmlinuz"), content).unwrap();
            fs::write(result.join("modules.cpio"), "modules").unwrap();
            Ok(debian::Built { kernel_version: "6.1".to_owned(), package_count: 3, content_bytes: 5 })
        }
    }

    impl Fixture {
        fn pull(&self, content: &str, force: bool) -> Environment {
            self.store.pull_with(base(), force, &mut |_| {}, build(content)).unwrap()
        }

        fn prune(&self, scope: PruneScope, used: &[&Environment]) -> Vec<PrunedWhat> {
            let in_use = |digest: &EnvironmentDigest| used.iter().any(|environment| environment.digest == *digest);
            let announced = self.store.prune(scope, &in_use, true).unwrap();
            let pruned = self.store.prune(scope, &in_use, false).unwrap();
            assert_eq!(announced, pruned, "a dry run says what is done");
            assert!(self.store.prune(scope, &in_use, false).unwrap().is_empty(), "nothing is left to prune");
            pruned.into_iter().map(|pruned| pruned.what).collect()
        }

        /// Names in the store's folder that are neither names nor locks.
        fn folders(&self) -> Vec<String> {
            let mut names: Vec<_> =
                list(&self.store.folder).unwrap().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
            names.retain(|name| name != "names" && name != "locks");
            names.sort();
            names
        }
    }

    #[test]
    fn pulled_environment_is_found_by_name_and_digest_and_not_built_again() {
        let fixture = fixture();
        let pulled = fixture.pull("kernel", false);
        assert_eq!(fixture.store.find(base()).unwrap(), Some(pulled.clone()));
        assert_eq!(fixture.store.by_digest(&pulled.digest).unwrap(), Some(pulled.clone()));
        assert_eq!(fixture.folders(), [pulled.digest.as_str()]);
        let again = fixture.store.pull_with(base(), false, &mut |_| {}, |_, _, _, _| panic!("it is there")).unwrap();
        assert_eq!(again, pulled);
        let built: Vec<_> = fixture.store.list().unwrap().into_iter().filter(|entry| entry.environment.is_some()).collect();
        assert_eq!(built.len(), 1);
        assert_eq!(built[0].definition.name, base());
    }

    #[test]
    fn forced_pull_supersedes_and_prune_takes_exactly_what_nothing_uses() {
        let fixture = fixture();
        let (old, older_still_used) = (fixture.pull("one", false), fixture.pull("two", true));
        let current = fixture.pull("three", true);
        assert_eq!(fixture.prune(PruneScope::Unreferenced, &[&older_still_used]), [PrunedWhat::Superseded(old.digest.clone())]);
        assert_eq!(fixture.store.by_digest(&old.digest).unwrap(), None);
        assert_eq!(fixture.store.find(base()).unwrap(), Some(current.clone()));
        assert!(fixture.prune(PruneScope::Unused, &[&older_still_used, &current]).is_empty());
        assert_eq!(fixture.prune(PruneScope::Unused, &[&older_still_used]), [PrunedWhat::Unused(base(), current.digest)]);
        assert_eq!(fixture.store.find(base()).unwrap(), None);
        assert_eq!(fixture.folders(), [older_still_used.digest.as_str()]);
    }

    #[test]
    fn equal_content_is_kept_once() {
        let fixture = fixture();
        assert_eq!(fixture.pull("one", false).digest, fixture.pull("one", true).digest);
        assert_eq!(fixture.folders().len(), 1);
    }

    #[test]
    fn environment_with_a_lost_file_is_pulled_again() {
        let fixture = fixture();
        let pulled = fixture.pull("one", false);
        fs::remove_file(pulled.kernel()).unwrap();
        assert_eq!(fixture.store.find(base()).unwrap(), None);
        assert_eq!(fixture.pull("one", false).digest, pulled.digest);
        assert!(pulled.kernel().is_file());
    }

    #[test]
    fn damaged_name_is_an_error_that_a_pull_mends() {
        let fixture = fixture();
        let pulled = fixture.pull("one", false);
        fs::write(fixture.store.name_path(base()), "{").unwrap();
        assert!(fixture.store.find(base()).unwrap_err().hint().unwrap().contains("--force"));
        assert_eq!(fixture.pull("one", false).digest, pulled.digest);
        assert!(fixture.store.find(base()).unwrap().is_some());
    }

    #[test]
    fn second_of_two_pulls_waits_and_takes_what_the_first_has_built() {
        let fixture = fixture();
        for force in [false, true] {
            let (building, waiting) = (Barrier::new(2), Barrier::new(2));
            std::thread::scope(|scope| {
                let first = scope.spawn(|| {
                    fixture.store.pull_with(base(), force, &mut |_| {}, |definition, working, result, reporter| {
                        building.wait();
                        waiting.wait();
                        build(if force { "two" } else { "one" })(definition, working, result, reporter)
                    })
                });
                building.wait();
                let mut details = Vec::new();
                let second = fixture.store.pull_with(
                    base(),
                    force,
                    &mut |progress| {
                        details.push(progress.detail);
                        waiting.wait();
                    },
                    |_, _, _, _| panic!("the first has built it"),
                );
                assert_eq!(second.unwrap(), first.join().unwrap().unwrap());
                assert_eq!(details, ["waiting for another pull of `debian:12-base`"]);
            });
        }
    }

    #[test]
    fn failed_pull_leaves_nothing_and_a_killed_ones_remains_are_cleaned() {
        let fixture = fixture();
        let failed = fixture.store.pull_with(base(), false, &mut |_| {}, |_, working, _, _| {
            fs::write(working.join("half"), "x").unwrap();
            Err(Error::MissingTool { tool: "t", package: "p" })
        });
        assert!(failed.is_err());
        assert!(fixture.folders().is_empty());

        let orphan = fixture.store.folder.join(unique_partial());
        fs::create_dir_all(orphan.join("work")).unwrap();
        fs::write(orphan.join(OWNER), "").unwrap();
        let alive = Working::make(&fixture.store).unwrap();
        assert_eq!(fixture.prune(PruneScope::Unreferenced, &[]), [PrunedWhat::Partial]);
        assert!(!orphan.exists() && alive.folder.exists(), "only the orphan goes");
        drop(alive);
        assert!(fixture.folders().is_empty());
    }

    #[test]
    fn damaged_root_image_is_not_published() {
        let fixture = fixture();
        let pulled = fixture.store.pull_with(base(), false, &mut |_| {}, |definition, working, result, reporter| {
            let built = build("x")(definition, working, result, reporter)?;
            fs::write(result.join("root.ext4"), "not a file system").unwrap();
            Ok(built)
        });
        assert_eq!(pulled.unwrap_err().kind(), pyro_proto::error::ErrorKind::EnvironmentUnavailable);
        assert!(fixture.folders().is_empty());
    }

    #[test]
    fn downloads_are_pruned_only_when_asked_and_nobody_fetches() {
        let fixture = fixture();
        let packages = fixture.store.cache.join(PACKAGES);
        fs::create_dir_all(packages.join("debian-bookworm")).unwrap();
        fs::write(packages.join("debian-bookworm/x.deb"), "x").unwrap();
        assert!(fixture.prune(PruneScope::Unreferenced, &[]).is_empty());
        let fetching = FileLock::acquire(&packages.join(debian::CACHE_LOCK), || {}).unwrap();
        assert!(fixture.prune(PruneScope::Unused, &[]).is_empty());
        drop(fetching);
        assert_eq!(fixture.prune(PruneScope::Unused, &[]), [PrunedWhat::Packages]);
    }
}
