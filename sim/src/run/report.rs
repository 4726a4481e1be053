//! `airlift-sim report`: runs as one page of HTML.

use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::stage::{Stage, StageArgs};
use super::{RunError, SeedArgs, tell_notes, write_file};
use crate::cluster::NOT_MODELLED;
use crate::figures::{Collection, Figures};
use crate::report::{Subject, page};
use crate::scenario::Scenario;
use crate::world::World;

/// What `report` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  airlift-sim report bad-release --to bad-release.html
  airlift-sim report chaos --seeds 1..10 --sites 20 --to chaos.html
  airlift site list -o json > fleet.json
  airlift-sim report power-cuts --fleet fleet.json --bundle shop-1.tar --bundle shop-2.tar --root roots/ --to shop.html

The page needs no network and runs no script. Exits with 1 where a run violated something; the page is written anyway.")]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    stage: StageArgs,
    #[command(flatten)]
    seeds: SeedArgs,
    /// The page
    #[arg(long, value_name = "FILE.html")]
    to: PathBuf,
}

/// Runs a scenario and writes the page; `false` where something was violated.
pub(super) fn report(arguments: &ReportArgs) -> Result<bool, RunError> {
    let Stage { scenario, notes } = arguments.stage.read()?;
    tell_notes(&notes);
    let figures = collect(&scenario, arguments.seeds.range())?;
    let subject = Subject {
        name: &scenario.name,
        about: &scenario.about,
        duration_ms: scenario.duration.ms(),
        replay: &arguments.stage.replay(),
        notes: &notes,
        not_modelled: &NOT_MODELLED,
        scenario: &scenario.to_toml(),
    };
    write_file(&arguments.to, page(&figures, &subject).as_bytes())?;
    let verdict = if figures.violations.is_empty() { "held" } else { "BROKEN" };
    let (runs, path) = (figures.seeds.len(), arguments.to.display());
    writeln!(
        io::stdout().lock(),
        "{}: {verdict} in {runs} runs of {} sites; {path}",
        scenario.name,
        figures.sites
    )?;
    Ok(figures.violations.is_empty())
}

/// Runs a scenario with each seed.
pub(super) fn collect(scenario: &Scenario, seeds: RangeInclusive<u64>) -> Result<Figures, RunError> {
    let mut collection = Collection::default();
    for seed in seeds {
        collection.add(seed, World::new(scenario.clone(), seed)?.run());
    }
    Ok(collection.finish())
}
