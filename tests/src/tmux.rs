//! A terminal that is not ours: tmux, to compare with what Pyro says a screen shows, and to sit before `shell attach` as a person does.

use std::{
    path::Path,
    process::{Command, Output},
};

/// A private tmux server with one window. It ends with this value.
#[derive(Debug)]
pub struct Tmux {
    socket: String,
}

impl Tmux {
    /// Starts a server whose window runs `command`, a shell line.
    ///
    /// # Panics
    /// tmux is not on this host; `script/install-dependencies --test` installs it.
    #[must_use]
    pub fn start(columns: u32, rows: u32, command: &str) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let socket = format!("pyro-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let tmux = Self { socket };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let started = tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, command]);
        assert!(started.status.success(), "tmux: {}", String::from_utf8_lossy(&started.stderr));
        // What has ended is still to be seen.
        let _ = tmux.run(&["set-option", "-g", "remain-on-exit", "on"]);
        let _ = tmux.run(&["set-option", "-g", "history-limit", "50000"]);
        tmux
    }

    /// Shows a stream of bytes and returns what the terminal has on its screen and in its history, wrapped lines joined.
    #[must_use]
    pub fn show(columns: u32, rows: u32, bytes: &Path) -> String {
        // Raw, so that the terminal's own newline translation does not add carriage returns to those of the stream.
        let line = format!("stty raw -echo; cat '{}'; sleep 1000", bytes.display());
        let tmux = Self::start(columns, rows, &line);
        let mut last = String::new();
        let mut same = 0;
        crate::eventually("tmux has shown it all", 20, || {
            let now = tmux.screen(&["-J", "-S", "-"]);
            same = if now == last && !now.trim().is_empty() { same + 1 } else { 0 };
            last = now;
            same > 15
        });
        last
    }

    /// Returns what is on the screen, without spaces at the ends of lines and empty lines at the end.
    #[must_use]
    pub fn screen(&self, more: &[&str]) -> String {
        let mut arguments = vec!["capture-pane", "-p"];
        arguments.extend(more);
        let output = self.run(&arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Types: words as `send-keys` knows them.
    pub fn keys(&self, keys: &[&str]) {
        let mut arguments = vec!["send-keys"];
        arguments.extend(keys);
        assert!(self.run(&arguments).status.success());
    }

    /// Gives the window another size.
    pub fn resize(&self, columns: u32, rows: u32) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        assert!(self.run(&["resize-window", "-x", &columns, "-y", &rows]).status.success());
    }

    /// Waits until the screen shows `text`, and returns the screen.
    #[must_use]
    pub fn wait_for(&self, text: &str) -> String {
        let mut screen = String::new();
        crate::eventually(&format!("the screen shows `{text}`"), 30, || {
            screen = self.screen(&[]);
            screen.contains(text)
        });
        screen
    }

    /// Runs a command of tmux.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(arguments).env_remove("TMUX").env("LANG", "C.UTF-8").env("TERM", "xterm-256color");
        command.output().expect("tmux is there: `script/install-dependencies --test` installs it")
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}
