//! `airlift-sim compare`: two releases, or two scenarios, with the same seeds.

use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use airlift_bundles::ids::{AppName, Version};
use serde_json::json;

use super::report::collect;
use super::stage::{Stage, StageArgs};
use super::{Output, RunError, parse_seeds, tell_notes};
use crate::comparison::{Comparison, Row};
use crate::scenario::Scenario;

/// What `compare` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Is version 2 worse than version 1 for my fleet?
  airlift-sim compare power-cuts --release control@2.0.0 --with control@4.0.0 --seeds 1..5
  airlift-sim compare power-cuts --fleet fleet.json --bundle shop-1.tar --release shop-2.tar --with shop-3.tar
  airlift-sim compare chaos --with my-chaos.toml

Both runs of a seed have the same story but for the last release that is assigned: what the scenario says of versions
before stays, and what it expects afterwards is expected of the release that is compared.
Exits with 0 when the second is no worse, with 1 when it is.")]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    stage: StageArgs,
    /// The first release: APP@VERSION of the scenario, or a bundle
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
    /// The second release; without --release: another scenario, or a file
    #[arg(long, value_name = "RELEASE|SCENARIO")]
    with: String,
    /// The seeds, from and to
    #[arg(long, value_name = "A..B", default_value = "1..3", value_parser = parse_seeds)]
    seeds: RangeInclusive<u64>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Compares; `false` where the second is worse.
pub(super) fn compare(arguments: &CompareArgs) -> Result<bool, RunError> {
    let [one, two] = arguments.stages()?;
    let mut notes = one.notes;
    notes.extend(two.notes.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
    tell_notes(&notes);
    let first = collect(&one.scenario, arguments.seeds.clone())?;
    let second = collect(&two.scenario, arguments.seeds.clone())?;
    let comparison = Comparison::of(&first, &second);
    let names = arguments.names();
    let mut out = io::stdout().lock();
    match arguments.output {
        Output::Text => print(&mut out, arguments, &names, &comparison)?,
        Output::Json => {
            let row = |row: &Row| json!({"what": row.key, "first": row.first, "second": row.second, "verdict": row.verdict.word()});
            let rows: Vec<_> = comparison.rows.iter().map(row).collect();
            let object = json!({
                "scenario": arguments.stage.scenario,
                "first": names[0],
                "second": names[1],
                "first_seed": arguments.seeds.start(),
                "last_seed": arguments.seeds.end(),
                "sites": first.sites,
                "rows": rows,
                "worse": comparison.is_worse(),
                "verdict": comparison.verdict(),
                "notes": notes,
            });
            writeln!(out, "{object}")?;
        }
    }
    Ok(!comparison.is_worse())
}

impl CompareArgs {
    fn names(&self) -> [String; 2] {
        [self.release.clone().unwrap_or_else(|| self.stage.scenario.clone()), self.with.clone()]
    }

    fn stages(&self) -> Result<[Stage; 2], RunError> {
        let Some(first) = &self.release else {
            let other = StageArgs { scenario: self.with.clone(), ..self.stage.clone() };
            return Ok([self.stage.read()?, other.read()?]);
        };
        match [first, &self.with].map(|text| Path::new(text).exists()) {
            [true, true] => {
                let with = |path: &str| self.stage.read_with(&[PathBuf::from(path)]);
                Ok([with(first)?, with(&self.with)?])
            }
            [false, false] => {
                let stage = self.stage.read()?;
                let releases = [release(first, &stage.scenario)?, release(&self.with, &stage.scenario)?];
                let [(app, one), (other_app, two)] = &releases;
                if app != other_app {
                    return Err(RunError::Usage(format!("{first} and {} are not of one app", self.with)));
                }
                let of = |version: &Version, other: &Version| -> Result<Stage, RunError> {
                    let scenario = stage.scenario.clone().with_last(app, version, other)?;
                    Ok(Stage { scenario, notes: stage.notes.clone() })
                };
                Ok([of(one, two)?, of(two, one)?])
            }
            [there, _] => {
                let missing = if there { &self.with } else { first };
                Err(RunError::Usage(format!(
                    "there is no bundle {missing}: compare two bundles, or two releases"
                )))
            }
        }
    }
}

/// Reads `APP@VERSION`.
fn release(text: &str, scenario: &Scenario) -> Result<(AppName, Version), RunError> {
    let known =
        |release: &&crate::scenario::ReleaseSpec| format!("{}@{}", release.app, release.version) == text;
    let found =
        scenario.release.iter().find(known).map(|release| (release.app.clone(), release.version.clone()));
    found.ok_or_else(|| {
        let all: Vec<String> =
            scenario.release.iter().map(|release| format!("{}@{}", release.app, release.version)).collect();
        RunError::Usage(format!(
            "{text:?} is neither a bundle nor one of the scenario's releases: {}",
            all.join(", ")
        ))
    })
}

fn print(
    out: &mut impl io::Write,
    arguments: &CompareArgs,
    names: &[String; 2],
    comparison: &Comparison,
) -> io::Result<()> {
    let (first, last) = (arguments.seeds.start(), arguments.seeds.end());
    writeln!(out, "{}, seeds {first} to {last}", arguments.stage.scenario)?;
    let mut lines = vec![[String::new(), names[0].clone(), names[1].clone(), String::new()]];
    let row = |row: &Row| {
        [row.name.to_owned(), row.words(row.first), row.words(row.second), row.remark().to_owned()]
    };
    lines.extend(comparison.rows.iter().map(row));
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or_default();
    let [name, one, two] = [width(0), width(1), width(2)];
    for [what, first, second, verdict] in &lines {
        let line = format!("{what:<name$}   {first:>one$}   {second:>two$}   {verdict}");
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out, "{}", comparison.verdict())
}
