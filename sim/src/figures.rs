//! What runs of one story came to, as figures for people: spreads over sites, counts over time, the worst sites.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::ids::{AppName, SiteId, Version};

use crate::invariants::Violation;
use crate::world::{FleetMoment, GoalEnd, Measures, Order, Outcome, SiteMeasures};

pub use words::{bytes, duration, per_cent};

/// Sites that are listed as the worst.
const WORST: usize = 10;

/// What runs of one story came to.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Their seeds.
    pub seeds: Vec<u64>,
    /// Sites of each.
    pub sites: u64,
    /// Sites that have, of each app, what was last assigned, in all runs.
    pub settled: u64,
    /// What must not be, with the seed that shows it.
    pub violations: Vec<(u64, Violation)>,
    /// What was assigned.
    pub orders: Vec<OrderFigures>,
    /// How long orders took that were reached, in milliseconds.
    pub reached: Spread,
    /// Bytes over the link, per site.
    pub link: Spread,
    /// Bytes from sticks, per site.
    pub stick: Spread,
    /// Both, per site.
    pub bytes: Spread,
    /// The same, of sites that got most of it over the link.
    pub link_sites: Spread,
    /// And of those that got most of it from sticks.
    pub stick_sites: Spread,
    /// Versions that failed at a site.
    pub failures: u64,
    /// Times that a site went back.
    pub rollbacks: u64,
    /// Receipts that sites made.
    pub receipts: u64,
    /// The longest silence, per site, in milliseconds.
    pub silence: Spread,
    /// Looks at which a site was stale, and all.
    pub stale: (u64, u64),
    /// How long each moment is.
    pub moment_ms: u64,
    /// Over time, of all runs together; of stale sites the most in any run.
    pub moments: Vec<FleetMoment>,
    /// The worst first.
    pub worst: Vec<WorstSite>,
}

impl Figures {
    /// Runs in which something was violated.
    #[must_use]
    pub fn broken(&self) -> u64 {
        let seeds: BTreeSet<u64> = self.violations.iter().map(|(seed, _)| *seed).collect();
        seeds.len() as u64
    }
}

/// What one order came to.
#[derive(Debug, Clone)]
pub struct OrderFigures {
    /// When it was given.
    pub at_ms: u64,
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: Version,
    /// Sites that it was given for, in all runs.
    pub sites: u64,
    /// How long it took at those that reached it.
    pub reached: Spread,
    /// Where it failed.
    pub failed: u64,
    /// Where another order came first.
    pub replaced: u64,
}

impl OrderFigures {
    /// Sites that had not reached it when the run ended.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.sites - self.reached.count() - self.failed - self.replaced
    }
}

/// A site that did badly, and why it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorstSite {
    /// The seed of its run.
    pub seed: u64,
    /// The site.
    pub site: SiteId,
    /// What is worst about it.
    pub why: String,
    /// What it came to.
    pub measures: SiteMeasures,
    rank: (bool, bool, u64, u32, u64),
}

/// Numbers, one a site, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread(Vec<u64>);

impl Spread {
    /// A spread of these.
    #[must_use]
    pub fn new(mut numbers: Vec<u64>) -> Self {
        numbers.sort_unstable();
        Self(numbers)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// All, the smallest first.
    #[must_use]
    pub fn numbers(&self) -> &[u64] {
        &self.0
    }

    /// The one that so many per cent of them do not exceed.
    #[must_use]
    pub fn percentile(&self, per_cent: usize) -> Option<u64> {
        let rank = (self.0.len() * per_cent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }

    /// The middle one.
    #[must_use]
    pub fn median(&self) -> Option<u64> {
        self.percentile(50)
    }

    /// The greatest.
    #[must_use]
    pub fn worst(&self) -> Option<u64> {
        self.0.last().copied()
    }

    /// All together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Takes runs in, one after the other.
#[derive(Debug, Default)]
pub struct Collection {
    figures: Figures,
    reached: BTreeMap<usize, Vec<u64>>,
    per_site: [Vec<u64>; 4],
    by_link: Vec<u64>,
    by_stick: Vec<u64>,
}

impl Collection {
    /// Takes a run in.
    pub fn add(&mut self, seed: u64, outcome: Outcome) {
        let measures = outcome.measures;
        let figures = &mut self.figures;
        figures.seeds.push(seed);
        figures.sites = outcome.sites;
        figures.receipts += outcome.receipts;
        figures.moment_ms = measures.moment_ms;
        add_moments(&mut figures.moments, &measures.moments);
        let places: Vec<usize> =
            measures.orders.iter().map(|order| place_of(&mut figures.orders, order)).collect();
        let broken = outcome.violations.first().and_then(|violation| violation.site.clone());
        for site in &measures.sites {
            figures.failures += u64::from(site.failures);
            figures.rollbacks += u64::from(site.rollbacks);
            figures.stale.0 += u64::from(site.stale_looks);
            figures.stale.1 += u64::from(site.looks);
            figures.settled += u64::from(unsettled(site, &measures).is_none());
            let bytes = site.link_bytes + site.stick_bytes;
            let numbers = [site.link_bytes, site.stick_bytes, bytes, site.silent_ms_max];
            if site.stick_bytes > site.link_bytes { &mut self.by_stick } else { &mut self.by_link }
                .push(bytes);
            self.per_site.iter_mut().zip(numbers).for_each(|(all, number)| all.push(number));
            for goal in &site.goals {
                let place = places[usize::from(goal.order)];
                let order = &mut figures.orders[place];
                order.sites += 1;
                match goal.end {
                    GoalEnd::Reached(ms) => self.reached.entry(place).or_default().push(ms),
                    GoalEnd::Failed => order.failed += 1,
                    GoalEnd::Replaced => order.replaced += 1,
                    GoalEnd::Open => {}
                }
            }
        }
        let violation = outcome.violations.first();
        let ranked = measures.sites.iter().map(|site| {
            let is_broken = broken.as_ref() == Some(&site.site);
            rank(seed, site, &measures, violation.filter(|_| is_broken))
        });
        figures.worst.extend(ranked);
        figures.worst.sort_by(|one, other| other.rank.cmp(&one.rank).then_with(|| one.site.cmp(&other.site)));
        figures.worst.truncate(WORST);
        figures.violations.extend(outcome.violations.into_iter().map(|violation| (seed, violation)));
    }

    /// The figures.
    #[must_use]
    pub fn finish(self) -> Figures {
        let mut figures = self.figures;
        figures.reached = Spread::new(self.reached.values().flatten().copied().collect());
        for (place, times) in self.reached {
            figures.orders[place].reached = Spread::new(times);
        }
        let [link, stick, bytes, silence] = self.per_site.map(Spread::new);
        (figures.link_sites, figures.stick_sites) = (Spread::new(self.by_link), Spread::new(self.by_stick));
        (figures.link, figures.stick, figures.bytes, figures.silence) = (link, stick, bytes, silence);
        figures
    }
}

/// The word for how a site is reached.
#[must_use]
pub fn contact(contact: ContactClass) -> &'static str {
    match contact {
        ContactClass::Mqtt => "MQTT",
        ContactClass::Media => "stick",
    }
}

/// The place of an order that several runs have.
fn place_of(orders: &mut Vec<OrderFigures>, order: &Order) -> usize {
    let is = |known: &OrderFigures| known.app == order.app && known.version == order.version;
    // A hub that does not answer makes people try again: the same order comes later in some runs.
    if let Some(place) = orders.iter().position(is) {
        return place;
    }
    let Order { at_ms, app, version } = order.clone();
    orders.push(OrderFigures {
        at_ms,
        app,
        version,
        sites: 0,
        reached: Spread::default(),
        failed: 0,
        replaced: 0,
    });
    orders.len() - 1
}

fn add_moments(sums: &mut Vec<FleetMoment>, moments: &[FleetMoment]) {
    sums.resize(sums.len().max(moments.len()), FleetMoment::default());
    for (sum, moment) in sums.iter_mut().zip(moments) {
        sum.reached += moment.reached;
        sum.failures += moment.failures;
        sum.rollbacks += moment.rollbacks;
        sum.stale = sum.stale.max(moment.stale);
    }
}

/// The first app of which a site does not have what was last assigned.
fn unsettled<'m>(site: &SiteMeasures, measures: &'m Measures) -> Option<&'m Order> {
    let mut last: BTreeMap<&AppName, (&Order, GoalEnd)> = BTreeMap::new();
    for goal in &site.goals {
        let order = &measures.orders[usize::from(goal.order)];
        last.insert(&order.app, (order, goal.end));
    }
    let mut open = last.into_values().filter(|(_, end)| matches!(end, GoalEnd::Open | GoalEnd::Failed));
    open.next().map(|(order, _)| order)
}

fn rank(seed: u64, site: &SiteMeasures, measures: &Measures, violation: Option<&Violation>) -> WorstSite {
    let mut slowest = None;
    for goal in &site.goals {
        if let GoalEnd::Reached(ms) = goal.end
            && slowest.is_none_or(|(slowest_ms, _)| ms > slowest_ms)
        {
            slowest = Some((ms, &measures.orders[usize::from(goal.order)]));
        }
    }
    let slowest_ms = slowest.map_or(0, |(ms, _)| ms);
    let missing = unsettled(site, measures);
    let rank = (violation.is_some(), missing.is_some(), slowest_ms, site.failures, site.silent_ms_max);
    let why = match (violation, missing, slowest) {
        (Some(violation), ..) => format!("{}: {}", violation.invariant, violation.text),
        (None, Some(order), _) => format!("never reached {} {}", order.app, order.version),
        (None, None, Some((ms, order))) => {
            format!("slowest: {} {} took {}", order.app, order.version, duration(ms))
        }
        (None, None, None) => format!("silent for {}", duration(site.silent_ms_max)),
    };
    WorstSite { seed, site: site.site.clone(), why, measures: site.clone(), rank }
}

#[cfg(test)]
mod tests;
