//! Assignments at a steady rate, each to a site that is at rest, and how long each takes.
//!
//! The moment of an order is the one at which it was due, so that an order that waited for its turn is not counted
//! as a quick one. It lies before the hub's commit: what is measured is a little more than the way from there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::document::assignment::DesiredApp;
use airlift_bundles::document::release::Scalar;
use airlift_bundles::ids::{AppName, Name, Sha256Digest, SiteId};
use airlift_hub::api::types::{Assign, Assigned, ReleaseChoice, SiteSelection, route};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::LiveError;
use super::api::{Api, Session};
use super::field::Field;
use super::fleet::{APP, PARAMETER, site_name};
use super::word::{Word, now_ns};

/// Between two orders; a rate is made by the number of sites of each.
const TICK: Duration = Duration::from_millis(20);
/// Connections of the operator's: an order does not wait for the answer to the one before.
const SESSIONS: usize = 4;
/// Time for the last assignments to arrive.
const GRACE: Duration = Duration::from_secs(20);

/// Gives the orders, each with a value of its own.
pub(super) struct Orders {
    release: Sha256Digest,
    last: u64,
    queue: mpsc::UnboundedSender<Order>,
    done: mpsc::UnboundedReceiver<Done>,
}

struct Order {
    sites: Vec<u32>,
    order: Assign,
}

struct Done {
    sites: Vec<u32>,
    failed: Option<LiveError>,
}

/// What came of a stretch of load.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// Assignments ordered.
    pub(super) ordered: u64,
    /// From order to commit of healthy, in microseconds, ascending.
    pub(super) latencies_us: Vec<u64>,
    /// Assignments that did not get there, the orders that failed among them.
    pub(super) lost: u64,
    /// Orders that the hub did not answer with success: it was being killed.
    pub(super) failed: u64,
    /// Turns for which no site was at rest.
    pub(super) skipped: u64,
    /// For how long orders were given.
    pub(super) passed_ms: u64,
}

impl Measured {
    /// The latency that so many of a thousand assignments do not exceed; one that did not arrive exceeds all.
    pub(super) fn quantile_ms(&self, per_mille: u64) -> Option<f64> {
        let all = self.latencies_us.len() as u64 + self.lost;
        let place = (all * per_mille).div_ceil(1000).max(1) - 1;
        let us = self.latencies_us.get(usize::try_from(place).ok()?)?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes")]
        Some((*us as f64 / 100.0).round() / 10.0)
    }

    /// Orders given a second.
    pub(super) fn rate(&self) -> u64 {
        (self.ordered * 1000).checked_div(self.passed_ms).unwrap_or(0)
    }
}

impl Orders {
    /// Opens the operator's connections, lazily, to a hub that holds the release.
    pub(super) fn new(api: &Api, release: Sha256Digest) -> Self {
        let (queue, orders) = mpsc::unbounded_channel();
        let (done_sender, done) = mpsc::unbounded_channel();
        let orders = Arc::new(Mutex::new(orders));
        for _ in 0..SESSIONS {
            tokio::spawn(give(api.clone(), Arc::clone(&orders), done_sender.clone()));
        }
        Self { release, last: 0, queue, done }
    }

    /// The next order, for these sites or for all, and the generation that it makes.
    pub(super) fn next(&mut self, sites: Option<&[u32]>) -> (Assign, Sha256Digest) {
        self.last += 1;
        let name = Name::new(PARAMETER).expect("the literal is a name");
        let parameters = [(name, Scalar::String(self.last.to_string()))].into_iter().collect();
        let app = AppName::new(APP).expect("the literal is a name");
        let desired = DesiredApp {
            app,
            release: self.release,
            epoch: 0,
            seq: 1,
            parameters,
            overlays: Vec::new(),
            secrets: BTreeMap::new(),
            retry: 0,
        };
        let names: Vec<SiteId> = sites.unwrap_or_default().iter().map(|site| site_name(*site)).collect();
        let selector = sites.is_none().then(|| "*".to_owned());
        let generation = desired.generation();
        let order = Assign {
            app: desired.app,
            release: ReleaseChoice::Sha256(self.release),
            sites: SiteSelection { names, selector },
            parameters: desired.parameters,
            overlays: Vec::new(),
            retry: false,
            dry_run: false,
        };
        (order, generation)
    }

    /// Orders at this rate for so long, and waits for the last ones.
    pub(super) async fn run(
        &mut self,
        field: &mut Field,
        rate: u64,
        length: Duration,
    ) -> Result<Measured, LiveError> {
        let mut measured = Measured::default();
        let count = u32::try_from(field.sites.len()).unwrap_or(u32::MAX);
        let mut resting: VecDeque<u32> = (0..count).collect();
        field.sites.iter_mut().for_each(|site| site.told = None);
        let began_ns = now_ns();
        let length_ns = nanoseconds(length);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut due = 0;
        let mut under_way = 0_u64;
        loop {
            let passed_ns = now_ns() - began_ns;
            let over = passed_ns >= length_ns;
            if over && (under_way == 0 || passed_ns >= length_ns + nanoseconds(GRACE)) {
                break;
            }
            tokio::select! {
                biased;
                _ = ticks.tick(), if !over => {
                    measured.passed_ms = passed_ns / 1_000_000;
                    let at_ns = now_ns();
                    let wanted = rate * ((at_ns - began_ns) / 1000) / 1_000_000;
                    let now = wanted.saturating_sub(due);
                    due = wanted;
                    let chosen = resting.len().min(usize::try_from(now).unwrap_or(usize::MAX));
                    measured.skipped += now - chosen as u64;
                    let sites: Vec<u32> = resting.drain(..chosen).collect();
                    if sites.is_empty() {
                        continue;
                    }
                    let (order, generation) = self.next(Some(&sites));
                    for site in &sites {
                        field.site(*site)?.told = Some((generation, at_ns));
                    }
                    measured.ordered += chosen as u64;
                    under_way += chosen as u64;
                    // The receivers live as long as this sender.
                    let _ = self.queue.send(Order { sites, order });
                }
                word = field.next() => {
                    let Word::Healthy { site, generation, at_ns } = word? else { continue };
                    let seen = field.site(site)?;
                    if let Some((_, from_ns)) = seen.told.take_if(|(told, _)| *told == generation) {
                        measured.latencies_us.push(at_ns.saturating_sub(from_ns) / 1000);
                        under_way -= 1;
                        resting.push_back(site);
                    }
                }
                Some(Done { sites, failed }) = self.done.recv() => {
                    if failed.is_none() {
                        continue;
                    }
                    measured.failed += 1;
                    // Whether the order was committed is not known; these sites are told something else later.
                    for site in sites {
                        if field.site(site)?.told.take().is_some() {
                            under_way -= 1;
                            measured.lost += 1;
                            resting.push_back(site);
                        }
                    }
                }
                () = tokio::time::sleep(TICK), if over => {}
            }
        }
        measured.lost += under_way;
        measured.latencies_us.sort_unstable();
        Ok(measured)
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Gives orders over one connection, which is made anew where it breaks.
async fn give(
    api: Api,
    orders: Arc<Mutex<mpsc::UnboundedReceiver<Order>>>,
    done: mpsc::UnboundedSender<Done>,
) {
    let mut session: Option<Session> = None;
    loop {
        let next = orders.lock().await.recv().await;
        let Some(Order { sites, order }) = next else { return };
        let outcome = async {
            if session.is_none() {
                session = Some(api.connect().await?);
            }
            let open = session.as_mut().expect("opened above");
            open.post::<Assigned>(route::ASSIGNMENTS, &order).await
        };
        let failed = outcome.await.err();
        if failed.is_some() {
            session = None;
        }
        if done.send(Done { sites, failed }).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_arrived_is_slower_than_all_that_did() {
        let measured =
            Measured { latencies_us: (1..=98).map(|ms| ms * 1000).collect(), lost: 2, ..Measured::default() };
        assert_eq!(measured.quantile_ms(500), Some(50.0));
        assert_eq!(measured.quantile_ms(980), Some(98.0));
        assert_eq!(measured.quantile_ms(990), None);
    }
}
