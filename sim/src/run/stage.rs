//! What is run: a scenario, and an operator's own fleet and bundles in it.

use crate::scenario::{Scenario, ScenarioError};

/// The scenario, and what takes the place of its own fleet.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StageArgs {
    /// A built-in scenario (`airlift-sim list`), or a file
    pub(crate) scenario: String,
    /// About so many sites instead of the scenario's own count; groups keep their shares
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) sites: Option<u64>,
}

impl StageArgs {
    /// Reads it.
    pub(crate) fn read(&self) -> Result<Scenario, ScenarioError> {
        let scenario = Scenario::find(&self.scenario)?;
        Ok(match self.sites {
            Some(sites) => scenario.with_sites(sites),
            None => scenario,
        })
    }

    /// The command that shows a run of it again, without the seed.
    pub(crate) fn replay(&self) -> String {
        let sites = self.sites.map(|sites| format!(" --sites {sites}")).unwrap_or_default();
        format!("airlift-sim replay {}{sites}", self.scenario)
    }
}
