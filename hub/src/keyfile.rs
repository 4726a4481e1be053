//! Key files: the secret half encrypted with a passphrase (age, scrypt), or plain where the machine guards it.
//!
//! The plain form is the TUF key object with `private` beside `public`; the encrypted form is a binary age file
//! around it, which `age -d` opens too. A public half is the TUF key object alone and may be shown to anybody.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use airlift_bundles::code::Code;
use airlift_bundles::keys::{KeyError, PublicKey, SecretKey};
use zeroize::Zeroizing;

/// Far above any key file (an age file around a key object has 450 bytes): a wrong path is not read into memory.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The first bytes of every age file.
const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// A key file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system refused.
    #[error("cannot access key file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A key is never overwritten.
    #[error("{0} exists already; a key file is never overwritten")]
    Exists(PathBuf),
    /// The file is not a key.
    #[error("{path} does not hold {expected}")]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What is wrong with it.
        #[source]
        cause: Option<KeyError>,
    },
    /// The passphrase does not open the file.
    #[error("the passphrase does not open {0}")]
    Passphrase(PathBuf),
    /// The file is encrypted, and nobody could be asked.
    #[error("no passphrase for {path}")]
    NoPassphrase {
        /// The file.
        path: PathBuf,
        /// Why nobody could be asked.
        #[source]
        cause: io::Error,
    },
    /// Encrypting failed.
    #[error("the key could not be encrypted")]
    Encrypt(#[from] age::EncryptError),
}

impl KeyFileError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::KeyFile
    }
}

/// Reads the secret half; `passphrase` is asked only for an encrypted file.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_secret(
    path: &Path,
    passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>,
) -> Result<SecretKey, KeyFileError> {
    let bytes = read_bounded(path)?;
    let plain = if bytes.starts_with(AGE_MAGIC) {
        let given = passphrase().map_err(|cause| KeyFileError::NoPassphrase { path: path.into(), cause })?;
        let identity = age::scrypt::Identity::new(SecretString::from(given.as_str().to_owned()));
        let opened = age::decrypt(&identity, &bytes);
        Zeroizing::new(opened.map_err(|_| KeyFileError::Passphrase(path.into()))?)
    } else {
        bytes
    };
    let refuse =
        |cause| KeyFileError::NotAKey { path: path.into(), expected: "the secret half of a key", cause };
    let text = std::str::from_utf8(&plain).map_err(|_| refuse(None))?;
    SecretKey::from_json(text).map_err(|cause| refuse(Some(cause)))
}

/// Writes the secret half for its owner alone: encrypted, or plain where no passphrase is given.
///
/// # Errors
/// [`KeyFileError`]; an existing file is left as it is.
pub fn write_secret(path: &Path, key: &SecretKey, passphrase: Option<&str>) -> Result<(), KeyFileError> {
    let plain = key.to_json();
    let Some(passphrase) = passphrase else { return write_new(path, plain.as_bytes(), 0o600) };
    let recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
    write_new(path, &age::encrypt(&recipient, plain.as_bytes())?, 0o600)
}

/// Reads the public half from a public key file, or from a plain secret one.
///
/// # Errors
/// [`KeyFileError`]; an encrypted file does not show its public half.
pub fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let bytes = read_bounded(path)?;
    serde_json::from_slice(&bytes).map_err(|_| {
        let expected = if bytes.starts_with(AGE_MAGIC) {
            "a public key, but an encrypted secret one: name the .pub file beside it"
        } else {
            "a public key (a TUF key object)"
        };
        KeyFileError::NotAKey { path: path.into(), expected, cause: None }
    })
}

/// Writes the public half as a TUF key object on one line.
///
/// # Errors
/// [`KeyFileError`]; an existing file is left as it is.
pub fn write_public(path: &Path, key: &PublicKey) -> Result<(), KeyFileError> {
    let mut bytes = serde_json::to_vec(key).expect("a key object serialises without failure");
    bytes.push(b'\n');
    write_new(path, &bytes, 0o644)
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let fail = |cause| KeyFileError::Io { path: path.into(), cause };
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    let file = File::open(path).map_err(fail)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyFileError> {
    let fail = |cause: io::Error| match cause.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.into()),
        _ => KeyFileError::Io { path: path.into(), cause },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_nobody() -> io::Result<Zeroizing<String>> {
        Err(io::Error::other("asked"))
    }

    fn say(passphrase: &str) -> impl FnOnce() -> io::Result<Zeroizing<String>> {
        let passphrase = Zeroizing::new(passphrase.to_owned());
        move || Ok(passphrase)
    }

    #[test]
    fn an_encrypted_key_opens_with_its_passphrase_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let key = SecretKey::from_seed(&[3; 32]);
        write_secret(&path, &key, Some("correct horse")).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(AGE_MAGIC));
        assert_eq!(read_secret(&path, say("correct horse")).unwrap().public(), key.public());
        assert!(matches!(read_secret(&path, say("wrong")), Err(KeyFileError::Passphrase(_))));
        assert!(matches!(read_secret(&path, ask_nobody), Err(KeyFileError::NoPassphrase { .. })));
        assert!(read_public(&path).unwrap_err().to_string().contains(".pub"));
    }

    #[test]
    fn a_plain_key_asks_nobody_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let key = SecretKey::from_seed(&[4; 32]);
        write_secret(&path, &key, None).unwrap();
        assert_eq!(read_secret(&path, ask_nobody).unwrap().public(), key.public());
        assert_eq!(read_public(&path).unwrap(), key.public());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(write_secret(&path, &key, None), Err(KeyFileError::Exists(_))));
    }
}
