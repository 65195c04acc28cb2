//! Connections to ports of the machine, one call each.
//!
//! ```text
//! host ──data──▶ take ──▶ pieces (at most the credit) ──▶ write ──▶ socket
//!      ◀─passed_on, data──────────────────── read (at most the credit) ◀──┘
//! ```
//!
//! One task carries a connection. Both directions are bounded by credit, not by the channel's windows, so `take` never waits: what lets the
//! other direction go on comes the same way as data. Each direction is closed by itself; the connection ends when both are.
//!
//! **How it ends is told the peer**: once the host has closed its direction and all of it was passed on, dropping the call closes the
//! socket as usual. Before that, a dropped or cut call resets it, lest the peer take half a request for a whole one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::limits::{OUTPUT_CHUNK_BYTES, PORT_CREDIT_BYTES};
use pyro_proto::v1::{ConnectClosed, ConnectInput, ConnectOpen, ConnectOpened, ConnectOutput, connect_input, connect_output};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use crate::pipes::FIRST_READ_BYTES;

/// How long a peer may take to answer; only one outside the machine does.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Messages between the task and the call.
const OUTPUT_QUEUE: usize = 4;
/// How much is passed on before the host hears of it: seldom, but long before its credit is used up.
const PASSED_ON_STEP: u64 = PORT_CREDIT_BYTES / 4;
/// Longest name of a host in the domain name system.
const HOST_MAX_BYTES: usize = 253;

type Outputs = mpsc::Sender<Result<ConnectOutput, Status>>;

#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {to}")]
struct ConnectError {
    to: String,
    source: io::Error,
}

/// Connects as `open` says; `hosts` is the machine's `/etc/hosts`. Dropped, it leaves nothing behind.
pub(crate) async fn open(open: &ConnectOpen, hosts: impl FnOnce() -> String) -> Result<TcpStream, Failure> {
    let port = u16::try_from(open.port).ok().filter(|&port| port > 0);
    let port = port.ok_or_else(|| Failure::message(ErrorKind::InvalidArgument, format!("{} is no port", open.port)))?;
    let addresses = resolve(&open.host, hosts)?;
    let to = if open.host.is_empty() { format!("port {port} in the guest") } else { format!("port {port} of `{}`", open.host) };
    let mut first_error = None;
    for address in addresses {
        let error = match tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(SocketAddr::new(address, port))).await {
            Ok(Ok(socket)) => {
                // Whoever waits for a small answer must not wait for a larger one.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Ok(Err(error)) => error,
            Err(tokio::time::error::Elapsed { .. }) => io::ErrorKind::TimedOut.into(),
        };
        // A loopback without IPv6 says less than the refusal before it.
        first_error.get_or_insert(error);
    }
    let source = first_error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
    Err(if source.kind() == io::ErrorKind::ConnectionRefused {
        Failure::message(ErrorKind::WrongState, format!("nothing listens on {to}"))
    } else {
        let kind = if source.kind() == io::ErrorKind::TimedOut { ErrorKind::DeadlineExceeded } else { ErrorKind::Io };
        Failure::new(kind, &ConnectError { to, source })
    })
}

/// Returns the addresses to try, in order. A static program has no name service switch, and the machine may have no network: names are
/// those of the hosts file.
fn resolve(host: &str, hosts: impl FnOnce() -> String) -> Result<Vec<IpAddr>, Failure> {
    const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    if host.len() > HOST_MAX_BYTES {
        return Err(Failure::message(ErrorKind::LimitExceeded, format!("the name of the host exceeds {HOST_MAX_BYTES} bytes")));
    }
    if host.is_empty() || host.eq_ignore_ascii_case("localhost") {
        return Ok(LOOPBACK.into());
    }
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(vec![address]);
    }
    let addresses: Vec<IpAddr> = hosts().lines().filter_map(|line| address_of(line, host)).collect();
    if addresses.is_empty() {
        return Err(Failure::message(ErrorKind::NotFound, format!("`{host}` is neither an address nor in the guest's `/etc/hosts`")));
    }
    Ok(addresses)
}

/// Returns the address a line of hosts(5) has for a name.
fn address_of(line: &str, name: &str) -> Option<IpAddr> {
    let mut fields = line.split('#').next()?.split_ascii_whitespace();
    let address = fields.next()?.parse().ok()?;
    fields.any(|field| field.eq_ignore_ascii_case(name)).then_some(address)
}

/// Carries an open connection; returns when both directions are closed or the call is gone.
pub(crate) async fn carry(mut socket: TcpStream, mut inputs: Streaming<ConnectInput>, outputs: Outputs) {
    let traffic = Traffic::default();
    let end = {
        let (reader, writer) = socket.split();
        let (pieces, waiting) = mpsc::unbounded_channel();
        let both = async {
            if outputs.send(output(connect_output::Output::Opened(ConnectOpened {}))).await.is_err() {
                return Err(End::Gone);
            }
            tokio::try_join!(read(reader, &traffic, &outputs), write(writer, waiting, &traffic, &outputs))
        };
        tokio::select! {
            both = both => both.map_or_else(|end| end, |_| End::Closed),
            end = take(&mut inputs, pieces, &traffic) => end,
            () = outputs.closed() => End::Gone,
        }
    };
    match end {
        End::Closed => {}
        // The host's direction is closed: to the peer this is a host that has all it wanted.
        End::Gone if traffic.is_written.load(Ordering::Relaxed) => {}
        End::Gone => reset(&socket),
        End::Failed(failure) => {
            reset(&socket);
            let _ = outputs.send(Err(failure.into_status())).await;
        }
    }
}

/// Makes dropping the socket a reset.
fn reset(socket: &TcpStream) {
    // Fails only for what is no socket.
    let _ = socket.set_zero_linger();
}

#[derive(Debug)]
enum End {
    /// Both directions.
    Closed,
    /// The call was dropped, or cut with its connection.
    Gone,
    Failed(Failure),
}

/// What the parts of a connection share: bytes in all, in each direction.
#[derive(Debug, Default)]
struct Traffic {
    /// The guest's, sent to the host.
    sent: AtomicU64,
    /// Of these, passed on by the host.
    sent_on: watch::Sender<u64>,
    /// The host's, written to the socket and told so.
    passed_on: AtomicU64,
    /// All of the host's were written and its direction is closed.
    is_written: AtomicBool,
}

/// Takes what the host sends, and holds it to its credit. Returns only when the call has ended.
async fn take(inputs: &mut Streaming<ConnectInput>, pieces: mpsc::UnboundedSender<Bytes>, traffic: &Traffic) -> End {
    let mut pieces = Some(pieces);
    let mut received = 0;
    loop {
        match inputs.message().await {
            Ok(Some(ConnectInput { input: Some(connect_input::Input::Data(data)) })) => {
                received += data.len() as u64;
                if received - traffic.passed_on.load(Ordering::Relaxed) > PORT_CREDIT_BYTES {
                    return violation(ErrorKind::LimitExceeded, "the host has sent more than its credit");
                }
                let Some(pieces) = &pieces else {
                    return violation(ErrorKind::InvalidArgument, "the host has sent data after the end of it");
                };
                // Refused when the peer takes no more; then it is lost, as in any socket.
                let _ = pieces.send(data);
            }
            Ok(Some(ConnectInput { input: Some(connect_input::Input::Closed(_)) })) => pieces = None,
            Ok(Some(ConnectInput { input: Some(connect_input::Input::PassedOn(count)) })) => {
                let total = traffic.sent_on.borrow().checked_add(count);
                match total.filter(|&total| total <= traffic.sent.load(Ordering::Relaxed)) {
                    Some(total) => {
                        traffic.sent_on.send_replace(total);
                    }
                    None => return violation(ErrorKind::InvalidArgument, "the host has passed on more than it was sent"),
                }
            }
            Ok(Some(ConnectInput { input: Some(connect_input::Input::Open(_)) })) => {
                return violation(ErrorKind::InvalidArgument, "the connection is open already");
            }
            // An input this generation does not know.
            Ok(Some(ConnectInput { input: None })) => {}
            Ok(None) => {
                // No more credit will come either, which is the end once what there is has been used.
                drop(pieces.take());
                let mut sent_on = traffic.sent_on.subscribe();
                while traffic.sent.load(Ordering::Relaxed) < *sent_on.borrow_and_update() + PORT_CREDIT_BYTES {
                    // `read` says so when it has used it up.
                    if sent_on.changed().await.is_err() {
                        break;
                    }
                }
                return End::Gone;
            }
            Err(_) => return End::Gone,
        }
    }
}

fn violation(kind: ErrorKind, message: &str) -> End {
    End::Failed(Failure::message(kind, message))
}

/// Sends what the peer says, within the credit, until it says no more.
async fn read(mut socket: ReadHalf<'_>, traffic: &Traffic, outputs: &Outputs) -> Result<(), End> {
    let mut sent_on = traffic.sent_on.subscribe();
    let mut sent = 0;
    let mut size = FIRST_READ_BYTES;
    loop {
        let credit = *sent_on.borrow_and_update() + PORT_CREDIT_BYTES - sent;
        if credit == 0 {
            // The sender is `traffic`'s, which outlives this.
            let _ = sent_on.changed().await;
            continue;
        }
        // Before the buffer is made: most connections are idle most of the time.
        let readable = socket.readable().await;
        let limit = usize::try_from(credit).map_or(size, |credit| credit.min(size));
        let mut buffer = Vec::with_capacity(limit);
        let count = match readable {
            Ok(()) => (&mut socket).take(limit as u64).read_buf(&mut buffer).await,
            Err(error) => Err(error),
        };
        match count {
            Ok(0) => return tell(outputs, connect_output::Output::Closed(ConnectClosed {})).await,
            Ok(count) => {
                sent += count as u64;
                traffic.sent.store(sent, Ordering::Relaxed);
                // A small piece must not hold a large buffer for long, and a large buffer costs page faults.
                size = if count >= FIRST_READ_BYTES { OUTPUT_CHUNK_BYTES } else { FIRST_READ_BYTES };
                tell(outputs, connect_output::Output::Data(buffer.into())).await?;
                // For who waits for the credit to be used up.
                traffic.sent_on.send_modify(|_| {});
            }
            Err(source) => return Err(End::Failed(broken(source))),
        }
    }
}

/// Writes what the host says until it says no more.
async fn write(
    mut socket: WriteHalf<'_>,
    mut pieces: mpsc::UnboundedReceiver<Bytes>,
    traffic: &Traffic,
    outputs: &Outputs,
) -> Result<(), End> {
    let mut untold = 0;
    while let Some(mut piece) = pieces.recv().await {
        while !piece.is_empty() {
            let count = socket.write_buf(&mut piece).await.map_err(|source| End::Failed(broken(source)))?;
            untold += count as u64;
            if untold >= PASSED_ON_STEP {
                // First: the host may use it as soon as it hears of it.
                traffic.passed_on.fetch_add(untold, Ordering::Relaxed);
                tell(outputs, connect_output::Output::PassedOn(untold)).await?;
                untold = 0;
            }
        }
    }
    // ENOTCONN: the peer has reset it, which reading tells.
    let _ = socket.shutdown().await;
    traffic.is_written.store(true, Ordering::Relaxed);
    Ok(())
}

fn broken(source: io::Error) -> Failure {
    #[derive(Debug, thiserror::Error)]
    #[error("the connection has broken")]
    struct Broken {
        source: io::Error,
    }
    Failure::new(ErrorKind::Io, &Broken { source })
}

async fn tell(outputs: &Outputs, message: connect_output::Output) -> Result<(), End> {
    outputs.send(output(message)).await.map_err(|_| End::Gone)
}

fn output(output: connect_output::Output) -> Result<ConnectOutput, Status> {
    Ok(ConnectOutput { output: Some(output) })
}

/// Makes the queue between the task and the call.
pub(crate) fn queue() -> (Outputs, mpsc::Receiver<Result<ConnectOutput, Status>>) {
    mpsc::channel(OUTPUT_QUEUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_an_address_the_loopback_or_in_the_hosts_file() {
        let hosts = "# comment\n127.0.1.1\tapi # api2\n10.0.0.1 one Two\n::2 two\nbroken two\n";
        let check = |host: &str, expected: &[&str]| {
            let addresses = resolve(host, || hosts.to_owned()).expect("it is known");
            assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{host}");
        };
        check("", &["127.0.0.1", "::1"]);
        check("localhost", &["127.0.0.1", "::1"]);
        check("10.1.2.3", &["10.1.2.3"]);
        check("[::1]", &["::1"]);
        check("two", &["10.0.0.1", "::2"]);
        assert_eq!(resolve("api2", || hosts.to_owned()).expect_err("a comment").kind(), ErrorKind::NotFound);
        assert_eq!(resolve(&"x".repeat(254), String::new).expect_err("too long").kind(), ErrorKind::LimitExceeded);
    }
}
