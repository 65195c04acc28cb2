//! A command's words, as the kernel wants them: arguments, environment and the places its program may lie.

use std::ffi::CString;

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::limits;
use pyro_proto::v1::ExecStart;

use crate::passwd::User;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name of what a terminal of the agent's understands; every system's database of terminals has it.
const DEFAULT_TERMINAL: &str = "xterm-256color";

/// A checked command.
#[derive(Debug)]
pub(crate) struct Words {
    program: Program,
    terminal: bool,
    /// What the request adds to the environment, last one wins.
    added: Vec<(String, CString)>,
    /// Empty when the request names none.
    pub(crate) directory: Option<CString>,
}

/// What is run.
#[derive(Debug)]
enum Program {
    /// The first argument.
    Given(Vec<CString>),
    /// The user's shell as login(1) runs it: interactive, or for one line.
    LoginShell { line: Option<CString>, history_expansion: bool },
}

impl Words {
    /// Checks a request against the limits.
    pub(crate) fn parse(start: &ExecStart) -> Result<Self, Failure> {
        if start.argv.is_empty() && !start.login {
            return Err(invalid("the command is empty"));
        }
        if start.argv.len() > 1 && start.login {
            return Err(invalid("a login shell runs one line, not a list of arguments"));
        }
        if let Some(size) = &start.terminal
            && !(limits::TERMINAL_COLUMNS.contains(&size.columns) && limits::TERMINAL_ROWS.contains(&size.rows))
        {
            return Err(invalid(format!("a terminal of {} columns and {} rows is not of an accepted size", size.columns, size.rows)));
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
        let mut arguments = start.argv.iter().map(|word| zero_free(word.to_vec(), "an argument")).collect::<Result<Vec<_>, _>>()?;
        let program = if start.login {
            Program::LoginShell { line: arguments.pop(), history_expansion: !start.no_history_expansion }
        } else {
            Program::Given(arguments)
        };
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
        Ok(Self { program, terminal: start.terminal.is_some(), added, directory })
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
            .chain(self.terminal.then_some(("TERM", DEFAULT_TERMINAL)))
            .filter(|(name, _)| !self.added.iter().any(|(added, _)| added == name))
            // The file the values come from was read as text lines, so only a zero byte in it can make this fail; then it is left out.
            .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
            .chain(self.added.iter().map(|(_, pair)| pair.clone()))
            .collect()
    }

    /// Returns the argument list as `user` runs it.
    pub(crate) fn arguments(&self, user: &User) -> Vec<CString> {
        match &self.program {
            Program::Given(arguments) => arguments.clone(),
            Program::LoginShell { line, history_expansion } => {
                let shell = login_shell(user);
                let name = shell.as_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                // The dash is what makes a login shell of it.
                // Of the shells that expand `!word` bash is the one that guests have. One that runs a line does not.
                let off = (name == b"bash" && !history_expansion && line.is_none()).then(|| c"+H".to_owned());
                let name = CString::new([b"-", name].concat()).expect("a part of it has no zero byte either");
                [Some(name), off, line.as_ref().map(|_| c"-c".to_owned()), line.clone()].into_iter().flatten().collect()
            }
        }
    }

    /// Returns what `user` runs, for messages.
    pub(crate) fn program(&self, user: &User) -> String {
        match &self.program {
            Program::Given(arguments) => arguments.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default(),
            Program::LoginShell { .. } => login_shell(user).to_string_lossy().into_owned(),
        }
    }

    /// Returns where the program may lie: its own path when it has a slash, otherwise one per folder of the command's PATH.
    pub(crate) fn candidates(&self, user: &User) -> Vec<CString> {
        let program = match &self.program {
            Program::Given(arguments) => arguments.first().cloned().unwrap_or_default(),
            Program::LoginShell { .. } => login_shell(user),
        };
        if program.as_bytes().contains(&b'/') || program.is_empty() {
            return vec![program];
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

/// Returns the user's shell; one that is not named by an absolute path is not trusted to be meant.
fn login_shell(user: &User) -> CString {
    let shell = Some(&user.shell).filter(|shell| shell.starts_with('/'));
    shell.and_then(|shell| CString::new(shell.as_str()).ok()).unwrap_or_else(|| c"/bin/sh".to_owned())
}

fn zero_free(bytes: Vec<u8>, what: &str) -> Result<CString, Failure> {
    CString::new(bytes).map_err(|_| invalid(format!("{what} holds a zero byte")))
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::message(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use pyro_proto::v1::{EnvironmentVariable, TerminalSize};

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
        let root = User::find("", "0").expect("there is always a root");
        assert_eq!(text(&words.candidates(&root)), ["/a/tool", "./tool", "/b/tool"]);
        let words = Words::parse(&start(&["dir/tool"], &[])).expect("valid");
        assert_eq!(text(&words.candidates(&root)), ["dir/tool"]);
    }

    #[test]
    fn login_shell_is_the_users_with_a_dash_before_its_name() {
        let check = |passwd: &str, argv: &[&str], program: &str, expected: &[&str]| {
            let user = User::find(passwd, "ann").expect("ann is there");
            let words = Words::parse(&ExecStart { login: true, ..start(argv, &[]) }).expect("valid");
            assert_eq!(text(&words.candidates(&user)), [program]);
            assert_eq!(text(&words.arguments(&user)), expected);
        };
        check("ann:x:1:2::/home/ann:/usr/bin/zsh\n", &[], "/usr/bin/zsh", &["-zsh"]);
        check("ann:x:1:2::/home/ann:/bin/bash\n", &["a; b"], "/bin/bash", &["-bash", "-c", "a; b"]);
        check("ann:x:1:2::/home/ann:\n", &[], "/bin/sh", &["-sh"]);
        check("ann:x:1:2::/home/ann:bash\n", &[], "/bin/sh", &["-sh"]);
    }

    #[test]
    fn bash_is_run_without_history_expansion_when_asked_to() {
        let check = |shell: &str, argv: &[&str], expected: &[&str]| {
            let user = User::find(&format!("ann:x:1:2::/home/ann:{shell}\n"), "ann").expect("ann is there");
            let words = Words::parse(&ExecStart { login: true, no_history_expansion: true, ..start(argv, &[]) }).expect("valid");
            assert_eq!(text(&words.arguments(&user)), expected);
        };
        check("/bin/bash", &[], &["-bash", "+H"]);
        check("/bin/bash", &["a; b"], &["-bash", "-c", "a; b"]);
        check("/bin/sh", &[], &["-sh"]);
    }

    #[test]
    fn environment_names_the_terminal_unless_the_request_does() {
        let root = User::find("", "0").expect("there is always a root");
        let check = |env: &[(&str, &str)], expected: &str| {
            let terminal = Some(TerminalSize { columns: 80, rows: 24 });
            let words = Words::parse(&ExecStart { terminal, ..start(&["x"], env) }).expect("valid");
            assert!(text(&words.environment(&root)).contains(&expected), "{expected}");
        };
        check(&[], "TERM=xterm-256color");
        check(&[("TERM", "dumb")], "TERM=dumb");
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
        check(ExecStart { login: true, ..start(&["a", "b"], &[]) }, ErrorKind::InvalidArgument);
        for (columns, rows) in [(19, 24), (501, 24), (80, 4), (80, 201)] {
            check(ExecStart { terminal: Some(TerminalSize { columns, rows }), ..start(&["a"], &[]) }, ErrorKind::InvalidArgument);
        }
        check(start(&["a"; limits::ARGUMENTS_MAX + 1], &[]), ErrorKind::LimitExceeded);
        check(start(&["a", &"x".repeat(limits::ARGUMENTS_MAX_BYTES)], &[]), ErrorKind::LimitExceeded);
    }
}
