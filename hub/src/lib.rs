//! The hub: decides what each site should run, publishes it, and collects what happened; and the `airlift`
//! command line.

use std::ffi::OsString;
use std::process::ExitCode;

pub mod api;
pub mod cli;
pub mod clock;
pub mod collect;
pub mod config;
pub mod db;
pub mod descriptors;
pub mod enrol;
mod https;
pub mod init;
pub mod keyfile;
mod lobby;
#[cfg(feature = "mutations")]
pub mod mutation;
pub mod plan;
pub mod publish;
pub mod serve;
pub mod server;
pub mod source;
pub mod tls;
mod uploads;

#[cfg(test)]
mod scratch;

/// Runs `airlift` with these arguments, the program's name first, to its exit code.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run(args)
}
