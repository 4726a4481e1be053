//! How fast each site connects and speaks, beyond the life of one connection.
//!
//! A site that could begin anew with each connection would have a burst for each, and every connection costs the hub a
//! handshake.

use super::bucket::Bucket;
use super::limits::Limits;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The message units of one site, shared by its connections.
#[derive(Clone, Debug)]
pub(super) struct Units(Arc<Mutex<Bucket>>);

impl Units {
    /// Takes units, and returns how long the site is then not read from.
    pub(super) fn take(&self, now: Instant, units: u32) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(now, units)
    }

    fn is_at_rest(&self, now: Instant) -> bool {
        Arc::strong_count(&self.0) == 1 && self.0.lock().unwrap_or_else(PoisonError::into_inner).is_full(now)
    }
}

/// The rates of all sites that were connected lately.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<Arc<str>, (Bucket, Units)>);

impl Rates {
    /// Lets a site connect; `None` where it does so too often.
    pub(super) fn connect(&mut self, client: &Arc<str>, limits: &Limits, now: Instant) -> Option<Units> {
        let (connects, units) = self.0.entry(client.clone()).or_insert_with(|| {
            let connects = Bucket::new(now, limits.site_connects_per_s, limits.site_connects_burst);
            let units = Bucket::new(now, limits.units_per_s, limits.units_burst);
            (connects, Units(Arc::new(Mutex::new(units))))
        });
        connects.try_take(now, 1).then(|| units.clone())
    }

    /// Forgets those of whom there is nothing to remember.
    pub(super) fn forget_at_rest(&mut self, now: Instant) {
        self.0.retain(|_, (connects, units)| !(connects.is_full(now) && units.is_at_rest(now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            site_connects_per_s: 1,
            site_connects_burst: 3,
            units_per_s: 10,
            units_burst: 5,
            ..Limits::default()
        }
    }

    #[test]
    fn a_site_that_connects_too_often_waits_and_is_then_let_in() {
        let (mut rates, limits, start) = (Rates::default(), limits(), Instant::now());
        let mut connect = |site: &str, ms| {
            rates.connect(&site.into(), &limits, start + Duration::from_millis(ms)).is_some()
        };
        assert_eq!([0, 0, 0, 0, 500].map(|ms| connect("a", ms)), [true, true, true, false, false]);
        assert!(connect("b", 500), "others are not touched");
        assert!(connect("a", 1_000), "what was refused cost nothing");
        assert!(!connect("a", 1_000));
    }

    #[test]
    fn a_new_connection_goes_on_with_the_units_that_are_left() {
        let (mut rates, limits, now) = (Rates::default(), limits(), Instant::now());
        let mut connect = || rates.connect(&"a".into(), &limits, now).expect("it may");
        assert_eq!(connect().take(now, 5), Duration::ZERO);
        assert_eq!(connect().take(now, 1), Duration::from_millis(100));
    }

    #[test]
    fn nothing_is_kept_of_sites_at_rest() {
        let (mut rates, limits, start) = (Rates::default(), limits(), Instant::now());
        let units = rates.connect(&"a".into(), &limits, start);
        rates.forget_at_rest(start + Duration::from_secs(2));
        assert_eq!(rates.0.len(), 1, "its connection is open");
        drop(units);
        rates.forget_at_rest(start);
        assert_eq!(rates.0.len(), 1, "it has just connected");
        rates.forget_at_rest(start + Duration::from_secs(2));
        assert!(rates.0.is_empty());
    }
}
