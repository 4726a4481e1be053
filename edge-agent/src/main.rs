//! The `airlift-agent` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    airlift_agent::main_from(std::env::args_os())
}
