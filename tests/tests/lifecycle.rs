//! From create to delete.

use pyro_tests::{ENVIRONMENT, Home, MEM_MIB, eventually, finish};

#[test]
fn run_prints_returns_the_guests_code_and_leaves_nothing() {
    let home = Home::new();
    let run = ["run", ENVIRONMENT, "--mem-mib", MEM_MIB, "--"];
    let output = home.pyro(&[&run[..], &["sh", "-c", "echo out; echo err >&2; exit 7"]].concat()).code(7);
    assert_eq!(output.text(), "out");
    assert!(output.stderr.contains("err"), "{}", output.stderr);
    home.assert_nothing_left();
}

#[test]
fn run_whose_client_is_killed_leaves_nothing() {
    let home = Home::new();
    let mut client = home.start(&["run", ENVIRONMENT, "--mem-mib", MEM_MIB, "--", "sh", "-c", "echo up; sleep 600"]);
    let mut first = [0; 2];
    std::io::Read::read_exact(client.stdout.as_mut().expect("it was piped"), &mut first).expect("it prints");
    client.kill().expect("it runs");
    drop(client.wait());
    home.assert_nothing_left();
}

#[test]
fn a_workspace_is_found_by_name_id_and_prefix_and_leaves_nothing_when_deleted() {
    let home = Home::new();
    let id = home.create(&["--name", "fix-1", "--label", "issue=1"]);
    let other = home.create(&["--label", "issue=2"]);
    for reference in ["fix-1", &id, &id[..8]] {
        assert_eq!(home.status(reference)["workspace_id"], id.as_str());
    }
    let listed = home.pyro(&["workspace", "list", "--label", "issue=2", "--json"]).ok().json();
    assert!(listed.to_string().contains(&other) && !listed.to_string().contains(&id), "{listed}");
    let shadow = home.pyro(&["workspace", "create", ENVIRONMENT, "--name", &other]).code(64);
    assert!(shadow.stderr.contains("hexadecimal"), "{}", shadow.stderr);
    let taken = home.pyro(&["workspace", "create", ENVIRONMENT, "--name", "fix-1"]).code(66);
    assert!(taken.stderr.contains("fix-1") && taken.stderr.contains("hint:"), "{}", taken.stderr);
    let _ = home.pyro(&["workspace", "update", "fix-1", "--name", "fix-2", "--label", "state=done"]).ok();
    assert_eq!(home.status("fix-2")["labels"]["state"], "done");
    let _ = home.pyro(&["workspace", "status", "fix-1"]).code(65);
    for workspace in ["fix-2", &other] {
        let _ = home.pyro(&["workspace", "delete", workspace]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn files_and_an_installed_package_survive_stop_and_start_several_times() {
    let home = Home::new();
    let workspace = home.create(&["--disk-gib", "2"]);
    let package = "mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin; printf '#!/bin/sh\\necho installed\\n' > /tmp/p/usr/bin/pyro-probe; \
                   chmod 755 /tmp/p/usr/bin/pyro-probe; printf 'Package: pyro-probe\\nVersion: 1\\nArchitecture: all\\n\
                   Maintainer: p <p@example.org>\\nDescription: p\\n' > /tmp/p/DEBIAN/control; \
                   dpkg-deb -b /tmp/p /tmp/p.deb >/dev/null && dpkg -i /tmp/p.deb >/dev/null; dd if=/dev/urandom of=/workspace/data bs=1M count=2 status=none; sha256sum /workspace/data";
    let digest = home.sh(&workspace, package);
    // More rounds than layers a chain may have, so that layers are merged on the way.
    for round in 0..5 {
        let _ = home.pyro(&["workspace", "stop", &workspace]).ok();
        assert_eq!(home.state(&workspace), "stopped");
        eventually("a stopped workspace has no process", 5, || home.live_processes().is_empty());
        let _ = home.exec(&workspace, &["true"]).code(125);
        let _ = home.pyro(&["workspace", "start", &workspace]).ok();
        assert_eq!(
            home.sh(&workspace, "pyro-probe; dpkg-query -W -f '${Version}' pyro-probe; echo; sha256sum /workspace/data"),
            format!("installed\n1\n{digest}")
        );
        let _ = home.sh(
            &workspace,
            &format!("echo {round} >> /workspace/rounds; dd if=/dev/zero of=/workspace/{round} bs=64k count=4 status=none"),
        );
    }
    assert_eq!(home.sh(&workspace, "cat /workspace/rounds | tr '\\n' ' '; ls -d /workspace/lost+found 2>/dev/null; df -BG --output=size /workspace | tail -1 | tr -d ' '"), "0 1 2 3 4 2G");
    let registry = home.registry();
    let record = registry.find_workspace(&workspace).expect("it exists");
    for top in [record.root_layer, record.workspace_layer] {
        let chain = registry.layer_chain(&top.expect("it has disks")).expect("readable");
        assert!(chain.len() <= 5, "a blank, three overlays at rest and the running one: {chain:?}");
    }
    let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    home.assert_nothing_left();
}

#[test]
fn siblings_differ_in_randomness_identity_and_know_the_time() {
    let home = Home::new();
    let look = "cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1; cat /etc/machine-id; hostname; date +%s";
    let seen: Vec<Vec<String>> = (0..2)
        .map(|_| {
            let workspace = home.create(&[]);
            home.sh(&workspace, look).lines().map(str::to_owned).collect()
        })
        .collect();
    for line in 0..4 {
        assert_ne!(seen[0][line], seen[1][line], "line {line} of {seen:?}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let guest: u64 = seen[1][4].parse().expect("a number");
    assert!(now.abs_diff(guest) <= 5, "guest {guest}, host {now}");
}

#[test]
fn twenty_workspaces_at_once_share_one_template() {
    let home = Home::new();
    // Another size than the pool's, so that the template is missing and twenty clients want it together.
    let clients: Vec<_> = (0..20).map(|_| home.start(&["workspace", "create", ENVIRONMENT, "--mem-mib", "192", "--json"])).collect();
    let outputs: Vec<_> = clients.into_iter().map(|client| finish(client).ok()).collect();
    let booted = outputs.iter().filter(|output| output.stderr.contains("booting the guest")).count();
    assert_eq!(booted, 1, "one client boots the template, the others wait for it");
    let ids: std::collections::BTreeSet<String> = outputs.iter().map(|output| output.json()["workspace_id"].to_string()).collect();
    assert_eq!(ids.len(), 20);
    let answers: std::collections::BTreeSet<String> =
        ids.iter().map(|id| home.sh(id.trim_matches('"'), "cat /proc/sys/kernel/random/uuid")).collect();
    assert_eq!(answers.len(), 20, "every sibling has randomness of its own");
    for id in &ids {
        let _ = home.pyro(&["workspace", "delete", id.trim_matches('"')]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn an_idle_workspace_expires_and_a_busy_one_does_not() {
    let home = Home::new();
    let idle = home.create(&["--on-expire", "stop"]);
    let gone = home.create(&["--on-expire", "delete"]);
    let busy = home.create(&[]);
    let _ = home.pyro(&["workspace", "exec", &busy, "--detach", "--", "sleep", "600"]).ok();
    {
        // Sixty seconds is the least a user may ask for, and too long for a test.
        let mut registry = home.registry();
        for id in [&idle, &gone, &busy] {
            let record = registry.find_workspace(id).expect("it exists");
            registry.update_workspace(&record.id, None, &record.labels, 1).expect("it is changed");
        }
    }
    for id in [&idle, &gone, &busy] {
        // Any update makes the supervisor look again; this one is of no consequence.
        let _ = home.pyro(&["workspace", "update", id, "--label", "looked=1"]);
    }
    eventually("the idle one stops", 30, || home.state(&idle) == "stopped");
    eventually("the other one is deleted", 30, || home.pyro(&["workspace", "status", &gone]).code == 65);
    assert_eq!(home.state(&busy), "running");
}

#[test]
fn a_standby_machine_is_claimed_once_and_replaced() {
    let home = Home::new().with("PYRO_STANDBY", "1");
    let first = home.create(&[]);
    let _ = home.exec(&first, &["true"]).ok();
    let ready =
        || home.registry().machines().expect("readable").into_iter().find(|machine| machine.state == pyro_store::MachineState::Ready);
    eventually("a standby machine is ready", 60, || ready().is_some());
    let standby = ready().expect("just seen").id;
    let both: Vec<_> = (0..2).map(|_| home.start(&["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB, "--id-only"])).collect();
    let ids: Vec<String> = both.into_iter().map(|client| finish(client).ok().text()).collect();
    let machines: Vec<_> = ids.iter().map(|id| home.registry().find_workspace(id).expect("it exists").machine.expect("it runs")).collect();
    assert_ne!(machines[0], machines[1]);
    assert_eq!(machines.iter().filter(|machine| **machine == standby).count(), 1, "exactly one client got the standby machine");
    for id in ids.iter().chain([&first]) {
        assert_eq!(home.sh(id, "ls -A /workspace; mount | grep scratch; true"), "", "a warmed machine hands over nothing");
        let _ = home.pyro(&["workspace", "delete", id]).ok();
    }
    eventually("a replacement is ready", 60, || ready().is_some());
    let _ = home.pyro(&["system", "prune", "--all", "--json"]).ok();
    eventually("prune ends standby machines", 20, || home.live_processes().is_empty());
}
