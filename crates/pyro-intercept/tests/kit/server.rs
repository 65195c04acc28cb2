//! The outside: servers with certificates of an authority of their own.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client::Stream;

/// A certificate and whom it leads back to.
pub(crate) struct Identity {
    pub(crate) authority_pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub(crate) fn new(name: &str) -> Self {
        Self::valid_until(name, 2090)
    }

    pub(crate) fn valid_until(name: &str, year: i32) -> Self {
        let mut params = CertificateParams::default();
        // Of two with one name, a client would find the wrong one and say that its signature is bad.
        static MADE: AtomicUsize = AtomicUsize::new(0);
        params.distinguished_name.push(DnType::CommonName, format!("Outside authority {}", MADE.fetch_add(1, Ordering::Relaxed)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &authority).unwrap().der().clone();
        Self { authority_pem: authority.pem(), certificate, key: key.serialize_der() }
    }

    fn config(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A request as the server saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddrV4,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
}

impl Server {
    async fn listen() -> (TcpListener, SocketAddrV4) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!("loopback is IPv4") };
        (listener, address)
    }

    /// A server that speaks HTTP in both versions.
    pub(crate) async fn http(identity: &Identity) -> Self {
        Self::http_offering(identity, &["h2", "http/1.1"]).await
    }

    pub(crate) async fn http_offering(identity: &Identity, alpn: &[&str]) -> Self {
        let (listener, address) = Self::listen().await;
        let acceptor = TlsAcceptor::from(identity.config(alpn));
        let (sender, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    serve(stream, sender).await;
                });
            }
        });
        Self { address, seen }
    }

    /// A server that does what a test says once the handshake is over.
    pub(crate) async fn raw<F>(identity: &Identity, play: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, address) = Self::listen().await;
        let acceptor = TlsAcceptor::from(identity.config(&["http/1.1"]));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(socket).await {
                    tokio::spawn(play(stream));
                }
            }
        });
        Self { address, seen: mpsc::unbounded_channel().1 }
    }

    /// What was seen since this was last asked.
    pub(crate) fn seen_now(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

async fn serve(stream: TlsStream<TcpStream>, sender: mpsc::UnboundedSender<Seen>) {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer(request, sender.clone()));
    let io = TokioIo::new(stream);
    let _ = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await
    };
}

type Answered = Response<BoxBody<Bytes, hyper::Error>>;

fn own(body: impl Into<Bytes>) -> BoxBody<Bytes, hyper::Error> {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

async fn answer(mut request: Request<Incoming>, sender: mpsc::UnboundedSender<Seen>) -> Result<Answered, Infallible> {
    let told = Seen { method: request.method().to_string(), uri: request.uri().to_string(), headers: request.headers().clone() };
    let authorization = request.headers().get("authorization").cloned();
    let authorization = authorization.as_ref().map_or("", |value| value.to_str().unwrap_or("")).to_owned();
    let _ = sender.send(told);
    let mut response = Response::builder();
    let body = match request.uri().path() {
        // The head, and what came, as it comes.
        "/echo" => {
            response = response.header("x-echo", &authorization);
            let head = format!("{} {:?}\n{authorization}\n", request.method(), request.uri());
            let (_, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            own([head.as_bytes(), &body].concat())
        }
        "/count" => {
            let mut body = request.into_body();
            let (mut count, mut trailer) = (0, String::new());
            while let Some(frame) = body.frame().await {
                match frame.unwrap().into_data() {
                    Ok(data) => count += data.len(),
                    Err(frame) => trailer = format!(" {:?}", frame.into_trailers().ok().unwrap()["x-end"]),
                }
            }
            own(format!("{count}{trailer}"))
        }
        "/stream" => Stream { left: 10_000_000, trailers: None }.map_err(|never| match never {}).boxed(),
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-end", authorization.parse().unwrap());
            response = response.header("trailer", "x-end");
            Stream { left: 10, trailers: Some(trailers) }.map_err(|never| match never {}).boxed()
        }
        "/grpc" => {
            response = response.header("content-type", "application/grpc");
            request.into_body().boxed()
        }
        "/mirror" => request.into_body().boxed(),
        "/compressed" => {
            response = response.header("content-encoding", "gzip");
            own("not really")
        }
        "/upgrade" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let (mut reader, mut writer) = tokio::io::split(&mut stream);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
            });
            response = response.status(101).header("connection", "upgrade").header("upgrade", "echo");
            own("")
        }
        _ => own("hello"),
    };
    Ok(response.body(body).unwrap())
}
