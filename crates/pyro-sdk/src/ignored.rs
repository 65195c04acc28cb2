//! What a comparison leaves out because the seed's ignore rules do: build output and downloads of the guest, which the seed left out on the
//! way in.
//!
//! The rules are those that the seed, and later pushes, were taken by. Where the workspace has changed its ignore files since, what they
//! ignore now is left out as well, so that a new project's own `.gitignore` counts; but nothing comes back that the host's rules ignore. A
//! file that was seeded or pushed is never left out. What is left out is counted, and can be asked for.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use pyro_disk::{EntryKind as DiskKind, TreeEntry};
use pyro_store::{Dirs, WorkspaceId};
use pyro_tree::{EntryKind, IGNORE_FILE_MAX_BYTES, IgnoreRules, TreePath};

use crate::{apply, diff::kind, disk_view::View, error::Result};

const IGNORE_FILE: &[u8] = b".gitignore";
/// How long the guest's own rules may be looked at in one comparison. They cost patterns times paths, and both are the guest's to choose; what
/// they would leave out beyond that is shown.
const GUESTS_RULES_MAX: Duration = Duration::from_secs(5);
/// How many paths are looked at between two looks at the clock.
const PATHS_PER_LOOK: usize = 256;

/// What one comparison leaves out.
pub(crate) struct Ignored {
    dirs: Dirs,
    workspace: WorkspaceId,
    /// None when everything is to be shown, or nothing was ignored on the way in.
    rules: Option<IgnoreRules>,
    left_out: HashSet<TreePath>,
    /// Folders that hold something which was left out.
    above: HashSet<TreePath>,
    count: u64,
}

impl Ignored {
    /// Loads the rules of a workspace. With `shown` nothing is left out.
    pub(crate) fn load(dirs: &Dirs, workspace: &WorkspaceId, shown: bool) -> Result<Self> {
        let rules = if shown { None } else { Some(apply::ignores(dirs, workspace)?).filter(|rules| !rules.is_empty()) };
        Ok(Self { dirs: dirs.clone(), workspace: workspace.clone(), rules, left_out: HashSet::new(), above: HashSet::new(), count: 0 })
    }

    /// Looks at everything that may be shown: paths in order, each with what is there, or was when it is gone.
    pub(crate) fn learn<'e>(&mut self, view: &View, found: impl Iterator<Item = (&'e TreePath, Option<&'e TreeEntry>)>) -> Result<()> {
        let Some(rules) = self.rules.take() else { return Ok(()) };
        let found: Vec<(&TreePath, EntryKind, Option<&TreeEntry>)> =
            found.filter_map(|(path, entry)| Some((path, kind(entry?)?, entry))).collect();
        let guests = guests_rules(view, &rules, &found)?;
        let (mut host, mut guest) = (rules.judge(), guests.as_ref().map(IgnoreRules::judge));
        let begun = Instant::now();
        let mut ignored = Vec::new();
        for (number, (path, kind, _)) in found.into_iter().enumerate() {
            if number % PATHS_PER_LOOK == 0 && begun.elapsed() > GUESTS_RULES_MAX {
                guest = None;
            }
            if host.ignores(path, kind) || guest.as_mut().is_some_and(|guest| guest.ignores(path, kind)) {
                ignored.push((path, kind));
            }
        }
        if ignored.is_empty() {
            return Ok(());
        }
        let given = apply::given(&self.dirs, &self.workspace, None, None)?;
        for (path, kind) in ignored {
            if given.get(path).is_none() {
                self.count += u64::from(kind != EntryKind::Directory);
                self.above.extend(path.ancestors());
                self.left_out.insert(path.clone());
            }
        }
        Ok(())
    }

    pub(crate) fn leaves_out(&self, path: &TreePath) -> bool {
        self.left_out.contains(path)
    }

    /// Tells whether something in a folder was left out.
    pub(crate) fn is_above(&self, folder: &TreePath) -> bool {
        self.above.contains(folder)
    }

    /// Returns how many files and links were left out.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }
}

/// Returns the host's rules with the ignore files that the workspace has changed, if it has.
fn guests_rules(view: &View, rules: &IgnoreRules, found: &[(&TreePath, EntryKind, Option<&TreeEntry>)]) -> Result<Option<IgnoreRules>> {
    let mut guests: Option<IgnoreRules> = None;
    for (path, _, _) in found.iter().filter(|(path, ..)| path.file_name() == IGNORE_FILE) {
        // What is there now: the entry at hand may be that of one which is gone.
        let now = view.now.status(path.as_bytes())?.filter(|now| now.kind == DiskKind::File && now.size_bytes <= IGNORE_FILE_MAX_BYTES);
        let bytes = match now {
            Some(now) => view.now.read_of(&now, 0, usize::try_from(now.size_bytes).unwrap_or(usize::MAX))?,
            None => Vec::new(),
        };
        let before = guests.take().unwrap_or_else(|| rules.clone());
        match before.with_file(path.parent().as_ref(), &bytes) {
            Ok(after) => guests = Some(after),
            // More rules than anybody writes: then only the host's count.
            Err(_) => return Ok(None),
        }
    }
    Ok(guests)
}
