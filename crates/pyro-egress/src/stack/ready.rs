//! Wakers that say whose socket became ready, so that one task can own thousands of sockets and touch only those.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::event::FlowId;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Token {
    Tcp(FlowId),
    Udp(FlowId),
    Echo(FlowId),
}

#[derive(Debug, Default)]
struct Queue {
    tokens: Vec<Token>,
    waiting: Option<Waker>,
}

/// The tokens whose sockets became ready. Each is queued at most once, so the queue is as short as there are sockets.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadyQueue(Arc<Mutex<Queue>>);

/// The waker of one token, for both directions of its socket.
#[derive(Debug)]
pub(super) struct TokenWaker {
    token: Token,
    queued: AtomicBool,
    queue: ReadyQueue,
}

impl ReadyQueue {
    pub(super) fn waker(&self, token: Token) -> Arc<TokenWaker> {
        Arc::new(TokenWaker { token, queued: AtomicBool::new(false), queue: self.clone() })
    }

    /// Moves the queued tokens into `tokens`, which is empty.
    pub(super) fn take(&self, tokens: &mut Vec<Token>) {
        std::mem::swap(&mut self.lock().tokens, tokens);
    }

    /// Ready when a token is queued.
    pub(super) fn poll_ready(&self, context: &Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        if queue.tokens.is_empty() {
            queue.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    // Nothing panics while it holds the lock, and a token more or less in the queue does no harm.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenWaker {
    /// Queues the token: its socket is to be looked at again.
    pub(super) fn queue(&self) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let waiting = {
            let mut queue = self.queue.lock();
            queue.tokens.push(self.token);
            queue.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Says that the token is being looked at: from here on it may be queued again.
    pub(super) fn begin(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for TokenWaker {
    fn wake(self: Arc<Self>) {
        self.queue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue();
    }
}
