//! `airlift media`: sticks and tars that carry releases out and receipts back.

use clap::Subcommand;

use super::context::ContextName;
use super::failure::Failure;
use super::terminal::Terminal;

mod load;
mod look;
mod save;

#[derive(Debug, Subcommand)]
pub(crate) enum MediaCommand {
    /// Write what sites need on a stick or into a tar
    Save(save::Save),
    /// Hand the receipts and requests of a stick to the hub
    Load(load::Load),
    /// List what is on a stick (no hub needed)
    Ls(look::Ls),
    /// Check every document and byte on a stick as a site does (no hub needed)
    Verify(look::Verify),
}

pub(crate) fn run(command: &MediaCommand, context: &ContextName, terminal: Terminal) -> Result<(), Failure> {
    match command {
        MediaCommand::Save(arguments) => save::save(arguments, &context.client()?, terminal),
        MediaCommand::Load(arguments) => load::load(arguments, &context.client()?, terminal),
        MediaCommand::Ls(arguments) => look::ls(arguments),
        MediaCommand::Verify(arguments) => look::verify(arguments, terminal),
    }
}
