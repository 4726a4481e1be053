//! Entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    airlift_sim::main_from(std::env::args_os())
}
