//! Paths inside the workspace: bytes, relative, free of everything that is not a plain name.

use pyro_proto::limits::PATH_MAX_BYTES;

use super::FileError;
use super::error::shown;

/// `NAME_MAX` of `linux/limits.h`.
const NAME_MAX_BYTES: usize = 255;

/// A checked path relative to `/workspace`; empty is `/workspace` itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct TreePath(Box<[u8]>);

impl TreePath {
    /// Checks a path.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        match fault(bytes) {
            None => Ok(Self(bytes.into())),
            Some(reason) => {
                let end = bytes.len().min(PATH_MAX_BYTES);
                Err(FileError::Path { path: shown(&bytes[..end]), reason })
            }
        }
    }

    /// Checks `bytes` and puts it below this path.
    pub(crate) fn join(&self, bytes: &[u8]) -> Result<Self, FileError> {
        if self.0.is_empty() || bytes.is_empty() {
            return Self::parse(if bytes.is_empty() { &self.0 } else { bytes });
        }
        Self::parse(bytes)?;
        Self::parse(&[&self.0, b"/".as_slice(), bytes].concat())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As the `*at` calls want it, for which an empty path is none.
    pub(crate) fn at(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Splits off the last component; None for `/workspace` itself.
    pub(crate) fn split(&self) -> Option<(TreePath, &[u8])> {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => Some((Self(self.0[..at].into()), &self.0[at + 1..])),
            None => (!self.0.is_empty()).then(|| (Self::default(), &*self.0)),
        }
    }

    /// The paths from the first component to this one.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = TreePath> + '_ {
        let cuts = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        cuts.chain((!self.0.is_empty()).then_some(self.0.len())).map(|at| Self(self.0[..at].into()))
    }

    pub(crate) fn shown(&self) -> String {
        shown(&self.0)
    }
}

fn fault(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return None;
    }
    // The kernel counts the zero byte at the end.
    if bytes.len() >= PATH_MAX_BYTES {
        return Some("it is longer than 4095 bytes");
    }
    if bytes.contains(&0) {
        return Some("it holds a zero byte");
    }
    if bytes.starts_with(b"/") {
        return Some("it is absolute");
    }
    bytes.split(|&byte| byte == b'/').find_map(|name| match name {
        b"" => Some("it has an empty component"),
        b"." | b".." => Some("it has a component `.` or `..`"),
        name if name.len() > NAME_MAX_BYTES => Some("it has a component longer than 255 bytes"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_are_taken() {
        for good in [b"".as_slice(), b"a", b"a/b", b"...", b"..a", b"\xff\xfe", b" ", &[b'a'; 255]] {
            assert_eq!(TreePath::parse(good).expect("valid").bytes(), good);
        }
        let long = b"a/".repeat(2048);
        for bad in [b"/".as_slice(), b"/a", b"a//b", b"a/", b".", b"..", b"a/../b", b"./a", b"a\0", &[b'a'; 256], &long[..4096]] {
            assert!(TreePath::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(TreePath::parse(&long[..4095]).is_ok());
    }

    #[test]
    fn path_is_joined_and_taken_apart() {
        let path = TreePath::parse(b"a").and_then(|path| path.join(b"b/c")).expect("valid");
        let prefixes: Vec<_> = path.prefixes().map(|path| path.shown()).collect();
        assert_eq!(prefixes, ["a", "a/b", "a/b/c"]);
        assert_eq!(path.split().map(|(parent, name)| (parent.shown(), name.to_vec())), Some(("a/b".to_owned(), b"c".to_vec())));
        assert_eq!(TreePath::default().split(), None);
        assert_eq!(TreePath::default().prefixes().count(), 0);
        assert!(path.join(b"../x").is_err());
        assert!(TreePath::parse(&[b'a'; 200]).and_then(|path| path.join(&b"b/".repeat(1950)[..3899])).is_err());
    }
}
