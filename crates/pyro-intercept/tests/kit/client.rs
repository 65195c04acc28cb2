//! The guest's side.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) type Sent = BoxBody<Bytes, std::convert::Infallible>;

pub(crate) async fn handshake(root_pem: &str, name: &str, alpn: &[&str], guest: UnixStream) -> io::Result<TlsStream<UnixStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(super::client_config(root_pem, alpn)).connect(name, guest).await
}

enum Sender {
    Http1(http1::SendRequest<Sent>),
    Http2(http2::SendRequest<Sent>),
}

pub(crate) struct Client {
    sender: Sender,
    authority: String,
}

/// An answer that has been read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: HeaderMap,
}

impl Client {
    pub(crate) async fn new(stream: TlsStream<UnixStream>, authority: &str) -> Self {
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let sender = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            Sender::Http1(sender)
        };
        Self { sender, authority: authority.to_owned() }
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Begins a request to the server.
    pub(crate) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method);
        if self.is_http2() {
            request.uri(format!("https://{}{path}", self.authority))
        } else {
            request.uri(path).header("host", &self.authority)
        }
    }

    pub(crate) async fn try_send(&mut self, request: Request<Sent>) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub(crate) async fn send(&mut self, request: Request<Sent>) -> Answer {
        let (parts, body) = self.try_send(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers }
    }

    /// Sends a request without a body, with this `Authorization`.
    pub(crate) async fn get(&mut self, path: &str, authorization: &str) -> Answer {
        let request = self.request("GET", path).header("authorization", authorization).body(text("")).unwrap();
        self.send(request).await
    }
}

pub(crate) fn text(text: &str) -> Sent {
    Full::from(text.to_owned()).boxed()
}

/// A body of so many bytes, in chunks, with trailers, that is never in memory as a whole.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) left: usize,
    pub(crate) trailers: Option<HeaderMap>,
}

pub(crate) const CHUNK: [u8; 16 * 1024] = [b'x'; 16 * 1024];

impl Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        let chunk = self.left.min(CHUNK.len());
        self.left -= chunk;
        if chunk > 0 {
            return std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK[..chunk])))));
        }
        std::task::Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
