//! Ed25519 keys as TUF key objects, and their ids.

use std::cmp::Ordering;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::ids::{KeyId, decode_hex, encode_hex};

/// A key, or a file of one, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The public half is not 32 bytes of hex on the curve, or is a weak point.
    #[error("public key {0:?} is not a usable Ed25519 key")]
    Public(String),
    /// Key type or scheme is another one.
    #[error("key type {keytype:?} with scheme {scheme:?} is not supported: ed25519 only")]
    Scheme {
        /// What the key object says.
        keytype: String,
        /// What the key object says.
        scheme: String,
    },
    /// The seed is not 32 bytes of hex.
    #[error("secret key is not 64 lower-case hex digits")]
    Secret,
    /// The file's public half does not belong to its seed.
    #[error("key file holds two halves that do not fit")]
    Halves,
}

/// A public key as TUF writes it (TUF 1.0.33 §4.2): `{"keytype","scheme","keyval":{"public":hex}}`.
///
/// It is held as the point of the curve that its bytes stand for: finding that is a tenth of what verifying costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "KeyObject", into = "KeyObject")]
pub struct PublicKey {
    point: VerifyingKey,
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

#[derive(Serialize, Deserialize)]
struct KeyObject {
    keytype: String,
    scheme: String,
    keyval: KeyValue,
}

#[derive(Serialize, Deserialize)]
struct KeyValue {
    public: String,
}

impl TryFrom<KeyObject> for PublicKey {
    type Error = KeyError;

    fn try_from(object: KeyObject) -> Result<Self, KeyError> {
        if object.keytype != "ed25519" || object.scheme != "ed25519" {
            return Err(KeyError::Scheme { keytype: object.keytype, scheme: object.scheme });
        }
        Self::from_hex(&object.keyval.public)
    }
}

impl From<PublicKey> for KeyObject {
    fn from(key: PublicKey) -> Self {
        let ed25519 = || "ed25519".to_owned();
        Self {
            keytype: ed25519(),
            scheme: ed25519(),
            keyval: KeyValue { public: encode_hex(key.as_bytes()) },
        }
    }
}

impl PublicKey {
    /// Takes 32 bytes that are a point of the curve, and none of the few of small order.
    ///
    /// # Errors
    /// [`KeyError::Public`] for bytes off the curve and for weak points, under which anything verifies.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let refuse = || KeyError::Public(encode_hex(&bytes));
        let point = VerifyingKey::from_bytes(&bytes).map_err(|_| refuse())?;
        if point.is_weak() { Err(refuse()) } else { Ok(Self { point }) }
    }

    /// Reads 64 lower-case hex digits.
    ///
    /// # Errors
    /// As [`PublicKey::from_bytes`].
    pub fn from_hex(hex: &str) -> Result<Self, KeyError> {
        let bytes = decode_hex(hex).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map_or_else(|| Err(KeyError::Public(hex.chars().take(80).collect())), Self::from_bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.point.as_bytes()
    }

    /// The TUF key id: SHA-256 of the key object in canonical JSON.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let public = encode_hex(self.as_bytes());
        let object =
            format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{public}"}},"scheme":"ed25519"}}"#);
        KeyId::new(&encode_hex(&Sha256::digest(object.as_bytes()))).expect("SHA-256 is 64 hex digits")
    }

    /// Whether `signature` is this key's over `message`, by the strict rules (no malleable or small-order parts).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.point.verify_strict(message, &signature).is_ok()
    }
}

/// Both halves of a key; its secret is wiped when dropped and never shown.
pub struct SecretKey {
    signing: SigningKey,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.public().key_id())
    }
}

impl SecretKey {
    /// Takes a seed of 32 random bytes (RFC 8032 §5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(seed) }
    }

    /// Makes a key with the operating system's randomness.
    ///
    /// # Errors
    /// The operating system's, where it has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut())?;
        Ok(Self::from_seed(&seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { point: self.signing.verifying_key() }
    }

    /// Signs bytes; the same bytes give the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// Writes the key as JSON: the TUF key object with `private` beside `public`.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let (public, private) =
            (encode_hex(self.public().as_bytes()), Zeroizing::new(encode_hex(self.signing.as_bytes())));
        Zeroizing::new(format!(
            "{{\"keytype\":\"ed25519\",\"scheme\":\"ed25519\",\"keyval\":{{\"public\":\"{public}\",\"private\":\"{}\"}}}}\n",
            private.as_str()
        ))
    }

    /// Reads what [`SecretKey::to_json`] wrote.
    ///
    /// # Errors
    /// [`KeyError`] for another scheme, a bad seed, or halves that do not fit.
    pub fn from_json(text: &str) -> Result<Self, KeyError> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|_| KeyError::Secret)?;
        let field =
            |pointer: &str| value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
        if (field("/keytype"), field("/scheme")) != ("ed25519", "ed25519") {
            return Err(KeyError::Scheme {
                keytype: field("/keytype").into(),
                scheme: field("/scheme").into(),
            });
        }
        let seed = Zeroizing::new(decode_hex(field("/keyval/private")).ok_or(KeyError::Secret)?);
        let seed = <&[u8; 32]>::try_from(seed.as_slice()).map_err(|_| KeyError::Secret)?;
        let key = Self::from_seed(seed);
        if encode_hex(key.public().as_bytes()) == field("/keyval/public") {
            Ok(key)
        } else {
            Err(KeyError::Halves)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_8032_test_1_gives_the_published_key_and_signature() {
        let seed = decode_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = SecretKey::from_seed(seed.as_slice().try_into().unwrap());
        assert_eq!(
            encode_hex(key.public().as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let signature = key.sign(b"");
        assert!(
            encode_hex(&signature)
                .starts_with("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
        );
        assert!(key.public().verifies(b"", &signature));
        assert!(!key.public().verifies(b"x", &signature));
    }

    #[test]
    fn weak_points_are_no_keys() {
        let identity = format!("01{}", "0".repeat(62));
        assert!(PublicKey::from_hex(&identity).is_err());
    }

    #[test]
    fn a_key_file_round_trips_and_must_fit() {
        let key = SecretKey::from_seed(&[7; 32]);
        let text = key.to_json();
        assert_eq!(SecretKey::from_json(&text).unwrap().public(), key.public());
        let other = text.replace(&encode_hex(&[7; 32]), &encode_hex(&[8; 32]));
        assert_eq!(SecretKey::from_json(&other).unwrap_err(), KeyError::Halves);
        assert!(!format!("{key:?}").contains(&encode_hex(&[7; 32])));
    }
}
