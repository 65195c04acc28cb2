//! How a path below `/workspace` is followed through symbolic links: by the agent in a running guest, and by the host on a disk.
//!
//! `openat2(2)` with `RESOLVE_BENEATH` refuses every absolute link, also one to `/workspace/…`, which leads nowhere a command in the guest
//! would call outside. So links are read one by one here, as a process of the guest would follow them from `/`: above the tree there is
//! a root directory that holds nothing but `workspace`.
//!
//! Nothing is opened here. Whoever uses the result opens it without following links, since the guest may change them meanwhile.

use crate::limits::PATH_MAX_BYTES;

/// Links of one path, as in Linux (`MAXSYMLINKS` of `linux/namei.h`).
const LINKS_MAX: usize = 40;
/// Names looked at for one path: as many as the longest path has. Without it, 40 links of 2 000 names each would be followed.
const LOOKS_MAX: usize = PATH_MAX_BYTES;
/// Where commands see the tree.
const TREE: &[u8] = b"workspace";

/// What there is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory,
    /// A symbolic link, with what it says.
    Link(Vec<u8>),
    /// Something else.
    Other,
    /// Nothing.
    Missing,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Path below the tree on which no link is left; empty is the tree itself. Its end may not exist.
    pub path: Vec<u8>,
    /// The last link that was followed, if there was any, and what it says.
    pub link: Option<(Vec<u8>, Vec<u8>)>,
}

/// Why a path leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum FollowError<E> {
    /// A link leads out of the tree.
    #[error("`{}` is a link to `{}`, which is outside `/workspace`", String::from_utf8_lossy(link), String::from_utf8_lossy(target))]
    Outside {
        /// The link.
        link: Vec<u8>,
        /// What it says.
        target: Vec<u8>,
    },
    /// Links lead to each other, or there are too many of them.
    #[error("too many levels of symbolic links")]
    TooMany,
    /// Something on the way is not a directory, or does not exist and cannot be created.
    #[error("a directory on the way does not exist")]
    NoDirectory,
    /// Looking failed.
    #[error(transparent)]
    Look(E),
}

/// Follows every link of `path`, which is relative to the tree and has plain names only; `look` tells what a path without links leads to.
///
/// # Errors
/// The path leads out of the tree or nowhere.
pub fn follow<E>(path: &[u8], mut look: impl FnMut(&[u8]) -> Result<Found, E>) -> Result<Followed, FollowError<E>> {
    let mut walk = Walk { at: Some(Vec::new()), names: Vec::new(), link: None };
    walk.push(path);
    let (mut links, mut looks) = (0, 0);
    while let Some(name) = walk.names.pop() {
        let outside = |walk: &Walk| {
            let (link, target) = walk.link.clone().unwrap_or_default();
            FollowError::Outside { link, target }
        };
        match (&name[..], &mut walk.at) {
            (b".", _) | (b"..", None) => continue,
            (b"..", Some(at)) => {
                match at.iter().rposition(|&byte| byte == b'/') {
                    Some(end) => at.truncate(end),
                    None if at.is_empty() => walk.at = None,
                    None => at.clear(),
                }
                continue;
            }
            (TREE, at @ None) => {
                *at = Some(Vec::new());
                continue;
            }
            (_, None) => return Err(outside(&walk)),
            (_, Some(_)) => {}
        }
        let at = walk.at.clone().unwrap_or_default();
        let child = if at.is_empty() { name } else { [&at[..], b"/", &name].concat() };
        looks += 1;
        if looks > LOOKS_MAX || child.len() >= PATH_MAX_BYTES {
            return Err(FollowError::TooMany);
        }
        match look(&child).map_err(FollowError::Look)? {
            Found::Directory => walk.at = Some(child),
            Found::Other if walk.names.is_empty() => walk.at = Some(child),
            // Whoever writes creates what is missing, so it is a place as well; `..` and `.` need something to begin from.
            Found::Missing if walk.names.iter().all(|name| name != b".." && name != b".") => {
                let names = walk.names.iter().rev().flat_map(|name| [b"/".as_slice(), name]);
                walk.at = Some(std::iter::once(&child[..]).chain(names).collect::<Vec<_>>().concat());
                break;
            }
            Found::Other | Found::Missing => return Err(FollowError::NoDirectory),
            Found::Link(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(FollowError::TooMany);
                }
                if target.is_empty() {
                    return Err(FollowError::NoDirectory);
                }
                if target.starts_with(b"/") {
                    walk.at = None;
                }
                walk.push(&target);
                walk.link = Some((child, target));
            }
        }
    }
    match walk.at {
        Some(path) => Ok(Followed { path, link: walk.link }),
        None => {
            let (link, target) = walk.link.unwrap_or_default();
            Err(FollowError::Outside { link, target })
        }
    }
}

struct Walk {
    /// Path that has been followed; `None` is the directory that holds the tree.
    at: Option<Vec<u8>>,
    /// Names that are still to be followed, the next one last.
    names: Vec<Vec<u8>>,
    link: Option<(Vec<u8>, Vec<u8>)>,
}

impl Walk {
    fn push(&mut self, path: &[u8]) {
        // Behind a slash at its end there is a `.`: what stands before must be a directory.
        if path.ends_with(b"/") {
            self.names.push(b".".to_vec());
        }
        let names = path.split(|&byte| byte == b'/').rev().filter(|name| !name.is_empty());
        self.names.extend(names.map(<[u8]>::to_vec));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn follow_in(tree: &BTreeMap<&str, Found>, path: &str) -> Result<Followed, FollowError<Infallible>> {
        follow(path.as_bytes(), |path| {
            let path = std::str::from_utf8(path).expect("the tests use text");
            Ok(tree.get(path).cloned().unwrap_or(Found::Missing))
        })
    }

    fn tree() -> BTreeMap<&'static str, Found> {
        let link = |target: &str| Found::Link(target.as_bytes().to_vec());
        BTreeMap::from([
            ("file", Found::Other),
            ("dir", Found::Directory),
            ("dir/file", Found::Other),
            ("to-file", link("file")),
            ("chain", link("to-file")),
            ("absolute", link("/workspace/dir/file")),
            ("climbing", link("../workspace/./dir//file")),
            ("to-dir", link("/workspace/dir/")),
            ("dir/up", link("../file")),
            ("dangling", link("dir/new")),
            ("deep-dangling", link("no/such/new")),
            ("odd-dangling", link("no/../new")),
            ("slash", link("file/")),
            ("loop", link("loop")),
            ("ping", link("pong")),
            ("pong", link("ping")),
            ("out", link("/etc/passwd")),
            ("out-relative", link("../../etc/passwd")),
            ("out-chain", link("dir/../out")),
            ("top", link("/")),
            ("self", link("/workspace")),
            ("empty", link("")),
        ])
    }

    #[test]
    fn links_lead_where_a_process_of_the_guest_would_get() {
        let tree = tree();
        for (path, expected) in [
            ("file", "file"),
            ("none/such", "none/such"),
            ("to-file", "file"),
            ("chain", "file"),
            ("absolute", "dir/file"),
            ("climbing", "dir/file"),
            ("to-dir/file", "dir/file"),
            ("to-dir/new", "dir/new"),
            ("to-dir/up", "file"),
            ("dangling", "dir/new"),
            ("deep-dangling", "no/such/new"),
            ("self/chain", "file"),
            ("self", ""),
        ] {
            assert_eq!(follow_in(&tree, path).expect(path).path, expected.as_bytes(), "{path}");
        }
        assert_eq!(follow_in(&tree, "file").expect("a file").link, None);
        assert_eq!(follow_in(&tree, "chain").expect("a file").link, Some((b"to-file".to_vec(), b"file".to_vec())));
    }

    #[test]
    fn links_that_lead_out_or_nowhere_are_refused() {
        let tree = tree();
        for path in ["out", "out-relative", "out-chain", "top", "self/out", "top/etc"] {
            assert!(matches!(follow_in(&tree, path), Err(FollowError::Outside { .. })), "{path}");
        }
        for path in ["loop", "ping", "loop/file"] {
            assert!(matches!(follow_in(&tree, path), Err(FollowError::TooMany)), "{path}");
        }
        for path in ["slash", "file/below", "odd-dangling", "empty"] {
            assert!(matches!(follow_in(&tree, path), Err(FollowError::NoDirectory)), "{path}");
        }
        let error = follow_in(&tree, "self/out-relative").expect_err("it leads out").to_string();
        assert_eq!(error, "`out-relative` is a link to `../../etc/passwd`, which is outside `/workspace`");
    }

    #[test]
    fn hostile_links_cost_no_more_than_the_longest_path() {
        let long = "d/../".repeat(800) + "again";
        let mut looks = 0;
        let result = follow::<Infallible>(b"again", |path| {
            looks += 1;
            Ok(if path == b"d" { Found::Directory } else { Found::Link(long.clone().into_bytes()) })
        });
        assert!(matches!(result, Err(FollowError::TooMany)) && looks <= LOOKS_MAX, "{looks}");
    }

    /// A name in a small tree, or what moves about in it.
    fn names() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["a", "b", "c", "..", ".", "", "workspace"]);
        (prop::collection::vec(name, 1..5), any::<bool>()).prop_map(|(names, absolute)| {
            let path = names.join("/");
            if absolute { format!("/workspace/{path}") } else { path }
        })
    }

    proptest! {
        /// The kernel is the reference: below a directory that has only `workspace` in it, with the root moved there.
        #[test]
        fn links_lead_where_the_kernel_gets(links in prop::collection::vec((0_usize..6, names()), 0..6), path in "[abc](/[abc]){0,2}") {
            const PLACES: [&str; 6] = ["a", "b", "c", "d/a", "d/b", "d/c"];
            let root = tempfile::tempdir().expect("a temporary directory");
            let tree = root.path().join("workspace");
            std::fs::create_dir_all(tree.join("d")).expect("it is made");
            std::fs::write(tree.join("d/file"), "").expect("it is written");
            for (place, target) in &links {
                // The second link of a place is one too many.
                let _ = std::os::unix::fs::symlink(target, tree.join(PLACES[*place]));
            }
            for place in PLACES {
                let _ = std::fs::create_dir(tree.join(place));
            }
            let followed = follow::<std::io::Error>(path.as_bytes(), |path| look(&tree, path));
            let how = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_MAGICLINKS;
            let top = std::fs::File::open(root.path()).expect("it opens");
            let opened = rustix::fs::openat2(
                &top, format!("/workspace/{path}"), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty(), how,
            );
            let reference = opened.as_ref().ok().map(|file| rustix::fs::fstat(file).expect("it is open").st_ino);
            let ours = followed.as_ref().ok().and_then(|followed| {
                let path = tree.join(std::str::from_utf8(&followed.path).expect("text"));
                std::os::unix::fs::MetadataExt::ino(&std::fs::symlink_metadata(path).ok()?).into()
            });
            let at_the_top = rustix::fs::fstat(&top).expect("it is open").st_ino;
            prop_assert_eq!(ours, reference.filter(|&inode| inode != at_the_top), "{:?} {:?}", links, followed);
        }
    }

    fn look(tree: &std::path::Path, path: &[u8]) -> std::io::Result<Found> {
        let path = tree.join(std::str::from_utf8(path).expect("text"));
        match std::fs::symlink_metadata(&path) {
            Ok(status) if status.is_dir() => Ok(Found::Directory),
            Ok(status) if status.is_symlink() => {
                Ok(Found::Link(std::os::unix::ffi::OsStringExt::into_vec(std::fs::read_link(&path)?.into_os_string())))
            }
            Ok(_) => Ok(Found::Other),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Missing),
            Err(error) => Err(error),
        }
    }
}
