//! The official conformance suite, over HTTP, for the current and the previous revision of the protocol.
//!
//! What is expected to fail stands in `tests/mcp/conformance-baseline.yml`, each with its reason. The suite holds that list in both
//! directions: a failure that is not in it fails, and so does an entry that passes. It tolerates entries that it never meets; they are
//! looked for here.

use std::{collections::BTreeSet, fs, process::Stdio};

use pyro_tests::{Home, HttpServer, clients, finish, node, repository};

const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];
/// A run of so few scenarios tested something else than a server.
const SCENARIOS_MIN: usize = 30;

/// Runs the suite and returns what failed as expected, `SCENARIO:CHECK` each.
fn conform(home: &Home, server: &HttpServer, revision: &str) -> Vec<String> {
    let results = home.path().join(revision);
    let mut suite = node(home);
    suite.arg("--import").arg(repository().join("tests/mcp/bearer.mjs")).env("PYRO_MCP_TOKEN", &server.token);
    suite.arg(clients("node").join("node_modules/@modelcontextprotocol/conformance/dist/index.js"));
    suite.args(["server", "--url", &server.url, "--requirements", revision, "--output-dir"]).arg(&results);
    suite.arg("--expected-failures").arg(repository().join("tests/mcp/conformance-baseline.yml"));
    let output = finish(suite.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the suite starts"));
    assert_eq!(output.code, 0, "{revision}: {}\n{}", output.text(), output.stderr);
    let scenarios = fs::read_dir(&results).expect("it has results").count();
    assert!(scenarios >= SCENARIOS_MIN, "{revision}: only {scenarios} scenarios ran: {}", output.text());
    output.text().lines().filter_map(|line| line.strip_prefix("  ~ ")).map(ToOwned::to_owned).collect()
}

#[test]
fn server_conforms_but_for_what_is_explained() {
    let home = Home::new();
    let server = HttpServer::start(&home, &["--profile", "workspace-full"]);
    let failed: BTreeSet<String> = REVISIONS.iter().flat_map(|revision| conform(&home, &server, revision)).collect();
    let baseline = fs::read_to_string(repository().join("tests/mcp/conformance-baseline.yml")).expect("it is there");
    let expected: BTreeSet<String> = baseline.lines().filter_map(|line| line.strip_prefix("  - ")).map(ToOwned::to_owned).collect();
    assert_eq!(expected, failed, "the baseline holds what did not fail");
    drop(server);
    home.assert_nothing_left();
}
