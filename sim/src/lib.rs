//! The demo and the simulator: the real cores in a simulated world.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub mod bundle;
pub mod cluster;
pub mod comparison;
pub mod demo;
pub mod figures;
pub mod images;
pub mod invariants;
mod live;
mod progress;
pub mod report;
mod run;
pub mod scenario;
pub mod shrink;
pub mod world;

/// Shows and simulates Airlift fleets.
#[derive(Debug, Parser)]
#[command(name = "airlift-sim", version, propagate_version = true, disable_help_subcommand = true)]
struct AirliftSim {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a fleet on this machine: hub, ten live sites and an island; under a minute
    Demo(demo::DemoArgs),
    /// Run a scenario in virtual time, and check the invariants at every step
    Run(run::RunArgs),
    /// Run thousands of real agents on this machine against a real hub
    Live(live::LiveArgs),
    /// Agents of a live run, in one process
    #[command(hide = true)]
    Crowd(live::CrowdArgs),
    /// Run one seed again, and show what led to its violation
    Replay(run::ReplayArgs),
    /// Make a run that violates something as small as it can be
    Shrink(run::ShrinkArgs),
    /// Run two releases, or two scenarios, with the same seeds: is the second one worse?
    Compare(run::CompareArgs),
    /// Run a scenario and write what it came to as one page of HTML
    Report(run::ReportArgs),
    /// List the scenarios that are built in
    List(run::ListArgs),
    /// Print the JSON Schema of a scenario, for editors and checks
    Schema,
    /// Print a completion script for a shell
    Completion(run::CompletionArgs),
    /// Write the demo's sample app, image included, as a folder for `airlift bundle build`
    App(AppArgs),
}

#[derive(Debug, clap::Args)]
struct AppArgs {
    /// The folder to write; absent or empty
    folder: PathBuf,
}

/// Runs the program that the arguments name, to its exit code.
///
/// Called `airlift` or `airlift-agent`, or given one of these words first, it is that program; the agent's world is
/// then the model's where its configuration says so. Otherwise it is `airlift-sim`.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    demo::end_with_parent();
    if args.get(1).is_some_and(|word| program(word).is_some()) {
        args.remove(0);
    }
    match args.first().and_then(|name| program(name)) {
        Some(Program::Airlift) => return airlift_hub::main_from(args),
        Some(Program::Agent) => {
            let world = demo::world::of(&args);
            return airlift_agent::main_with(args, world);
        }
        None => {}
    }
    match AirliftSim::try_parse_from(args) {
        Ok(AirliftSim { command: Command::Demo(arguments) }) => demo::run(&arguments),
        Ok(AirliftSim { command: Command::App(arguments) }) => demo::write_app(&arguments.folder),
        Ok(AirliftSim { command: Command::Run(arguments) }) => run::run(&arguments),
        Ok(AirliftSim { command: Command::Replay(arguments) }) => run::replay(&arguments),
        Ok(AirliftSim { command: Command::Live(arguments) }) => live::run(&arguments),
        Ok(AirliftSim { command: Command::Crowd(arguments) }) => live::run_crowd(&arguments),
        Ok(AirliftSim { command: Command::List(arguments) }) => run::list(&arguments),
        Ok(AirliftSim { command: Command::Shrink(arguments) }) => run::shrink(&arguments),
        Ok(AirliftSim { command: Command::Compare(arguments) }) => run::compare(&arguments),
        Ok(AirliftSim { command: Command::Report(arguments) }) => run::report(&arguments),
        Ok(AirliftSim { command: Command::Schema }) => run::schema(),
        Ok(AirliftSim { command: Command::Completion(arguments) }) => {
            run::complete(&arguments, AirliftSim::command())
        }
        Err(error) => {
            // The reader of a help text may be gone; there is nobody left to tell.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

/// The product's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Airlift,
    Agent,
}

fn program(name: &OsStr) -> Option<Program> {
    match Path::new(name).file_name()?.to_str()? {
        "airlift" => Some(Program::Airlift),
        "airlift-agent" => Some(Program::Agent),
        _ => None,
    }
}
