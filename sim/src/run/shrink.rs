//! `airlift-sim shrink`: the smallest story that shows what a run has found.

use std::io::{self, Write as _};
use std::path::PathBuf;

use serde_json::json;

use super::stage::{Stage, StageArgs};
use super::{Output, RunError, monotonic_ms, tell_notes, write_file};
use crate::scenario::Span;
use crate::shrink::{Failing, Found, Search, Size};

/// What `shrink` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  airlift-sim shrink chaos --seed 7 --to small.toml && airlift-sim replay small.toml --seed 3
  airlift-sim shrink chaos --seed 7 > small.toml

Exits with 0 when a smaller story was written, with 1 when the run violates nothing.")]
pub(crate) struct ShrinkArgs {
    #[command(flatten)]
    stage: StageArgs,
    /// The seed whose run violates something
    #[arg(long)]
    seed: u64,
    /// Where the reduced scenario is written; standard output where it is not said
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// How long it may take; the smallest that was found by then is what counts
    #[arg(long, default_value = "2m")]
    within: Span,
    /// Further seeds that each smaller story is asked of
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(0..=1000))]
    tries: u64,
    /// How the result is printed, where the scenario goes to a file
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Shrinks a run; `false` where there was nothing to shrink.
pub(super) fn shrink(arguments: &ShrinkArgs) -> Result<bool, RunError> {
    let Stage { scenario, notes } = arguments.stage.read()?;
    tell_notes(&notes);
    let until_ms = monotonic_ms() + arguments.within.ms();
    let mut goes_on = || monotonic_ms() < until_ms;
    let mut tell = |failing: &Failing, runs: u64| {
        // Without a standard error there is nobody left to tell.
        let _ = writeln!(io::stderr(), "after {runs} runs: {}, seed {}", failing.size(), failing.seed);
    };
    let search = Search::new(arguments.tries, &mut goes_on, &mut tell);
    match search.shrink(&scenario, arguments.seed)? {
        Found::NoTime => Err(RunError::NoTime(arguments.within)),
        Found::Holds => {
            writeln!(
                io::stdout().lock(),
                "{} seed {} violates nothing; there is nothing to shrink",
                arguments.stage.scenario,
                arguments.seed
            )?;
            Ok(false)
        }
        Found::Smallest { first, failing, runs, finished } => {
            let found = Smallest { first, failing: &failing, runs, finished };
            found.print(arguments)?;
            Ok(true)
        }
    }
}

struct Smallest<'f> {
    first: Size,
    failing: &'f Failing,
    runs: u64,
    finished: bool,
}

impl Smallest<'_> {
    fn print(&self, arguments: &ShrinkArgs) -> Result<(), RunError> {
        let (seed, of) = (self.failing.seed, &arguments.stage.scenario);
        let place = arguments.to.as_ref().map_or_else(|| "FILE".into(), |path| path.display().to_string());
        let replay = format!("airlift-sim replay {place} --seed {seed}");
        let enough = if self.finished { "" } else { "; time was over before everything was tried" };
        let told = [
            format!("{of} seed {}: {} became {}", arguments.seed, self.first, self.failing.size()),
            format!("{} runs{enough}", self.runs),
            self.failing.violation.to_string(),
            format!("again: {replay}"),
        ];
        // A comment ends with its line, and what was seen may have several.
        let comment = |line: &String| format!("# {}\n", line.replace(|c: char| c.is_control(), " "));
        let text = told.iter().map(comment).collect::<String>() + "\n" + &self.failing.scenario.to_toml();
        let mut out = io::stdout().lock();
        let Some(path) = &arguments.to else { return Ok(out.write_all(text.as_bytes())?) };
        write_file(path, text.as_bytes())?;
        match arguments.output {
            Output::Text => told.iter().try_for_each(|line| writeln!(out, "{line}"))?,
            Output::Json => writeln!(out, "{}", self.object(arguments, &replay))?,
        }
        Ok(())
    }

    fn object(&self, arguments: &ShrinkArgs, replay: &str) -> serde_json::Value {
        let size =
            |size: Size| json!({"sites": size.sites, "parts": size.parts, "duration_ms": size.duration_ms});
        let violation = &self.failing.violation;
        json!({
            "scenario": arguments.stage.scenario,
            "first_seed": arguments.seed,
            "seed": self.failing.seed,
            "first": size(self.first),
            "smallest": size(self.failing.size()),
            "runs": self.runs,
            "finished": self.finished,
            "invariants": violation.invariant.numbers(),
            "what": violation.invariant.to_string(),
            "site": violation.site,
            "at_ms": violation.at_ms,
            "seen": violation.text,
            "file": arguments.to,
            "replay": replay,
        })
    }
}
