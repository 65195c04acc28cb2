//! The MCP server and clients that are old, new, broken, greedy or strangers.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Stdio},
    time::Duration,
};

use pyro_tests::{ENVIRONMENT, Home, McpClient, anonymous_memory_kib, eventually};
use serde_json::{Value, json};

#[test]
fn old_and_new_versions_of_the_protocol_are_spoken() {
    let home = Home::new();
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let client = McpClient::start(&home, &["--no-project-source", "--profile", "vm-run"]);
        let hello = client.hello(version);
        assert_eq!((&hello["protocolVersion"], &hello["serverInfo"]["name"]), (&json!(version), &json!("pyro")));
        let tools = client.request("tools/list", json!({}));
        assert_eq!(tools["result"]["tools"][0]["name"], "vm_run", "{version}: {tools}");
        assert!(client.close().success());
    }
    // Since 2026-07-28 there is no greeting: each request says what it speaks.
    let client = McpClient::start(&home, &["--no-project-source"]);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "story", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {}
    });
    let found = client.request("server/discover", json!({ "_meta": meta }));
    assert!(found["result"]["supportedVersions"].to_string().contains("2026-07-28"), "{found}");
    let listed = client.request("tools/call", json!({ "name": "workspace_list", "arguments": {}, "_meta": meta }));
    assert_eq!(listed["result"]["structuredContent"]["workspaces"], json!([]), "{listed}");
    assert!(client.close().success());
    home.assert_nothing_left();
}

#[test]
fn broken_messages_are_answered_by_the_right_errors_and_lose_nothing() {
    let home = Home::new();
    let client = McpClient::start(&home, &["--no-project-source"]);
    let early = client.request("tools/list", json!({}));
    assert_eq!(early["error"]["code"], -32602, "before hello: {early}");
    let _ = client.hello("2025-11-25");
    for line in ["{oops", "[1, 2", "\"text\"", "{\"jsonrpc\": \"2.0\"}", "\u{1}\u{2}", "null"] {
        client.send_line(line);
    }
    assert_eq!(client.request("no/such", json!({}))["error"]["code"], -32601);
    assert_eq!(client.request("tools/call", json!({ "name": 5 }))["error"]["code"].as_i64().map(|code| code < 0), Some(true));
    assert_eq!(
        client.request("tools/call", json!({ "name": "vm_run", "arguments": [1] }))["error"]["code"].as_i64().map(|code| code < 0),
        Some(true)
    );
    let refusals = || client.others().iter().filter(|message| message["error"]["code"].as_i64().is_some()).count();
    eventually("each broken line is answered", 10, || refusals() >= 6);
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    client.send_line(&format!("{{\"jsonrpc\":\"2.0\",\"id\":77,\"method\":\"tools/list\",\"params\":{deep}}}"));
    client.send_line(&format!("{{\"jsonrpc\":\"2.0\",\"id\":78,\"method\":\"ping\",\"params\":{{\"x\":\"{}\"}}}}", "y".repeat(40 << 20)));
    assert_eq!(client.request("tools/list", json!({}))["result"]["tools"].as_array().map(|tools| tools.len() > 40), Some(true));
    assert!(anonymous_memory_kib(client.pid()) < 200_000, "what was too long is not kept");
    assert!(client.close().success());
    home.assert_nothing_left();
}

/// Calls that cannot be read, with the ids they are answered under and what the answer must say.
fn unreadable() -> Vec<(Vec<u8>, Value, &'static str)> {
    let call = |id: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#).into_bytes();
    let deep = format!(r#"{{"name":"vm_run","arguments":{{"x":{}{}}}}}"#, "[".repeat(1000), "]".repeat(1000));
    let late = format!(r#"{{"method":"tools/call","params":{deep},"jsonrpc":"2.0","id":"late"}}"#).into_bytes();
    let mut not_text = call("105", r#"{"name":"vm_run","arguments":{"command":"@"}}"#);
    let place = not_text.iter().position(|&byte| byte == b'@').expect("it is there");
    not_text[place] = 0xff;
    vec![
        (call("101", "[1]"), json!(101), "`params` must be an object, got a list"),
        (call("102", "{}"), json!(102), "`params.name` is missing"),
        (call("103", r#"{"name":"vm_run","arguments":"{}"}"#), json!(103), "`params.arguments` must be an object, got the text"),
        (call("104", &deep), json!(104), "recursion limit"),
        (not_text, json!(105), "not UTF-8"),
        (
            call("106", r#"{"name":"vm_run","arguments":{"command":"a","command":"b"}}"#),
            json!(106),
            "`params.arguments.command` is given twice",
        ),
        (call("107", r#"{"name":"vm_run","arguments":{"mem_mib":1e999}}"#), json!(107), "number out of range"),
        (call("1.5", r#"{"name":"vm_run"}"#), json!(1.5), "`id` must be a text or an integer"),
        (late, json!("late"), "recursion limit"),
        (br#"{"jsonrpc":"2.0","id":108,"method":"tools/call","params":{"name":"#.to_vec(), json!(108), "EOF"),
        (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_vec(), Value::Null, "`id` must be a text or an integer"),
    ]
}

#[test]
fn a_call_that_cannot_be_read_is_answered_under_its_id() {
    let home = Home::new();
    let client = McpClient::connect(&home, &["--no-project-source"]);
    for (message, id, part) in unreadable() {
        client.send_bytes(&message);
        let answered = |answer: &Value| answer["id"] == id && answer["error"]["message"].as_str().is_some_and(|text| text.contains(part));
        let heard =
            || client.others().iter().any(answered) || id.as_u64().is_some_and(|id| client.heard(id).as_ref().is_some_and(answered));
        eventually(&format!("{} is answered with {part}", String::from_utf8_lossy(&message[..message.len().min(100)])), 20, heard);
    }
    assert!(client.request("tools/list", json!({ "cursor": null, "_meta": null }))["result"]["tools"].is_array());
    assert!(client.close().success());
    home.assert_nothing_left();
}

#[test]
fn a_call_over_http_that_cannot_be_read_is_answered_under_its_id() {
    let home = Home::new();
    let mut server = HttpServer::start(&home);
    let bearer = format!("Bearer {}", server.token);
    let me = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "web", "version": "1" } });
    let (_, answer) =
        server.post("/mcp", &[("Authorization", &bearer)], &json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": me }));
    let session = answer.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("mcp-session-id: ").map(|id| id.trim().to_owned()));
    let session = session.expect("a session");
    let within = [("Authorization", bearer.as_str()), ("Mcp-Session-Id", &session), ("Mcp-Protocol-Version", "2025-11-25")];
    for (message, id, part) in unreadable() {
        let (status, answer) = server.post_bytes("/mcp", &within, &message);
        let body: Value =
            serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default().trim()).unwrap_or_else(|_| panic!("{answer}"));
        assert_eq!((status, &body["id"]), (if id.is_null() { 400 } else { 200 }, &id), "{answer}");
        assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains(part)), "`{part}` is missing in {answer}");
    }
    let list = br#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":null}"#;
    let (status, answer) = server.post_bytes("/mcp", &within, list);
    assert!(status == 200 && answer.contains("workspace_create"), "{answer}");
    let pid = rustix::process::Pid::from_raw(server.child.id().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(server.child.wait().expect("it ends").success());
    home.assert_nothing_left();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_but_itself() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let mut command = home.command(&["mcp", "serve", "--no-project-source"]);
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("pyro starts");
    let mut input = server.stdin.take().expect("piped");
    let mut say = |message: Value| drop(input.write_all(format!("{message}\n").as_bytes()));
    let me = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "deaf", "version": "1" } });
    say(json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": me }));
    say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    const CALLS: u64 = 12;
    for id in 2..2 + CALLS {
        let arguments = json!({ "workspace": workspace, "command": "head -c 60000 /dev/zero | tr '\\0' x" });
        say(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "workspace_exec", "arguments": arguments } }));
    }
    // Each answer is larger than a pipe. The commands end all the same, and the server holds no more than the answers.
    let ended = |home: &Home| home.status(&workspace)["command_count"] == CALLS && home.status(&workspace)["running_command_count"] == 0;
    eventually("every command has ended", 120, || ended(&home));
    assert!(anonymous_memory_kib(server.id()) < 200_000, "{}", anonymous_memory_kib(server.id()));
    let mut output = BufReader::new(server.stdout.take().expect("piped"));
    let mut answers = 0;
    while answers < CALLS {
        let mut line = String::new();
        assert!(output.read_line(&mut line).expect("readable") > 0, "{answers} answers and the end");
        let message: Value = serde_json::from_str(&line).expect("whole lines");
        if message["id"].as_u64().is_some_and(|id| id > 1) {
            assert_eq!(message["result"]["structuredContent"]["stdout_bytes"], 60_000, "{message}");
            answers += 1;
        }
    }
    drop(input);
    assert!(server.wait().expect("it ends").success());
    let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    home.assert_nothing_left();
}

struct HttpServer {
    child: Child,
    address: String,
    token: String,
    token_file: String,
}

impl HttpServer {
    fn start(home: &Home) -> Self {
        let mut command = home.command(&["mcp", "serve", "--no-project-source", "--http", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("pyro starts");
        let mut line = String::new();
        let _ = BufReader::new(child.stderr.take().expect("piped")).read_line(&mut line).expect("it tells where it is");
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).expect("told").to_owned();
        let (address, token_file) = (field("url=http://").trim_end_matches("/mcp").to_owned(), field("token_file="));
        let token = fs::read_to_string(&token_file).expect("readable").trim().to_owned();
        Self { child, address, token, token_file }
    }

    /// Sends a POST and returns the status and the rest of the answer.
    fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, String) {
        self.post_bytes(path, headers, body.to_string().as_bytes())
    }

    fn post_bytes(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("settable");
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(&[format!("{head}\r\n").as_bytes(), body].concat()).expect("writable");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer)
    }
}

#[test]
fn http_is_for_those_who_have_the_token_and_for_no_page_of_a_browser() {
    let home = Home::new();
    let mut server = HttpServer::start(&home);
    assert_eq!(fs::metadata(&server.token_file).expect("there").permissions().mode() & 0o777, 0o600);
    let me = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "web", "version": "1" } });
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": me });
    let bearer = format!("Bearer {}", server.token);
    assert_eq!(server.post("/mcp", &[], &hello).0, 401);
    assert_eq!(server.post("/mcp", &[("Authorization", "Bearer wrong-token-wrong-token")], &hello).0, 401);
    assert_eq!(server.post("/other", &[("Authorization", &bearer)], &hello).0, 404);
    assert_eq!(server.post("/mcp", &[("Authorization", &bearer), ("Origin", "https://evil.example")], &hello).0, 403);
    assert_eq!(server.post("/mcp", &[("Authorization", &bearer), ("Host", "evil.example")], &hello).0, 403);
    let (status, answer) = server.post("/mcp", &[("Authorization", &bearer)], &hello);
    assert!(status == 200 && answer.contains("\"serverInfo\""), "{answer}");
    let session = answer.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("mcp-session-id: ").map(|id| id.trim().to_owned()));
    let session = session.expect("a session");
    let within = [("Authorization", bearer.as_str()), ("Mcp-Session-Id", &session), ("Mcp-Protocol-Version", "2025-11-25")];
    assert_eq!(server.post("/mcp", &within, &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).0, 202);
    let arguments = json!({ "environment": ENVIRONMENT, "mem_mib": 256, "command": "echo over http" });
    let run = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "vm_run", "arguments": arguments } });
    let (status, answer) = server.post("/mcp", &within, &run);
    assert!(status == 200 && answer.contains("over http"), "{answer}");
    let pid = rustix::process::Pid::from_raw(server.child.id().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(server.child.wait().expect("it ends").success());
    assert!(!std::path::Path::new(&server.token_file).exists(), "the token goes with the server");
    home.assert_nothing_left();
}
