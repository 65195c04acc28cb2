//! Secrets that stay outside: a proxy that ends TLS for the hosts they are sent to, with an authority of this supervisor's own.
//!
//! The guest trusts the authority, whose key is in this process alone and never written; another machine of the workspace has another one.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use hyper::header::HeaderName;
use pyro_egress::Interceptor;
use pyro_intercept::{Authority, HostPattern, Proxy, RefusedRequest, Roots, SecretUse, Substitution};
use pyro_secret::{SecretName, SecretValue};
use pyro_store::WorkspaceRecord;
use tokio::sync::mpsc;

use super::{super::secrets::Placeholders, certificates::read};
use crate::error::{HostError, HostResult};

/// Uses that wait to be written down; a request whose use cannot be is not sent.
const USES_WAITING: usize = 256;
/// Refused requests that wait to be written down; more are not.
const REFUSALS_WAITING: usize = 256;

/// What stands between a workspace and the hosts its secrets are sent to.
#[derive(Debug)]
pub(in crate::workspace) struct Outside {
    pub(super) interceptor: Arc<dyn Interceptor>,
    pub(super) uses: mpsc::Receiver<SecretUse>,
    pub(super) refused: mpsc::Receiver<RefusedRequest>,
    /// The authority's certificate, for the guest.
    pub(in crate::workspace) certificate: String,
    /// What the guest has instead of each value.
    pub(in crate::workspace) placeholders: Placeholders,
}

impl Outside {
    /// Makes the proxy for a workspace's secrets that stay outside; `None` when all go in.
    pub(in crate::workspace) fn new(
        record: &WorkspaceRecord,
        values: &BTreeMap<SecretName, SecretValue>,
        own: Option<&Path>,
    ) -> HostResult<Option<Self>> {
        let failed = |error: &dyn std::error::Error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            HostError::Invalid { problem: format!("{error}{cause}") }
        };
        let mut substitutions = Vec::new();
        let mut placeholders = Placeholders::new();
        for secret in &record.secrets {
            let Some(outside) = &secret.outside else { continue };
            let Some((name, value)) = values.iter().find(|(name, _)| name.as_str() == secret.name) else { continue };
            let header: HeaderName = outside.header.parse().map_err(|error| failed(&error))?;
            for host in &outside.hosts {
                let host: HostPattern = host.parse().map_err(|error| failed(&error))?;
                let substitution = Substitution::new(name.clone(), outside.placeholder.clone(), value.clone(), host, header.clone());
                substitutions.push(substitution.map_err(|error| failed(&error))?);
            }
            placeholders.insert(name.clone(), outside.placeholder.clone());
        }
        if substitutions.is_empty() {
            return Ok(None);
        }
        let authority = Authority::new(&format!("Pyro workspace {}", record.id)).map_err(|error| failed(&error))?;
        let certificate = authority.certificate_pem();
        let (sender, uses) = mpsc::channel(USES_WAITING);
        let mut roots = Roots::of_host().map_err(|error| failed(&error))?;
        if let Some(pem) = own.and_then(read) {
            roots.add_pem(pem.as_bytes()).map_err(|error| failed(&error))?;
        }
        let (refusals, refused) = mpsc::channel(REFUSALS_WAITING);
        let proxy = Proxy::new(authority, substitutions, roots, sender).map_err(|error| failed(&error))?.with_refusals(refusals);
        Ok(Some(Self { interceptor: Arc::new(proxy), uses, refused, certificate, placeholders }))
    }
}
