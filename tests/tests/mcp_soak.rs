//! A long session of a busy model: hundreds of calls, eight at a time, some of them called off.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use pyro_tests::{ENVIRONMENT, Home, McpClient, anonymous_memory_kib, eventually};
use serde_json::{Value, json};

const CALLS: usize = 500;
const AT_ONCE: usize = 8;
/// After so many calls every buffer that grows has grown.
const WARM_CALLS: usize = 150;
/// What the server may hold more at the end than when it was warm.
const GROWTH_MAX_KIB: u64 = 12 << 10;

/// Numbers without a pattern, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Makes up the next call of a worker.
fn call(numbers: &mut Numbers, worker: usize) -> (&'static str, Value) {
    let workspace = if numbers.below(2) == 0 { "a" } else { "b" };
    let path = format!("w{worker}/f{}", numbers.below(5));
    match numbers.below(50) {
        0..10 => ("workspace_exec", json!({ "workspace": workspace, "command": "true" })),
        10..14 => ("workspace_exec", json!({ "workspace": workspace, "command": "sleep 2; echo late", "yield_after_ms": 1000 })),
        14..22 => ("workspace_file_write", json!({ "workspace": workspace, "path": path, "text": "text\n".repeat(50) })),
        22..27 => ("workspace_file_list", json!({ "workspace": workspace, "recursive": true })),
        27..31 => ("workspace_file_search", json!({ "workspace": workspace, "pattern": "te.t" })),
        31..34 => ("workspace_diff", json!({ "workspace": workspace })),
        34..38 => ("workspace_status", json!({ "workspace": workspace })),
        38..41 => ("workspace_logs", json!({ "workspace": workspace })),
        41..44 => ("workspace_list", json!({})),
        44..47 => ("workspace_exec", json!({ "workspace": "no-such", "command": "true" })),
        47 => ("workspace_create", json!({ "environment": ENVIRONMENT, "mem_mib": 256, "on_expire": "delete" })),
        48 => ("vm_run", json!({ "environment": ENVIRONMENT, "mem_mib": 256, "command": "echo once" })),
        _ => ("workspace_summary", json!({ "workspace": workspace })),
    }
}

#[test]
fn five_hundred_mixed_calls_with_cancellations_leave_only_what_was_asked_for() {
    let home = Home::new();
    let client = McpClient::connect(&home, &["--no-project-source"]);
    for name in ["a", "b"] {
        let _ = client.call("workspace_create", json!({ "environment": ENVIRONMENT, "mem_mib": 256, "name": name }));
    }
    let (done, warm_kib) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (client, done, warm_kib) = (&client, &done, &warm_kib);
            scope.spawn(move || {
                let mut numbers = Numbers(worker as u64 + 1);
                loop {
                    let number = done.fetch_add(1, Ordering::SeqCst);
                    if number >= CALLS {
                        return;
                    }
                    if number == WARM_CALLS {
                        warm_kib.store(usize::try_from(anonymous_memory_kib(client.pid())).expect("small"), Ordering::SeqCst);
                    }
                    let (tool, arguments) = call(&mut numbers, worker);
                    let id = client.send_call(tool, arguments);
                    let answer = if numbers.below(8) == 0 {
                        let Some(answer) = client.answer_within(id, Duration::from_millis(numbers.below(300))) else {
                            client.cancel(id);
                            continue;
                        };
                        answer
                    } else {
                        client.answer(id)
                    };
                    let result = &answer["result"];
                    let refused = result["isError"] == true;
                    assert!(result.is_object() && refused == result["structuredContent"].get("error").is_some(), "{tool}: {answer}");
                    // What was asked for and came is deleted as a model would.
                    if tool == "workspace_create" && !refused {
                        let _ = client.call("workspace_delete", json!({ "workspace": result["structuredContent"]["workspace_id"] }));
                    }
                }
            });
        }
    });
    let names = || {
        let listed = client.call("workspace_list", json!({}));
        let mut names: Vec<String> =
            listed["workspaces"].as_array().expect("a list").iter().map(|one| one["name"].as_str().unwrap_or("?").to_owned()).collect();
        names.sort();
        names
    };
    eventually("what was called off is gone", 90, || names() == ["a", "b"]);
    let warm_kib = u64::try_from(warm_kib.load(Ordering::SeqCst)).expect("small");
    let now_kib = anonymous_memory_kib(client.pid());
    eprintln!("memory of the server: {warm_kib} KiB after {WARM_CALLS} calls, {now_kib} KiB after {CALLS}");
    assert!(now_kib < warm_kib + GROWTH_MAX_KIB, "{warm_kib} KiB, then {now_kib} KiB");
    // The client is killed with eight calls on their way.
    for _ in 0..AT_ONCE {
        let _ = client.send_call("workspace_exec", json!({ "workspace": "a", "command": ["sleep", "7654"] }));
    }
    assert!(client.vanish().success());
    eventually("what it had waited for has ended", 30, || home.status("a")["running_command_count"] == 0);
    for name in ["a", "b"] {
        let _ = home.pyro(&["workspace", "delete", name, "--force"]).ok();
    }
    home.assert_nothing_left();
}
