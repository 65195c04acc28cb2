//! What runs in a workspace and would be lost with it.

use std::fmt;

/// What runs in a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Running {
    /// How many commands.
    pub(crate) commands: usize,
    /// Names of services.
    pub(crate) services: Vec<String>,
    /// Ids of shells in whose foreground a program runs.
    pub(crate) shells: Vec<String>,
}

impl Running {
    fn count(&self) -> usize {
        self.commands + self.services.len() + self.shells.len()
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.count() == 0
    }

    /// Returns the command line that ends the first of it.
    pub(crate) fn end(&self, workspace: &str) -> String {
        match (self.commands, self.services.first(), self.shells.first()) {
            (0, Some(service), _) => format!("pyro workspace service stop {workspace} {service}"),
            (0, None, Some(shell)) => format!("pyro workspace shell close {workspace} {shell}"),
            (_, _, _) => format!("pyro workspace exec-kill {workspace} SEQUENCE"),
        }
    }
}

fn named(one: &str, many: &str, names: &[String]) -> Option<String> {
    let list = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => None,
        1 => Some(format!("{one} {list}")),
        _ => Some(format!("{many} {list}")),
    }
}

/// Writes "a command and service `web` are running".
impl fmt::Display for Running {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commands = match self.commands {
            0 => None,
            1 => Some("a command".to_owned()),
            count => Some(format!("{count} commands")),
        };
        let services = named("service", "services", &self.services);
        let shells = named("a program in shell", "programs in shells", &self.shells);
        let parts: Vec<String> = [commands, services, shells].into_iter().flatten().collect();
        let list = match parts.split_last() {
            Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
            Some((last, _)) => last.clone(),
            None => "nothing".to_owned(),
        };
        write!(formatter, "{list} {} running", if self.count() > 1 { "are" } else { "is" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(commands: usize, services: &[&str], shells: &[&str], text: &str, end: &str) {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let running = Running { commands, services: owned(services), shells: owned(shells) };
        assert_eq!((running.to_string().as_str(), running.end("api").as_str()), (text, end));
    }

    #[test]
    fn what_runs_is_named() {
        let kill = "pyro workspace exec-kill api SEQUENCE";
        check(1, &[], &[], "a command is running", kill);
        check(3, &[], &[], "3 commands are running", kill);
        check(0, &["web"], &[], "service `web` is running", "pyro workspace service stop api web");
        check(0, &[], &["sh1"], "a program in shell `sh1` is running", "pyro workspace shell close api sh1");
        check(1, &["db", "web"], &["sh1"], "a command, services `db`, `web` and a program in shell `sh1` are running", kill);
    }
}
