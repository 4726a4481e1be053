//! `airlift root`: the m-of-n ceremony that makes and changes a fleet's root; all but `publish` needs no hub and
//! no network.
//!
//! A draft is an unsigned envelope in a file. Holders sign the same payload, each on their own machine, in one
//! file that goes round or in copies that are merged; `finalize` checks it as every site will.

use std::path::PathBuf;

use clap::Subcommand;

use super::context::ContextName;
use super::failure::Failure;
use super::terminal::Terminal;

pub(crate) mod ceremony;
mod change;
pub(crate) mod draft;
mod publish;
pub(crate) mod show;

#[derive(Debug, Subcommand)]
#[command(after_help = "A ceremony of two out of three:
  airlift root init --fleet lab --root-key a.pub --root-key b.pub --root-key c.pub --root-threshold 2 \\
      --director-key director.pub --release-key r1.pub --release-key r2.pub --release-threshold 2 root.json
  airlift root sign root.json --key a.key            # each holder, on their own machine
  airlift root sign root.json --key b.key
  airlift root finalize root.json --out roots/1.json # prints the digest that sites are installed with

The next version:
  airlift root edit roots/1.json root-2.json
  airlift root remove-key root-2.json --role root --key c.pub
  airlift root add-key root-2.json --role root --key d.pub
  …sign by two of the old holders and two of the new, then
  airlift root finalize root-2.json --previous roots/1.json --out roots/2.json")]
pub(crate) enum RootCommand {
    /// Draft version 1 of a new fleet's root
    Init(draft::Init),
    /// Draft the next version from the newest root
    Edit(draft::Edit),
    /// Give a role more keys
    AddKey(change::ChangeKeys),
    /// Take keys from a role
    RemoveKey(change::ChangeKeys),
    /// Say how many keys of a role must sign
    SetThreshold(change::SetThreshold),
    /// Add a role that releases some apps within a scope, or replace it
    AddReleaseRole(change::AddReleaseRole),
    /// Take a release role away
    RemoveReleaseRole(change::RemoveReleaseRole),
    /// Raise an app's epoch and floor, or the director's epoch
    Raise(change::Raise),
    /// Change the fleet's settings that only key holders may change
    SetPolicy(change::SetPolicy),
    /// Take back a key or a release
    Revoke(change::Revoke),
    /// Add one holder's signature to a draft
    Sign(ceremony::Sign),
    /// Collect the signatures of copies of one draft
    Merge(ceremony::Merge),
    /// Check a signed draft as sites will, and write it as a root
    Finalize(ceremony::Finalize),
    /// Walk a chain of roots from the first, as a site does
    Verify(show::Verify),
    /// Show what a root or draft says, and who signed
    Show(show::Show),
    /// Hand signed roots to the hub
    Publish(publish::Publish),
}

/// The draft that a command changes.
#[derive(Debug, clap::Args)]
pub(crate) struct DraftArgs {
    /// The draft
    #[arg(value_name = "DRAFT")]
    pub(crate) file: PathBuf,
    /// Drop signatures that the draft has: they are over what it said before
    #[arg(long)]
    pub(crate) discard_signatures: bool,
}

pub(crate) fn run(command: &RootCommand, context: &ContextName, terminal: Terminal) -> Result<(), Failure> {
    match command {
        RootCommand::Init(arguments) => draft::init(arguments, terminal),
        RootCommand::Edit(arguments) => draft::edit(arguments, terminal),
        RootCommand::AddKey(arguments) => {
            draft::change(&arguments.draft, terminal, |root| arguments.add(root))
        }
        RootCommand::RemoveKey(arguments) => {
            draft::change(&arguments.draft, terminal, |root| arguments.remove(root))
        }
        RootCommand::SetThreshold(arguments) => {
            draft::change(&arguments.draft, terminal, |root| arguments.apply(root))
        }
        RootCommand::AddReleaseRole(arguments) => {
            draft::change(&arguments.draft, terminal, |root| arguments.apply(root))
        }
        RootCommand::RemoveReleaseRole(arguments) => {
            draft::change(&arguments.draft, terminal, |root| arguments.apply(root))
        }
        RootCommand::Raise(arguments) => {
            draft::change(&arguments.draft, terminal, |root| arguments.apply(root))
        }
        RootCommand::SetPolicy(arguments) => {
            draft::change(&arguments.draft, terminal, |root| arguments.apply(root))
        }
        RootCommand::Revoke(arguments) => {
            draft::change(&arguments.draft, terminal, |root| arguments.apply(root))
        }
        RootCommand::Sign(arguments) => ceremony::sign(arguments, terminal),
        RootCommand::Merge(arguments) => ceremony::merge(arguments, terminal),
        RootCommand::Finalize(arguments) => ceremony::finalize(arguments, terminal),
        RootCommand::Verify(arguments) => show::verify(arguments),
        RootCommand::Show(arguments) => show::show(arguments),
        RootCommand::Publish(arguments) => publish::publish(arguments, &context.client()?),
    }
}
