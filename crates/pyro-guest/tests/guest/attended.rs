//! Commands that outlive their call: attached to by a later one, on the same connection or the next.

use pyro_proto::v1::ExecAttach;

use super::*;

async fn attach(client: &mut Client, id: u64) -> Result<Running, tonic::Status> {
    let (inputs, receiver) = mpsc::channel(4);
    inputs.send(input(exec_input::Input::Attach(ExecAttach { id }))).await.expect("the receiver is here");
    let outputs = client.exec(ReceiverStream::new(receiver)).await?.into_inner();
    Ok(Running { inputs, outputs })
}

fn numbered(id: u64, script: &str) -> ExecStart {
    ExecStart { id, ..shell(script) }
}

#[tokio::test]
async fn command_with_an_id_goes_on_over_a_cut_connection_and_loses_no_output() {
    let mut stream = agent();
    call(&mut stream, [1; 16]).await;
    let (mut first, cut) = start_to_be_cut(stream, [1; 16]).await;
    let reading = ExecStart { stdin: true, ..numbered(7, "echo ready; read line; echo got $line; seq 1 300000; exit 3") };
    let mut running = Running::start(&mut first, reading).await;
    assert_eq!(running.read().await, b"ready\n");

    let mut stream = cut().await;
    call(&mut stream, [2; 16]).await;
    let mut second = start(stream, [2; 16]).await;
    let attached = attach(&mut second, 7).await.expect("it runs");
    attached.send(exec_input::Input::Stdin("input\n".into())).await;
    let finished = attached.finish().await;
    let numbers: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&finished.stdout), format!("got input\n{numbers}"));
    assert_eq!(finished.exit.exit_code, 3);
    // The exit can be asked for again: the answer may have been lost with its connection.
    assert_eq!(attach(&mut second, 7).await.expect("it is kept").finish().await.exit.exit_code, 3);
}

#[tokio::test]
async fn unattended_command_keeps_its_output_and_its_exit() {
    let mut client = client().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let go = folder.path().join("go");
    let script = format!("echo $$; until [ -e {} ]; do sleep 0.01; done; seq 1 100; exit 9", go.display());
    let mut running = Running::start(&mut client, numbered(1, &script)).await;
    let pid = String::from_utf8_lossy(&running.read().await).trim().parse().expect("a process id");
    drop(running);
    std::fs::write(go, "").expect("it is written");
    wait_until(|| !is_alive(pid)).await;
    let finished = attach(&mut client, 1).await.expect("it is kept").finish().await;
    assert_eq!(finished.exit.exit_code, 9);
    assert_eq!(finished.stdout.iter().filter(|&&byte| byte == b'\n').count(), 100);
}

#[tokio::test]
async fn later_call_takes_a_command_over_from_an_earlier_one() {
    let mut client = client().await;
    let mut first = Running::start(&mut client, numbered(5, "trap 'echo caught; exit 4' USR1; echo ready; sleep 1000 & wait")).await;
    assert_eq!(first.read().await, b"ready\n");
    let second = attach(&mut client, 5).await.expect("it runs");
    let status = first.outputs.message().await.expect_err("it was taken over");
    assert_eq!(Failure::from_status(&status, ErrorKind::Internal).kind(), ErrorKind::WrongState);
    drop(first);
    second.send(exec_input::Input::Signal(10)).await;
    let finished = second.finish().await;
    assert_eq!((finished.stdout.as_slice(), finished.exit.exit_code), (b"caught\n".as_slice(), 4));
}

#[tokio::test]
async fn timeout_ends_a_command_nobody_attends() {
    let mut client = client().await;
    let running = Running::start(&mut client, ExecStart { timeout_ms: 200, ..numbered(2, "yes & wait") }).await;
    drop(running);
    let finished = attach(&mut client, 2).await.expect("it runs").finish().await;
    assert!(finished.exit.timed_out);
}

#[tokio::test]
async fn unknown_and_taken_ids_are_refused() {
    let mut client = client().await;
    let refused = |status: tonic::Status| Failure::from_status(&status, ErrorKind::Internal).kind();
    assert_eq!(refused(attach(&mut client, 3).await.err().expect("there is none")), ErrorKind::NotFound);
    let running = Running::start(&mut client, numbered(3, "sleep 1000")).await;
    let (inputs, receiver) = mpsc::channel(1);
    inputs.send(input(exec_input::Input::Start(numbered(3, "true")))).await.expect("the receiver is here");
    assert_eq!(refused(client.exec(ReceiverStream::new(receiver)).await.expect_err("it is taken")), ErrorKind::AlreadyExists);
    running.send(exec_input::Input::Signal(9)).await;
    assert_eq!(running.finish().await.exit.signal, 9);
    assert_eq!(Running::start(&mut client, numbered(3, "exit 6")).await.finish().await.exit.exit_code, 6);
}

#[tokio::test]
async fn host_that_starts_over_is_heard_while_much_is_in_flight() {
    let mut stream = agent();
    call(&mut stream, [1; 16]).await;
    let (mut first, cut) = start_to_be_cut(stream, [1; 16]).await;
    let mut kept = Vec::new();
    for id in 1..=20 {
        // Nobody reads them: their windows fill, and the stream behind them.
        kept.push(Running::start(&mut first, numbered(id, "yes")).await);
    }
    let mut stream = cut().await;
    // The old host's last frame is cut in the middle: what follows belongs to it in HTTP/2's eyes.
    stream.write_all(&[0, 100, 0, 0, 0, 0, 0, 0, 99]).await.expect("the agent reads");
    let mut nonce: Nonce = [9; 16];
    let began = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let calling = async {
        loop {
            nonce[0] = nonce[0].wrapping_add(1);
            writer.write_all(&frame(FrameKind::Call, &nonce)).await.expect("the agent reads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = async {
        let mut scanner = Scanner::default();
        let mut piece = vec![0; 64 << 10];
        loop {
            let count = reader.read(&mut piece).await.expect("the agent answers");
            let found = piece[..count].iter().find_map(|&byte| scanner.push(byte).expect("no flood"));
            if let Some((FrameKind::Answer, nonce)) = found {
                return nonce;
            }
        }
    };
    tokio::select! {
        () = calling => unreachable!("it calls for ever"),
        _ = tokio::time::timeout(DEADLINE, answer) => {}
    }
    println!("heard after {:?}", began.elapsed());
    call(&mut stream, [7; 16]).await;
    let mut second = start(stream, [7; 16]).await;
    for id in 1..=20 {
        let attached = attach(&mut second, id).await.expect("it runs");
        attached.send(exec_input::Input::Signal(9)).await;
        let finished = attached.finish().await;
        assert_eq!(finished.exit.signal, 9);
        assert!(finished.stdout.chunks_exact(2).all(|line| line == b"y\n" || line == b"\ny"));
    }
    drop(kept);
}
