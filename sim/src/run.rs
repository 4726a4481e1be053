//! `airlift-sim run`, `replay`, `shrink`, `compare`, `report`, `list` and `schema`: scenarios as people and scripts run
//! them.

mod compare;
mod list;
mod report;
mod shrink;
mod stage;

use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use airlift_bundles::causes::in_one_line;
use clap::ValueEnum;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::bundle::OwnBundleError;
use crate::progress::{Progress, memory_bytes_peak, uptime_ms};
use crate::scenario::{ScenarioError, Span};
use crate::world::{Outcome, World, WorldError, run_twice};
pub(crate) use compare::CompareArgs;
pub(crate) use list::{CompletionArgs, ListArgs};
pub(crate) use report::ReportArgs;
pub(crate) use shrink::ShrinkArgs;
use stage::{Stage, StageArgs};

/// Which stories are run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SeedArgs {
    /// The seed of a single run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs one after the other, from and to: 1..20
    #[arg(long, value_name = "A..B", conflicts_with = "seed", value_parser = parse_seeds)]
    seeds: Option<RangeInclusive<u64>>,
}

impl SeedArgs {
    fn range(&self) -> RangeInclusive<u64> {
        self.seeds.clone().unwrap_or(self.seed..=self.seed)
    }
}

/// What `run` is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    stage: StageArgs,
    #[command(flatten)]
    seeds: SeedArgs,
    /// Goes on with the seeds that follow until so much processor time is spent: 4m, 2h
    #[arg(long = "for", value_name = "TIME", conflicts_with = "seeds")]
    lasts: Option<Span>,
    /// Run every seed twice, and see that both runs tell one story
    #[arg(long)]
    twice: bool,
    /// How results are printed; json ends with one object
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What `replay` is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    stage: StageArgs,
    /// The seed
    #[arg(long)]
    seed: u64,
    /// Lines to show of the story of the site where it went wrong
    #[arg(long, default_value_t = 40)]
    lines: usize,
}

/// How a command's result is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Text,
    Json,
}

/// A run that could not be made.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    World(#[from] WorldError),
    #[error("a bundle cannot be taken into the scenario")]
    OwnBundle(#[from] OwnBundleError),
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    Usage(String),
    #[error("cannot print")]
    Print(#[from] io::Error),
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the first run alone takes longer than {0}; nothing was written; give it more time with --within"
    )]
    NoTime(Span),
}

fn parse_seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let refuse = || format!("{text:?} is not two numbers such as 1..20");
    let (first, last) = text.split_once("..").ok_or_else(refuse)?;
    let first: u64 = first.parse().map_err(|_| refuse())?;
    let last: u64 = last.parse().map_err(|_| refuse())?;
    if first <= last { Ok(first..=last) } else { Err(refuse()) }
}

/// Runs a scenario once, or with each of several seeds.
pub(crate) fn run(arguments: &RunArgs) -> ExitCode {
    finish(run_all(arguments))
}

/// Runs one seed again and shows its end.
pub(crate) fn replay(arguments: &ReplayArgs) -> ExitCode {
    finish(replay_one(arguments))
}

/// Makes a run that violates something small.
pub(crate) fn shrink(arguments: &ShrinkArgs) -> ExitCode {
    finish(shrink::shrink(arguments))
}

/// Compares two releases, or two scenarios.
pub(crate) fn compare(arguments: &CompareArgs) -> ExitCode {
    finish(compare::compare(arguments))
}

/// Writes runs as a page.
pub(crate) fn report(arguments: &ReportArgs) -> ExitCode {
    finish(report::report(arguments))
}

/// Lists the built-in scenarios.
pub(crate) fn list(arguments: &ListArgs) -> ExitCode {
    finish(list::list(arguments))
}

/// Prints a completion script.
pub(crate) fn complete(arguments: &CompletionArgs, command: clap::Command) -> ExitCode {
    finish(list::complete(arguments, command))
}

/// Prints the schema.
pub(crate) fn schema() -> ExitCode {
    finish(list::schema())
}

/// 0 where all is well, 1 where something was found, 2 where it could not be run.
fn finish(outcome: Result<bool, RunError>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // A pipe that was closed has nobody who would read more.
        Err(RunError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Without a standard error there is nobody left to tell.
            let _ = writeln!(io::stderr(), "{}", in_one_line(&error));
            ExitCode::from(2)
        }
    }
}

fn cpu_ms() -> u64 {
    clock_ms(ClockId::ProcessCPUTime)
}

fn monotonic_ms() -> u64 {
    clock_ms(ClockId::Monotonic)
}

fn clock_ms(clock: ClockId) -> u64 {
    let read = clock_gettime(clock);
    u64::try_from(read.tv_sec).unwrap_or(0) * 1000 + u64::try_from(read.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Tells beside the answer what a reader of it has to know.
fn tell_notes(notes: &[String]) {
    for note in notes {
        // Without a standard error there is nobody left to tell.
        let _ = writeln!(io::stderr(), "note: {note}");
    }
}

/// Writes a file that a person asked for.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    std::fs::write(path, bytes).map_err(|source| RunError::Write { path: path.to_owned(), source })
}

fn run_all(arguments: &RunArgs) -> Result<bool, RunError> {
    let mut seeds = arguments.seeds.range();
    if arguments.lasts.is_some() {
        seeds = *seeds.start()..=u64::MAX;
    }
    let stage = arguments.stage.read()?;
    tell_notes(&stage.notes);
    let mut out = io::stdout().lock();
    let (mut totals, mut progress) = (Totals::default(), Progress::new());
    let name = arguments.stage.scenario.as_str();
    for seed in seeds.clone() {
        totals.last_seed = seed;
        let (began_ms, wall_began_ms) = (cpu_ms(), uptime_ms());
        let outcome = match arguments.twice {
            true => run_twice(&stage.scenario, seed)?,
            false => World::new(stage.scenario.clone(), seed)?
                .run_watched(|world| progress.look(name, seed, world)),
        };
        let spent_ms = cpu_ms() - began_ms;
        totals.wall_ms += uptime_ms() - wall_began_ms;
        progress.clear();
        let command = format!("{} --seed {seed}", arguments.stage.replay());
        if arguments.output == Output::Text {
            print_run(&mut out, &arguments.stage.scenario, seed, &outcome, spent_ms)?;
            if !outcome.violations.is_empty() {
                writeln!(out, "  again: {command}")?;
            }
        }
        totals.add(seed, &outcome, spent_ms, &command);
        if arguments.lasts.is_some_and(|lasts| totals.cpu_ms >= lasts.ms()) {
            break;
        }
    }
    if arguments.output == Output::Json {
        let object = totals.object(name, *seeds.start());
        writeln!(out, "{object}")?;
    } else if totals.runs > 1 {
        totals.print(&mut out, name, *seeds.start())?;
    }
    Ok(totals.violations.is_empty())
}

fn print_run(
    out: &mut impl io::Write,
    name: &str,
    seed: u64,
    outcome: &Outcome,
    spent_ms: u64,
) -> io::Result<()> {
    let verdict = if outcome.violations.is_empty() { "held" } else { "BROKEN" };
    let (hours, steps) = (outcome.passed_ms / 3_600_000, outcome.steps);
    let (sites, receipts, mb) = (outcome.sites, outcome.receipts, outcome.moved_bytes >> 20);
    writeln!(
        out,
        "{name} seed {seed}: {verdict}; {sites} sites, {hours} hours, {steps} steps, {receipts} receipts, {mb} MiB \
         moved, {} s of CPU, {} agent-hours per CPU-minute\n  trace {}",
        Fraction(spent_ms, 1000),
        agent_hours_per_cpu_minute(outcome.sites * outcome.passed_ms, spent_ms),
        outcome.trace_hash
    )?;
    for violation in &outcome.violations {
        writeln!(out, "  {violation}")?;
    }
    Ok(())
}

/// `site_ms` of virtual time in `cpu_ms` of the processor's.
fn agent_hours_per_cpu_minute(site_ms: u64, cpu_ms: u64) -> u64 {
    // Hours a site, and minutes of the processor: both sides in milliseconds.
    site_ms / 60 / cpu_ms.max(1)
}

/// A number with one place after its point, without rounding that could differ between machines.
struct Fraction(u64, u64);

impl std::fmt::Display for Fraction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 / self.1, self.0 % self.1 * 10 / self.1)
    }
}

#[derive(Default)]
struct Totals {
    last_seed: u64,
    runs: u64,
    steps: u64,
    receipts: u64,
    site_ms: u64,
    cpu_ms: u64,
    wall_ms: u64,
    sites: u64,
    hashes: Vec<String>,
    violations: Vec<serde_json::Value>,
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: &Outcome, spent_ms: u64, command: &str) {
        self.runs += 1;
        self.steps += outcome.steps;
        self.receipts += outcome.receipts;
        self.site_ms += outcome.sites * outcome.passed_ms;
        self.cpu_ms += spent_ms;
        self.sites = outcome.sites;
        self.hashes.push(outcome.trace_hash.clone());
        for violation in &outcome.violations {
            self.violations.push(json!({
                "seed": seed,
                "step": violation.step,
                "at_ms": violation.at_ms,
                "site": violation.site,
                "invariants": violation.invariant.numbers(),
                "what": violation.invariant.to_string(),
                "seen": violation.text,
                "replay": command,
            }));
        }
    }

    fn print(&self, out: &mut impl io::Write, name: &str, first: u64) -> io::Result<()> {
        let (runs, last, broken) = (self.runs, self.last_seed, self.violations.len());
        let hours = agent_hours_per_cpu_minute(self.site_ms, self.cpu_ms);
        writeln!(
            out,
            "{name}: {runs} runs, seeds {first} to {last}, {broken} broken, {} s of CPU, {hours} agent-hours per \
             CPU-minute",
            Fraction(self.cpu_ms, 1000)
        )
    }

    fn object(&self, name: &str, first: u64) -> serde_json::Value {
        let trace_hash = match self.hashes.as_slice() {
            [one] => one.clone(),
            many => blake3::hash(many.concat().as_bytes()).to_hex().to_string(),
        };
        json!({
            "scenario": name,
            "first_seed": first,
            "last_seed": self.last_seed,
            "runs": self.runs,
            "sites": self.sites,
            "steps": self.steps,
            "receipts": self.receipts,
            "cpu_ms": self.cpu_ms,
            "wall_ms": self.wall_ms,
            "memory_bytes_peak": memory_bytes_peak(),
            "agent_hours_per_cpu_minute": agent_hours_per_cpu_minute(self.site_ms, self.cpu_ms),
            "trace_hash": trace_hash,
            "violations": self.violations,
        })
    }
}

fn replay_one(arguments: &ReplayArgs) -> Result<bool, RunError> {
    let Stage { scenario, notes } = arguments.stage.read()?;
    tell_notes(&notes);
    let (outcome, told) = World::new(scenario, arguments.seed)?.run_telling(arguments.lines);
    let mut out = io::stdout().lock();
    for line in &told {
        writeln!(out, "{line}")?;
    }
    for violation in &outcome.violations {
        writeln!(out, "{violation}")?;
    }
    writeln!(out, "trace {}", outcome.trace_hash)?;
    Ok(outcome.violations.is_empty())
}
