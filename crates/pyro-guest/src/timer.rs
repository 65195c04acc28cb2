//! Waiting for a moment that may not be set.

use std::time::Instant;

/// Returns at that moment; never without one.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
