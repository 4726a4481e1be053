//! Envelopes in files: drafts that wait for signatures, and documents that have them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use airlift_bundles::envelope::Envelope;
use airlift_bundles::keys::{PublicKey, SecretKey};
use airlift_bundles::limits::Limits;

use super::failure::{Failure, Kind};
use super::terminal::{PassphraseArgs, Terminal};
use crate::keyfile;

/// Reads the bytes of a document file, bounded before anything looks at them.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    // one byte more than allowed, so that the envelope's reader sees and names the excess
    read_up_to(path, Limits::DEFAULT.document_bytes as u64 + 1)
}

/// Reads the first `most` bytes of a file.
pub(crate) fn read_up_to(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let name = |cause: io::Error| Failure::from(cause).during(format!("cannot read {}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(name)?.take(most).read_to_end(&mut bytes).map_err(name)?;
    Ok(bytes)
}

/// Reads an envelope; says nothing about its signatures.
pub(crate) fn read(path: &Path) -> Result<Envelope, Failure> {
    let bytes = read_bytes(path)?;
    Envelope::parse(&bytes, &Limits::DEFAULT)
        .map_err(|error| Failure::from(error).during(format!("{} is no document", path.display())))
}

/// Writes a file whole or not at all: beside it, synced, renamed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_with_mode(path, bytes, 0o644)
}

/// Writes a file for its owner alone, whole or not at all.
pub(crate) fn write_secret_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_with_mode(path, bytes, 0o600)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let write = || {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|cause| Failure::from(cause).during(format!("cannot write {}", path.display())))
}

/// Writes an envelope on one line.
pub(crate) fn write(path: &Path, envelope: &Envelope) -> Result<(), Failure> {
    write_whole(path, &envelope.to_json())
}

/// Refuses a path that is taken, for outputs that never replace anything.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        let failure = Failure::new(Kind::Conflict, format!("{} exists already", path.display()));
        return Err(failure.next("Choose another name, or move the file away. Nothing was changed."));
    }
    Ok(())
}

/// The key that signs, and where the signature goes.
#[derive(Debug, clap::Args)]
pub(crate) struct SignArgs {
    /// The secret key file
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
    /// Write the signed copy here instead of into the draft
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

impl SignArgs {
    /// Opens the key.
    pub(crate) fn open_key(&self) -> Result<SecretKey, Failure> {
        Ok(keyfile::read_secret(&self.key, || self.passphrase.get(&self.key))?)
    }

    /// Adds the key's signature to `envelope`, which came from `path`, and writes it.
    pub(crate) fn sign(
        &self,
        path: &Path,
        mut envelope: Envelope,
        key: &SecretKey,
        terminal: Terminal,
    ) -> Result<Envelope, Failure> {
        let public = key.public();
        let spoilt = |envelope: &Envelope| envelope.valid_signers([&public]).is_empty();
        let before = envelope.signatures().len();
        envelope.sign(key);
        if spoilt(&envelope) {
            let failure =
                Failure::new(Kind::Refused, "the draft holds a wrong signature under this key's id");
            return Err(failure.next("Take the draft again from whoever made it."));
        }
        if before == envelope.signatures().len() && self.out.is_none() {
            terminal.note(format!("{} is signed by this key already", path.display()));
            return Ok(envelope);
        }
        write(self.out.as_deref().unwrap_or(path), &envelope)?;
        Ok(envelope)
    }
}

/// Takes over the signatures of copies of one draft; returns how many were new.
pub(crate) fn merge(envelope: &mut Envelope, copies: &[PathBuf]) -> Result<usize, Failure> {
    let mut gained = 0;
    for copy in copies {
        gained += envelope.merge(&read(copy)?).map_err(|error| {
            let failure = Failure::from(error).during(format!("{} is another draft", copy.display()));
            failure.next("Its holder signed something else: compare both. Nothing was changed.")
        })?;
    }
    Ok(gained)
}

/// `2 of 3 signed, 1 more needed`, and the ids of those who did not sign.
pub(crate) fn signing_state<'k>(
    envelope: &Envelope,
    keys: impl IntoIterator<Item = &'k PublicKey> + Clone,
    threshold: usize,
) -> SigningState {
    let signed = envelope.valid_signers(keys.clone());
    let missing: Vec<String> =
        keys.into_iter().filter(|key| !signed.contains(key)).map(|key| key.key_id().to_string()).collect();
    let signed = signed.into_iter().map(|key| key.key_id().to_string()).collect();
    SigningState { signed, missing, threshold }
}

/// Who of a role signed.
#[derive(Debug, serde::Serialize)]
pub(crate) struct SigningState {
    /// Key ids with a valid signature.
    pub(crate) signed: Vec<String>,
    /// Key ids without one.
    pub(crate) missing: Vec<String>,
    /// How many are needed.
    pub(crate) threshold: usize,
}

impl SigningState {
    /// Lines for a person.
    pub(crate) fn lines(&self, role: &str) -> Vec<String> {
        let (signed, of) = (self.signed.len(), self.signed.len() + self.missing.len());
        let verdict = match self.threshold.saturating_sub(signed) {
            0 => "enough".to_owned(),
            more => format!("{more} more needed"),
        };
        let mut lines = vec![format!(
            "role {role}: {signed} of {of} keys signed, threshold {}: {verdict}",
            self.threshold
        )];
        lines.extend(self.signed.iter().map(|id| format!("  signed   {id}")));
        lines.extend(self.missing.iter().map(|id| format!("  missing  {id}")));
        lines
    }
}
