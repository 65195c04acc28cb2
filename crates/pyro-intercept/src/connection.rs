//! One connection: two handshakes, then request after request.

use std::error::Error;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, HeaderValue, TE, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use pyro_egress::policy::Name;
use pyro_egress::{FlowId, OpenedFlow};
use rustls::server::Acceptor;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::answer::{AnswerBody, Refusal};
use crate::departure::Departure;
use crate::limits::{
    BUFFER_BYTES, CONNECTION_WINDOW_BYTES, HEAD_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX, SUBSTITUTED_BYTES_MAX, TELL_TIMEOUT,
};
use crate::proxy::{Shared, Terms};
use crate::relay::{self, Asked};
use crate::request;
use crate::tasks::Tasks;
use crate::upstream::{self, Protocol, Sender, UpstreamError};
use crate::usage::{RefusedRequest, SecretUse, Uses, told_method, told_path};

/// Why a request got no answer: its connection is ended, or its stream reset, as the upstream's was.
type Broken = Box<dyn Error + Send + Sync>;

/// Two pipes that are to be joined.
type Upgrades = (OnUpgrade, OnUpgrade);

/// Serves a connection until either side is done with it, or the guest is gone. Dropping the future ends both sides.
pub(crate) async fn serve(shared: Arc<Shared>, terms: Terms, flow: OpenedFlow, host: Name, ends: (UnixStream, TcpStream), tasks: Tasks) {
    let (tasks, _guard) = tasks.within();
    let Ok(departure) = Departure::of(&ends.0) else { return };
    tokio::select! {
        () = serve_guest(shared, terms, flow, host, ends, tasks) => {}
        () = departure.happened() => {}
    }
}

async fn serve_guest(
    shared: Arc<Shared>,
    terms: Terms,
    flow: OpenedFlow,
    host: Name,
    (guest, upstream): (UnixStream, TcpStream),
    tasks: Tasks,
) {
    let gone = CancellationToken::new();
    let handshakes = tokio::time::timeout(terms.patience.handshake, shake_hands(&shared, &host, guest, upstream, &tasks, gone.clone()));
    let Ok(Some((stream, protocol, sender))) = handshakes.await else { return };
    let port = flow.destination.port();
    let connection = Arc::new(Connection {
        shared,
        refused: terms.refused,
        flow: flow.id,
        host,
        port,
        sender,
        upgrading: AtomicBool::new(false),
        upgrades: Mutex::default(),
    });
    match protocol {
        Protocol::Http1 => serve_http1(&connection, stream, terms.patience.head, gone).await,
        Protocol::Http2 => serve_http2(&connection, stream, gone, tasks).await,
    }
    let upgrades = connection.upgrades.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((guest, upstream)) = upgrades
        && let (Ok(guest), Ok(upstream)) = (guest.await, upstream.await)
    {
        // Either side's failure ends both, which is all that can be done about it.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(guest), &mut TokioIo::new(upstream)).await;
    }
}

/// Reads the guest's hello, offers upstream what it offers, and the guest what the upstream chose. An upstream that fails is no reason to
/// fail the guest's handshake: the guest is to read why. Returns nothing if the guest's fails.
async fn shake_hands(
    shared: &Shared,
    host: &Name,
    guest: UnixStream,
    upstream: TcpStream,
    tasks: &Tasks,
    gone: CancellationToken,
) -> Option<(TlsStream<UnixStream>, Protocol, Result<Sender, UpstreamError>)> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), guest).await.ok()?;
    // What the stack read the name from are these very bytes; if we read them differently, nothing is certain.
    let named = hello.client_hello().server_name().is_some_and(|name| name.parse::<Name>().is_ok_and(|name| name == *host));
    if !named {
        return None;
    }
    let offered: Option<Vec<Vec<u8>>> = hello.client_hello().alpn().map(|names| names.map(<[u8]>::to_vec).collect());
    let offers = |protocol: Protocol| offered.as_ref().is_some_and(|names| names.iter().any(|name| name == protocol.alpn()));
    let negotiable: Vec<Vec<u8>> =
        [Protocol::Http2, Protocol::Http1].into_iter().filter(|one| offers(*one)).map(|one| one.alpn().to_vec()).collect();
    let only_http2 = offers(Protocol::Http2) && !offers(Protocol::Http1);

    let mut config = shared.client_config.clone();
    config.alpn_protocols = negotiable;
    let connected = upstream::connect(config, host, upstream).await.and_then(|stream| {
        let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        match chosen.as_deref() {
            Some(b"h2") => Ok((Protocol::Http2, stream)),
            _ if only_http2 => Err(UpstreamError::NoHttp2 { host: host.clone() }),
            _ => Ok((Protocol::Http1, stream)),
        }
    });
    let protocol = match &connected {
        Ok((protocol, _)) => *protocol,
        Err(_) if only_http2 => Protocol::Http2,
        Err(_) => Protocol::Http1,
    };

    // Where the guest offers nothing but other protocols, this ends in the alert that says so.
    let alpn = offered.map(|_| protocol.alpn().to_vec());
    let config = shared.server_config(host, alpn)?;
    let stream = hello.into_stream(config).await.ok()?;
    let sender = match connected {
        Ok((protocol, upstream)) => {
            Sender::new(protocol, upstream, tasks, gone).await.map_err(|source| UpstreamError::Http { host: host.clone(), source })
        }
        Err(error) => Err(error),
    };
    Some((stream, protocol, sender))
}

async fn serve_http1(connection: &Arc<Connection>, stream: TlsStream<UnixStream>, head: Duration, gone: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES)
        .preserve_header_case(true)
        .auto_date_header(false)
        .half_close(true);
    let service = service_fn(|request| Arc::clone(connection).answer(request));
    let mut server = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        // How it ended is nobody's concern but the two sides'.
        _ = server.as_mut() => return,
        () = gone.cancelled() => {}
    }
    // An upgraded connection is over for hyper, too, but is not to be closed.
    if !connection.upgrading.load(Ordering::Relaxed) {
        server.as_mut().graceful_shutdown();
    }
    let _ = server.await;
}

async fn serve_http2(connection: &Arc<Connection>, stream: TlsStream<UnixStream>, gone: CancellationToken, tasks: Tasks) {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .auto_date_header(false);
    let connection = Arc::clone(connection);
    let service = service_fn(move |request| Arc::clone(&connection).answer(request));
    let mut server = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = server.as_mut() => return,
        () = gone.cancelled() => server.as_mut().graceful_shutdown(),
    }
    let _ = server.await;
}

struct Connection {
    shared: Arc<Shared>,
    refused: Option<mpsc::Sender<RefusedRequest>>,
    flow: FlowId,
    host: Name,
    port: u16,
    sender: Result<Sender, UpstreamError>,
    /// Whether a request has asked for an upgrade.
    upgrading: AtomicBool,
    upgrades: Mutex<Option<Upgrades>>,
}

impl Connection {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<AnswerBody>, Broken> {
        let version = request.version();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        match self.forward(request).await {
            Ok(response) => Ok(response),
            Err(Failure::Refused(refusal)) => {
                if let Some(refused) = &self.refused {
                    let told = RefusedRequest {
                        flow: self.flow,
                        host: self.host.clone(),
                        method: told_method(&method),
                        path: told_path(&uri),
                        status: refusal.status.as_u16(),
                        reason: refusal.text.clone(),
                    };
                    // A guest that is refused faster than anybody can write it down is refused all the same.
                    drop(refused.try_send(told));
                }
                Ok(refusal.answer(version))
            }
            Err(Failure::Broken(cause)) => Err(cause),
        }
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<AnswerBody>, Failure> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        request::check(&parts, &self.host, self.port)?;
        let sender = self.sender.as_ref().map_err(|error| Refusal::new(StatusCode::BAD_GATEWAY, with_causes(error)))?;
        let asked = Asked { method: parts.method.clone(), grpc: relay::is_grpc(&parts.headers) };
        let asks_upgrade = parts.headers.contains_key(UPGRADE);
        if asks_upgrade {
            self.upgrading.store(true, Ordering::Relaxed);
        }
        let mut uses = self.substitute(&mut parts).await?;
        let redacting = !uses.are_none();

        let mut response = sender.send(Request::from_parts(parts, body)).await.map_err(|error| Failure::Broken(Box::new(error)))?;
        uses.tell(response.status());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if !asks_upgrade {
                return Err(Refusal::new(StatusCode::BAD_GATEWAY, "the server switched protocols unasked").into());
            }
            let pipes = (upgrade, hyper::upgrade::on(&mut response));
            *self.upgrades.lock().unwrap_or_else(PoisonError::into_inner) = Some(pipes);
            return Ok(response.map(|_| AnswerBody::Own(Full::default())));
        }
        let (mut parts, body) = response.into_parts();
        let body = if redacting { relay::redact(&mut parts, body, &asked, &self.shared.redactor)? } else { AnswerBody::Relayed(body) };
        Ok(Response::from_parts(parts, body))
    }

    /// Puts secrets in, having made sure that it can be told.
    async fn substitute(&self, parts: &mut Parts) -> Result<Uses, Failure> {
        let mut room = SUBSTITUTED_BYTES_MAX;
        let mut uses = Vec::new();
        for substitution in self.shared.substitutions.iter().filter(|one| one.covers(&self.host, self.port)) {
            let grown = substitution
                .apply(&mut parts.headers, room)
                .map_err(|_| Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "it would be too large with its secrets"))?;
            if let Some(grown) = grown {
                room = room.saturating_sub(grown);
                uses.push(SecretUse {
                    flow: self.flow,
                    secret: substitution.name().clone(),
                    host: self.host.clone(),
                    method: told_method(&parts.method),
                    path: told_path(&parts.uri),
                    status: None,
                });
            }
        }
        if !uses.is_empty() {
            parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            // It may ask for compression, too; what gRPC needs of it is this.
            if let Some(accepted) = parts.headers.get_mut(TE)
                && accepted != "trailers"
            {
                *accepted = HeaderValue::from_static("trailers");
            }
        }
        let untold = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "it carries a secret, and nobody takes note of its use");
        Ok(Uses::reserve(&self.shared.uses, uses, TELL_TIMEOUT).await.map_err(untold)?)
    }
}

enum Failure {
    /// The guest is told why.
    Refused(Refusal),
    /// The upstream's connection or stream broke.
    Broken(Broken),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Returns an error's message with its causes.
fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    message
}
