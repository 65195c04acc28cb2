//! Connections to ports, with servers of the test's own process in the place of the machine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pyro_proto::v1::{ConnectClosed, ConnectInput, ConnectOpen, ConnectOutput, CountRequest, ExistsRequest, connect_input, connect_output};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Serves every connection with `serve`; returns the port.
async fn server<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            tokio::spawn(serve(socket));
        }
    });
    port
}

/// Answers with what it was sent.
async fn echo(mut socket: TcpStream) {
    let (mut reader, mut writer) = socket.split();
    // A reset is the client's to look at.
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
}

struct Connection {
    inputs: mpsc::Sender<ConnectInput>,
    outputs: Streaming<ConnectOutput>,
}

impl Connection {
    async fn open(client: &mut Client, port: u16, host: &str) -> Result<Self, tonic::Status> {
        let (inputs, receiver) = mpsc::channel(64);
        let open = connect_input::Input::Open(ConnectOpen { port: port.into(), host: host.into() });
        inputs.send(ConnectInput { input: Some(open) }).await.expect("the receiver is here");
        let mut outputs = client.connect(ReceiverStream::new(receiver)).await?.into_inner();
        let opened = outputs.message().await?.expect("an output").output;
        assert!(matches!(opened, Some(connect_output::Output::Opened(_))));
        Ok(Self { inputs, outputs })
    }

    async fn send(&self, input: connect_input::Input) {
        self.inputs.send(ConnectInput { input: Some(input) }).await.expect("the call is open");
    }

    async fn next(&mut self) -> Result<Option<connect_output::Output>, tonic::Status> {
        let next = tokio::time::timeout(DEADLINE, self.outputs.message()).await.expect("something comes");
        Ok(next?.map(|message| message.output.expect("an output")))
    }

    /// Sends `bytes` and closes, within the credit, and reads until the other end closes; returns what came.
    async fn exchange(mut self, bytes: usize) -> Vec<u8> {
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        let (mut left, mut credit, mut received, mut closed) = (bytes, limits::PORT_CREDIT_BYTES, Vec::new(), false);
        loop {
            while left > 0 && credit >= piece.len().min(left) as u64 {
                let next = piece.slice(..piece.len().min(left));
                left -= next.len();
                credit -= next.len() as u64;
                self.send(connect_input::Input::Data(next)).await;
            }
            if left == 0 && !closed {
                closed = true;
                self.send(connect_input::Input::Closed(ConnectClosed {})).await;
            }
            match self.next().await.expect("the call lives") {
                Some(connect_output::Output::Data(data)) => {
                    received.extend_from_slice(&data);
                    let passed_on = connect_input::Input::PassedOn(data.len() as u64);
                    // Nobody wants to hear it once the other end has closed, too.
                    let _ = self.inputs.send(ConnectInput { input: Some(passed_on) }).await;
                }
                Some(connect_output::Output::PassedOn(count)) => credit += count,
                Some(connect_output::Output::Closed(_)) => return received,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn kind(status: &tonic::Status) -> ErrorKind {
    Failure::from_status(status, ErrorKind::Internal).kind()
}

#[tokio::test]
async fn data_goes_both_ways_and_each_is_closed_by_itself() {
    let port = server(echo).await;
    let mut client = client().await;
    let received = Connection::open(&mut client, port, "").await.expect("it listens").exchange(30_000_000).await;
    assert!(received.len() == 30_000_000 && received.iter().all(|&byte| byte == b'x'));

    // The server is done first; what it is sent afterwards still arrives.
    let (report, reports) = oneshot::channel();
    let report = Arc::new(std::sync::Mutex::new(Some(report)));
    let port = server(move |mut socket| {
        let report = Arc::clone(&report);
        async move {
            socket.write_all(b"bye").await.expect("it is written");
            socket.shutdown().await.expect("it is closed");
            let mut text = String::new();
            socket.read_to_string(&mut text).await.expect("it is closed properly");
            let report = report.lock().expect("nobody panics").take().expect("one connection");
            report.send(text).expect("the test listens");
        }
    })
    .await;
    let mut connection = Connection::open(&mut client, port, "localhost").await.expect("it listens");
    assert!(matches!(connection.next().await, Ok(Some(connect_output::Output::Data(data))) if data == b"bye".as_slice()));
    assert!(matches!(connection.next().await, Ok(Some(connect_output::Output::Closed(_)))));
    connection.send(connect_input::Input::Data("later".into())).await;
    connection.send(connect_input::Input::Closed(ConnectClosed {})).await;
    assert_eq!(reports.await.expect("the server reports"), "later");
    assert!(matches!(connection.next().await, Ok(None)), "the call ends when both directions are closed");
}

#[tokio::test]
async fn server_without_end_is_held_to_the_credit_of_a_client_that_does_not_read() {
    let port = server(|mut socket| async move { while socket.write_all(&[b'y'; 10_000]).await.is_ok() {} }).await;
    let mut client = client().await;
    let mut connection = Connection::open(&mut client, port, "127.0.0.1").await.expect("it listens");
    let mut received = 0;
    let mut take = async |connection: &mut Connection, upto: u64| {
        while received < upto {
            let Ok(Some(connect_output::Output::Data(data))) = connection.next().await else { panic!("data awaited") };
            received += data.len() as u64;
        }
        received
    };
    assert_eq!(take(&mut connection, limits::PORT_CREDIT_BYTES).await, limits::PORT_CREDIT_BYTES);
    let more = tokio::time::timeout(Duration::from_millis(200), connection.outputs.message()).await;
    assert!(more.is_err(), "nothing comes without credit");
    connection.send(connect_input::Input::PassedOn(1000)).await;
    assert_eq!(take(&mut connection, limits::PORT_CREDIT_BYTES + 1000).await, limits::PORT_CREDIT_BYTES + 1000);
}

#[tokio::test]
async fn host_that_breaks_the_rules_ends_the_call() {
    let port = server(|socket| async move {
        // Never reads.
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let mut client = client().await;
    let mut check = async |inputs: Vec<connect_input::Input>, expected: ErrorKind| {
        let mut connection = Connection::open(&mut client, port, "").await.expect("it listens");
        let feeding = connection.inputs.clone();
        let feeding = tokio::spawn(async move {
            for input in inputs {
                if feeding.send(ConnectInput { input: Some(input) }).await.is_err() {
                    return;
                }
            }
        });
        let status = loop {
            match connection.next().await {
                Ok(Some(connect_output::Output::PassedOn(_))) => {}
                Ok(other) => panic!("{other:?}"),
                Err(status) => break status,
            }
        };
        feeding.await.expect("no panic");
        assert_eq!(kind(&status), expected);
    };
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    check(vec![connect_input::Input::Data(piece); 16], ErrorKind::LimitExceeded).await;
    check(vec![connect_input::Input::PassedOn(1)], ErrorKind::InvalidArgument).await;
    check(vec![connect_input::Input::PassedOn(u64::MAX)], ErrorKind::InvalidArgument).await;
    let closed = connect_input::Input::Closed(ConnectClosed {});
    check(vec![closed, connect_input::Input::Data("x".into())], ErrorKind::InvalidArgument).await;
    check(vec![connect_input::Input::Open(ConnectOpen::default())], ErrorKind::InvalidArgument).await;
}

#[tokio::test]
async fn connection_that_cannot_be_made_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let mut client = client().await;
    let mut check = async |port: u32, host: &str, expected: ErrorKind, message: &str| {
        let (inputs, receiver) = mpsc::channel(1);
        let open = connect_input::Input::Open(ConnectOpen { port, host: host.into() });
        inputs.send(ConnectInput { input: Some(open) }).await.expect("the receiver is here");
        let status = client.connect(ReceiverStream::new(receiver)).await.expect_err("nobody is there");
        let failure = Failure::from_status(&status, ErrorKind::Internal);
        assert_eq!((failure.kind(), failure.message.as_str()), (expected, message));
    };
    check(port.into(), "", ErrorKind::WrongState, &format!("nothing listens on port {port} in the guest")).await;
    check(port.into(), "127.0.0.1", ErrorKind::WrongState, &format!("nothing listens on port {port} of `127.0.0.1`")).await;
    check(0, "", ErrorKind::InvalidArgument, "0 is no port").await;
    check(65536, "", ErrorKind::InvalidArgument, "65536 is no port").await;
    check(80, "no.such.host", ErrorKind::NotFound, "`no.such.host` is neither an address nor in the guest's `/etc/hosts`").await;
}

#[tokio::test]
async fn many_connections_at_once_mix_nothing_up() {
    let port = server(echo).await;
    let client = client().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let mut client = client.clone();
        tasks.spawn(async move {
            let connection = Connection::open(&mut client, port, "").await.expect("it listens");
            assert_eq!(connection.exchange(number * 1000).await.len(), number * 1000);
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.expect("it was carried");
    }
}

#[tokio::test]
async fn dropped_call_resets_what_was_not_finished() {
    let (report, mut reports) = mpsc::channel(1);
    let read = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&read);
    let port = server(move |mut socket| {
        let (report, counted) = (report.clone(), Arc::clone(&counted));
        async move {
            let ended = loop {
                match socket.read_u8().await {
                    Ok(_) => counted.fetch_add(1, Ordering::Relaxed),
                    Err(error) => break error.kind(),
                };
            };
            report.send(ended).await.expect("the test listens");
        }
    })
    .await;
    let mut client = client().await;
    for (closed, expected) in [(false, std::io::ErrorKind::ConnectionReset), (true, std::io::ErrorKind::UnexpectedEof)] {
        let before = read.load(Ordering::Relaxed);
        let connection = Connection::open(&mut client, port, "").await.expect("it listens");
        connection.send(connect_input::Input::Data("x".into())).await;
        if closed {
            connection.send(connect_input::Input::Closed(ConnectClosed {})).await;
        }
        wait_until(|| read.load(Ordering::Relaxed) > before).await;
        if closed {
            assert_eq!(reports.recv().await, Some(expected));
            continue;
        }
        drop(connection);
        assert_eq!(reports.recv().await, Some(expected));
    }
}

#[tokio::test]
async fn paths_are_looked_for_and_processes_counted() {
    let mut client = client().await;
    let mut exists = async |path: &str| client.exists(ExistsRequest { path: path.to_owned().into() }).await;
    assert!(exists("/etc").await.expect("an answer").into_inner().exists);
    assert!(!exists("/nonexistent").await.expect("an answer").into_inner().exists);
    assert_eq!(kind(&exists("etc").await.expect_err("relative")), ErrorKind::InvalidArgument);

    let mut running = Running::start(&mut client, ExecStart { id: 9, ..shell("sleep 1000 & sleep 1000 & echo up; wait") }).await;
    assert_eq!(running.read().await, b"up\n");
    assert_eq!(client.count(CountRequest { id: 9 }).await.expect("an answer").into_inner().processes, 3);
    running.send(exec_input::Input::Signal(9)).await;
    running.finish().await;
    assert_eq!(client.count(CountRequest { id: 9 }).await.expect("an answer").into_inner().processes, 0);
    assert_eq!(kind(&client.count(CountRequest { id: 10 }).await.expect_err("there is none")), ErrorKind::NotFound);
}
