//! The hub: decides what each site should run, publishes it, and collects what happened; and the `airlift`
//! command line.

use std::ffi::OsString;
use std::process::ExitCode;

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod keyfile;
pub mod publish;

/// Runs `airlift` with these arguments, the program's name first, to its exit code.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run(args)
}
