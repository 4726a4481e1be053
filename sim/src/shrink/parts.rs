//! The parts of a story, and stories with fewer of them.

use std::collections::BTreeSet;

use airlift_bundles::document::enrolment::ContactClass;

use super::Failing;
use crate::invariants::{Invariant, Violation};
use crate::scenario::{Act, Scenario, Span};

/// One thing that a story may do without, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Fault(usize),
    Carrier(usize),
    Action(usize),
    Expectation(usize),
}

/// What may be left out without making the violation a matter of course.
pub(super) fn droppable(failing: &Failing) -> Vec<Part> {
    let (scenario, expected) = (&failing.scenario, failing.violation.invariant == Invariant::Expectation);
    let apps: BTreeSet<_> = scenario.expect.iter().map(|expectation| &expectation.app).collect();
    let mut parts: Vec<Part> = (0..scenario.fault.len()).map(Part::Fault).collect();
    // Without its stick an island has nothing, which is no wonder.
    let islands = scenario.group.iter().any(|group| group.contact == ContactClass::Media);
    if !(expected && islands) {
        parts.extend((0..scenario.carrier.len()).map(Part::Carrier));
    }
    for (place, action) in scenario.action.iter().enumerate() {
        let matters = action.app.as_ref().is_none_or(|app| apps.contains(app));
        if !(expected && matters) {
            parts.push(Part::Action(place));
        }
    }
    parts.extend((0..scenario.expect.len()).map(Part::Expectation));
    parts
}

/// The story without some parts.
pub(super) fn without(scenario: &Scenario, parts: &[Part]) -> Scenario {
    let mut left = scenario.clone();
    left.fault = others(&scenario.fault, |place| parts.contains(&Part::Fault(place)));
    left.carrier = others(&scenario.carrier, |place| parts.contains(&Part::Carrier(place)));
    left.action = others(&scenario.action, |place| parts.contains(&Part::Action(place)));
    left.expect = others(&scenario.expect, |place| parts.contains(&Part::Expectation(place)));
    left
}

fn others<T: Clone>(all: &[T], is_dropped: impl Fn(usize) -> bool) -> Vec<T> {
    let kept = all.iter().enumerate().filter(|(place, _)| !is_dropped(*place));
    kept.map(|(_, item)| item.clone()).collect()
}

/// The same story, ended right after its violation: nothing that happens before is another.
pub(super) fn prefix(scenario: &Scenario, violation: &Violation) -> Scenario {
    let drawn_until_ms = scenario.duration.ms() - scenario.quiet.ms();
    let end_ms = violation.at_ms + 1;
    let mut prefix = scenario.clone();
    for expectation in &mut prefix.expect {
        expectation.at.get_or_insert(scenario.duration);
    }
    let expected = violation.invariant == Invariant::Expectation;
    prefix.expect.retain(|expectation| expected && expectation.at.is_some_and(|at| at.ms() < end_ms));
    if expected {
        // An expectation of the end is one of that moment now.
        prefix.expect.retain(|expectation| expectation.at.is_some_and(|at| at.ms() == violation.at_ms));
    }
    prefix.action.retain(|action| action.at.ms() < end_ms);
    prefix.carrier.retain(|carrier| carrier.first.ms() < end_ms);
    prefix.fault.retain(|fault| fault.from.ms() < end_ms);
    prefix.duration = Span::from_ms(end_ms);
    prefix.quiet = Span::from_ms(end_ms.saturating_sub(drawn_until_ms).min(end_ms.saturating_sub(1)));
    prefix
}

/// The place of the group whose site shows it.
pub(super) fn group_of(scenario: &Scenario, violation: &Violation) -> Option<usize> {
    let site = violation.site.as_ref()?;
    let holds = |group: &crate::scenario::Group| {
        (1..=group.count).any(|number| group.site(number).is_ok_and(|name| name == *site))
    };
    scenario.group.iter().position(holds)
}

/// The story with so many sites of each group; of sites with names of their own, those where it was seen stay first.
pub(super) fn with_counts(scenario: &Scenario, counts: &[u64], violation: &Violation) -> Scenario {
    let mut fewer = scenario.clone();
    for (group, count) in fewer.group.iter_mut().zip(counts) {
        group.count = *count;
        if !group.names.is_empty() {
            group.names.sort_by_key(|name| Some(name) != violation.site.as_ref());
            group.names.truncate(usize::try_from(*count).unwrap_or(usize::MAX));
        }
    }
    // A group of nobody says nothing, unless it is the only one.
    if fewer.sites() > 0 {
        fewer.group.retain(|group| group.count > 0);
    }
    fewer
}

/// Releases that nobody assigns or expects go; building them takes time and nothing is drawn for them.
pub(super) fn drop_unused_releases(scenario: &mut Scenario) {
    let assigned =
        scenario.action.iter().filter_map(|action| Some((action.app.clone()?, action.version.clone()?)));
    let mut used: BTreeSet<_> = assigned.collect();
    for expectation in &scenario.expect {
        let versions = expectation.running.iter().chain(&expectation.failed);
        used.extend(versions.map(|version| (expectation.app.clone(), version.clone())));
    }
    scenario.release.retain(|release| used.contains(&(release.app.clone(), release.version.clone())));
}

/// The same story in half the time: what people do, and when faults and carriers begin.
pub(super) fn sooner(scenario: &Scenario) -> Scenario {
    let half = |span: Span| Span::from_ms(span.ms() / 2);
    let mut sooner = scenario.clone();
    for action in &mut sooner.action {
        // A hub that is down for a while stays down for that while.
        if matches!(action.act, Act::Assign | Act::Retire) {
            action.at = half(action.at);
        }
    }
    sooner.fault.iter_mut().for_each(|fault| fault.from = half(fault.from));
    for carrier in &mut sooner.carrier {
        (carrier.first, carrier.every) = (half(carrier.first), half(carrier.every));
    }
    sooner
}
