//! What is told of each use of a secret.

use std::time::Duration;

use http::{Method, StatusCode, Uri};
use pyro_egress::FlowId;
use pyro_egress::policy::Name;
use pyro_secret::SecretName;
use tokio::sync::mpsc;

use crate::limits::{METHOD_BYTES_MAX, PATH_BYTES_MAX};

/// One secret in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// The connection, as in the stack's events.
    pub flow: FlowId,
    /// The secret.
    pub secret: SecretName,
    /// Where it was sent.
    pub host: Name,
    /// The request's method, at most 32 bytes.
    pub method: String,
    /// The request's path without its query, printable, at most 256 bytes.
    pub path: String,
    /// The answer's status; none if none came: the connection or the request ended before.
    pub status: Option<u16>,
}

/// A request that was not passed on, or whose answer was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRequest {
    /// The connection, as in the stack's events.
    pub flow: FlowId,
    /// The host that the connection is to.
    pub host: Name,
    /// The request's method, at most 32 bytes.
    pub method: String,
    /// The request's path without its query, printable, at most 256 bytes.
    pub path: String,
    /// What the guest was answered instead.
    pub status: u16,
    /// Why.
    pub reason: String,
}

/// Uses that are about to happen. Each is told once: with its status, or without one when this is dropped.
#[derive(Debug)]
pub(crate) struct Uses(Vec<(mpsc::OwnedPermit<SecretUse>, SecretUse)>);

/// Nobody takes uses, so none may happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Untold;

impl Uses {
    /// Makes sure that the uses can be told before they happen: waits until there is room for them.
    pub(crate) async fn reserve(sender: &mpsc::Sender<SecretUse>, uses: Vec<SecretUse>, patience: Duration) -> Result<Self, Untold> {
        let reserve = async {
            let mut reserved = Vec::with_capacity(uses.len());
            for one in uses {
                reserved.push((sender.clone().reserve_owned().await.map_err(|_| Untold)?, one));
            }
            Ok(Self(reserved))
        };
        tokio::time::timeout(patience, reserve).await.unwrap_or(Err(Untold))
    }

    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn tell(&mut self, status: StatusCode) {
        for (permit, one) in self.0.drain(..) {
            permit.send(SecretUse { status: Some(status.as_u16()), ..one });
        }
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        for (permit, one) in self.0.drain(..) {
            permit.send(one);
        }
    }
}

/// Returns a method as it is told.
pub(crate) fn told_method(method: &Method) -> String {
    printable(method.as_str(), METHOD_BYTES_MAX)
}

/// Returns a path as it is told: a query may hold what is nobody's business.
pub(crate) fn told_path(uri: &Uri) -> String {
    printable(uri.path(), PATH_BYTES_MAX)
}

fn printable(text: &str, bytes_max: usize) -> String {
    text.bytes().take(bytes_max).map(|byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_without_their_query_and_bounded() {
        assert_eq!(told_path(&"https://a.example/b/c?token=x".parse().unwrap()), "/b/c");
        assert_eq!(told_path(&format!("/{}", "a".repeat(1000)).parse().unwrap()).len(), PATH_BYTES_MAX);
        assert_eq!(told_method(&Method::GET), "GET");
    }
}
