//! Connections to ports of the machine, as the host carries them.

use pyro_proto::limits::PORT_CREDIT_BYTES;
use pyro_proto::v1::{
    ConnectClosed, ConnectInput, ConnectOpen, ConnectOutput, ExistsRequest, connect_input::Input, connect_output::Output,
};
use tokio::net::TcpListener;

use super::*;

struct Connection {
    inputs: mpsc::Sender<ConnectInput>,
    outputs: Streaming<ConnectOutput>,
}

impl Connection {
    async fn open(client: &mut Client, host: &str, port: u16) -> Result<Self, tonic::Status> {
        let (inputs, receiver) = mpsc::channel(64);
        let open = Input::Open(ConnectOpen { port: port.into(), host: host.to_owned() });
        inputs.send(ConnectInput { input: Some(open) }).await.expect("the receiver is here");
        let mut outputs = client.connect(ReceiverStream::new(receiver)).await?.into_inner();
        match outputs.message().await?.and_then(|message| message.output) {
            Some(Output::Opened(_)) => Ok(Self { inputs, outputs }),
            other => panic!("opened awaited, not {other:?}"),
        }
    }

    async fn send(&self, sent: Input) {
        self.inputs.send(ConnectInput { input: Some(sent) }).await.expect("the call is open");
    }

    /// Reads the next data, giving credit for it; `None` at the end of the other direction.
    async fn data(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.outputs.message().await.expect("the call lives")?.output? {
                Output::Data(bytes) => {
                    // A call that is over wants none.
                    let _ = self.inputs.send(ConnectInput { input: Some(Input::PassedOn(bytes.len() as u64)) }).await;
                    return Some(bytes.to_vec());
                }
                Output::Closed(_) => return None,
                Output::PassedOn(_) | Output::Opened(_) => {}
            }
        }
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

#[tokio::test]
async fn bytes_and_half_closes_pass_in_both_directions() {
    let (listener, port) = listener().await;
    let mut client = client().await;
    let mut connection = Connection::open(&mut client, "", port).await.expect("somebody listens");
    let (mut server, _) = listener.accept().await.expect("a connection");
    connection.send(Input::Data("question".into())).await;
    connection.send(Input::Closed(ConnectClosed {})).await;
    let mut question = String::new();
    server.read_to_string(&mut question).await.expect("it ends");
    assert_eq!(question, "question");
    server.write_all(b"answer after the end of the question").await.expect("it is taken");
    drop(server);
    let mut answer = Vec::new();
    while let Some(bytes) = connection.data().await {
        answer.extend(bytes);
    }
    assert_eq!(answer, b"answer after the end of the question");
    assert!(connection.outputs.message().await.expect("a clean end").is_none());
}

#[tokio::test]
async fn slow_host_holds_back_the_server_at_its_credit() {
    let (listener, port) = listener().await;
    let mut client = client().await;
    let mut connection = Connection::open(&mut client, "localhost", port).await.expect("somebody listens");
    let (mut server, _) = listener.accept().await.expect("a connection");
    let total = 16 << 20;
    let writing = tokio::spawn(async move {
        server.write_all(&vec![7; total]).await.expect("it is taken");
    });
    let mut received = 0;
    // Without credit no more comes than was allowed.
    let held = async {
        while let Some(message) = connection.outputs.message().await.expect("the call lives") {
            if let Some(Output::Data(bytes)) = message.output {
                received += bytes.len() as u64;
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), held).await.is_err(), "the server has more to say");
    assert!(received <= PORT_CREDIT_BYTES, "{received}");
    connection.send(Input::PassedOn(received)).await;
    let mut all = usize::try_from(received).expect("small");
    while let Some(bytes) = connection.data().await {
        all += bytes.len();
    }
    assert_eq!(all, total);
    writing.await.expect("the server was served");
}

#[tokio::test]
async fn host_past_its_credit_is_cut_off() {
    let (listener, port) = listener().await;
    let mut client = client().await;
    let mut connection = Connection::open(&mut client, "", port).await.expect("somebody listens");
    let (_server, _) = listener.accept().await.expect("a connection");
    // Nobody reads them: the socket takes some, the queue its credit.
    for _ in 0..200 {
        if connection.inputs.send(ConnectInput { input: Some(Input::Data(vec![1; 1 << 20].into())) }).await.is_err() {
            break;
        }
    }
    let cut = async { while connection.outputs.message().await.is_ok_and(|message| message.is_some()) {} };
    tokio::time::timeout(DEADLINE, cut).await.expect("the call is ended");
}

#[tokio::test]
async fn refusals_say_why_and_many_connections_live_side_by_side() {
    let mut client = client().await;
    let (free, port) = listener().await;
    drop(free);
    let refused = Connection::open(&mut client, "", port).await.err().expect("nobody listens");
    let failure = Failure::from_status(&refused, ErrorKind::Internal);
    assert_eq!((failure.kind(), failure.message), (ErrorKind::WrongState, format!("nothing listens on port {port} in the guest")));
    for (host, port) in [("", 0), ("no-such-host.invalid", 80)] {
        let refused = Connection::open(&mut client, host, port).await.err().expect("it makes no sense");
        assert_eq!(Failure::from_status(&refused, ErrorKind::Internal).kind(), ErrorKind::InvalidArgument);
    }
    let (listener, port) = listener().await;
    let mut open = Vec::new();
    for number in 0..200_u8 {
        let connection = Connection::open(&mut client, "127.0.0.1", port).await.expect("somebody listens");
        let (mut server, _) = listener.accept().await.expect("a connection");
        server.write_all(&[number]).await.expect("it is taken");
        open.push((connection, server));
    }
    for (number, (connection, _)) in open.iter_mut().enumerate() {
        assert_eq!(connection.data().await, Some(vec![u8::try_from(number).expect("small")]));
    }
    // A dropped call closes the connection in the machine.
    let (connection, mut server) = open.pop().expect("there are 200");
    drop(connection);
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, server.read_to_end(&mut rest)).await.expect("it is told");
}

#[tokio::test]
async fn paths_are_looked_for_with_links_followed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut client = client().await;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("file"), "").expect("it is written");
    std::os::unix::fs::symlink("nowhere", path("dangling")).expect("it is made");
    for (name, expected) in [("file", true), ("dangling", false), ("missing", false)] {
        let request = ExistsRequest { path: path(name).into() };
        assert_eq!(client.exists(request).await.expect("it is looked for").into_inner().exists, expected, "{name}");
    }
    assert!(client.exists(ExistsRequest { path: "relative".into() }).await.is_err());
}
