//! Signing a root: one holder at a time, then checked by the very code that sites run.

use std::path::{Path, PathBuf};

use airlift_bundles::document::root::{Root, RootError, TrustedRoot};
use airlift_bundles::envelope::{Document as _, EnvelopeError};
use airlift_bundles::keys::PublicKey;
use airlift_bundles::limits::Limits;
use clap::Args;

use super::draft;
use super::show::{changes, summary};
use crate::cli::envelope_file::{self, SignArgs, signing_state};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::line;
use crate::cli::terminal::Terminal;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift root sign root.json --key alice.key
  airlift root sign root-2.json --previous roots/1.json --key alice.key   # also shows what changes
  airlift root sign root.json --key alice.key --out root.alice.json       # a copy, for `airlift root merge`

What is signed is shown first. Sign only what you read and meant.")]
pub(crate) struct Sign {
    /// The draft
    #[arg(value_name = "DRAFT")]
    file: PathBuf,
    /// The root before it, to show what changes and to sign as one of its holders
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    sign: SignArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// The draft that collects the signatures
    #[arg(value_name = "DRAFT")]
    file: PathBuf,
    /// Signed copies of it
    #[arg(required = true)]
    copies: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Finalize {
    /// The signed draft
    #[arg(value_name = "DRAFT")]
    file: PathBuf,
    /// The root before it; needed from version 2 on
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Where to write the root; VERSION.json beside the draft by default
    #[arg(long, short = 'o', value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn sign(arguments: &Sign, terminal: Terminal) -> Result<(), Failure> {
    let (envelope, root) = draft::read(&arguments.file)?;
    root.check().map_err(|fault| {
        let failure = Failure::from(EnvelopeError::Invalid(fault)).during("the draft is not complete");
        failure.next("Complete it with `airlift root add-key` and its kin. Nothing was signed.")
    })?;
    let previous = arguments.previous.as_deref().map(stored).transpose()?;
    summary(&root).iter().for_each(|text| terminal.note(text));
    if let Some(previous) = &previous {
        terminal.note(format!("changes since version {}:", previous.version));
        changes(previous, &root).iter().for_each(|text| terminal.note(format!("  {text}")));
    }
    let key = arguments.sign.open_key()?;
    let public = key.public();
    let holds = |root: &Root| root.root_keys().any(|holder| *holder == public);
    if !holds(&root) && !previous.as_deref().is_some_and(holds) {
        let id = public.key_id();
        let failure = Failure::new(Kind::Refused, format!("key {id} holds the root role of neither version"));
        return Err(failure.next(match root.version {
            1 => "Sign with a key that the draft's root role names. Nothing was signed.",
            _ => "If it holds the role of the version before, name that with --previous. Nothing was signed.",
        }));
    }
    let signed = arguments.sign.sign(&arguments.file, envelope, &key, terminal)?;
    let written = arguments.sign.out.as_ref().unwrap_or(&arguments.file);
    line(format!("{} signed by {}", written.display(), public.key_id()))?;
    print_state(&signed, &root, previous.as_deref())
}

pub(crate) fn merge(arguments: &Merge, terminal: Terminal) -> Result<(), Failure> {
    let (mut envelope, root) = draft::read(&arguments.file)?;
    let gained = envelope_file::merge(&mut envelope, &arguments.copies)?;
    envelope_file::write(&arguments.file, &envelope)?;
    terminal.note(format!("{gained} new signatures"));
    print_state(&envelope, &root, None)
}

pub(crate) fn finalize(arguments: &Finalize, terminal: Terminal) -> Result<(), Failure> {
    let bytes = envelope_file::read(&arguments.file)?.to_json();
    let root = accept(&bytes, arguments.previous.as_deref())
        .map_err(|failure| failure.during(format!("{} is not accepted", arguments.file.display())))?;
    let beside = || arguments.file.with_file_name(format!("{}.json", root.version));
    let out = arguments.out.clone().unwrap_or_else(beside);
    envelope_file::refuse_existing(&out)?;
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    envelope_file::write_whole(&out, &bytes)?;
    line(format!("{}: root version {} of fleet {}", out.display(), root.version, root.fleet_id))?;
    line(root.digest().to_string())?;
    if root.version == 1 {
        terminal.note(
            "Sites are installed with this digest; give it to them by another way than the root itself.",
        );
    }
    Ok(())
}

/// Takes a root as a site does: by its own threshold, and from version 2 on by the one before too.
fn accept(bytes: &[u8], previous: Option<&Path>) -> Result<TrustedRoot, Failure> {
    let limits = Limits::DEFAULT;
    let accepted = match previous {
        Some(path) => stored(path)?.advance(bytes, &limits),
        None => TrustedRoot::stored(bytes, &limits),
    };
    let root = accepted.map_err(|error| {
        let code = error.code();
        let next = match error {
            RootError::Envelope(EnvelopeError::Threshold { .. }) => {
                "Let more holders sign; `airlift root show` says whose signature is missing. Nothing was written."
            }
            _ => code.next_step(),
        };
        Failure::from(error).next(next)
    })?;
    if root.version > 1 && previous.is_none() {
        let message = format!("version {} is checked against the root before it", root.version);
        return Err(Failure::usage(message).next("Name it with --previous. Nothing was written."));
    }
    Ok(root)
}

/// Reads a root that was finalized before.
fn stored(path: &Path) -> Result<TrustedRoot, Failure> {
    let bytes = envelope_file::read_bytes(path)?;
    TrustedRoot::stored(&bytes, &Limits::DEFAULT)
        .map_err(|error| Failure::from(error).during(format!("{} is no root", path.display())))
}

fn print_state(
    envelope: &airlift_bundles::envelope::Envelope,
    root: &Root,
    previous: Option<&Root>,
) -> Result<(), Failure> {
    let keys: Vec<&PublicKey> = root.root_keys().collect();
    let state = signing_state(envelope, keys, root.roles.root.threshold);
    let mut lines = state.lines(&format!("root of version {}", root.version));
    if let Some(previous) = previous {
        let keys: Vec<&PublicKey> = previous.root_keys().collect();
        let state = signing_state(envelope, keys, previous.roles.root.threshold);
        lines.extend(state.lines(&format!("root of version {}", previous.version)));
    }
    lines.iter().try_for_each(line)?;
    Ok(())
}
