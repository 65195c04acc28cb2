//! The official MCP clients, the Inspector and the shipped examples, each with a real guest behind.
//!
//! Every client plays the same story, `tests/mcp/repro-fix.json`. What differs is who plays it, and in which version of the protocol.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use pyro_tests::{ENVIRONMENT, Home, MEM_MIB, Output, clients, finish, node, player, pyro, python, repository};
use serde_json::Value;

const FIX: &str = "if [ \"$2\" -ge 10 ]; then";

/// What a client needs to know to play the story, as `KEY=VALUE`.
fn settings(home: &Home) -> [String; 3] {
    let output = home.path().join("exported");
    fs::create_dir_all(&output).expect("the home is writable");
    [
        "name=fix-prices".to_owned(),
        format!("project={}", repository().join("examples/project").display()),
        format!("output={}", output.display()),
    ]
}

fn run(command: &mut Command) -> Output {
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client starts"))
}

/// Has a client play the story to its end, and checks what it spoke and left behind.
fn check_story(home: &Home, mut client: Command, protocol_version: &str) {
    let story = repository().join("tests/mcp/repro-fix.json");
    client.arg(story).args(settings(home)).args(["--", &pyro(), "mcp", "serve", "--profile", "workspace-core"]);
    let told = run(&mut client).ok().json();
    assert_eq!(told["protocol_version"], protocol_version, "{told}");
    assert!(told["steps"].as_u64() >= Some(10), "{told}");
    check_fixed(&home.path().join("exported"));
    home.assert_nothing_left();
}

fn check_fixed(folder: &Path) {
    let fixed = fs::read_to_string(folder.join("price.sh")).expect("it was exported");
    assert!(fixed.contains(FIX), "{fixed}");
}

fn check_python(mode: &str, protocol_version: &str) {
    let home = Home::new();
    let mut client = python(&home);
    client.arg(repository().join("tests/mcp/drive.py")).arg(mode);
    check_story(&home, client, protocol_version);
}

fn check_typescript(package: &str, protocol_version: &str) {
    let (home, place) = (Home::new(), player(&["tests/mcp"]));
    let mut client = node(&home);
    client.arg(place.path().join("mcp/drive.mjs")).arg(package);
    check_story(&home, client, protocol_version);
}

#[test]
fn python_client_reproduces_and_fixes_without_a_session() {
    check_python("auto", "2026-07-28");
}

#[test]
fn python_client_reproduces_and_fixes_in_a_session() {
    check_python("legacy", "2025-11-25");
}

#[test]
fn typescript_client_reproduces_and_fixes_without_a_session() {
    check_typescript("@modelcontextprotocol/client", "2026-07-28");
}

#[test]
fn typescript_client_that_most_hosts_have_reproduces_and_fixes() {
    check_typescript("@modelcontextprotocol/sdk", "2025-11-25");
}

#[test]
fn typescript_client_of_an_older_protocol_reproduces_and_fixes() {
    check_typescript("sdk-of-2025-06-18", "2025-06-18");
}

fn inspect(home: &Home, arguments: &[&str]) -> Output {
    let inspector = clients("node").join("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");
    let mut command = node(home);
    // It starts the server in an environment of its own making: the home is given to it by name.
    command.arg(inspector).arg("--cli").arg("-e").arg(format!("PYRO_HOME={}", home.path().display()));
    command.args(["-e", "PYRO_STANDBY=0", &pyro(), "mcp", "serve", "--profile", "workspace-full"]).args(arguments);
    run(&mut command)
}

#[test]
fn inspector_lists_tools_whose_schemas_every_host_takes() {
    let home = Home::new();
    // `--strict` makes a schema that some host is known to refuse an error.
    let listed = inspect(&home, &["--method", "tools/list", "--strict"]).ok();
    let answer = listed.json();
    let tools = answer["tools"].as_array().unwrap_or_else(|| panic!("no tools: {answer}"));
    assert!(tools.iter().any(|tool| tool["name"] == "workspace_exec"), "{answer}");
    assert!(tools.iter().all(|tool| tool["outputSchema"]["type"] == "object"), "{answer}");
}

#[test]
fn inspector_calls_tools() {
    let home = Home::new();
    let memory = format!("mem_mib={MEM_MIB}");
    let environment = format!("environment={ENVIRONMENT}");
    let call = ["--method", "tools/call", "--tool-name", "vm_run", "--tool-arg", &environment, &memory];
    let answer = inspect(&home, &[&call[..], &["command=echo from the guest"]].concat()).ok().json();
    assert_eq!(answer["structuredContent"]["exit_code"], 0, "{answer}");
    assert_eq!(answer["structuredContent"]["stdout"], "from the guest\n", "{answer}");
    let refused = inspect(&home, &["--method", "tools/call", "--tool-name", "workspace_status", "--tool-arg", "workspace=nobody"]);
    assert_ne!(refused.code, 0, "a tool's error is the Inspector's");
    let said = format!("{}{}", refused.text(), refused.stderr);
    assert!(said.contains("not_found") && said.contains("hint"), "{said}");
    home.assert_nothing_left();
}

/// The scripted model, listening.
struct Model {
    child: Child,
    url: String,
}

const KEY: &str = "a-key-of-this-test";

impl Model {
    fn start(home: &Home) -> Self {
        let mut command = python(home);
        command.arg(repository().join("tests/mcp/scripted_model.py")).arg(KEY);
        command.arg(repository().join("tests/mcp/repro-fix.json")).args(settings(home));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the model starts");
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().expect("it was piped")).read_line(&mut url).expect("it says where it is");
        Self { child, url: url.trim().to_owned() }
    }

    /// Ends it, and returns what it had to complain about.
    fn finish(mut self) -> Output {
        drop(self.child.stdin.take());
        finish(self.child)
    }
}

fn openai_example(home: &Home, model: &Model) -> Command {
    let mut command = python(home);
    command.arg(repository().join("examples/openai-responses/repro_fix.py"));
    command.args(["--model", "scripted", "--pyro", &pyro(), "--output"]).arg(home.path().join("exported"));
    command.env("OPENAI_BASE_URL", &model.url).env("OPENAI_API_KEY", KEY);
    command
}

#[test]
fn openai_example_fixes_what_a_model_asks_it_to() {
    let home = Home::new();
    let model = Model::start(&home);
    let example = run(&mut openai_example(&home, &model));
    let complaints = model.finish();
    assert_eq!(complaints.code, 0, "the model complains: {}\nthe example says: {}", complaints.stderr, example.stderr);
    let example = example.ok();
    assert!(example.text().contains("The comparison is `-ge` now."), "{}", example.text());
    // A person who watches sees errors with their kind and hint.
    assert!(example.stderr.contains("not_found") && example.stderr.contains("hint"), "{}", example.stderr);
    check_fixed(&home.path().join("exported"));
    home.assert_nothing_left();
}

#[test]
fn openai_example_deletes_its_workspace_when_it_is_ended() {
    let home = Home::new();
    let model = Model::start(&home);
    let mut child = openai_example(&home, &model).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the example starts");
    // It says each call before it makes it. After the first one in the workspace there is one to be cleaned up.
    let mut lines = BufReader::new(child.stderr.take().expect("it was piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("workspace_exec")), "it never came to a command");
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let rest: Vec<String> = lines.collect();
    assert_eq!(finish(child).code, 130, "{rest:?}");
    assert!(rest.iter().any(|line| line.starts_with("deleting workspace")), "{rest:?}");
    // The model did not come to its end, and says so: a test that it cannot fail would be none.
    assert_eq!(model.finish().code, 1);
    home.assert_nothing_left();
}

#[test]
fn scripted_model_refuses_what_the_api_would_not_take() {
    let home = Home::new();
    let mut model = Model::start(&home);
    let body = r#"{"model": "m", "instructions": "a workspace", "input": [{"type": "function_call_output", "call_id": "call_1_0", "output": "x"}]}"#;
    let answer = post(&model.url, body);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_request_error"), "{answer}");
    model.child.stdin.take();
    let complaints = model.finish();
    assert_eq!(complaints.code, 1);
    assert!(complaints.stderr.contains("no tools are offered"), "{}", complaints.stderr);
}

fn post(url: &str, body: &str) -> String {
    let host = url.trim_start_matches("http://").split('/').next().expect("a host").to_owned();
    let mut stream = std::net::TcpStream::connect(&host).expect("it listens");
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nConnection: \
         close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).expect("it answers");
    answer
}

#[test]
fn mcp_client_example_goes_from_one_command_to_a_whole_machine() {
    let (home, place) = (Home::new(), player(&["examples/mcp-client", "examples/project"]));
    let mut command = node(&home);
    command.arg(place.path().join("mcp-client/progression.ts")).args(["--pyro", &pyro(), "--output"]);
    command.arg(home.path().join("exported"));
    let example = run(&mut command).ok();
    let said = example.text();
    for part in [
        "== vm-run: 1 tools",
        "a machine of its own: Linux",
        "== workspace-core",
        "test.sh exits with 1: FAIL: 10 things",
        "refused as it should be",
        "hint",
        "test.sh exits with 0: all prices are right",
        "== workspace-full",
        "service watch is ready; the newest line of its log: exit code 1",
        "# sed -i",
        "after the reset the workspace is equal to its seed",
    ] {
        assert!(said.contains(part), "`{part}` is missing: {said}\n{}", example.stderr);
    }
    check_fixed(&home.path().join("exported"));
    home.assert_nothing_left();
}

#[test]
fn mcp_client_example_has_right_types() {
    let (home, place) = (Home::new(), player(&["examples/mcp-client"]));
    let mut command = node(&home);
    command.arg(clients("node").join("node_modules/typescript/bin/tsc"));
    command.args(["--noEmit", "--strict", "--target", "esnext", "--module", "nodenext", "--types", "node", "--skipLibCheck"]);
    // It looks for the types of Node from the current folder on.
    let checked = run(command.arg("mcp-client/progression.ts").current_dir(place.path()));
    assert_eq!(checked.code, 0, "{}", checked.text());
}

#[test]
fn examples_name_the_versions_that_are_tested() {
    let json = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(repository().join(path)).expect("it is there")).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let (tested, shown) = (json("tests/mcp/package.json"), json("examples/mcp-client/package.json"));
    for (package, version) in shown["dependencies"].as_object().expect("it has some") {
        assert_eq!(tested["dependencies"][package], *version, "{package}");
    }
    let tested = fs::read_to_string(repository().join("tests/mcp/requirements.in")).expect("it is there");
    let shown = fs::read_to_string(repository().join("examples/openai-responses/requirements.txt")).expect("it is there");
    for requirement in shown.lines() {
        assert!(tested.lines().any(|line| line == requirement), "{requirement}");
    }
}
