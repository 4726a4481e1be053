//! The `airlift` command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Command;

/// Runs the command line with these arguments, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = Command::new("airlift").version(env!("CARGO_PKG_VERSION")).arg_required_else_help(true);
    match command.try_get_matches_from(args.into_iter().collect::<Vec<_>>()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let shown = error.print();
            if shown.is_ok() && !error.use_stderr() { ExitCode::SUCCESS } else { ExitCode::from(2) }
        }
    }
}
