//! Asking the host's resolvers: over UDP, over TCP when the reply did not fit.
//!
//! Each question has its own socket, connected to one resolver, and its own random id, so a stranger has to guess a port and an id
//! at once. A reply that is not for this question is dropped and waited on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::{Message, MessageBuilder, Name as WireName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::question::{EDNS_REPLY_BYTES, Question};

/// How long one resolver is waited for; stub resolvers in the guest give up after five seconds and two of them are tried.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How many replies that are not for this question are dropped before the attempt counts as failed.
const STRAY_REPLIES_MAX: usize = 32;

/// Why a question has no answer. All of them were tried; this is what the last one said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no resolver is configured")]
    NoResolver,
    #[error("the question cannot be written")]
    Unwritable,
    #[error("cannot ask the resolver {resolver}")]
    Io { resolver: SocketAddr, source: io::Error },
    #[error("the resolver {resolver} did not answer in time")]
    Late { resolver: SocketAddr },
    #[error("the resolver {resolver} sent only replies to other questions")]
    Stray { resolver: SocketAddr },
}

/// Asks one resolver after the other. Dropping the future closes its sockets.
pub(crate) async fn ask(question: &Question, resolvers: &[SocketAddr]) -> Result<Vec<u8>, AskError> {
    let mut failure = AskError::NoResolver;
    for resolver in resolvers {
        let mut id = [0; 2];
        // The kernel's generator does not fail once it is seeded, which it is before a user can log in.
        let _ = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
        let query = query(question, u16::from_be_bytes(id)).ok_or(AskError::Unwritable)?;
        let attempt = timeout(ATTEMPT_TIMEOUT, ask_one(&query, *resolver)).await;
        match attempt {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = AskError::Late { resolver: *resolver },
        }
    }
    Err(failure)
}

/// Returns the message that asks a resolver this question.
#[must_use]
pub fn query(question: &Question, id: u16) -> Option<Vec<u8>> {
    let name: WireName<Vec<u8>> = question.name.as_str().parse().ok()?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((name, question.record_type())).ok()?;
    let mut builder = builder.additional();
    builder
        .opt(|opt| {
            opt.set_udp_payload_size(EDNS_REPLY_BYTES);
            Ok(())
        })
        .ok()?;
    Some(builder.finish())
}

/// Returns whether bytes are a reply to this query, and whether it was truncated.
#[must_use]
pub fn check_reply(query: &[u8], reply: &[u8]) -> Option<bool> {
    let (query, reply) = (Message::from_slice(query).ok()?, Message::from_slice(reply).ok()?);
    // `is_answer` compares id and question, and is content when neither can be read.
    reply.sole_question().ok()?;
    reply.is_answer(query).then(|| reply.header().tc())
}

async fn ask_one(query: &[u8], resolver: SocketAddr) -> Result<Vec<u8>, AskError> {
    let io = |source| AskError::Io { resolver, source };
    let own: SocketAddr = match resolver.ip() {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(own).await.map_err(io)?;
    socket.connect(resolver).await.map_err(io)?;
    socket.send(query).await.map_err(io)?;
    let mut buffer = vec![0; 4096];
    for _ in 0..STRAY_REPLIES_MAX {
        let length = socket.recv(&mut buffer).await.map_err(io)?;
        match check_reply(query, &buffer[..length]) {
            None => {}
            Some(true) => return ask_by_stream(query, resolver).await,
            Some(false) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }
    Err(AskError::Stray { resolver })
}

async fn ask_by_stream(query: &[u8], resolver: SocketAddr) -> Result<Vec<u8>, AskError> {
    let io = |source| AskError::Io { resolver, source };
    let mut stream = TcpStream::connect(resolver).await.map_err(io)?;
    let length = u16::try_from(query.len()).map_err(|_| AskError::Unwritable)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await.map_err(io)?;
    let length = stream.read_u16().await.map_err(io)?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await.map_err(io)?;
    check_reply(query, &reply).map(|_| reply).ok_or(AskError::Stray { resolver })
}
