//! The upstream's side of a connection: its handshake, and a sender of requests.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use pyro_egress::policy::Name;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::limits::{BUFFER_BYTES, CONNECTION_WINDOW_BYTES, HEAD_BYTES_MAX, STREAM_WINDOW_BYTES};
use crate::tasks::Tasks;

/// What both sides of a connection speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// Its name in TLS's negotiation.
    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// Why nothing can be sent to an upstream. The guest reads it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("the certificate of {host} cannot be trusted")]
    Certificate { host: Name, source: rustls::Error },
    #[error("no TLS connection can be made to {host}")]
    Handshake { host: Name, source: io::Error },
    #[error("{host} does not speak HTTP/2, which is all that was offered")]
    NoHttp2 { host: Name },
    #[error("HTTP cannot be spoken with {host}")]
    Http { host: Name, source: hyper::Error },
}

/// Makes the TLS connection, verified against the name. The future may be dropped, which closes the socket.
pub(crate) async fn connect(config: ClientConfig, host: &Name, socket: TcpStream) -> Result<TlsStream<TcpStream>, UpstreamError> {
    let failed = |source| UpstreamError::Handshake { host: host.clone(), source };
    let name =
        ServerName::try_from(host.as_str().to_owned()).map_err(|source| failed(io::Error::new(io::ErrorKind::InvalidInput, source)))?;
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(|source| {
        match source.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(cause @ rustls::Error::InvalidCertificate(_)) => UpstreamError::Certificate { host: host.clone(), source: cause.clone() },
            _ => failed(source),
        }
    })
}

/// Sends requests over one connection.
#[derive(Debug)]
pub(crate) enum Sender {
    /// One at a time, as the guest's side reads them.
    Http1(Mutex<http1::SendRequest<Incoming>>),
    Http2(http2::SendRequest<Incoming>),
}

impl Sender {
    /// Begins to speak HTTP. The token is cancelled when the connection has ended.
    pub(crate) async fn new(
        protocol: Protocol,
        stream: TlsStream<TcpStream>,
        tasks: &Tasks,
        gone: CancellationToken,
    ) -> Result<Self, hyper::Error> {
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let mut builder = http1::Builder::new();
                builder.preserve_header_case(true).max_header_size(HEAD_BYTES_MAX).max_buf_size(BUFFER_BYTES);
                let (sender, connection) = builder.handshake(io).await?;
                tasks.spawn(async move {
                    // What went wrong is told to whoever waits for an answer.
                    let _ = connection.with_upgrades().await;
                    gone.cancel();
                });
                Ok(Self::Http1(Mutex::new(sender)))
            }
            Protocol::Http2 => {
                let mut builder = http2::Builder::new(tasks.clone());
                builder
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .max_header_list_size(HEAD_BYTES_MAX as u32);
                let (sender, connection) = builder.handshake(io).await?;
                tasks.spawn(async move {
                    let _ = connection.await;
                    gone.cancel();
                });
                Ok(Self::Http2(sender))
            }
        }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future resets the stream, or ends an HTTP/1 connection.
    pub(crate) async fn send(&self, request: Request<Incoming>) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::Http1(sender) => {
                let lock = || sender.lock().unwrap_or_else(PoisonError::into_inner);
                poll_fn(|context| lock().poll_ready(context)).await?;
                let answer = lock().send_request(request);
                answer.await
            }
            Self::Http2(sender) => {
                let mut sender = sender.clone();
                poll_fn(|context| sender.poll_ready(context)).await?;
                sender.send_request(request).await
            }
        }
    }
}
