//! Whether work on a blocking thread is still wanted. A future that is dropped cannot take its thread along: the work looks by itself, ends
//! early and removes what it had begun.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    Observer,
    client::blocking,
    error::{Problem, Result},
};

/// What work on a blocking thread asks.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    dropped: Arc<AtomicBool>,
    observer: Observer,
}

impl Wanted {
    pub(crate) fn is_wanted(&self) -> bool {
        !self.dropped.load(Ordering::Relaxed) && !self.observer.is_called_off()
    }

    /// Refuses to go on with what nobody waits for; `outcome` says what that leaves.
    pub(crate) fn check(&self, outcome: &'static str) -> Result<()> {
        if self.is_wanted() { Ok(()) } else { Err(Problem::Interrupted { outcome }.into()) }
    }
}

/// Says so when the future it belongs to is dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a blocking thread. It can ask whether anybody still waits for it.
pub(crate) async fn while_wanted<T: Send + 'static>(observer: &Observer, work: impl FnOnce(&Wanted) -> T + Send + 'static) -> T {
    let wanted = Wanted { dropped: Arc::default(), observer: observer.clone() };
    let _guard = Guard(wanted.dropped.clone());
    blocking(move || work(&wanted)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CallOff;

    #[tokio::test]
    async fn work_sees_that_its_future_was_dropped_or_its_caller_called_it_off() {
        for drop_future in [true, false] {
            let call_off = CallOff::default();
            let observer = Observer::none().with_call_off(call_off.clone());
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            let (ended, has_ended) = tokio::sync::oneshot::channel();
            let work = tokio::spawn(async move {
                while_wanted(&observer, move |wanted| {
                    let _ = begun.send(wanted.is_wanted());
                    while wanted.is_wanted() {
                        std::thread::yield_now();
                    }
                    let _ = ended.send(());
                })
                .await;
            });
            assert!(has_begun.await.unwrap());
            if drop_future {
                work.abort()
            } else {
                call_off.call_off()
            }
            has_ended.await.unwrap();
        }
    }
}
