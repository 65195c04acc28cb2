//! Whatever is killed, the registry is true afterwards, nothing is left, and disks can be read.

use std::time::Duration;

use pyro_tests::{ENVIRONMENT, Home, MEM_MIB, SmallDisk, eventually};
use rustix::process::{Pid, Signal, kill_process};

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a process id"), Signal::KILL).expect("it runs");
}

#[test]
fn killing_the_supervisor_ends_its_machine_and_keeps_the_disks() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let _ = home.sh(&workspace, "echo kept > /workspace/file; sync");
    let (supervisor, machine) = home.processes(&workspace);
    kill(supervisor);
    eventually("QEMU ends with its supervisor", 10, || !std::path::Path::new(&format!("/proc/{machine}")).exists());
    assert_eq!(home.state(&workspace), "stopped");
    let _ = home.pyro(&["workspace", "start", &workspace]).ok();
    assert_eq!(home.sh(&workspace, "cat /workspace/file"), "kept");
    let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    home.assert_nothing_left();
}

#[test]
fn killing_qemu_fails_its_commands_and_keeps_the_disks() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let _ = home.sh(&workspace, "echo kept > /workspace/file; sync");
    let running = home.start(&["workspace", "exec", &workspace, "--", "sleep", "600"]);
    eventually("the command runs", 10, || home.status(&workspace)["command_count"] == 2);
    let (_, machine) = home.processes(&workspace);
    kill(machine);
    let lost = pyro_tests::finish(running).code(125);
    assert!(lost.stderr.contains("machine") && lost.stderr.contains("hint:"), "{}", lost.stderr);
    eventually("the supervisor notices", 10, || home.state(&workspace) == "stopped");
    let _ = home.pyro(&["workspace", "start", &workspace]).ok();
    assert_eq!(home.sh(&workspace, "cat /workspace/file"), "kept");
    let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_client_killed_at_any_moment_of_create_leaves_nothing_or_a_whole_workspace() {
    let home = Home::new();
    // A create takes about 300 ms here; the moments cover it from before its first write to after its last.
    for moment_ms in (0..450).step_by(30) {
        let mut client = home.start(&["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB, "--name", &format!("m{moment_ms}")]);
        std::thread::sleep(Duration::from_millis(moment_ms));
        drop(client.kill());
        drop(client.wait());
    }
    let settled = || {
        let listed = home.pyro(&["workspace", "list", "--json"]).ok().json().to_string();
        !listed.contains("creating")
    };
    // A client that dies between its two transactions leaves a row that is removed a minute later.
    eventually("every workspace is whole or gone", 90, settled);
    for workspace in home.registry().workspaces().expect("readable") {
        assert_eq!(home.sh(workspace.id.as_str(), "echo whole"), "whole");
        let _ = home.pyro(&["workspace", "delete", workspace.id.as_str()]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn a_supervisor_killed_at_any_moment_of_create_fails_the_client_clearly_and_leaves_nothing() {
    let home = Home::new();
    for moment_ms in (10..350).step_by(40) {
        let client = home.start(&["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB]);
        std::thread::sleep(Duration::from_millis(moment_ms));
        home.kill_machines();
        let output = pyro_tests::finish(client);
        if output.code != 0 {
            assert_eq!(output.code, 72, "{}", output.stderr);
            assert!(output.stderr.contains("error:") && output.stderr.contains("hint:"), "{}", output.stderr);
        }
    }
    for workspace in home.registry().workspaces().expect("readable") {
        let _ = home.pyro(&["workspace", "delete", workspace.id.as_str()]);
    }
    home.assert_nothing_left();
}

#[test]
fn a_supervisor_killed_at_any_moment_of_stop_and_start_loses_no_synced_file() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let _ = home.sh(&workspace, "echo kept > /workspace/file; sync");
    for moment_ms in (0..240).step_by(20) {
        for verb in ["stop", "start"] {
            let client = home.start(&["workspace", verb, &workspace]);
            std::thread::sleep(Duration::from_millis(moment_ms));
            home.kill_machines();
            // Done before the kill, or failed by it; the next command finds the truth either way.
            let output = pyro_tests::finish(client);
            assert!([0, 67, 72].contains(&output.code), "{output:?}");
            eventually("the workspace has settled", 10, || ["running", "stopped"].contains(&home.state(&workspace).as_str()));
        }
    }
    // Killed right after it was ready, a machine is found out by the next command that needs it, and says so.
    let read = || {
        if home.state(&workspace) == "stopped" {
            let _ = home.pyro(&["workspace", "start", &workspace]).ok();
        }
        home.exec(&workspace, &["cat", "/workspace/file"])
    };
    let mut last = read();
    eventually("the workspace is found out", 20, || {
        last = read();
        last.code == 0
    });
    assert_eq!(last.text(), "kept", "{last:?}");
    let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_full_host_disk_is_said_and_waited_out() {
    let Some(small) = SmallDisk::mount() else { return };
    {
        let home = Home::in_folder(small.path());
        let workspace = home.create(&[]);
        let fill = home.pyro(&[
            "workspace",
            "exec",
            &workspace,
            "--",
            "sh",
            "-c",
            "dd if=/dev/urandom of=/workspace/big bs=1M count=700 conv=fsync status=none && echo done",
        ]);
        assert_eq!(fill.code, 125, "{fill:?}");
        assert!(fill.stderr.contains("disk is full") && fill.stderr.contains("hint:"), "{}", fill.stderr);
        let refused = home.exec(&workspace, &["true"]).code(125);
        assert!(refused.stderr.contains("disk is full"), "{}", refused.stderr);
        assert_eq!(home.status(&workspace)["host_disk_full"], true);
        small.grow();
        eventually("the machine goes on by itself", 30, || home.exec(&workspace, &["true"]).code == 0);
        let waited = home.pyro(&["workspace", "exec-wait", &workspace, "1", "--json"]);
        assert_eq!(waited.json()["exit_code"], 0, "{waited:?}");
        assert_eq!(home.sh(&workspace, "stat -c %s /workspace/big"), (700u64 << 20).to_string());
        let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
        home.assert_nothing_left();
    }
}
