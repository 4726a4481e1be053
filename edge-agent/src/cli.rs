//! The `airlift-agent` command line: the agent itself, and what people at the site ask of it.
//!
//! Answers go to standard output, all else to standard error. Commands speak to the running agent over its control
//! socket; `media` and `enrol` take the state directory themselves where none runs.

mod doctor;
mod enrol;
mod explain;
mod failure;
mod history;
mod local;
mod log;
mod media;
mod output;
mod run;
mod state;
mod status;
mod support;
mod trust;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use airlift_bundles::code::Code;
use airlift_bundles::ids::AppName;
use clap::{Args, Parser, Subcommand};

use crate::World;
use crate::config::Config;
use crate::control::message::Action;
use failure::{Ending, Failure};

/// Keeps one K3s site right, with or without a network.
#[derive(Debug, Parser)]
#[command(name = "airlift-agent", version, propagate_version = true, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 no, 2 usage, 3 failed, 7 verification refused, 10 nobody answered.
Every error has a code: `airlift explain AL0102`.

Examples:
  airlift-agent enrol --hub https://hub.example:8443 --token-file token
  airlift-agent enrol --media /media/stick --root-sha256 sha256:…
  airlift-agent run
  airlift-agent media load /media/stick
  airlift-agent status"
)]
struct AirliftAgent {
    #[command(subcommand)]
    command: Command,
    /// Configuration file [default: /etc/airlift/agent.toml]
    #[arg(long, global = true, value_name = "FILE", env = "AIRLIFT_AGENT_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until it is told to end (SIGTERM); waits for a grant where the site is not enrolled yet
    #[command(after_help = "Logs go to standard error; AIRLIFT_LOG=debug says more.")]
    Run,
    /// Join a fleet: online with a token, or offline with a stick
    Enrol(enrol::EnrolArgs),
    /// Bring bundles in and receipts out by stick or tar file
    #[command(subcommand)]
    Media(media::MediaCommand),
    /// Show how the site and its apps are, what they wait for, and what to do
    #[command(
        after_help = "Without a running agent the last that its database knows is shown, as such, with exit code 10.

Examples:
  airlift-agent status
  airlift-agent status --watch
  airlift-agent status -o json"
    )]
    Status(status::StatusArgs),
    /// Show what happened here, newest first
    #[command(
        after_help = "Examples:\n  airlift-agent history\n  airlift-agent history --app shop -n 5 -o json"
    )]
    History(history::HistoryArgs),
    /// Go back to the healthy generation before this one
    #[command(after_help = "Example:\n  airlift-agent rollback shop")]
    Rollback(AppArgs),
    /// Leave an app as it is: begin no new generation of it, and do not retire it
    #[command(after_help = "Example:\n  airlift-agent hold shop")]
    Hold(AppArgs),
    /// Let a held app go on
    Unhold(AppArgs),
    /// Try an app's target again although it failed here
    Retry(AppArgs),
    /// Show whom this site believes
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Pack what somebody far away needs to see of this site, without its secrets
    #[command(after_help = "Works without a running agent and without a hub.

Examples:
  airlift-agent support-bundle --to /media/stick
  airlift-agent support-bundle")]
    SupportBundle(support::SupportArgs),
    /// Explain a stable code: what happened, what is safe, what to do
    #[command(after_help = "Example:\n  airlift-agent explain AL0705")]
    Explain(explain::ExplainArgs),
    /// Check this site and say what to mend
    Doctor(output::OutputArgs),
}

#[derive(Debug, Args)]
struct AppArgs {
    /// The app's name
    app: AppName,
}

/// Runs the command line with these arguments, the program's name first, to its exit code.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>, world: World) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let agent = match AirliftAgent::try_parse_from(args) {
        Ok(agent) => agent,
        Err(error) => {
            let _ = error.print(); // the reader of a help text may be gone
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(agent, world) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::say(&failure.to_string());
            failure.exit_code()
        }
    }
}

fn dispatch(agent: AirliftAgent, world: World) -> Result<(), Failure> {
    let config =
        Config::load(agent.config.as_deref()).map_err(|error| Failure::coded(Code::ConfigInvalid, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Ending::Runtime, error))?;
    let outcome = runtime.block_on(async {
        match agent.command {
            Command::Run => run::run(config, world).await,
            Command::Enrol(args) => enrol::enrol(&config, args).await,
            Command::Media(command) => media::run(&config, command).await,
            Command::Status(args) => status::status(&config, &args).await,
            Command::History(args) => history::history(&config, &args),
            Command::Rollback(args) => local::order(&config, Action::Rollback(args.app)).await,
            Command::Hold(args) => local::order(&config, Action::Hold(args.app)).await,
            Command::Unhold(args) => local::order(&config, Action::Unhold(args.app)).await,
            Command::Retry(args) => local::order(&config, Action::Retry(args.app)).await,
            Command::Trust(trust::TrustCommand::Show(args)) => trust::show(&config, args.format),
            Command::SupportBundle(args) => support::support_bundle(&config, &args).await,
            Command::Explain(args) => explain::explain(&args),
            Command::Doctor(args) => doctor::doctor(&config, args.format).await,
        }
    });
    // A thread that hangs in a read of a bad stick does not keep the process.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests;
