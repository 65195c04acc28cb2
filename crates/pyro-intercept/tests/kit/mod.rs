//! The world of a test: a TLS server on loopback with an authority of its own, a proxy, and a guest that trusts the proxy's.

#![expect(dead_code, reason = "each test binary uses a part of the kit")]

pub(crate) mod client;
pub(crate) mod server;

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use pyro_egress::policy::{Name, VisibleName};
use pyro_egress::{FlowId, Interceptor, OpenedFlow};
use pyro_intercept::{Authority, Patience, Proxy, Roots, SecretUse, Substitution};
use pyro_secret::SecretValue;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

pub(crate) use client::Client;
pub(crate) use server::{Identity, Server};

/// Long enough for a busy machine; a test that gets this far has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const HOST: &str = "api.example.com";
pub(crate) const CANARY: &str = "canary/5ecr3t+value==";
pub(crate) const FLOW: FlowId = FlowId(7);

/// Runs a test with a deadline.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("the test ends in time") });
}

pub(crate) struct World {
    pub(crate) proxy: Option<Proxy>,
    pub(crate) uses: mpsc::Receiver<SecretUse>,
    pub(crate) placeholder: String,
    pub(crate) server: Server,
}

pub(crate) fn substitution(placeholder: &str, host: &str) -> Substitution {
    let value = SecretValue::new(CANARY.to_owned()).unwrap();
    Substitution::new("TOKEN".parse().unwrap(), placeholder.to_owned(), value, host.parse().unwrap(), AUTHORIZATION).unwrap()
}

impl World {
    /// A world whose server is trusted.
    pub(crate) async fn new() -> Self {
        let identity = Identity::new(HOST);
        Self::with(Server::http(&identity).await, &identity.authority_pem)
    }

    pub(crate) fn with(server: Server, root_pem: &str) -> Self {
        let placeholder = "pyro-secret-TOKEN-0123456789abcdef0123456789abcdef".to_owned();
        let mut roots = Roots::none();
        roots.add_pem(root_pem.as_bytes()).unwrap();
        let (sender, uses) = mpsc::channel(16);
        let substitutions = vec![substitution(&placeholder, &format!("{HOST}:{}", server.address.port()))];
        let proxy = Proxy::new(Authority::new("Pyro test").unwrap(), substitutions, roots, sender).unwrap();
        Self { proxy: Some(proxy), uses, placeholder, server }
    }

    /// The same, with a proxy that has little patience.
    pub(crate) fn impatient(mut self, patience: Patience) -> Self {
        self.proxy = self.proxy.map(|proxy| proxy.with_patience(patience));
        self
    }

    pub(crate) fn authority_pem(&self) -> String {
        self.proxy.as_ref().unwrap().certificate_pem()
    }

    /// Has the proxy take over a connection, as the stack would.
    pub(crate) async fn serve(&self) -> UnixStream {
        let (guest, ours) = UnixStream::pair().unwrap();
        let upstream = TcpStream::connect(self.server.address).await.unwrap();
        let flow = flow(HOST, self.server.address);
        let proxy = self.proxy.as_ref().unwrap();
        assert!(proxy.wants(&flow));
        proxy.serve(flow, ours, upstream);
        guest
    }

    /// Opens a connection and makes its handshake, offering these protocols.
    pub(crate) async fn tls(&self, alpn: &[&str]) -> tokio_rustls::client::TlsStream<UnixStream> {
        let guest = self.serve().await;
        client::handshake(&self.authority_pem(), HOST, alpn, guest).await.unwrap()
    }

    /// Opens a connection for requests.
    pub(crate) async fn client(&self, alpn: &[&str]) -> Client {
        Client::new(self.tls(alpn).await, &self.authority()).await
    }

    /// What a client calls the server.
    pub(crate) fn authority(&self) -> String {
        format!("{HOST}:{}", self.server.address.port())
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.placeholder)
    }
}

pub(crate) fn flow(name: &str, destination: SocketAddrV4) -> OpenedFlow {
    let name: Name = name.parse().unwrap();
    OpenedFlow { id: FLOW, destination, name: Some(name.clone()), visible: VisibleName::Tls { server_name: Some(name), encrypted: false } }
}

/// How a client shakes hands that trusts one authority.
pub(crate) fn client_config(root_pem: &str, alpn: &[&str]) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}
