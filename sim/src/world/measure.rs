//! What a run came to for each site: how long an order took, what it cost, what failed, how old the hub's knowledge
//! was. Counted beside the world; nothing here is drawn, planned or part of the trace.

use std::collections::BTreeMap;

use airlift_agent::core::object::GenerationId;
use airlift_agent::core::write::{AppRow, Write};
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, SiteId, Version};

use super::World;
use super::happening::SiteNo;
use super::inspect::INSPECT_MS;
use crate::scenario::{Act, Action};

/// Parts into which a run's time is cut, none so short that nobody looks at the sites in it.
const MOMENTS: u64 = 120;
const MOMENT_MS_MIN: u64 = INSPECT_MS;
/// Silence after which the hub calls a site stale, as its own view does.
const STALE_AFTER_MS: u64 = 600_000;
const CARRIED_STALE_AFTER_MS: u64 = 14 * 86_400_000;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measures {
    /// What was assigned, in the order of its time.
    pub orders: Vec<Order>,
    /// Per site.
    pub sites: Vec<SiteMeasures>,
    /// How long each of `moments` is.
    pub moment_ms: u64,
    /// The fleet over time, as far as the run came.
    pub moments: Vec<FleetMoment>,
}

/// A version that was assigned to some sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// When.
    pub at_ms: u64,
    /// The app.
    pub app: AppName,
    /// Its version.
    pub version: Version,
}

/// What a run came to for one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteMeasures {
    /// The site.
    pub site: SiteId,
    /// How it is reached.
    pub contact: ContactClass,
    /// Bytes of content and documents over the link to the hub; what a link adds to them is not counted.
    pub link_bytes: u64,
    /// Bytes of content from sticks.
    pub stick_bytes: u64,
    /// Versions that failed there.
    pub failures: u32,
    /// Times that it went back to an earlier version.
    pub rollbacks: u32,
    /// The longest time in which the hub did not hear of it.
    pub silent_ms_max: u64,
    /// Looks of every ten minutes at which the hub called it stale, and all of them.
    pub stale_looks: u32,
    /// All looks.
    pub looks: u32,
    /// What was assigned to it.
    pub goals: Vec<Goal>,
}

/// An order as one site met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// Its place in [`Measures::orders`].
    pub order: u16,
    /// How it ended.
    pub end: GoalEnd,
}

/// How an order ended at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoalEnd {
    /// Not before the run's end.
    Open,
    /// Healthy after so many milliseconds.
    Reached(u64),
    /// The version failed there.
    Failed,
    /// Another order came before it was reached.
    Replaced,
}

/// The fleet in one part of a run's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FleetMoment {
    /// Orders that sites reached.
    pub reached: u32,
    /// Versions that failed.
    pub failures: u32,
    /// Sites that went back.
    pub rollbacks: u32,
    /// The most sites that were stale at once.
    pub stale: u32,
}

/// What is kept of one app at one site, to see what changes.
#[derive(Debug, Clone, Copy)]
struct AppSeen {
    app: u16,
    state: AppState,
    failed: Option<GenerationId>,
    /// The release that is healthy there.
    healthy: Option<u16>,
}

/// The counters of a run.
#[derive(Debug, Default)]
pub(super) struct Meter {
    orders: Vec<Order>,
    releases: Vec<(AppName, Version)>,
    generations: BTreeMap<GenerationId, u16>,
    tallies: Vec<Tally>,
    moment_ms: u64,
    moments: Vec<FleetMoment>,
}

/// The counters of one site.
#[derive(Debug, Clone, Default)]
struct Tally {
    link_bytes: u64,
    stick_bytes: u64,
    failures: u32,
    rollbacks: u32,
    silent_ms_max: u64,
    stale_looks: u32,
    looks: u32,
    goals: Vec<Goal>,
    apps: Vec<AppSeen>,
}

/// A place as a small number; runs have far fewer orders and releases than that holds.
fn small(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(u16::MAX)
}

impl Meter {
    pub(super) fn new(sites: usize, duration_ms: u64) -> Self {
        let moment_ms = duration_ms.div_ceil(MOMENTS).max(MOMENT_MS_MIN);
        let count = usize::try_from(duration_ms / moment_ms + 1).unwrap_or(1);
        let (tallies, moments) = (vec![Tally::default(); sites], vec![FleetMoment::default(); count]);
        Self { tallies, moment_ms, moments, ..Self::default() }
    }

    fn moment(&mut self, now_ms: u64) -> &mut FleetMoment {
        let at = usize::try_from(now_ms / self.moment_ms).unwrap_or(usize::MAX).min(self.moments.len() - 1);
        &mut self.moments[at]
    }

    fn release(&mut self, app: &AppName, version: &Version) -> u16 {
        let known = self.releases.iter().position(|known| known.0 == *app && known.1 == *version);
        small(known.unwrap_or_else(|| {
            self.releases.push((app.clone(), version.clone()));
            self.releases.len() - 1
        }))
    }

    /// A version is assigned to these sites.
    fn order(&mut self, now_ms: u64, app: &AppName, version: &Version, sites: &[SiteNo]) {
        let (order, release) = (small(self.orders.len()), self.release(app, version));
        self.orders.push(Order { at_ms: now_ms, app: app.clone(), version: version.clone() });
        for site in sites {
            let tally = &mut self.tallies[*site];
            tally.replace(&self.orders, app);
            let there = tally.apps.iter().any(|seen| seen.healthy == Some(release));
            let end = if there { GoalEnd::Reached(0) } else { GoalEnd::Open };
            tally.goals.push(Goal { order, end });
        }
    }

    /// An app is to leave these sites.
    fn retire(&mut self, app: &AppName, sites: &[SiteNo]) {
        sites.iter().for_each(|site| self.tallies[*site].replace(&self.orders, app));
    }

    /// Writes that reach a site's disk.
    pub(super) fn writes(&mut self, site: SiteNo, writes: &[Write], now_ms: u64) {
        for write in writes {
            match write {
                Write::PutGeneration(row) if !self.generations.contains_key(&row.generation.id) => {
                    let release = self.release(&row.generation.app, &row.generation.version);
                    self.generations.insert(row.generation.id, release);
                }
                Write::PutApp(row) => self.app(site, row, now_ms),
                Write::DropApp(app) => {
                    let releases = &self.releases;
                    let of_app = |seen: &AppSeen| releases[usize::from(seen.app)].0 == *app;
                    self.tallies[site].apps.retain(|seen| !of_app(seen));
                }
                _ => {}
            }
        }
    }

    fn app(&mut self, site: SiteNo, row: &AppRow, now_ms: u64) {
        // Any release of the app stands for the app.
        let Some(app) = self.releases.iter().position(|(app, _)| *app == row.app).map(small) else { return };
        let current = row.current.and_then(|current| self.generations.get(&current)).copied();
        let failed = row.failed.and_then(|failed| self.generations.get(&failed)).copied();
        let tally = &mut self.tallies[site];
        let known = tally.apps.iter().position(|seen| seen.app == app);
        let before = known.map(|at| tally.apps[at]);
        let healthy = current.filter(|_| row.state == AppState::Healthy);
        let seen = AppSeen { app, state: row.state, failed: row.failed, healthy };
        match known {
            Some(at) => tally.apps[at] = seen,
            None => tally.apps.push(seen),
        }
        let is_new_failure = row.failed.is_some() && before.and_then(|before| before.failed) != row.failed;
        let goes_back =
            row.state == AppState::RollingBack && before.is_none_or(|before| before.state != row.state);
        tally.failures += u32::from(is_new_failure);
        tally.rollbacks += u32::from(goes_back);
        let mut reached = 0;
        for goal in tally.goals.iter_mut().filter(|goal| goal.end == GoalEnd::Open) {
            let order = &self.orders[usize::from(goal.order)];
            let is = |release: Option<u16>| {
                release
                    .map(|release| &self.releases[usize::from(release)])
                    .is_some_and(|(app, version)| *app == order.app && *version == order.version)
            };
            if is(healthy) {
                goal.end = GoalEnd::Reached(now_ms - order.at_ms);
                reached += 1;
            } else if is_new_failure && is(failed) {
                goal.end = GoalEnd::Failed;
            }
        }
        let moment = self.moment(now_ms);
        moment.reached += reached;
        moment.failures += u32::from(is_new_failure);
        moment.rollbacks += u32::from(goes_back);
    }

    /// Bytes that came to a site, or went from it to the hub.
    pub(super) fn moved(&mut self, site: SiteNo, by_stick: bool, bytes: u64) {
        let tally = &mut self.tallies[site];
        if by_stick {
            tally.stick_bytes += bytes;
        } else {
            tally.link_bytes += bytes;
        }
    }

    /// Each site's silence, as the hub sees it now.
    fn silences(&mut self, now_ms: u64, silences: impl Iterator<Item = (ContactClass, u64)>) {
        let mut stale = 0;
        for (tally, (contact, silent_ms)) in self.tallies.iter_mut().zip(silences) {
            let allowed_ms = match contact {
                ContactClass::Mqtt => STALE_AFTER_MS,
                ContactClass::Media => CARRIED_STALE_AFTER_MS,
            };
            let is_stale = u32::from(silent_ms > allowed_ms);
            tally.silent_ms_max = tally.silent_ms_max.max(silent_ms);
            tally.stale_looks += is_stale;
            tally.looks += 1;
            stale += is_stale;
        }
        let moment = self.moment(now_ms);
        moment.stale = moment.stale.max(stale);
    }

    /// The measures of a run that ends now, for sites with these names.
    pub(super) fn finish(
        mut self,
        now_ms: u64,
        sites: impl Iterator<Item = (SiteId, ContactClass)>,
    ) -> Measures {
        let seen = usize::try_from(now_ms / self.moment_ms).unwrap_or(usize::MAX).saturating_add(1);
        self.moments.truncate(seen);
        let sites = sites.zip(self.tallies).map(|((site, contact), tally)| SiteMeasures {
            site,
            contact,
            link_bytes: tally.link_bytes,
            stick_bytes: tally.stick_bytes,
            failures: tally.failures,
            rollbacks: tally.rollbacks,
            silent_ms_max: tally.silent_ms_max,
            stale_looks: tally.stale_looks,
            looks: tally.looks,
            goals: tally.goals,
        });
        let (orders, sites) = (self.orders, sites.collect());
        Measures { orders, sites, moment_ms: self.moment_ms, moments: self.moments }
    }
}

impl Tally {
    /// What was open for an app will not be reached any more.
    fn replace(&mut self, orders: &[Order], app: &AppName) {
        for goal in self.goals.iter_mut().filter(|goal| orders[usize::from(goal.order)].app == *app) {
            if goal.end == GoalEnd::Open {
                goal.end = GoalEnd::Replaced;
            }
        }
    }
}

impl World {
    /// An operator's order was taken by the hub.
    pub(super) fn measure_order(&mut self, action: &Action) {
        let (now_ms, sites) = (self.timeline.now_ms(), self.selected(&action.sites));
        match (action.act, &action.app, &action.version) {
            (Act::Assign, Some(app), Some(version)) => self.meter.order(now_ms, app, version, &sites),
            (Act::Retire, Some(app), _) => self.meter.retire(app, &sites),
            _ => {}
        }
    }

    /// How long the hub has not heard of each site.
    pub(super) fn measure_silence(&mut self) {
        let now_ms = self.timeline.now_ms();
        let silence = |site: SiteNo| {
            let heard_ms = self.heard(site).filter(|_| self.hub.up).max(self.ledgers[site].heard_ms);
            (self.sites[site].contact, now_ms - heard_ms.unwrap_or(0))
        };
        let silences: Vec<_> = (0..self.sites.len()).map(silence).collect();
        self.meter.silences(now_ms, silences.into_iter());
    }
}
