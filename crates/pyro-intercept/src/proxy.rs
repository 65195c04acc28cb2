//! The proxy as the egress stack sees it.

use std::fmt;
use std::sync::Arc;

use pyro_egress::policy::{Name, VisibleName};
use pyro_egress::{Interceptor, OpenedFlow};
use pyro_secret::{Redactor, RedactorError};
use rustls::crypto::ring::default_provider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::DropGuard;

use crate::authority::Authority;
use crate::connection;
use crate::limits::{PROXIED_FLOWS_MAX, Patience};
use crate::roots::Roots;
use crate::substitution::Substitution;
use crate::tasks::Tasks;
use crate::usage::{RefusedRequest, SecretUse};

/// Puts secrets into requests. Its tasks run on the runtime that [`Interceptor::serve`] is called on, and end when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    flows: Arc<Semaphore>,
    terms: Terms,
    tasks: Tasks,
    _guard: DropGuard,
}

/// Why there is no [`Proxy`].
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields are")]
pub enum ProxyError {
    #[error("the placeholders of two secrets, `{one}` and `{other}`, are part of each other")]
    Placeholders { one: pyro_secret::SecretName, other: pyro_secret::SecretName },
    #[error("cannot take secrets out of answers")]
    Redactor(#[source] RedactorError),
    #[error("cannot speak TLS")]
    Tls(#[source] rustls::Error),
}

/// How a connection is served.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    pub(crate) patience: Patience,
    pub(crate) refused: Option<mpsc::Sender<RefusedRequest>>,
}

/// What all connections of a proxy share.
pub(crate) struct Shared {
    authority: Authority,
    pub(crate) substitutions: Vec<Substitution>,
    /// Turns each secret into its placeholder, whichever host it was for.
    pub(crate) redactor: Redactor,
    /// Without the protocols that are offered.
    pub(crate) client_config: ClientConfig,
    pub(crate) uses: mpsc::Sender<SecretUse>,
}

impl Proxy {
    /// Makes a proxy. Each use of a secret is told to `uses` once, when the answer's head has come or none will; a request that carries a
    /// secret waits for room in it, and is refused when there is none for 10 s or nobody listens.
    ///
    /// # Errors
    ///
    /// If placeholders cannot be told apart, or the secrets are too large together to be looked for.
    pub fn new(
        authority: Authority,
        substitutions: Vec<Substitution>,
        roots: Roots,
        uses: mpsc::Sender<SecretUse>,
    ) -> Result<Self, ProxyError> {
        for (index, one) in substitutions.iter().enumerate() {
            // One secret may go to several hosts, by one placeholder.
            let clash = substitutions[..index].iter().find(|other| {
                one.name() != other.name()
                    && (one.placeholder().contains(other.placeholder()) || other.placeholder().contains(one.placeholder()))
            });
            if let Some(other) = clash {
                return Err(ProxyError::Placeholders { one: other.name().clone(), other: one.name().clone() });
            }
        }
        let redactor =
            Redactor::with_replacements(substitutions.iter().map(|one| (one.value(), one.placeholder()))).map_err(ProxyError::Redactor)?;
        let client_config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(ProxyError::Tls)?
            .with_root_certificates(roots.0)
            .with_no_client_auth();
        let (tasks, guard) = Tasks::new();
        let shared = Arc::new(Shared { authority, substitutions, redactor, client_config, uses });
        Ok(Self { shared, flows: Arc::new(Semaphore::new(PROXIED_FLOWS_MAX)), terms: Terms::default(), tasks, _guard: guard })
    }

    /// Changes how long connections that begin from now on may take.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.terms.patience = patience;
        self
    }

    /// Has refused requests told, as far as there is room in `refused`.
    #[must_use]
    pub fn with_refusals(mut self, refused: mpsc::Sender<RefusedRequest>) -> Self {
        self.terms.refused = Some(refused);
        self
    }

    /// Returns the authority's certificate for the guest's trust store.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.shared.authority.certificate_pem()
    }
}

impl Shared {
    /// Returns how to answer a handshake for a host; nothing if no certificate can be made for it.
    pub(crate) fn server_config(&self, host: &Name, alpn: Option<Vec<u8>>) -> Option<Arc<ServerConfig>> {
        let leaf = self.authority.leaf(host).ok()?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf)));
        config.alpn_protocols = alpn.into_iter().collect();
        // Nothing of a connection outlives it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Some(Arc::new(config))
    }
}

/// Returns the name in a connection's handshake.
fn server_name(flow: &OpenedFlow) -> Option<&Name> {
    match &flow.visible {
        VisibleName::Tls { server_name, encrypted: _ } => server_name.as_ref(),
        VisibleName::Http { .. } | VisibleName::Other => None,
    }
}

impl Interceptor for Proxy {
    fn wants(&self, flow: &OpenedFlow) -> bool {
        server_name(flow).is_some_and(|name| self.shared.substitutions.iter().any(|one| one.covers(name, flow.destination.port())))
    }

    fn serve(&self, flow: OpenedFlow, guest: UnixStream, upstream: TcpStream) {
        let Some(host) = server_name(&flow).cloned() else { return };
        // One connection too many is closed, as by a server that has enough.
        let Ok(permit) = Arc::clone(&self.flows).try_acquire_owned() else { return };
        let (shared, terms, tasks) = (Arc::clone(&self.shared), self.terms.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            connection::serve(shared, terms, flow, host, (guest, upstream), tasks).await;
            drop(permit);
        });
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Proxy").field("substitutions", &self.shared.substitutions).finish_non_exhaustive()
    }
}
