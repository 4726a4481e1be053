//! Makes a run that violates an invariant small: the fewest sites, then the fewest parts of the story, then the
//! shortest time, that still show a violation of the same invariant.
//!
//! Whatever is taken away changes what the seed draws afterwards, so a smaller story is asked of a few seeds. What an
//! expectation demands depends on what people do: where one is violated, what was done for its app stays.

mod parts;

use std::fmt;

use crate::invariants::{Invariant, Violation};
use crate::scenario::Scenario;
use crate::world::{World, WorldError};
use parts::Part;

/// Times are not halved below this.
const SPAN_MS_MIN: u64 = 60_000;

/// A scenario with the seed that shows its violation.
#[derive(Debug, Clone, PartialEq)]
pub struct Failing {
    /// The scenario.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// What it shows.
    pub violation: Violation,
}

/// How large a story is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Sites.
    pub sites: u64,
    /// Faults, carriers, actions and expectations.
    pub parts: usize,
    /// Its length.
    pub duration_ms: u64,
}

impl Failing {
    /// How large it is.
    #[must_use]
    pub fn size(&self) -> Size {
        let scenario = &self.scenario;
        let parts =
            scenario.fault.len() + scenario.carrier.len() + scenario.action.len() + scenario.expect.len();
        Size { sites: scenario.sites(), parts, duration_ms: scenario.duration.ms() }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.duration_ms.div_ceil(60_000);
        let sites = if self.sites == 1 { "site" } else { "sites" };
        write!(f, "{} {sites}, {} parts, {} h {:02} min", self.sites, self.parts, minutes / 60, minutes % 60)
    }
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The run as it was asked for violates nothing.
    Holds,
    /// Time was over before the first run was.
    NoTime,
    /// The smallest that was found.
    Smallest {
        /// As it was asked for.
        first: Size,
        /// The smallest.
        failing: Box<Failing>,
        /// Runs that it took.
        runs: u64,
        /// Whether everything was tried before time was over.
        finished: bool,
    },
}

/// A search for a smaller story.
pub struct Search<'s> {
    /// Seeds that each smaller story is asked of, beside the one that failed last.
    pub tries: u64,
    /// Whether there is time left.
    pub goes_on: &'s mut dyn FnMut() -> bool,
    /// Hears of each smaller story.
    pub tell: &'s mut dyn FnMut(&Failing, u64),
    runs: u64,
    stopped: bool,
}

impl<'s> Search<'s> {
    /// A search.
    pub fn new(
        tries: u64,
        goes_on: &'s mut dyn FnMut() -> bool,
        tell: &'s mut dyn FnMut(&Failing, u64),
    ) -> Self {
        Self { tries, goes_on, tell, runs: 0, stopped: false }
    }

    /// Makes a run that violates small.
    ///
    /// # Errors
    /// [`WorldError`] where the world of the scenario cannot be made.
    pub fn shrink(mut self, scenario: &Scenario, seed: u64) -> Result<Found, WorldError> {
        self.runs += 1;
        let Some(outcome) = World::new(scenario.clone(), seed)?.run_while(&mut self.goes_on) else {
            return Ok(Found::NoTime);
        };
        let Some(violation) = outcome.violations.into_iter().next() else { return Ok(Found::Holds) };
        let mut failing = Failing { scenario: scenario.clone(), seed, violation };
        let first = failing.size();
        self.cut(&mut failing)?;
        self.drop_sites(&mut failing)?;
        self.drop_parts(&mut failing)?;
        self.shorten(&mut failing)?;
        // What hid behind a part that is gone may be smaller now.
        self.drop_sites(&mut failing)?;
        parts::drop_unused_releases(&mut failing.scenario);
        let (runs, finished) = (self.runs, !self.stopped);
        Ok(Found::Smallest { first, failing: Box::new(failing), runs, finished })
    }

    /// Runs a story with one seed; the violation, if it is the one that is looked for.
    fn fails(
        &mut self,
        scenario: &Scenario,
        seed: u64,
        as_in: Invariant,
    ) -> Result<Option<Violation>, WorldError> {
        if self.stopped {
            return Ok(None);
        }
        self.runs += 1;
        let Some(outcome) = World::new(scenario.clone(), seed)?.run_while(&mut self.goes_on) else {
            self.stopped = true;
            return Ok(None);
        };
        Ok(outcome.violations.into_iter().next().filter(|violation| violation.invariant == as_in))
    }

    /// Takes a smaller story in the place of `failing`, if some seed shows the same violation in it.
    fn take(&mut self, failing: &mut Failing, smaller: Scenario) -> Result<bool, WorldError> {
        if smaller.sites() == 0 || smaller == failing.scenario {
            return Ok(false);
        }
        let seeds =
            std::iter::once(failing.seed).chain((1..=self.tries).filter(|seed| *seed != failing.seed));
        for seed in seeds {
            if let Some(violation) = self.fails(&smaller, seed, failing.violation.invariant)? {
                *failing = Failing { scenario: smaller, seed, violation };
                self.cut(failing)?;
                (self.tell)(failing, self.runs);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends the story with its violation: the same story up to there.
    fn cut(&mut self, failing: &mut Failing) -> Result<(), WorldError> {
        let prefix = parts::prefix(&failing.scenario, &failing.violation);
        if prefix == failing.scenario {
            return Ok(());
        }
        if let Some(violation) = self.fails(&prefix, failing.seed, failing.violation.invariant)? {
            *failing = Failing { scenario: prefix, seed: failing.seed, violation };
        }
        Ok(())
    }

    /// First the one site where it was seen, then one site of each group, then halves.
    fn drop_sites(&mut self, failing: &mut Failing) -> Result<(), WorldError> {
        let counts: Vec<u64> = failing.scenario.group.iter().map(|group| group.count).collect();
        let seen = parts::group_of(&failing.scenario, &failing.violation);
        let places = seen.into_iter().chain((0..counts.len()).filter(|place| Some(*place) != seen));
        for place in places.filter(|place| counts[*place] > 0) {
            let mut alone = vec![0; counts.len()];
            alone[place] = 1;
            let smaller = parts::with_counts(&failing.scenario, &alone, &failing.violation);
            if self.take(failing, smaller)? {
                return Ok(());
            }
        }
        for place in 0..counts.len() {
            for part in [0, 1, 2, 4, 8] {
                let mut fewer: Vec<u64> = failing.scenario.group.iter().map(|group| group.count).collect();
                let wanted = if part == 0 { 0 } else { counts[place] * part / 10 };
                if wanted >= fewer[place] {
                    break;
                }
                fewer[place] = wanted;
                let smaller = parts::with_counts(&failing.scenario, &fewer, &failing.violation);
                if self.take(failing, smaller)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Leaves out halves, quarters and then single parts, until nothing more can go.
    fn drop_parts(&mut self, failing: &mut Failing) -> Result<(), WorldError> {
        let mut size = parts::droppable(failing).len();
        while size > 0 {
            let mut from = 0;
            let mut dropped = false;
            loop {
                let all: Vec<Part> = parts::droppable(failing);
                if from >= all.len() {
                    break;
                }
                let chunk = &all[from..(from + size).min(all.len())];
                if self.take(failing, parts::without(&failing.scenario, chunk))? {
                    dropped = true;
                } else {
                    from += size;
                }
            }
            if size > 1 {
                size /= 2;
            } else if !dropped {
                break;
            }
        }
        Ok(())
    }

    /// Lets everything come sooner, for as long as that still shows it, and takes the seed that shows it first.
    fn shorten(&mut self, failing: &mut Failing) -> Result<(), WorldError> {
        if failing.violation.invariant == Invariant::Expectation {
            return Ok(());
        }
        while failing.scenario.duration.ms() > SPAN_MS_MIN {
            let before_ms = failing.violation.at_ms;
            let sooner = parts::sooner(&failing.scenario);
            let mut shorter = failing.clone();
            if !self.take(&mut shorter, sooner)? || shorter.violation.at_ms >= before_ms {
                break;
            }
            *failing = shorter;
        }
        for seed in 1..=self.tries {
            let found = self.fails(&failing.scenario, seed, failing.violation.invariant)?;
            if let Some(violation) = found.filter(|found| found.at_ms < failing.violation.at_ms) {
                failing.seed = seed;
                failing.violation = violation;
                self.cut(failing)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
