//! The `airlift` command line: noun, then verb.
//!
//! Everything under `key`, `root`, `bundle` and `explain` works with no hub and no network (but for images that a
//! bundle takes from a registry); the rest speaks `/api/v1`, also to a hub on the same machine. Answers go to standard output, all else to standard error.

use std::ffi::OsString;
use std::process::ExitCode;

use airlift_bundles::ids::Name;
use clap::{CommandFactory as _, Parser, Subcommand};
pub(crate) use client::encode;
use context::ContextName;
use failure::Failure;
use terminal::{Colour, Terminal};

mod assign;
mod bundle;
mod client;
mod context;
mod doctor;
mod envelope_file;
mod explain;
mod failure;
mod hub;
mod key;
mod media;
mod output;
mod publish;
mod receipt;
mod root;
mod site;
mod terminal;

/// Keeps applications right on sites that are seldom, badly or never connected.
#[derive(Debug, Parser)]
#[command(name = "airlift", version, propagate_version = true, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 no, 2 usage, 3 failed, 4 not authorised, 5 not found, 6 conflict, \
7 verification refused, 8 timeout, 10 hub unreachable.
Every error has a code: `airlift explain AL0102`."
)]
struct Airlift {
    #[command(subcommand)]
    command: Command,
    /// Answer every question with yes
    #[arg(long, short = 'y', global = true)]
    yes: bool,
    /// The hub to speak to, by the name that `airlift login` was given
    #[arg(long, global = true, env = "AIRLIFT_CONTEXT", value_name = "NAME", default_value = "default")]
    context: Name,
    /// When to colour errors
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    color: Colour,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make and show signing keys (no hub needed)
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Make and change the fleet's root by an m-of-n ceremony (no hub needed)
    #[command(subcommand)]
    Root(root::RootCommand),
    /// Build, sign and check bundles (no hub needed)
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Make, run and look after the hub
    #[command(subcommand)]
    Hub(hub::HubCommand),
    /// Say where the hub is and who speaks to it
    Login(context::Login),
    /// Bring a signed bundle to the hub
    Publish(publish::Publish),
    /// Enrol, list, label and revoke sites
    #[command(subcommand)]
    Site(site::SiteCommand),
    /// Say which release of an app sites should run
    Assign(assign::AssignArgs),
    /// Remove an app from sites
    Retire(assign::RetireArgs),
    /// List and verify what sites signed
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Write and take back sticks
    #[command(subcommand)]
    Media(media::MediaCommand),
    /// Look for what is wrong here and at the hub
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell
    Completion(explain::Completion),
    /// Say what an error code means and what to do
    Explain(explain::Explain),
}

/// Runs the command line with these arguments, the program's name first, to its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let airlift = match Airlift::try_parse_from(args) {
        Ok(airlift) => airlift,
        Err(error) => {
            // the reader of a help text may be gone; there is nobody left to tell
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let terminal = Terminal::new(airlift.yes, airlift.color);
    match dispatch(&airlift.command, &ContextName(airlift.context), terminal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.fail(&failure);
            failure.kind.into()
        }
    }
}

fn dispatch(command: &Command, context: &ContextName, terminal: Terminal) -> Result<(), Failure> {
    match command {
        Command::Bundle(command) => bundle::run(command, terminal),
        Command::Publish(arguments) => publish::publish(arguments, context, terminal),
        Command::Hub(command) => hub::run(command, context, terminal),
        Command::Login(arguments) => context::login(arguments, context),
        Command::Site(command) => site::run(command, context, terminal),
        Command::Assign(arguments) => assign::assign(arguments, context),
        Command::Retire(arguments) => assign::retire(arguments, context, terminal),
        Command::Receipt(command) => receipt::run(command, context),
        Command::Key(command) => key::run(command, terminal),
        Command::Root(command) => root::run(command, context, terminal),
        Command::Media(command) => media::run(command, context, terminal),
        Command::Doctor(arguments) => doctor::doctor(arguments, context),
        Command::Completion(arguments) => explain::complete(arguments, Airlift::command()),
        Command::Explain(arguments) => explain::explain(arguments),
    }
}
