//! `airlift-sim list`, `schema` and `completion`: what there is, and how it is written.

use std::io::{self, Write as _};

use serde_json::json;

use super::{Output, RunError};
use crate::scenario::{SCHEMA, Scenario};

/// How scenarios are listed.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// How the list is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Only this one, as the TOML that it is: to read, or to begin one of your own with
    scenario: Option<String>,
}

/// For which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  airlift-sim completion bash > /etc/bash_completion.d/airlift-sim")]
pub(crate) struct CompletionArgs {
    /// The shell: bash, zsh, fish, elvish or powershell
    shell: clap_complete::Shell,
}

/// Lists the built-in scenarios, or prints one.
pub(super) fn list(arguments: &ListArgs) -> Result<bool, RunError> {
    let mut out = io::stdout().lock();
    if let Some(name) = &arguments.scenario {
        let scenario = Scenario::find(name)?;
        match arguments.output {
            Output::Text => out.write_all(scenario.to_toml().as_bytes())?,
            Output::Json => writeln!(out, "{:#}", json!(scenario))?,
        }
        return Ok(true);
    }
    let scenarios = Scenario::built_in();
    if arguments.output == Output::Json {
        let one = |scenario: &Scenario| {
            json!({"name": scenario.name, "about": scenario.about, "duration_ms": scenario.duration.ms(),
                "sites": scenario.sites()})
        };
        let items: Vec<_> = scenarios.iter().map(one).collect();
        writeln!(
            out,
            "{}",
            json!({"apiVersion": "airlift.dev/cli/v1", "kind": "ScenarioList", "items": items})
        )?;
        return Ok(true);
    }
    let width = scenarios.iter().map(|scenario| scenario.name.len()).max().unwrap_or_default();
    writeln!(out, "{:<width$}   {:>4}   {:>7}   WHAT IT SHOWS", "NAME", "TIME", "SITES")?;
    for scenario in &scenarios {
        let (name, duration, sites) = (&scenario.name, scenario.duration, scenario.sites());
        writeln!(out, "{name:<width$}   {duration:>4}   {sites:>7}   {}", scenario.about)?;
    }
    Ok(true)
}

/// Prints the schema.
pub(super) fn schema() -> Result<bool, RunError> {
    io::stdout().lock().write_all(SCHEMA.as_bytes())?;
    Ok(true)
}

/// Prints a completion script.
pub(super) fn complete(arguments: &CompletionArgs, mut command: clap::Command) -> Result<bool, RunError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "airlift-sim", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(true)
}
