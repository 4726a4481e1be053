//! The flag by which the core takes back an operation that it started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A request to stop, shared between the one who asks and the operation.
///
/// The operation looks at it between objects, pieces or chunks, and may also wait for it beside something slow.
/// Once raised it stays raised: an operation that is wanted again gets a new flag.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    raised: AtomicBool,
    wake: Notify,
}

impl CancelFlag {
    /// A flag that nobody has raised yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every holder of the flag to stop.
    pub fn raise(&self) {
        self.shared.raised.store(true, Ordering::Release);
        self.shared.wake.notify_waiters();
    }

    /// Whether somebody asked to stop.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.shared.raised.load(Ordering::Acquire)
    }

    /// Waits until somebody asks to stop.
    pub async fn raised(&self) {
        loop {
            let woken = self.shared.wake.notified();
            tokio::pin!(woken);
            // Registered before the look, so that a raise in between is not lost.
            woken.as_mut().enable();
            if self.is_raised() {
                return;
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_waiter_wakes_when_the_flag_is_raised_and_later_ones_do_not_wait() {
        let flag = CancelFlag::new();
        let waiter = tokio::spawn({
            let flag = flag.clone();
            async move { flag.raised().await }
        });
        tokio::task::yield_now().await;
        assert!(!flag.is_raised() && !waiter.is_finished());
        flag.raise();
        waiter.await.expect("the waiter ends");
        flag.raised().await;
        assert!(flag.is_raised());
    }
}
