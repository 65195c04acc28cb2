//! A command's words, as the kernel wants them: arguments, environment and the places its program may lie.

use std::ffi::CString;

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::limits;
use pyro_proto::v1::ExecStart;

use crate::passwd::User;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A checked command.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) arguments: Vec<CString>,
    /// What the request adds to the environment, last one wins.
    added: Vec<(String, CString)>,
    /// Empty when the request names none.
    pub(crate) directory: Option<CString>,
}

impl Words {
    /// Checks a request against the limits.
    pub(crate) fn parse(start: &ExecStart) -> Result<Self, Failure> {
        if start.argv.is_empty() {
            return Err(invalid("the command is empty"));
        }
        if start.argv.len() > limits::ARGUMENTS_MAX || start.env.len() > limits::ARGUMENTS_MAX {
            return Err(Failure::message(ErrorKind::LimitExceeded, format!("the command has more than {} words", limits::ARGUMENTS_MAX)));
        }
        let bytes = start.argv.iter().map(bytes::Bytes::len).sum::<usize>()
            + start.env.iter().map(|variable| variable.name.len() + variable.value.len()).sum::<usize>();
        if bytes > limits::ARGUMENTS_MAX_BYTES {
            return Err(Failure::message(
                ErrorKind::LimitExceeded,
                format!("the command and its environment exceed {} bytes", limits::ARGUMENTS_MAX_BYTES),
            ));
        }
        let arguments = start.argv.iter().map(|word| zero_free(word.to_vec(), "an argument")).collect::<Result<_, _>>()?;
        let mut added: Vec<(String, CString)> = Vec::with_capacity(start.env.len());
        for variable in &start.env {
            if variable.name.is_empty() || variable.name.contains('=') {
                return Err(invalid(format!("`{}` is no name of an environment variable", variable.name)));
            }
            let mut pair = Vec::with_capacity(variable.name.len() + 1 + variable.value.len());
            pair.extend_from_slice(variable.name.as_bytes());
            pair.push(b'=');
            pair.extend_from_slice(&variable.value);
            let pair = zero_free(pair, "an environment variable")?;
            added.retain(|(name, _)| *name != variable.name);
            added.push((variable.name.clone(), pair));
        }
        let directory = match start.cwd.first() {
            None => None,
            Some(b'/') => Some(zero_free(start.cwd.to_vec(), "the working directory")?),
            Some(_) => return Err(invalid("the working directory is not an absolute path")),
        };
        Ok(Self { arguments, added, directory })
    }

    /// Returns the whole environment: what a login of `user` would have, then what the request adds.
    pub(crate) fn environment(&self, user: &User) -> Vec<CString> {
        let login = [
            ("PATH", DEFAULT_PATH),
            ("HOME", &user.home),
            ("USER", &user.name),
            ("LOGNAME", &user.name),
            ("SHELL", &user.shell),
            ("LANG", "C.UTF-8"),
        ];
        login
            .into_iter()
            .filter(|(name, _)| !self.added.iter().any(|(added, _)| added == name))
            // The file the values come from was read as text lines, so only a zero byte in it can make this fail; then it is left out.
            .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
            .chain(self.added.iter().map(|(_, pair)| pair.clone()))
            .collect()
    }

    /// Returns where the program may lie: its own path when it has a slash, otherwise one per folder of the command's PATH.
    pub(crate) fn candidates(&self) -> Vec<CString> {
        let program = &self.arguments[0];
        if program.as_bytes().contains(&b'/') || program.is_empty() {
            return vec![program.clone()];
        }
        let path = self.added.iter().find(|(name, _)| name == "PATH").map(|(_, pair)| &pair.as_bytes()["PATH=".len()..]);
        path.unwrap_or(DEFAULT_PATH.as_bytes())
            .split(|&byte| byte == b':')
            .filter_map(|folder| {
                // As execvp(3): an empty entry means the working directory.
                let folder = if folder.is_empty() { b"." } else { folder };
                CString::new([folder, b"/", program.as_bytes()].concat()).ok()
            })
            .collect()
    }
}

fn zero_free(bytes: Vec<u8>, what: &str) -> Result<CString, Failure> {
    CString::new(bytes).map_err(|_| invalid(format!("{what} holds a zero byte")))
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::message(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use pyro_proto::v1::EnvironmentVariable;

    use super::*;

    fn start(argv: &[&str], env: &[(&str, &str)]) -> ExecStart {
        ExecStart {
            argv: argv.iter().map(|word| word.to_string().into()).collect(),
            env: env.iter().map(|(name, value)| EnvironmentVariable { name: (*name).into(), value: value.to_string().into() }).collect(),
            ..ExecStart::default()
        }
    }

    fn text(list: &[CString]) -> Vec<&str> {
        list.iter().map(|string| string.to_str().expect("tests use text")).collect()
    }

    #[test]
    fn program_is_looked_up_in_the_path_of_the_command() {
        let words = Words::parse(&start(&["tool"], &[("PATH", "/a::/b")])).expect("valid");
        assert_eq!(text(&words.candidates()), ["/a/tool", "./tool", "/b/tool"]);
        let words = Words::parse(&start(&["dir/tool"], &[])).expect("valid");
        assert_eq!(text(&words.candidates()), ["dir/tool"]);
    }

    #[test]
    fn environment_is_a_login_with_the_request_on_top() {
        let user = User::find("ann:x:1:2::/home/ann:/bin/zsh\n", "ann").expect("ann is there");
        let words = Words::parse(&start(&["x"], &[("HOME", "/else"), ("A", "1"), ("A", "2")])).expect("valid");
        let expected = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "USER=ann",
            "LOGNAME=ann",
            "SHELL=/bin/zsh",
            "LANG=C.UTF-8",
            "HOME=/else",
            "A=2",
        ];
        assert_eq!(text(&words.environment(&user)), expected);
    }

    #[test]
    fn hostile_words_are_refused() {
        let check = |start: ExecStart, kind: ErrorKind| {
            assert_eq!(Words::parse(&start).expect_err("must be refused").kind(), kind);
        };
        check(start(&[], &[]), ErrorKind::InvalidArgument);
        check(start(&["a\0b"], &[]), ErrorKind::InvalidArgument);
        check(start(&["a"], &[("A=B", "")]), ErrorKind::InvalidArgument);
        check(ExecStart { cwd: "relative".into(), ..start(&["a"], &[]) }, ErrorKind::InvalidArgument);
        check(start(&["a"; limits::ARGUMENTS_MAX + 1], &[]), ErrorKind::LimitExceeded);
        check(start(&["a", &"x".repeat(limits::ARGUMENTS_MAX_BYTES)], &[]), ErrorKind::LimitExceeded);
    }
}
