//! The `airlift` program: the command line and the hub server.

use std::process::ExitCode;

fn main() -> ExitCode {
    airlift_hub::main_from(std::env::args_os())
}
