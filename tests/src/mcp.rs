//! A client of `pyro mcp serve` that speaks the protocol line by line, so that a story can send what no library would.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, ChildStdin, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Home, kill};

/// How long an answer is waited for: a first template under load takes a minute.
const ANSWER_SECONDS: u64 = 180;

#[derive(Debug, Default)]
struct Heard {
    answers: HashMap<u64, Value>,
    others: Vec<Value>,
    closed: bool,
}

/// A client and the server it has started.
#[derive(Debug)]
pub struct McpClient {
    server: Child,
    input: Mutex<Option<ChildStdin>>,
    next: Mutex<u64>,
    output: UnixStream,
    heard: Arc<(Mutex<Heard>, Condvar)>,
}

impl McpClient {
    /// Starts `pyro mcp serve ARGUMENTS`, and says nothing to it.
    #[must_use]
    pub fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(&["mcp", "serve"]);
        command.args(arguments).current_dir(home.path());
        Self::start_command(command)
    }

    /// Starts a server by a command of the caller's.
    #[must_use]
    pub fn start_command(mut command: std::process::Command) -> Self {
        let (output, of_server) = UnixStream::pair().expect("sockets can be made");
        let mut server = command.stdin(Stdio::piped()).stdout(OwnedFd::from(of_server)).spawn().expect("pyro starts");
        // It holds our copy of the server's end, which would keep the stream open.
        drop(command);
        let (input, reader) = (server.stdin.take(), output.try_clone().expect("sockets can be shared"));
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        std::thread::spawn({
            let heard = heard.clone();
            move || {
                for line in BufReader::new(reader).lines() {
                    let Ok(line) = line else { break };
                    let message: Value = serde_json::from_str(&line).expect("a server writes JSON, a message a line");
                    let mut state = heard.0.lock().expect("no panic");
                    match message["id"].as_u64().filter(|_| message.get("method").is_none()) {
                        Some(id) => drop(state.answers.insert(id, message)),
                        None => state.others.push(message),
                    }
                    heard.1.notify_all();
                }
                heard.0.lock().expect("no panic").closed = true;
                heard.1.notify_all();
            }
        });
        Self { server, input: Mutex::new(input), next: Mutex::new(0), output, heard }
    }

    /// Starts a server and says hello.
    #[must_use]
    pub fn connect(home: &Home, arguments: &[&str]) -> Self {
        let client = Self::start(home, arguments);
        let _ = client.hello("2025-11-25");
        client
    }

    /// Says hello in this version; returns what the server says of itself.
    #[must_use]
    pub fn hello(&self, version: &str) -> Value {
        let me = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "story", "version": "1" } });
        let answer = self.request("initialize", me);
        self.send_line(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        answer["result"].clone()
    }

    /// Returns the server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Sends a line as it is. A server that is gone hears nothing.
    pub fn send_line(&self, line: &str) {
        self.send_bytes(line.as_bytes());
    }

    /// Sends bytes as they are, and the end of a line.
    pub fn send_bytes(&self, line: &[u8]) {
        let mut input = self.input.lock().expect("no panic");
        drop(input.as_mut().map(|input| input.write_all(&[line, b"\n"].concat())));
    }

    /// Returns an answer that has come already, and leaves it where it is.
    #[must_use]
    pub fn heard(&self, id: u64) -> Option<Value> {
        self.heard.0.lock().expect("no panic").answers.get(&id).cloned()
    }

    /// Sends a request; its answer is taken with [`answer`](Self::answer).
    pub fn send(&self, method: &str, params: Value) -> u64 {
        let id = {
            let mut next = self.next.lock().expect("no panic");
            *next += 1;
            *next
        };
        self.send_line(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        id
    }

    /// Sends a call of a tool.
    pub fn send_call(&self, tool: &str, arguments: Value) -> u64 {
        self.send("tools/call", json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": tool } }))
    }

    /// Calls a request off.
    pub fn cancel(&self, id: u64) {
        let params = json!({ "requestId": id, "reason": "a story" });
        self.send_line(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }).to_string());
    }

    /// Waits for an answer.
    #[must_use]
    pub fn answer(&self, id: u64) -> Value {
        self.answer_within(id, Duration::from_secs(ANSWER_SECONDS)).unwrap_or_else(|| panic!("no answer to request {id}"))
    }

    /// Waits for an answer for so long.
    #[must_use]
    pub fn answer_within(&self, id: u64, patience: Duration) -> Option<Value> {
        let end = Instant::now() + patience;
        let mut state = self.heard.0.lock().expect("no panic");
        loop {
            if let Some(answer) = state.answers.remove(&id) {
                return Some(answer);
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return None;
            }
            state = self.heard.1.wait_timeout(state, left).expect("no panic").0;
        }
    }

    /// Sends a request and waits for its answer.
    #[must_use]
    pub fn request(&self, method: &str, params: Value) -> Value {
        self.answer(self.send(method, params))
    }

    /// Calls a tool and returns its result, whatever it is.
    #[must_use]
    pub fn call_any(&self, tool: &str, arguments: Value) -> Value {
        self.answer(self.send_call(tool, arguments))
    }

    /// Calls a tool that must succeed, and returns its structured answer.
    #[must_use]
    pub fn call(&self, tool: &str, arguments: Value) -> Value {
        let answer = self.call_any(tool, arguments);
        assert_eq!(answer["result"]["isError"], false, "{tool}: {answer}");
        answer["result"]["structuredContent"].clone()
    }

    /// Calls a tool that must fail, and returns kind, message and hint in one text.
    #[must_use]
    pub fn call_failing(&self, tool: &str, arguments: Value) -> String {
        let answer = self.call_any(tool, arguments);
        assert_eq!(answer["result"]["isError"], true, "{tool}: {answer}");
        let error = &answer["result"]["structuredContent"]["error"];
        for part in ["kind", "message", "hint"] {
            assert!(error[part].as_str().is_some_and(|text| !text.is_empty()), "{tool} has no {part}: {answer}");
        }
        answer["result"]["content"][0]["text"].as_str().expect("a failure has a text").to_owned()
    }

    /// Returns what the server said that was no answer.
    #[must_use]
    pub fn others(&self) -> Vec<Value> {
        self.heard.0.lock().expect("no panic").others.clone()
    }

    /// Is gone at once, as a client that was killed, and waits for the server's end.
    pub fn vanish(mut self) -> ExitStatus {
        self.output.shutdown(std::net::Shutdown::Both).expect("it is open");
        drop(self.input.lock().expect("no panic").take());
        self.server.wait().expect("it can be waited for")
    }

    /// Closes the server's input and waits for its end.
    pub fn close(mut self) -> ExitStatus {
        drop(self.input.lock().expect("no panic").take());
        self.server.wait().expect("it can be waited for")
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        kill(&mut self.server);
    }
}
