//! How many writes are in flight at once: a few at first, more while the API server answers quickly.
//!
//! On a small board the API server and the applications share two cores, so its own answers say how much it
//! can take. The limit starts at 4, grows by a quarter while the 95th percentile stays under 100 ms, halves when
//! the server says "too many" or does not answer, and ends at 32, where a measured two-core server is saturated.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::core::api::{ApiError, ApiErrorClass};

const LIMIT_START: usize = 4;
const LIMIT_MAX: usize = 32;
/// Above this 95th percentile the limit stays where it is.
const QUICK: Duration = Duration::from_millis(100);
/// Answers between two looks; 16 give a 95th percentile of the second slowest.
const WINDOW: usize = 16;

/// The numbers, without any waiting.
#[derive(Debug)]
pub struct Limit {
    limit: usize,
    times: Vec<Duration>,
}

impl Default for Limit {
    fn default() -> Self {
        Self { limit: LIMIT_START, times: Vec::with_capacity(WINDOW) }
    }
}

impl Limit {
    /// How many may be in flight.
    #[must_use]
    pub fn now(&self) -> usize {
        self.limit
    }

    /// An answer came after this time.
    pub fn answered(&mut self, took: Duration) {
        self.times.push(took);
        if self.times.len() < WINDOW {
            return;
        }
        self.times.sort_unstable();
        if self.times[WINDOW - 2] < QUICK {
            self.limit = (self.limit + self.limit.div_ceil(4)).min(LIMIT_MAX);
        }
        self.times.clear();
    }

    /// The server asked to slow down, or did not answer.
    pub fn refused(&mut self) {
        self.limit = (self.limit / 2).max(1);
        self.times.clear();
    }
}

/// Lets at most the limit's number of requests go at once.
#[derive(Debug)]
pub struct Pace {
    limit: Mutex<Limit>,
    gate: Semaphore,
    /// Permits in circulation.
    issued: Mutex<usize>,
}

impl Default for Pace {
    fn default() -> Self {
        let start = Limit::default();
        Self { gate: Semaphore::new(start.now()), issued: Mutex::new(start.now()), limit: Mutex::new(start) }
    }
}

impl Pace {
    /// Runs one request when there is room, and learns from how it went.
    ///
    /// # Errors
    /// What the request ends with.
    pub async fn run<T>(&self, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        let permit = self.gate.acquire().await.expect("the gate is never closed");
        let start = Instant::now();
        let outcome = work.await;
        let limit = {
            let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
            match &outcome {
                Err(ApiError {
                    class: ApiErrorClass::Throttled { .. } | ApiErrorClass::Unavailable, ..
                }) => {
                    limit.refused();
                }
                _ => limit.answered(start.elapsed()),
            }
            limit.now()
        };
        self.give_back(permit, limit);
        outcome
    }

    /// Returns a permit, or keeps it where the limit has shrunk, and adds new ones where it has grown.
    fn give_back(&self, permit: SemaphorePermit<'_>, limit: usize) {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if *issued > limit {
            *issued -= 1;
            permit.forget();
        } else {
            self.gate.add_permits(limit - *issued);
            *issued = limit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::apply::refusal::unavailable;

    #[test]
    fn quick_answers_raise_the_limit_to_its_cap_and_slow_ones_hold_it() {
        let mut limit = Limit::default();
        for _ in 0..WINDOW {
            limit.answered(Duration::from_millis(150));
        }
        assert_eq!(limit.now(), LIMIT_START);
        for _ in 0..WINDOW * 20 {
            limit.answered(Duration::from_millis(20));
        }
        assert_eq!(limit.now(), LIMIT_MAX);
    }

    #[test]
    fn refusals_halve_the_limit_and_never_end_it() {
        let mut limit = Limit::default();
        limit.refused();
        assert_eq!(limit.now(), 2);
        limit.refused();
        limit.refused();
        assert_eq!(limit.now(), 1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn no_more_than_the_limit_run_at_once_while_it_grows_and_shrinks() {
        let pace = Arc::new(Pace::default());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..400 {
            let (pace, running, most) = (Arc::clone(&pace), Arc::clone(&running), Arc::clone(&most));
            tasks.spawn(async move {
                let work = async {
                    let now = running.fetch_add(1, Ordering::Relaxed) + 1;
                    most.fetch_max(now, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    running.fetch_sub(1, Ordering::Relaxed);
                    if number > 380 { Err(unavailable("gone")) } else { Ok(()) }
                };
                // The outcome is what the pace learns from; here it has no other use.
                let _ = pace.run(work).await;
            });
        }
        while tasks.join_next().await.is_some() {}
        assert!(most.load(Ordering::Relaxed) > LIMIT_START && most.load(Ordering::Relaxed) <= LIMIT_MAX);
        let limit = pace.limit.lock().expect("no task panicked").now();
        assert_eq!(limit, 1);
        assert_eq!(pace.gate.available_permits(), *pace.issued.lock().expect("no task panicked"));
    }
}
