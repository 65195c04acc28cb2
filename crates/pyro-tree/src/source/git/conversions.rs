//! What Git makes of a file's content on its way in and out: line ends by the user's attributes, and filters, which are programs.
//!
//! A filter runs nowhere here. In a machine it is missing, so that its files look changed there; that is said by its name, and how many
//! files it is about. Attributes are only read where a program is configured for some filter.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use super::{
    attributes::{ATTRIBUTES_MAX_BYTES, Attributes, AttributesFile, Macros, conversions},
    checkout::{Checkout, Location},
    config::Level,
    environment::GitEnvironment,
    levels::{Levels, read_config_file},
};
use crate::{ignore::Case, path::printable, source::folder::Folder};

/// What `git lfs` writes in place of a file whose content was not fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// Longest of these.
const LFS_POINTER_MAX_BYTES: u64 = 1024;

/// Most bytes of attributes that are held of one checkout; compiled, they take some forty times that.
const TOTAL_MAX_BYTES: usize = 16 << 20;

/// What is known about conversions in one checkout.
#[derive(Debug, Default)]
pub(in crate::source) struct Conversions {
    /// Of the user's and the host's attributes, what decides about content.
    pub(super) host_attributes: Vec<u8>,
    /// Filters that a program is configured for.
    filters: BTreeSet<Vec<u8>>,
    attributes: RefCell<Attributes>,
    attribute_bytes: Cell<usize>,
    folded: bool,
}

impl Conversions {
    pub(super) fn read(
        location: Option<&Location>,
        top: &Path,
        environment: &GitEnvironment,
        levels: &Levels,
        case: Case,
        notes: &mut Vec<String>,
    ) -> Self {
        let mut made = Self { folded: case == Case::Folded, ..Self::default() };
        made.filters = filters(levels);
        let mut attributes = Attributes::default();
        let parse = |bytes: &[u8]| AttributesFile::parse(bytes, case, Macros::Allowed);
        let read = |path: &Path, notes: &mut Vec<String>| {
            read_config_file(path, ATTRIBUTES_MAX_BYTES).unwrap_or_else(|error| {
                let path = printable(path.as_os_str().as_bytes());
                notes.push(format!("cannot read the attributes file `{path}`: {error}"));
                None
            })
        };
        let named = levels.path(environment, "attributesfile", top);
        let stranger = |path: &Path| {
            let inside = |folder: &Path| std::fs::canonicalize(folder).is_ok_and(|folder| path.starts_with(folder));
            !inside(top) && location.is_none_or(|location| !inside(&location.common))
        };
        let user = match named {
            None => environment.usual_attributes(),
            Some((path, Level::User)) => Some(path),
            // Lines of the file enter the machine, and a stranger's repository must not say which file of this host that is.
            Some((path, Level::Repository | Level::Included)) => match std::fs::canonicalize(&path) {
                Ok(real) if stranger(&real) => {
                    let shown = printable(path.as_os_str().as_bytes());
                    notes.push(format!("its `core.attributesFile` was not used: `{shown}` is outside the repository"));
                    None
                }
                Ok(real) => Some(real),
                Err(_) => None,
            },
        };
        for path in [environment.system_attributes(), user].into_iter().flatten() {
            if let Some(bytes) = read(&path, notes) {
                made.host_attributes.extend_from_slice(&conversions(&bytes));
                attributes.add_outside(parse(&bytes));
            }
        }
        if let Some(location) = location.filter(|_| !made.filters.is_empty())
            && let Ok(Some(bytes)) =
                Folder::open(&location.common).and_then(|folder| folder.read_small(b"info/attributes", ATTRIBUTES_MAX_BYTES))
        {
            attributes.set_info(parse(&bytes));
        }
        made.attributes = RefCell::new(attributes);
        made
    }

    /// Returns whether the attributes of folders are worth reading.
    pub(in crate::source) fn wants_attributes(&self) -> bool {
        !self.filters.is_empty()
    }

    /// Takes over the `.gitattributes` of a folder of the checkout. Beyond what any honest one has, they are not looked at: what is missed is a
    /// note.
    pub(in crate::source) fn add_attributes(&self, folder: &[u8], bytes: &[u8]) {
        self.attribute_bytes.set(self.attribute_bytes.get().saturating_add(bytes.len()));
        if self.attribute_bytes.get() > TOTAL_MAX_BYTES {
            return;
        }
        let macros = if folder.is_empty() { Macros::Allowed } else { Macros::Refused };
        let case = if self.folded { Case::Folded } else { Case::Sensitive };
        self.attributes.borrow_mut().add_folder(folder, AttributesFile::parse(bytes, case, macros));
    }

    /// Returns what a machine lacks for the tracked files of a checkout, which lie at `place` of a folder.
    pub(in crate::source) fn missing_filters(&self, checkout: &Checkout, source: &Folder, place: &[u8]) -> Vec<String> {
        let attributes = self.attributes.borrow();
        if self.filters.is_empty() || !attributes.is_about_filters() {
            return Vec::new();
        }
        let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for path in checkout.tracked_files() {
            let Some(filter) = attributes.filter(path).filter(|filter| self.filters.contains(filter)) else { continue };
            let host = if place.is_empty() { path.to_vec() } else { [place, b"/", path].concat() };
            // What is not here, or was never fetched, is the same to Git with the filter and without it.
            let same = match source.read_small(&host, LFS_POINTER_MAX_BYTES) {
                Ok(None) => true,
                Ok(Some(content)) => filter == b"lfs" && content.starts_with(LFS_POINTER),
                Err(_) => false,
            };
            if !same {
                *counts.entry(filter).or_default() += 1;
            }
        }
        let told = counts.into_iter().map(|(filter, count)| {
            let filter = printable(&filter);
            let files = if count == 1 { "1 tracked file appears".to_owned() } else { format!("{count} tracked files appear") };
            let hint = if filter == "lfs" { "; run `apt-get install git-lfs && git lfs install` there to fix this" } else { "" };
            format!("{files} modified in the workspace unless it has the Git filter `{filter}`{hint}")
        });
        told.collect()
    }
}

/// Returns the filters that change what is stored: for those without a program, Git stores files as they are.
fn filters(levels: &Levels) -> BTreeSet<Vec<u8>> {
    let runs = |setting: &&super::config::Setting| setting.section == "filter" && matches!(setting.name.as_str(), "clean" | "process");
    let named = levels.config.settings.iter().filter(runs).filter_map(|setting| setting.subsection.as_deref());
    let is_set = |filter: &&str| {
        ["clean", "process"].iter().any(|name| levels.config.get_of("filter", filter, name).is_some_and(|command| !command.is_empty()))
    };
    named.filter(is_set).map(|filter| filter.as_bytes().to_vec()).collect()
}
