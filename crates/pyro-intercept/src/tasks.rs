//! Tasks that end with whoever they belong to.

use std::future::Future;

use tokio_util::sync::{CancellationToken, DropGuard};

/// Spawns tasks that end, at their next turn, when the guard of the scope or of one around it is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Tasks(CancellationToken);

impl Tasks {
    /// Opens a scope.
    pub(crate) fn new() -> (Self, DropGuard) {
        let token = CancellationToken::new();
        (Self(token.clone()), token.drop_guard())
    }

    /// Opens a scope within this one.
    pub(crate) fn within(&self) -> (Self, DropGuard) {
        let token = self.0.child_token();
        (Self(token.clone()), token.drop_guard())
    }

    /// Puts a task on the current runtime.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let token = self.0.clone();
        tokio::spawn(async move {
            token.run_until_cancelled(future).await;
        });
    }
}

/// HTTP/2 connections of hyper put a task per stream on this.
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(async move {
            future.await;
        });
    }
}
