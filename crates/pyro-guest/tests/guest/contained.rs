//! Commands in a control group of their own, and how commands are ended.

use std::path::{Path, PathBuf};

use pyro_proto::v1::{CountRequest, EndProcess, ExecAttach};

use super::*;

/// Where a hierarchy of version 2 may be mounted.
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Returns a hierarchy this process may make groups in; None, and says so, if there is none.
#[expect(clippy::print_stdout, reason = "a skipped test says why")]
fn groups() -> Option<PathBuf> {
    let probe = format!("pyro-test-{}", std::process::id());
    let usable = |path: &&Path| {
        let probe = path.join(format!("{probe}-{:?}", std::thread::current().id()));
        let is_usable = std::fs::create_dir(&probe).is_ok() && probe.join("cgroup.kill").exists();
        let _ = std::fs::remove_dir(probe);
        is_usable
    };
    let groups = HIERARCHIES.iter().map(Path::new).find(usable);
    if groups.is_none() {
        println!("skipped: this process may not make control groups");
    }
    groups.map(Path::to_owned)
}

/// An id no other test, run of the tests or agent uses.
fn id(number: u64) -> u64 {
    (1 << 62) + (u64::from(std::process::id()) << 8) + number
}

async fn contained_client(groups: &Path) -> Client {
    let reaper = Reaper::new(Scope::Commands);
    tokio::spawn(reaper.clone().run());
    let agent = Agent::attached(reaper, c"/".to_owned(), Some(groups.to_owned())).expect("/dev/null opens");
    let (mut host, guest) = UnixStream::pair().expect("a socket pair");
    tokio::spawn(serve(guest, Quiet::Ended, agent));
    call(&mut host, [1; 16]).await;
    start(host, [1; 16]).await
}

fn service(number: u64, script: &str) -> ExecStart {
    ExecStart { id: id(number), contained: true, ..shell(script) }
}

fn end(grace_ms: u64) -> exec_input::Input {
    exec_input::Input::End(EndProcess { grace_ms })
}

async fn read_pid(running: &mut Running) -> i32 {
    String::from_utf8_lossy(&running.read().await).trim().parse().expect("a process id")
}

fn parent(pid: &str) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")).and_then(|parent| parent.trim().parse().ok())
}

#[tokio::test]
async fn daemon_goes_on_after_its_parent_and_its_end_is_told() {
    let Some(groups) = groups() else { return };
    let mut client = contained_client(&groups).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let go = folder.path().join("go");
    let daemon = format!("setsid sh -c 'echo $$; until [ -e {} ]; do sleep 0.01; done; echo bye' & sleep 0.1", go.display());
    let mut running = Running::start(&mut client, service(1, &daemon)).await;
    let pid = read_pid(&mut running).await;
    let left = groups.join(format!("pyro-{}/cgroup.procs", id(1)));
    // Only the daemon and what it runs are left once the leader and its `sleep` are gone.
    let list = || std::fs::read_to_string(&left).expect("the group is there while anybody is in it");
    wait_until(|| list().lines().filter(|line| *line != pid.to_string()).all(|line| parent(line) == Some(pid))).await;
    assert!(is_alive(pid));
    // Its call may be cut meanwhile.
    drop(running);
    std::fs::write(go, "").expect("it is written");
    let (inputs, receiver) = mpsc::channel(4);
    inputs.send(input(exec_input::Input::Attach(ExecAttach { id: id(1) }))).await.expect("the receiver is here");
    let outputs = client.exec(ReceiverStream::new(receiver)).await.expect("it runs").into_inner();
    let finished = Running { inputs, outputs }.finish().await;
    assert_eq!((finished.stdout.as_slice(), finished.exit.exit_code), (b"bye\n".as_slice(), 0));
    assert!(!groups.join(format!("pyro-{}", id(1))).exists(), "the group is gone before the end is told");
}

#[tokio::test]
async fn what_a_failed_one_has_left_is_killed() {
    let Some(groups) = groups() else { return };
    let mut client = contained_client(&groups).await;
    let mut running =
        Running::start(&mut client, service(2, "setsid sh -c 'trap \"\" TERM; echo $$; sleep 1000' & sleep 0.2; exit 3")).await;
    let pid = read_pid(&mut running).await;
    let finished = running.finish().await;
    assert_eq!(finished.exit.exit_code, 3);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn end_asks_everybody_in_the_group_and_then_kills() {
    let Some(groups) = groups() else { return };
    let mut client = contained_client(&groups).await;
    // It heeds TERM, and so does what has left its session.
    let script = "trap 'wait; exit 6' TERM; setsid sh -c 'trap \"echo asked; exit\" TERM; echo up; while :; do sleep 0.01; done' & wait";
    let mut running = Running::start(&mut client, service(3, script)).await;
    assert_eq!(running.read().await, b"up\n");
    assert!(client.count(CountRequest { id: id(3) }).await.expect("an answer").into_inner().processes >= 2);
    running.send(end(60_000)).await;
    let finished = running.finish().await;
    assert_eq!((finished.stdout.as_slice(), finished.exit.exit_code), (b"asked\n".as_slice(), 6));

    // It does not heed TERM; the second end is the shorter one. Nor does it read its input, of which there is much.
    let script = "trap '' TERM; setsid sh -c 'echo $$; while :; do sleep 1; done' & while :; do sleep 1; done";
    let mut running = Running::start(&mut client, ExecStart { stdin: true, ..service(4, script) }).await;
    let pid = read_pid(&mut running).await;
    for _ in 0..24 {
        running.send(exec_input::Input::Stdin(vec![b'x'; 1 << 20].into())).await;
    }
    running.send(end(600_000)).await;
    running.send(end(50)).await;
    assert_eq!(running.finish().await.exit.signal, 9);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn groups_made_inside_and_a_leader_that_left_are_ended_too() {
    let Some(groups) = groups() else { return };
    let mut client = contained_client(&groups).await;
    let group = groups.join(format!("pyro-{}", id(7)));
    let script = format!(
        "mkdir {group}/inner; (echo 0 >{group}/inner/cgroup.procs; exec sleep 1000) & echo 0 >{root}/cgroup.procs; echo $$; exec sleep 1000",
        group = group.display(),
        root = groups.display()
    );
    let mut running = Running::start(&mut client, service(7, &script)).await;
    let pid = read_pid(&mut running).await;
    running.send(end(60_000)).await;
    assert_eq!(running.finish().await.exit.signal, 15);
    assert!(!is_alive(pid) && !group.exists());
}

#[tokio::test]
async fn timeout_ends_the_whole_group_of_a_daemon() {
    let Some(groups) = groups() else { return };
    let mut client = contained_client(&groups).await;
    let start = ExecStart { timeout_ms: 300, ..service(5, "setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.1") };
    let mut running = Running::start(&mut client, start).await;
    let pid = read_pid(&mut running).await;
    let exit = running.finish().await.exit;
    assert_eq!((exit.exit_code, exit.timed_out), (124, true));
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn containment_that_cannot_be_had_is_refused() {
    let mut client = client().await;
    let finished = Running::start(&mut client, service(6, "true")).await.finish().await;
    assert_eq!((finished.exit.spawn_failure(), finished.exit.exit_code), (SpawnFailure::Other, 126));
    assert_eq!(finished.exit.spawn_message, "cannot make a control group: the agent is not running in a machine");
    let (inputs, receiver) = mpsc::channel(1);
    let start = ExecStart { id: 0, ..service(6, "true") };
    inputs.send(input(exec_input::Input::Start(start))).await.expect("the receiver is here");
    let status = client.exec(ReceiverStream::new(receiver)).await.expect_err("it must be refused");
    assert_eq!(Failure::from_status(&status, ErrorKind::Internal).kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn end_of_a_plain_command_asks_its_process_group_and_then_kills() {
    let mut client = client().await;
    let mut running = Running::start(&mut client, shell("trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done")).await;
    assert_eq!(running.read().await, b"up\n");
    running.send(end(60_000)).await;
    assert_eq!(running.finish().await.exit.exit_code, 4);

    let mut running = Running::start(&mut client, shell("trap '' TERM; echo $$; while :; do sleep 1; done")).await;
    let pid = read_pid(&mut running).await;
    running.send(end(600_000)).await;
    running.send(end(0)).await;
    assert_eq!(running.finish().await.exit.signal, 9);
    assert!(!is_alive(pid));
}
