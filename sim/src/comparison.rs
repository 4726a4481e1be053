//! Two sets of runs side by side, row by row: is the second one worse?
//!
//! The seeds are the same, yet every difference makes the rest of a story another one. So times, bytes and silence
//! count as worse only from a tenth on; what is broken, missing or failed counts from the first.

use crate::figures::{Figures, bytes, duration};

/// Times below this are not told apart, in milliseconds: agents poll, soak and wait in steps of that order.
const TIME_MS_MIN: u64 = 15_000;
/// Bytes below this are not told apart.
const BYTES_MIN: u64 = 4 << 10;

/// How the second compares with the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Less of what is bad.
    Better,
    /// No difference that counts.
    Same,
    /// More of what is bad.
    Worse,
}

impl Verdict {
    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Same => "same",
            Self::Worse => "worse",
        }
    }
}

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Time,
    Bytes,
    PerMille,
}

/// One thing that is compared; less of it is better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name for people.
    pub name: &'static str,
    /// Its name in JSON, with the unit.
    pub key: &'static str,
    /// The first's; nothing where nobody came that far.
    pub first: Option<u64>,
    /// The second's.
    pub second: Option<u64>,
    /// How they compare.
    pub verdict: Verdict,
    unit: Unit,
}

impl Row {
    fn new(
        name: &'static str,
        key: &'static str,
        unit: Unit,
        first: Option<u64>,
        second: Option<u64>,
    ) -> Self {
        let least = match unit {
            Unit::Count => 0,
            Unit::Time => TIME_MS_MIN,
            Unit::Bytes => BYTES_MIN,
            Unit::PerMille => 5,
        };
        let tenth = |number: u64| if unit == Unit::Count { 0 } else { (number / 10).max(least) };
        let verdict = match (first, second) {
            (Some(first), Some(second)) if second > first + tenth(first) => Verdict::Worse,
            (Some(first), Some(second)) if first > second + tenth(second) => Verdict::Better,
            // Who reached nothing has no time; that it reached nothing is said by another row.
            _ => Verdict::Same,
        };
        Self { name, key, first, second, verdict, unit }
    }

    /// One of its numbers for people.
    #[must_use]
    pub fn words(&self, number: Option<u64>) -> String {
        let Some(number) = number else { return "–".into() };
        match self.unit {
            Unit::Count => number.to_string(),
            Unit::Time => duration(number),
            Unit::Bytes => bytes(number),
            Unit::PerMille => format!("{}.{} %", number / 10, number % 10),
        }
    }

    /// What is remarkable of it.
    #[must_use]
    pub fn remark(&self) -> &'static str {
        match self.verdict {
            Verdict::Better => "better",
            Verdict::Same => "",
            Verdict::Worse => "WORSE",
        }
    }
}

/// Two sets of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Row by row, what matters most first.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// Compares.
    #[must_use]
    pub fn of(first: &Figures, second: &Figures) -> Self {
        let row = |name, key, unit, of: &dyn Fn(&Figures) -> Option<u64>| {
            Row::new(name, key, unit, of(first), of(second))
        };
        let missing = |figures: &Figures| figures.sites * figures.seeds.len() as u64 - figures.settled;
        // Only the last order differs; what came before is the same story.
        let last = |figures: &Figures, pick: fn(&crate::figures::Spread) -> Option<u64>| {
            figures.orders.last().and_then(|order| pick(&order.reached))
        };
        let rows = vec![
            row("broken runs", "broken_runs", Unit::Count, &|figures| Some(figures.broken())),
            row("sites not as assigned", "sites_not_as_assigned", Unit::Count, &|figures| {
                Some(missing(figures))
            }),
            row("failures", "failures", Unit::Count, &|figures| Some(figures.failures)),
            row("rollbacks", "rollbacks", Unit::Count, &|figures| Some(figures.rollbacks)),
            row("time to converge, median", "converge_median_ms", Unit::Time, &|figures| {
                last(figures, crate::figures::Spread::median)
            }),
            row("time to converge, worst", "converge_worst_ms", Unit::Time, &|figures| {
                last(figures, crate::figures::Spread::worst)
            }),
            row("bytes per site, median", "bytes_median", Unit::Bytes, &|figures| figures.bytes.median()),
            row("bytes per site, worst", "bytes_worst", Unit::Bytes, &|figures| figures.bytes.worst()),
            row("stale, of site time", "stale_per_mille", Unit::PerMille, &|figures| {
                Some(figures.stale.0 * 1000 / figures.stale.1.max(1))
            }),
            row("longest silence, median", "silence_median_ms", Unit::Time, &|figures| {
                figures.silence.median()
            }),
            row("longest silence, worst", "silence_worst_ms", Unit::Time, &|figures| figures.silence.worst()),
        ];
        Self { rows }
    }

    /// Whether anything is worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Verdict::Worse)
    }

    /// In a sentence.
    #[must_use]
    pub fn verdict(&self) -> String {
        let named = |wanted: Verdict| -> Vec<&str> {
            self.rows.iter().filter(|row| row.verdict == wanted).map(|row| row.name).collect()
        };
        match (named(Verdict::Worse).as_slice(), named(Verdict::Better).as_slice()) {
            ([], []) => "The second is no worse, and no better.".into(),
            ([], better) => format!("The second is no worse; better: {}.", better.join("; ")),
            (worse, []) => format!("The second is WORSE: {}.", worse.join("; ")),
            (worse, better) => {
                format!("The second is WORSE: {}. Better: {}.", worse.join("; "), better.join("; "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Collection;
    use crate::scenario::Scenario;
    use crate::world::World;

    fn figures(version: &str, other: &str) -> Figures {
        let (app, version, other) =
            ("till".parse().unwrap(), version.parse().unwrap(), other.parse().unwrap());
        let scenario = Scenario::find("bad-release").unwrap().with_sites(3).with_last(&app, &version, &other);
        let mut collection = Collection::default();
        collection.add(1, World::new(scenario.unwrap(), 1).unwrap().run());
        collection.finish()
    }

    #[test]
    fn a_release_that_crashes_is_worse_and_the_other_way_round_it_is_better() {
        let (good, bad) = (figures("2.0.1", "2.0.0"), figures("2.0.0", "2.0.1"));
        let worse = Comparison::of(&good, &bad);
        let of = |comparison: &Comparison, key: &str| {
            comparison.rows.iter().find(|row| row.key == key).map(|row| row.verdict).unwrap()
        };
        assert!(worse.is_worse(), "{worse:?}");
        for key in ["broken_runs", "sites_not_as_assigned", "failures", "rollbacks"] {
            assert_eq!(of(&worse, key), Verdict::Worse, "{key}");
        }
        assert!(worse.verdict().starts_with("The second is WORSE: broken runs"), "{}", worse.verdict());
        let better = Comparison::of(&bad, &good);
        assert_eq!(of(&better, "failures"), Verdict::Better);
        assert!(Comparison::of(&good, &good).verdict().contains("no worse, and no better"));
    }

    #[test]
    fn small_differences_of_times_and_bytes_are_none() {
        let verdict = |unit, first, second| Row::new("x", "x", unit, Some(first), Some(second)).verdict;
        assert_eq!(verdict(Unit::Time, 120_000, 131_000), Verdict::Same);
        assert_eq!(verdict(Unit::Time, 120_000, 140_000), Verdict::Worse);
        assert_eq!(verdict(Unit::Bytes, 1 << 20, (1 << 20) + 2000), Verdict::Same);
        assert_eq!(verdict(Unit::Bytes, 2 << 20, 1 << 20), Verdict::Better);
        assert_eq!(verdict(Unit::Count, 0, 1), Verdict::Worse);
        assert_eq!(Row::new("x", "x", Unit::Time, Some(5), None).words(None), "–");
    }
}
