//! Starts a server as its host would, and asks for its tools.
//!
//! Three messages of MCP over standard input and output, one JSON object a line. The server is ended and waited for whatever comes out.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Server, error::ServerError, program::Running};

/// How long the server may take for all of it. Hosts give up after 5 to 30 s; a server that takes ten is not well.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long it may take to end by itself once nobody speaks to it any more.
const FAREWELL: Duration = Duration::from_secs(2);
/// The protocol version asked for: the last with sessions, which every server of Pyro's speaks.
const PROTOCOL: &str = "2025-11-25";
/// Longest line accepted; the largest list of tools is a tenth of it.
const LINE_BYTES: u64 = 4 << 20;
/// How much of standard error is shown.
const STDERR_LINES: usize = 8;
/// Longest line of standard error shown.
const STDERR_LINE_BYTES: u64 = 2048;

/// What a server that works answered.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    /// What it calls itself, with its version.
    pub(crate) server: String,
    pub(crate) tools: Vec<String>,
    /// From its start to its list of tools.
    pub(crate) duration: Duration,
}

/// Starts `server` and returns its tools.
pub(crate) fn verify(server: &Server) -> Result<Answered, ServerError> {
    verify_within(server, DEADLINE)
}

fn verify_within(server: &Server, deadline: Duration) -> Result<Answered, ServerError> {
    let begin = Instant::now();
    let mut command = Command::new(&server.command);
    command.args(&server.arguments).envs(&server.environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(&mut command).map_err(|source| ServerError::Start { program: server.command.clone(), source })?;
    let (stdin, stdout, stderr) = (running.child.stdin.take(), running.child.stdout.take(), running.child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(ServerError::Form { request: "initialize" });
    };
    let mut session = Session { stdin, lines: read_answers(stdout), stderr: LastLines::read(stderr), begin, deadline };
    let answered = session.ask();
    // A server ends with its input. One that does not is killed with `running`.
    let Session { stdin, lines, .. } = session;
    drop(stdin);
    let farewell = Instant::now();
    while let Some(left) = FAREWELL.checked_sub(farewell.elapsed()) {
        if lines.recv_timeout(left).is_err() {
            break;
        }
    }
    drop(running);
    answered
}

struct Session {
    stdin: ChildStdin,
    lines: Receiver<String>,
    stderr: LastLines,
    begin: Instant,
    deadline: Duration,
}

impl Session {
    fn ask(&mut self) -> Result<Answered, ServerError> {
        let client = json!({ "name": "pyro-host", "version": env!("CARGO_PKG_VERSION") });
        let welcome = self.request(0, "initialize", json!({ "protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client }))?;
        self.send("notifications/initialized", &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        let (mut tools, mut cursor, mut id) = (Vec::new(), None, 1);
        loop {
            let params = cursor.map_or_else(|| json!({}), |cursor: Value| json!({ "cursor": cursor }));
            let page = self.request(id, "tools/list", params)?;
            let listed = page["tools"].as_array().ok_or(ServerError::Form { request: "tools/list" })?;
            tools.extend(listed.iter().filter_map(|tool| tool["name"].as_str()).map(ToOwned::to_owned));
            cursor = page.get("nextCursor").filter(|cursor| cursor.is_string()).cloned();
            id += 1;
            if cursor.is_none() {
                break;
            }
        }
        let text = |key: &str| welcome["serverInfo"][key].as_str().unwrap_or("?").to_owned();
        Ok(Answered { server: format!("{} {}", text("name"), text("version")), tools, duration: self.begin.elapsed() })
    }

    fn request(&mut self, id: u64, method: &'static str, params: Value) -> Result<Value, ServerError> {
        self.send(method, &json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        loop {
            let left = self.deadline.saturating_sub(self.begin.elapsed());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    let stderr = self.stderr.text(Duration::ZERO);
                    return Err(ServerError::Silent { request: method, seconds: self.deadline.as_secs(), stderr });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ServerError::Ended { request: method, stderr: self.stderr.text(FAREWELL) });
                }
            };
            if line.trim().is_empty() {
                continue;
            }
            let message: Value = serde_json::from_str(&line).map_err(|_| ServerError::Form { request: method })?;
            // Notifications and requests of the server may come in between; nothing here depends on them.
            if message["id"] != json!(id) || message.get("method").is_some() {
                continue;
            }
            return match (message.get("result"), message["error"]["message"].as_str()) {
                (Some(result), _) => Ok(result.clone()),
                (None, Some(message)) => Err(ServerError::Refused { request: method, message: message.to_owned() }),
                (None, None) => Err(ServerError::Form { request: method }),
            };
        }
    }

    fn send(&mut self, request: &'static str, message: &Value) -> Result<(), ServerError> {
        let written = self.stdin.write_all(format!("{message}\n").as_bytes()).and_then(|()| self.stdin.flush());
        written.map_err(|_| ServerError::Ended { request, stderr: self.stderr.text(FAREWELL) })
    }
}

/// What a server said last on standard error. It is always read, since a server that cannot write there stands still.
struct LastLines {
    lines: Arc<Mutex<VecDeque<String>>>,
    end: Receiver<()>,
}

impl LastLines {
    fn read(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, end) = mpsc::channel();
        let last = Arc::clone(&lines);
        std::thread::spawn(move || {
            // Held until the stream ends: that ends the channel.
            let _sender: mpsc::Sender<()> = sender;
            let mut stream = BufReader::new(stream);
            while let Some(line) = read_line(&mut stream, STDERR_LINE_BYTES) {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                last.push_back(line.trim_end().to_owned());
                if last.len() > STDERR_LINES {
                    last.pop_front();
                }
            }
        });
        Self { lines, end }
    }

    /// Returns them; of a server that has ended all of them, for which it waits this long.
    fn text(&self, patience: Duration) -> String {
        let _ = self.end.recv_timeout(patience);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).make_contiguous().join("\n")
    }
}

/// Reads answers on a thread, which ends with the stream.
fn read_answers(stream: impl Read + Send + 'static) -> Receiver<String> {
    // A reader that is not asked stops reading; the server then waits, and is ended by the deadline.
    let (sender, receiver) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        while let Some(line) = read_line(&mut stream, LINE_BYTES) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Reads a line. A longer one comes in pieces, so no server can fill memory with it.
fn read_line(stream: &mut impl std::io::BufRead, maximum: u64) -> Option<String> {
    let mut line = Vec::new();
    match stream.by_ref().take(maximum).read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(String::from_utf8_lossy(&line).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(script: &str) -> Server {
        Server {
            command: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: [("NAME".into(), "one".into())].into(),
        }
    }

    /// A server of three answers, with what is not an answer in between.
    const ANSWERS: &str = r#"
        read -r line
        echo '{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
        echo '{"jsonrpc":"2.0","id":0,"result":{"serverInfo":{"name":"'$NAME'","version":"7"}}}'
        read -r line
        read -r line
        echo '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}],"nextCursor":"more"}}'
        read -r line
        echo '{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"b"}]}}'
        read -r line
    "#;

    #[test]
    fn tools_of_all_pages_are_listed() {
        let answered = verify(&server(ANSWERS)).expect("it answers");
        assert_eq!((answered.server.as_str(), answered.tools), ("one 7", vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn a_server_that_ends_is_quoted() {
        let error = verify(&server("echo one >&2; echo two >&2; exit 3")).expect_err("it ends");
        assert!(matches!(&error, ServerError::Ended { stderr, .. } if stderr == "one\ntwo"), "{error:?}");
        let error = verify(&Server { command: "/no/such/program".into(), ..server("") }).expect_err("it is not there");
        assert!(matches!(error, ServerError::Start { .. }));
    }

    #[test]
    fn a_refusal_and_nonsense_are_told_apart() {
        let refusal = r#"read -r line; echo '{"jsonrpc":"2.0","id":0,"error":{"code":-1,"message":"no"}}'; read -r line"#;
        assert!(matches!(verify(&server(refusal)), Err(ServerError::Refused { message, .. }) if message == "no"));
        assert!(matches!(verify(&server("echo hello; read -r line")), Err(ServerError::Form { .. })));
    }

    #[test]
    fn a_server_and_its_children_are_gone_afterwards() {
        let folder = tempfile::tempdir().expect("the test can set itself up");
        let pid = folder.path().join("pid");
        // The child keeps standard output open, so only its end tells that the group was killed.
        let script = format!("sleep 600 & echo $! > {}; echo nonsense; wait", pid.display());
        assert!(verify(&server(&script)).is_err());
        let pid = std::fs::read_to_string(&pid).expect("it was written");
        let ended = || {
            let state = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
            state.is_empty() || state.lines().any(|line| line.starts_with("State:\tZ"))
        };
        let begin = Instant::now();
        while !ended() {
            assert!(begin.elapsed() < DEADLINE, "the server's child still runs");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_silent_server_is_given_up_and_quoted() {
        let error = verify_within(&server("echo waiting >&2; read -r line; read -r line"), Duration::from_secs(1));
        assert!(matches!(&error, Err(ServerError::Silent { request: "initialize", stderr, .. }) if stderr == "waiting"), "{error:?}");
    }
}
