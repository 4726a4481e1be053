//! `airlift key`: makes and shows Ed25519 keys; needs no hub and no network.

use std::path::{Path, PathBuf};

use airlift_bundles::document::enrolment::fingerprint;
use airlift_bundles::keys::{PublicKey, SecretKey};
use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::output::{Format, OutputArgs, line, print_json};
use super::terminal::{PassphraseArgs, Terminal};
use crate::keyfile;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key: FILE holds the secret half, FILE with the ending .pub the public one
    #[command(after_help = "Examples:
  airlift key generate alice.key
  airlift key generate ci.key --passphrase-file /run/secrets/passphrase
  airlift key generate test.key --plain

Keep the secret half with one person, on a machine without network where you can. Give away only the .pub file.")]
    Generate(Generate),
    /// Show the id and the public half of a key
    #[command(after_help = "Examples:
  airlift key show alice.pub
  airlift key show alice.key      # asks for the passphrase if the file is encrypted")]
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// The file to write; it must not exist
    file: PathBuf,
    /// Write the secret half without a passphrase
    #[arg(long, conflicts_with = "passphrase_file")]
    plain: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A public or secret key file
    file: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(command: &KeyCommand, terminal: Terminal) -> Result<(), Failure> {
    match command {
        KeyCommand::Generate(arguments) => generate(arguments, terminal),
        KeyCommand::Show(arguments) => {
            let public = keyfile::read_public(&arguments.file).or_else(|_| {
                let asked = || arguments.passphrase.get(&arguments.file);
                keyfile::read_secret(&arguments.file, asked).map(|key| key.public())
            })?;
            show(&arguments.file, &public, arguments.output.format)
        }
    }
}

fn generate(arguments: &Generate, terminal: Terminal) -> Result<(), Failure> {
    let public_file = public_file(&arguments.file);
    if let Some(taken) = [&arguments.file, &public_file].into_iter().find(|path| path.exists()) {
        return Err(keyfile::KeyFileError::Exists(taken.clone()).into());
    }
    let passphrase = if arguments.plain { None } else { Some(arguments.passphrase.choose(&arguments.file)?) };
    let key = SecretKey::generate()
        .map_err(|cause| Failure::new(super::failure::Kind::Runtime, cause.to_string()))?;
    keyfile::write_secret(&arguments.file, &key, passphrase.as_deref().map(String::as_str))?;
    keyfile::write_public(&public_file, &key.public())?;
    if arguments.plain {
        terminal.note(format!("{} is not encrypted: whoever reads it can sign", arguments.file.display()));
    }
    show(&public_file, &key.public(), arguments.output.format)
}

/// `alice.key` has its public half in `alice.pub`.
fn public_file(secret: &Path) -> PathBuf {
    secret.with_extension("pub")
}

fn show(file: &Path, key: &PublicKey, format: Format) -> Result<(), Failure> {
    let id = key.key_id();
    match format {
        Format::Name => line(id.as_str())?,
        Format::Json => print_json(
            "Key",
            &json!({ "keyid": id, "fingerprint": fingerprint(key), "key": key, "file": file }),
        )?,
        Format::Table | Format::Wide => {
            line(format!("file         {}", file.display()))?;
            line(format!("key id       {id}"))?;
            line(format!("fingerprint  {}", fingerprint(key)))?;
        }
    }
    Ok(())
}
