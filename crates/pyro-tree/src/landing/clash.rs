//! Names that one file system tells apart and another does not.

use std::collections::HashMap;

use crate::{beneath::Beneath, path::TreePath};

/// Names of the target tried to find out whether it folds case.
const PROBES: usize = 16;

/// Returns whether the target takes two names that differ in case for one, judged by names it has.
pub(super) fn folds(target: &Beneath) -> std::io::Result<bool> {
    let names = target.names(None)?;
    let lettered = names.iter().filter(|name| name.iter().any(u8::is_ascii_alphabetic)).take(PROBES);
    for name in lettered {
        let swapped: Vec<u8> =
            name.iter().map(|byte| if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() }).collect();
        if names.contains(&swapped) {
            return Ok(false);
        }
        let (Ok(name), Ok(swapped)) = (TreePath::try_from(name.as_slice()), TreePath::try_from(swapped.as_slice())) else { continue };
        let found = (target.status(&name)?, target.status(&swapped)?);
        return Ok(matches!(found, (Some(one), Some(other)) if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)));
    }
    Ok(false)
}

/// Returns, for each path that has one, another path of the list that differs in case only.
pub(super) fn clashes<'p>(paths: impl Iterator<Item = &'p TreePath>) -> HashMap<&'p TreePath, &'p TreePath> {
    let mut seen: HashMap<Vec<u8>, &TreePath> = HashMap::new();
    let mut clashes = HashMap::new();
    for path in paths {
        if let Some(other) = seen.insert(path.case_folded(), path) {
            clashes.insert(path, other);
            clashes.insert(other, path);
        }
    }
    clashes
}
