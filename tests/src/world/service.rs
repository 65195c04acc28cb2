//! What the world's web servers answer, over HTTP/1.1 and HTTP/2, in the clear and not.
//!
//! `/` greets with the name asked for and the version spoken · `/echo` sends back what was posted · `/headers` the headers that came ·
//! `/bytes/N` is N bytes · `/slow` comes in pieces · `/dns-query` is a resolver · an upgrade to WebSocket echoes messages.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::{names::Names, site::Site};

pub(super) type Body = BoxBody<Bytes, Infallible>;

/// The pieces of `/slow`, and the pause between two.
const SLOW: (u64, std::time::Duration) = (5, std::time::Duration::from_millis(200));
/// Bodies are made of pieces of this length.
const PIECE_BYTES: usize = 64 << 10;

/// A request that came to one of the world's web servers.
#[derive(Debug, Clone)]
pub struct Received {
    /// The host it was for, as it says itself.
    pub host: String,
    /// Its path.
    pub path: String,
    /// Names, in lower case, and values of its headers.
    pub headers: Vec<(String, String)>,
}

impl Received {
    fn of(request: &Request<Incoming>) -> Self {
        let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Self { host: host(request), path: request.uri().path().to_owned(), headers }
    }

    /// Returns the values of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    fn lines(&self) -> String {
        self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }
}

/// What all servers answer from, and where they note what came.
#[derive(Debug, Clone)]
pub(super) struct Library {
    pub(super) names: Names,
    pub(super) received: Arc<Mutex<Vec<Received>>>,
    // By host name; every other host has the paths of `respond`.
    pub(super) sites: Arc<Mutex<HashMap<String, Site>>>,
}

pub(super) async fn respond(mut request: Request<Incoming>, library: Library) -> Result<Response<Body>, Infallible> {
    let received = Received::of(&request);
    library.received.lock().expect("readers do not panic").push(received.clone());
    let host = received.host.split(':').next().unwrap_or_default();
    let site = library.sites.lock().expect("nobody panics with it").get(host).cloned();
    if let Some(site) = site {
        return Ok(site.respond(request).await);
    }
    if let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) {
        let accepted = derive_accept_key(key.as_bytes());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                echo_messages(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await).await;
            }
        });
        let mut response = Response::new(whole(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade"), (header::SEC_WEBSOCKET_ACCEPT, &accepted)] {
            response.headers_mut().insert(name, value.parse().expect("it is plain text"));
        }
        return Ok(response);
    }
    let path = received.path.clone();
    let body = match path.split('/').nth(1) {
        Some("echo") => collected(request).await.map(whole),
        Some("headers") => Some(whole(received.lines())),
        Some("bytes") => path.rsplit('/').next().and_then(|count| count.parse().ok()).map(counted),
        Some("slow") => Some(slow()),
        Some("dns-query") => collected(request).await.and_then(|question| library.names.answer(&question, true).pop()).map(whole),
        _ => Some(whole(format!("hello from {} by {:?}\n", received.host, request.version()))),
    };
    Ok(body.map_or_else(
        || {
            let mut response = Response::new(whole(""));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        },
        Response::new,
    ))
}

fn host(request: &Request<Incoming>) -> String {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri().host().or(header).unwrap_or("nobody").to_owned()
}

pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

async fn collected(request: Request<Incoming>) -> Option<Bytes> {
    request.into_body().collect().await.ok().map(http_body_util::Collected::to_bytes)
}

/// A body whose length is not announced.
fn counted(count: usize) -> Body {
    let bytes = Bytes::from(counted_bytes(count));
    let pieces = (0..count).step_by(PIECE_BYTES).map(move |start| Ok(Frame::data(bytes.slice(start..count.min(start + PIECE_BYTES)))));
    BodyExt::boxed(StreamBody::new(stream::iter(pieces)))
}

/// Returns the bytes of `/bytes/COUNT`: each piece begins with its number, so that a client can tell them apart.
pub(super) fn counted_bytes(count: usize) -> Vec<u8> {
    let numbered = |number: usize| format!("{number:08}").into_bytes().into_iter().chain(std::iter::repeat(b'x')).take(PIECE_BYTES);
    (0..count.div_ceil(PIECE_BYTES)).flat_map(numbered).take(count).collect()
}

fn slow() -> Body {
    let pieces = stream::iter(0..SLOW.0).then(|number| async move {
        tokio::time::sleep(SLOW.1).await;
        Ok(Frame::data(Bytes::from(format!("piece {number}\n"))))
    });
    BodyExt::boxed(StreamBody::new(Box::pin(pieces)))
}

async fn echo_messages(mut messages: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
    while let Some(Ok(message)) = messages.next().await {
        if (message.is_text() || message.is_binary()) && messages.send(message).await.is_err() {
            return;
        }
    }
}
