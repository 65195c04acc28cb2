//! The server over standard input and output: one JSON-RPC message a line.
//!
//! `rmcp` drops a line it cannot read without a word; here whoever sent it is told, as JSON-RPC asks, and under its id (see `message`).

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    RoleServer, ServiceExt as _,
    model::{ClientJsonRpcMessage, ClientRequest, GetMeta as _, ServerJsonRpcMessage},
    transport::{Transport, io::stdio_pipes},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::{Mutex, Notify},
    task::JoinHandle,
};

use tokio_util::sync::CancellationToken;

use super::{
    Server,
    message::{self, Unreadable},
    request_id::IdScanner,
};
use crate::cli::{EndSignals, Failure};

/// Longest message; the largest request, a patch of 4 MiB, fits with every byte escaped.
const LINE_MAX_BYTES: usize = 32 << 20;

/// Answers waiting to be read, in bytes, beyond which no further message is: a client that only asks would make us hold them all.
const WAITING_MAX_BYTES: usize = 4 << 20;
/// How long a client may take to read what was left when it closed our input.
const READ_GRACE: Duration = Duration::from_secs(15);

/// Serves one client until it closes our standard input. One that still reads gets the answers that come within seconds; of one that is
/// gone, and of what takes longer, everything is called off and undone.
pub(crate) async fn serve_stdio(server: Server) -> Result<(), Failure> {
    let (input, output) = stdio_pipes();
    let client_gone = CancellationToken::new();
    let input = BufReader::with_capacity(64 << 10, input);
    let transport = Lines::new(input, output, client_gone.clone(), nobody_reads);
    let serving = async {
        // An error is a client that went away before it said who it is.
        if let Ok(running) = server.clone().serve_with_ct(transport, server.ending().child_token()).await {
            drop(running.waiting().await);
        }
    };
    tokio::select! {
        () = serving => {}
        () = client_gone.cancelled() => {}
        () = ended_by_signal() => {}
    }
    server.end().await;
    Ok(())
}

/// Tells whether the other end of our standard output is closed.
fn nobody_reads() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Returns when somebody asks this process to end.
pub(super) async fn ended_by_signal() {
    match EndSignals::listen() {
        Ok(mut signals) => drop(signals.next().await),
        Err(_) => std::future::pending().await,
    }
}

struct Lines<R, W> {
    input: R,
    line: Vec<u8>,
    /// Looks for the id of a line that is too long; the rest of it is thrown away.
    overlong: Option<IdScanner>,
    /// Whether the client has said which version it speaks. Before that nothing but a request can be meant for us, and `rmcp` would end.
    begun: bool,
    output: Arc<Output<W>>,
    /// A refusal on its way. It has a task of its own, for a message that is cut short would spoil every one after it.
    refusing: Option<JoinHandle<io::Result<()>>>,
    /// Cancelled when the client has closed both directions.
    client_gone: CancellationToken,
    nobody_reads: fn() -> bool,
}

impl<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin + Send + 'static> Lines<R, W> {
    fn new(input: R, output: W, client_gone: CancellationToken, nobody_reads: fn() -> bool) -> Self {
        let output = Arc::new(Output { stream: Mutex::new(output), waiting_bytes: AtomicUsize::new(0), written: Notify::new() });
        Self { input, line: Vec::new(), overlong: None, begun: false, output, refusing: None, client_gone, nobody_reads }
    }

    /// Reads a line into `self.line`, also one that ends with the input. Cancelled, it goes on where it was.
    async fn read_line(&mut self) -> Option<Result<(), Unreadable>> {
        loop {
            let available = self.input.fill_buf().await.ok()?;
            if available.is_empty() {
                // A last line need not have an end.
                return (!self.line.is_empty()).then_some(Ok(()));
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            let piece = &available[..taken];
            match &mut self.overlong {
                Some(scanner) => scanner.push(piece),
                None if self.line.len() + taken > LINE_MAX_BYTES => {
                    let mut scanner = IdScanner::default();
                    scanner.push(&std::mem::take(&mut self.line));
                    scanner.push(piece);
                    self.overlong = Some(scanner);
                }
                None => self.line.extend_from_slice(piece),
            }
            self.input.consume(taken);
            if end.is_some() {
                return Some(self.overlong.take().map_or(Ok(()), |scanner| Err(Unreadable::too_long(LINE_MAX_BYTES, scanner))));
            }
        }
    }

    /// Makes a message of the line, or says what is wrong with it.
    fn message(&mut self) -> Result<Option<ClientJsonRpcMessage>, Unreadable> {
        let line = std::mem::take(&mut self.line);
        let Some(value) = message::read(&line)? else { return Ok(None) };
        let message = message::parse(value)?;
        let ClientJsonRpcMessage::Request(request) = &message else { return Ok(self.begun.then_some(message)) };
        let request = &request.request;
        // A discovery asks which versions there are, and chooses none.
        let chooses = request.get_meta().protocol_version().is_some() && !matches!(request, ClientRequest::DiscoverRequest(_));
        self.begun |= chooses || matches!(request, ClientRequest::InitializeRequest(_));
        Ok(Some(message))
    }
}

/// Our output, and how much of it waits for the client.
struct Output<W> {
    stream: Mutex<W>,
    waiting_bytes: AtomicUsize,
    written: Notify,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    async fn write(&self, message: &ServerJsonRpcMessage) -> io::Result<()> {
        self.write_line(serde_json::to_vec(message)?).await
    }

    async fn write_line(&self, mut line: Vec<u8>) -> io::Result<()> {
        line.push(b'\n');
        self.waiting_bytes.fetch_add(line.len(), Ordering::SeqCst);
        let written = async {
            let mut stream = self.stream.lock().await;
            stream.write_all(&line).await?;
            stream.flush().await
        };
        let written = written.await;
        self.waiting_bytes.fetch_sub(line.len(), Ordering::SeqCst);
        self.written.notify_waiters();
        written
    }

    /// Returns when the client has read enough to be heard again.
    async fn has_room(&self) {
        loop {
            let written = self.written.notified();
            if self.waiting_bytes.load(Ordering::SeqCst) <= WAITING_MAX_BYTES {
                return;
            }
            written.await;
        }
    }
}

impl<R: AsyncBufRead + Unpin + Send, W: AsyncWrite + Unpin + Send + 'static> Transport<RoleServer> for Lines<R, W> {
    type Error = io::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let output = self.output.clone();
        async move { output.write(&message).await }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Some(refusing) = &mut self.refusing {
                refusing.await.ok()?.ok()?;
                self.refusing = None;
            }
            self.output.has_room().await;
            let Some(whole) = self.read_line().await else {
                if (self.nobody_reads)() {
                    self.client_gone.cancel();
                }
                let client_gone = self.client_gone.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(READ_GRACE).await;
                    client_gone.cancel();
                });
                return None;
            };
            let refused = match whole.and_then(|()| self.message()) {
                Ok(Some(message)) => return Some(message),
                Ok(None) => continue,
                Err(refused) => refused,
            };
            let output = self.output.clone();
            self.refusing = Some(tokio::spawn(async move {
                for answer in refused.answers() {
                    output.write_line(answer.into_bytes()).await?;
                }
                Ok(())
            }));
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.output.stream.lock().await.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    async fn replies(input: &[u8]) -> (Vec<String>, Vec<Value>) {
        let mut output = Vec::new();
        let mut lines = Lines::new(input, io::Cursor::new(Vec::new()), CancellationToken::new(), || false);
        while let Some(message) = lines.receive().await {
            output.push(serde_json::to_value(&message).expect("serialises")["method"].as_str().unwrap_or_default().to_owned());
        }
        let written = lines.output.stream.lock().await.get_ref().clone();
        let written = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        (output, written.map(|line| serde_json::from_slice(line).expect("JSON")).collect())
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said_and_the_next_line_is_heard() {
        let mut input =
            b"{oops\n\n{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":3}\n{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n"
                .to_vec();
        input.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n");
        input.extend_from_slice(b"{\"method\":\"ping\",\"params\":\"");
        input.extend_from_slice(&vec![b'x'; LINE_MAX_BYTES + 1]);
        input.extend_from_slice(b"\",\"jsonrpc\":\"2.0\",\"id\":\"long\"}\n");
        input.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}\n{\"jsonrpc\":\"2.0\",\"id\":3,");
        let (heard, said) = replies(&input).await;
        assert_eq!(heard, ["ping", "ping"]);
        let said: Vec<_> = said.iter().map(|reply| (reply["error"]["code"].as_i64().expect("an error"), reply["id"].to_string())).collect();
        let expected = [(-32700, "null"), (-32600, "7"), (-32600, "\"long\""), (-32700, "3")];
        assert_eq!(said, expected.map(|(code, id)| (code, id.to_owned())));
    }

    #[tokio::test]
    async fn last_line_needs_no_end() {
        let (heard, said) = replies(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}").await;
        assert_eq!((heard, said), (vec!["ping".to_owned()], vec![]));
    }

    #[tokio::test]
    async fn nothing_but_requests_is_passed_on_before_the_client_has_said_its_version() {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        let me = r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#;
        let hello = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"initialize","params":{me}}}"#);
        let (heard, said) = replies([notification, ping, response, notification, &hello, notification].join("\n").as_bytes()).await;
        assert_eq!(heard, ["ping", "initialize", "notifications/initialized"]);
        assert_eq!(said, Vec::<Value>::new());
    }
}
