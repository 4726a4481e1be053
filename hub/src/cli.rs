//! The `airlift` command line: noun, then verb.
//!
//! Everything under `key`, `root`, `bundle` and `explain` works with no hub and no network; the rest speaks
//! `/api/v1`, also to a hub on the same machine. Answers go to standard output, all else to standard error.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use failure::Failure;
use terminal::{Colour, Terminal};

mod envelope_file;
mod explain;
mod failure;
mod key;
mod output;
mod root;
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
    match dispatch(&airlift.command, terminal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.fail(&failure);
            failure.kind.into()
        }
    }
}

fn dispatch(command: &Command, terminal: Terminal) -> Result<(), Failure> {
    match command {
        Command::Key(command) => key::run(command, terminal),
        Command::Root(command) => root::run(command, terminal),
        Command::Explain(arguments) => explain::explain(arguments),
    }
}
