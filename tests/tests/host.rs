//! What the host lacks is said, and what the guest may touch is little.

use std::os::unix::fs::FileExt as _;

use pyro_tests::{ENVIRONMENT, Home, MEM_MIB, eventually};

#[test]
fn a_missing_or_broken_qemu_is_said_with_what_to_do() {
    let home = Home::new().with("PYRO_QEMU", "/no/such/qemu");
    let missing = home.pyro(&["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB]).code(71);
    assert!(missing.stderr.contains("/no/such/qemu") && missing.stderr.contains("PYRO_QEMU"), "{}", missing.stderr);
    home.assert_nothing_left();
    let home = Home::new().with("PYRO_QEMU", "/bin/false");
    let broken = home.pyro(&["run", ENVIRONMENT, "--mem-mib", MEM_MIB, "--", "true"]).code(125);
    assert!(broken.stderr.contains("QEMU") && broken.stderr.contains("hint:"), "{}", broken.stderr);
    home.assert_nothing_left();
}

#[test]
fn run_on_the_host_happens_only_when_asked_for_and_says_so() {
    let home = Home::new().with("PYRO_QEMU", "/no/such/qemu");
    let run = ["run", ENVIRONMENT, "--allow-host-compat", "--json", "--", "echo", "here"];
    let output = home.pyro(&run).ok();
    assert_eq!(output.json()["execution_mode"], "host_compat");
    assert!(output.stderr.to_lowercase().contains("warning"), "{}", output.stderr);
}

#[test]
fn doctor_tells_that_this_host_is_ready_and_what_runs_the_guest() {
    let home = Home::new();
    let report = home.pyro(&["doctor", "--json"]).ok().json();
    assert!(report.to_string().contains("accelerator"), "{report}");
    let workspace = home.create(&[]);
    let status = home.status(&workspace);
    assert_eq!(status["execution_mode"], "guest");
    assert!(status["accelerator"] == "tcg" || status["accelerator"] == "kvm", "{status}");
}

#[test]
fn qemu_runs_locked_in() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let (_, machine) = home.processes(&workspace);
    let status = std::fs::read_to_string(format!("/proc/{machine}/status")).expect("it runs");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("CapEff:"), "0000000000000000");
    if rustix::process::geteuid().is_root() {
        let other = home.create(&[]);
        let (_, second) = home.processes(&other);
        let user = |pid: u32| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).expect("it runs"));
        assert!(user(machine) >= 0x7000_0000 && user(second) >= 0x7000_0000);
        assert_ne!(user(machine), user(second), "two machines never share a user");
    }
    let limits = std::fs::read_to_string(format!("/proc/{machine}/limits")).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("it is listed");
    assert!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    // Nothing but descriptors: no path of the home is mapped or open by name for writing, apart from its own overlays.
    let open: std::collections::BTreeSet<String> = std::fs::read_dir(format!("/proc/{machine}/fd"))
        .expect("readable")
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| path.ends_with(".qcow2"))
        .collect();
    assert_eq!(open.len(), 2, "its own two overlays: {open:?}");
}

#[test]
fn qemus_user_with_qemus_descriptors_cannot_reach_the_template_or_another_workspace() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: taking another user's place needs root");
        return;
    }
    let home = Home::new();
    let (mine, other) = (home.create(&[]), home.create(&[]));
    let (_, machine) = home.processes(&mine);
    // The strongest thing QEMU's process could do is what root can do with its descriptors: opening them anew through /proc, which as
    // root ignores permissions. The seals and the read-only descriptors must hold even then.
    let memory = std::fs::read_dir(format!("/proc/{machine}/fd"))
        .expect("readable")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("pyro-memory")))
        .expect("QEMU holds its template's memory");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&memory).expect("a sealed memfd still opens");
    assert!(file.write_all_at(b"x", 4096).is_err(), "template memory was written");
    assert!(file.set_len(1).is_err() && file.set_len(1 << 40).is_err(), "template memory was resized");
    let registry = home.registry();
    let layer = registry.find_workspace(&other).expect("it exists").workspace_layer.expect("it has disks");
    let path = home.dirs().layers().join(format!("{layer}.qcow2"));
    let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{machine}")).expect("it runs"));
    let attempt = |path: &std::path::Path| {
        std::process::Command::new("setpriv")
            .args([
                &format!("--reuid={user}"),
                &format!("--regid={user}"),
                "--clear-groups",
                "dd",
                "if=/dev/zero",
                "bs=1",
                "count=1",
                "conv=notrunc",
                "status=none",
            ])
            .arg(format!("of={}", path.display()))
            .output()
            .expect("setpriv runs")
    };
    for target in [path, home.dirs().registry()] {
        let output = attempt(&target);
        assert!(!output.status.success(), "{} was written by QEMU's user", target.display());
        assert!(String::from_utf8_lossy(&output.stderr).contains("denied"), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (_, second) = home.processes(&other);
    let stolen = attempt(std::path::Path::new(&format!("/proc/{second}/mem")));
    assert!(!stolen.status.success(), "another machine's memory was opened");
    assert_eq!(home.sh(&other, "echo fine"), "fine");
}

#[test]
fn what_takes_qemus_place_can_read_and_write_no_file_of_the_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "secret").expect("writable");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("ours");
    // The very step between supervisor and QEMU, with a shell in QEMU's place; anyone may read and write the file but for Landlock.
    let contained = |line: &str| {
        let user = if rustix::process::geteuid().is_root() { "1879100000" } else { "null" };
        let launch = format!(
            r#"{{"parent":{},"user":{user},"groups":[],"address_space_bytes":4294967296,"kvm":false,"program":"/bin/sh","arguments":["-c",{}]}}"#,
            std::process::id(),
            serde_json::Value::from(line)
        );
        let home = Home::new();
        pyro_tests::finish(home.start(&["__machine", &launch]))
    };
    assert_eq!(contained("echo alive").ok().text(), "alive");
    let path = secret.display();
    for line in [
        format!("cat {path}"),
        format!("echo x >> {path}"),
        format!("rm {path}"),
        "cat /etc/passwd".to_owned(),
        "echo x > /tmp/pyro-escape".to_owned(),
    ] {
        let output = contained(&line);
        assert!(output.code != 0 && output.stderr.contains("denied"), "{line}: {output:?}");
    }
    assert_eq!(std::fs::read_to_string(&secret).expect("it is there"), "secret");
    assert_eq!(contained("ulimit -c").ok().text(), "0");
    for family in ["PF_INET, SOCK_DGRAM", "PF_UNIX, SOCK_STREAM", "PF_INET6, SOCK_STREAM"] {
        let output = contained(&format!("perl -MSocket -e 'socket(S, {family}, 0) or die \"denied: $!\"'"));
        assert!(output.code != 0 && output.stderr.contains("Permission denied"), "{family}: {output:?}");
    }
}

#[test]
fn what_a_client_left_open_does_not_reach_qemu() {
    let home = Home::new();
    let secret = home.path().join("left-open");
    std::fs::write(&secret, "secret").expect("writable");
    let create = format!("exec 42<{0} 43<>{0}; exec \"$@\"", secret.display());
    let pyro = home.command(&["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB, "--id-only"]);
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &create, "sh"]).arg(pyro.get_program()).args(pyro.get_args());
    shell.envs(pyro.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let created = shell.output().expect("it runs");
    let workspace = String::from_utf8_lossy(&created.stdout).trim().to_owned();
    let (supervisor, machine) = home.processes(&workspace);
    for pid in [supervisor, machine] {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("readable").flatten();
        let leaked = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).find(|target| *target == secret);
        // The supervisor keeps what it was born with; what matters is that nothing it starts gets it.
        assert!(pid == supervisor || leaked.is_none(), "QEMU holds {leaked:?}");
    }
}

#[test]
fn a_layer_whose_header_names_another_file_is_refused() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let _ = home.pyro(&["workspace", "stop", &workspace]).ok();
    let layer = home.registry().find_workspace(&workspace).expect("it exists").workspace_layer.expect("it has disks");
    let path = home.dirs().layers().join(format!("{layer}.qcow2"));
    // What a QEMU taken over by its guest could do: bit 2 of the incompatible features asks for an external data file.
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("it is ours");
    file.write_all_at(&[4], 79).expect("writable");
    let refused = home.pyro(&["workspace", "start", &workspace]).code(72);
    assert!(refused.stderr.contains("tampered"), "{}", refused.stderr);
    assert_eq!(home.state(&workspace), "stopped");
    let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_guest_that_hides_its_user_database_behind_a_fifo_still_runs_commands() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let _ = home.sh(&workspace, "rm /etc/passwd; mkfifo /etc/passwd");
    assert_eq!(home.sh(&workspace, "echo fine"), "fine");
}

#[test]
fn a_guest_that_closes_its_channel_costs_only_its_own_workspace() {
    let home = Home::new();
    let (hostile, other) = (home.create(&[]), home.create(&[]));
    // Unbinding the driver is what root in a guest can do to the port its agent holds.
    let unbind =
        "for d in /sys/bus/virtio/drivers/virtio_console/virtio*; do echo ${d##*/} > /sys/bus/virtio/drivers/virtio_console/unbind; done";
    let output = home.pyro(&["workspace", "exec", &hostile, "--timeout-seconds", "3", "--", "sh", "-c", unbind]);
    assert_ne!(output.code, 0, "its own command loses its answer");
    assert_eq!(home.sh(&other, "echo fine"), "fine");
    let _ = home.pyro(&["workspace", "delete", &hostile, "--force"]).ok();
    let _ = home.pyro(&["workspace", "delete", &other]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_guest_whose_kernel_panics_is_stopped_at_once_and_can_be_started_again() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let _ = home.sh(&workspace, "echo kept > /workspace/file; sync");
    let panicked = home.exec(&workspace, &["sh", "-c", "echo c > /proc/sysrq-trigger"]).code(125);
    assert!(panicked.stderr.contains("hint:"), "{}", panicked.stderr);
    eventually("the workspace is stopped", 10, || home.state(&workspace) == "stopped");
    let _ = home.pyro(&["workspace", "start", &workspace]).ok();
    assert_eq!(home.sh(&workspace, "cat /workspace/file"), "kept");
}

#[test]
fn system_df_counts_and_prune_frees_what_nothing_uses() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let _ = home.sh(&workspace, "dd if=/dev/urandom of=/workspace/data bs=1M count=8 conv=fsync status=none");
    let used = home.pyro(&["system", "df", "--json"]).ok().json();
    assert!(used.to_string().contains(&workspace), "{used}");
    let _ = home.pyro(&["system", "prune", "--json"]).ok();
    assert_eq!(home.sh(&workspace, "stat -c %s /workspace/data"), (8u64 << 20).to_string());
    let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    home.assert_nothing_left();
}
