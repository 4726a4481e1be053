//! DSSE: signatures over the exact payload bytes, verified before anybody parses them.
//!
//! The reader names the kind of document that it expects ([`Document::PAYLOAD_TYPE`]); nothing dispatches on what
//! arrived. Protocol: secure-systems-lab/dsse, `protocol.md` 1.0.2.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::code::Code;
use crate::ids::{KeyId, Sha256Digest};
use crate::json::{self, JsonError};
use crate::keys::{PublicKey, SecretKey};
use crate::limits::Limits;

/// A kind of signed document.
pub trait Document: DeserializeOwned + Serialize {
    /// The DSSE payload type, which the signature covers.
    const PAYLOAD_TYPE: &'static str;
    /// Where the document's own fields stand in the payload: the empty pointer but for in-toto statements.
    const BODY: &'static str = "";
    /// The fields that this version understands; a `crit` list may name only these.
    const FIELDS: &'static [&'static str];

    /// Checks what the types alone cannot: contradictions between fields.
    ///
    /// # Errors
    /// The contradiction.
    fn check(&self) -> Result<(), Contradiction>;
}

/// Fields of one document that contradict each other, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Contradiction {
    /// The stable code: [`Code::DocumentInvalid`] where none says it better.
    pub code: Code,
    /// The fields, and why not both can be true.
    pub words: String,
}

impl Contradiction {
    /// A contradiction that has a code of its own.
    #[must_use]
    pub fn of(code: Code, words: impl Into<String>) -> Self {
        Self { code, words: words.into() }
    }
}

impl From<String> for Contradiction {
    fn from(words: String) -> Self {
        Self { code: Code::DocumentInvalid, words }
    }
}

impl From<&str> for Contradiction {
    fn from(words: &str) -> Self {
        words.to_owned().into()
    }
}

/// Why an envelope is not the document that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The envelope itself does not parse.
    #[error("not a DSSE envelope")]
    Malformed(#[source] JsonError),
    /// Base64 of the payload or of a signature is wrong.
    #[error("base64 of {0} is not valid")]
    Base64(&'static str),
    /// More signatures than anybody needs.
    #[error("{found} signatures, at most {limit}")]
    Signatures {
        /// Found.
        found: usize,
        /// Allowed.
        limit: usize,
    },
    /// A different kind of document.
    #[error("payload type is {found:?}, expected {expected:?}")]
    PayloadType {
        /// Asked for.
        expected: &'static str,
        /// Found.
        found: String,
    },
    /// Not enough distinct keys of the role signed.
    #[error("{valid} of {threshold} needed signatures are valid")]
    Threshold {
        /// Distinct valid keys.
        valid: usize,
        /// Needed.
        threshold: usize,
    },
    /// The verified payload is not strict JSON of the document's shape.
    #[error("payload is not valid")]
    Payload(#[source] JsonError),
    /// A field that must be understood is not.
    #[error("field {0:?} must be understood and is not")]
    Critical(String),
    /// The verified payload contradicts itself.
    #[error("document is not valid: {0}")]
    Invalid(Contradiction),
}

impl EnvelopeError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed(_) | Self::Base64(_) | Self::Signatures { .. } => Code::EnvelopeMalformed,
            Self::PayloadType { .. } => Code::WrongPayloadType,
            Self::Threshold { .. } => Code::TooFewSignatures,
            Self::Payload(JsonError::Shape(_)) => Code::DocumentInvalid,
            Self::Invalid(contradiction) => contradiction.code,
            Self::Payload(_) => Code::JsonNotStrict,
            Self::Critical(_) => Code::UnknownCritical,
        }
    }
}

/// A signature and the id of the key that is said to have made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// A hint: verification tries the role's key of this id; all of them where there is none (ours always have one).
    pub keyid: Option<KeyId>,
    /// Ed25519 over the pre-authentication encoding.
    pub bytes: [u8; 64],
}

/// Bytes with signatures that nobody has verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
struct WireSignature {
    /// Tools that leave it out and tools that write it empty mean the same.
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl WireSignature {
    fn read(self) -> Result<Signature, EnvelopeError> {
        let bytes = decode_base64(&self.sig).and_then(|bytes| bytes.try_into().ok());
        let keyid = (!self.keyid.is_empty()).then(|| KeyId::new(&self.keyid)).transpose();
        let keyid = keyid.map_err(|error| EnvelopeError::Malformed(JsonError::Shape(error.to_string())))?;
        Ok(Signature { keyid, bytes: bytes.ok_or(EnvelopeError::Base64("signature"))? })
    }
}

/// Decodes base64 of either alphabet, as DSSE asks of readers; digests are of payloads, so both spell one document.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let url_safe = text.bytes().any(|byte| matches!(byte, b'-' | b'_'));
    if url_safe { URL_SAFE.decode(text).ok() } else { BASE64.decode(text).ok() }
}

/// The bytes that DSSE signs: `DSSEv1`, and type and payload each with its length.
#[must_use]
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// Writes a document as an unsigned envelope.
    #[must_use]
    pub fn draft<D: Document>(document: &D) -> Self {
        let payload = serde_json::to_vec(document).expect("documents serialise without failure");
        Self::around(D::PAYLOAD_TYPE, payload)
    }

    /// Writes a document as an envelope with one signature.
    #[must_use]
    pub fn signed<D: Document>(document: &D, key: &SecretKey) -> Self {
        let mut envelope = Self::draft(document);
        envelope.sign(key);
        envelope
    }

    /// Puts payload bytes into an unsigned envelope.
    #[must_use]
    pub fn around(payload_type: &str, payload: Vec<u8>) -> Self {
        Self { payload_type: payload_type.to_owned(), payload, signatures: Vec::new() }
    }

    /// Reads an envelope; says nothing about its signatures.
    ///
    /// # Errors
    /// [`EnvelopeError`] where it is not DSSE or has too many signatures.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, EnvelopeError> {
        let wire: Wire = json::parse(bytes, limits).map_err(EnvelopeError::Malformed)?;
        if wire.signatures.len() > limits.signatures {
            return Err(EnvelopeError::Signatures { found: wire.signatures.len(), limit: limits.signatures });
        }
        let payload = decode_base64(&wire.payload).ok_or(EnvelopeError::Base64("payload"))?;
        let signatures = wire.signatures.into_iter().map(WireSignature::read).collect::<Result<_, _>>()?;
        Ok(Self { payload_type: wire.payload_type, payload, signatures })
    }

    /// Writes the envelope as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let signature = |signature: &Signature| WireSignature {
            keyid: signature.keyid.as_ref().map(ToString::to_string).unwrap_or_default(),
            sig: BASE64.encode(signature.bytes),
        };
        let wire = Wire {
            payload_type: self.payload_type.clone(),
            payload: BASE64.encode(&self.payload),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        serde_json::to_vec(&wire).expect("an envelope serialises without failure")
    }

    /// Adds one signature; a key that signed already is not counted twice.
    pub fn sign(&mut self, key: &SecretKey) {
        let keyid = Some(key.public().key_id());
        if self.signatures.iter().all(|signature| signature.keyid != keyid) {
            let bytes = key.sign(&pre_authentication_encoding(&self.payload_type, &self.payload));
            self.signatures.push(Signature { keyid, bytes });
        }
    }

    /// Takes over the signatures of another envelope around the same payload; returns how many were new.
    ///
    /// # Errors
    /// [`EnvelopeError::Invalid`] where the payloads differ.
    pub fn merge(&mut self, other: &Self) -> Result<usize, EnvelopeError> {
        if (&self.payload_type, &self.payload) != (&other.payload_type, &other.payload) {
            return Err(EnvelopeError::Invalid("the signatures are over another payload".into()));
        }
        let before = self.signatures.len();
        for signature in &other.signatures {
            if !self.signatures.contains(signature) {
                self.signatures.push(signature.clone());
            }
        }
        Ok(self.signatures.len() - before)
    }

    /// What the envelope claims to hold.
    #[must_use]
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// The payload, not verified: for showing and for hashing only.
    #[must_use]
    pub fn payload_unverified(&self) -> &[u8] {
        &self.payload
    }

    /// The document's digest: SHA-256 of the payload bytes.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(&self.payload)
    }

    /// The signatures, not verified.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Which of `keys` made a valid signature here; distinct public keys, whatever ids they come under.
    pub fn valid_signers<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k PublicKey>,
    ) -> BTreeSet<&'k PublicKey> {
        let message = pre_authentication_encoding(&self.payload_type, &self.payload);
        let signed = |key: &&PublicKey| {
            let id = key.key_id();
            self.signatures
                .iter()
                .filter(|signature| signature.keyid.as_ref().is_none_or(|named| *named == id))
                .any(|signature| key.verifies(&message, &signature.bytes))
        };
        keys.into_iter().filter(signed).collect()
    }

    /// Refuses unless the payload type is `D`'s and at least `threshold` distinct keys signed.
    ///
    /// # Errors
    /// [`EnvelopeError::PayloadType`], [`EnvelopeError::Threshold`].
    pub fn verify_threshold<'k, D: Document>(
        &self,
        keys: impl IntoIterator<Item = &'k PublicKey>,
        threshold: usize,
    ) -> Result<(), EnvelopeError> {
        if self.payload_type != D::PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType {
                expected: D::PAYLOAD_TYPE,
                found: self.payload_type.clone(),
            });
        }
        let valid = self.valid_signers(keys).len();
        if valid < threshold.max(1) {
            return Err(EnvelopeError::Threshold { valid, threshold: threshold.max(1) });
        }
        Ok(())
    }

    /// Reads the payload as `D` **without** having verified a signature: for drafts, tools, and documents that
    /// carry their own key. Refuses another payload type, loose JSON, and unknown critical fields.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn read_unverified<D: Document>(&self, limits: &Limits) -> Result<D, EnvelopeError> {
        if self.payload_type != D::PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType {
                expected: D::PAYLOAD_TYPE,
                found: self.payload_type.clone(),
            });
        }
        json::check(&self.payload, limits).map_err(EnvelopeError::Payload)?;
        let shape = |error: serde_json::Error| EnvelopeError::Payload(JsonError::Shape(error.to_string()));
        let critical = critical_fields(&self.payload, D::BODY).map_err(shape)?;
        if let Some(unknown) = critical.into_iter().find(|name| !D::FIELDS.contains(&name.as_str())) {
            return Err(EnvelopeError::Critical(unknown));
        }
        let document: D = serde_json::from_slice(&self.payload).map_err(shape)?;
        document.check().map_err(EnvelopeError::Invalid)?;
        Ok(document)
    }
}

/// The `crit` list of the object at a pointer, read alone: a newer document may be one that the types do not fit.
fn critical_fields(payload: &[u8], body: &str) -> serde_json::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Critical {
        #[serde(default)]
        crit: Vec<String>,
    }
    let mut object: &RawValue = serde_json::from_slice(payload)?;
    for name in body.split('/').skip(1) {
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(object.get())?;
        let Some(inner) = fields.remove(name) else { return Ok(Vec::new()) };
        object = inner;
    }
    serde_json::from_str::<Critical>(object.get()).map(|critical| critical.crit)
}

/// A document whose signatures met their threshold before it was parsed.
///
/// Only [`open`] makes one, so holding it is the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<D> {
    document: D,
    digest: Sha256Digest,
    envelope: Vec<u8>,
}

impl<D> Verified<D> {
    /// The document.
    pub fn document(&self) -> &D {
        &self.document
    }

    /// SHA-256 of its payload bytes.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The envelope as it arrived, for storing and passing on.
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }
}

/// Verifies an envelope against `keys` and `threshold`, then reads it: signatures first, JSON after.
///
/// # Errors
/// [`EnvelopeError`], one variant per refusal.
pub fn open<'k, D: Document>(
    bytes: &[u8],
    keys: impl IntoIterator<Item = &'k PublicKey>,
    threshold: usize,
    limits: &Limits,
) -> Result<Verified<D>, EnvelopeError> {
    open_parsed(&Envelope::parse(bytes, limits)?, bytes, keys, threshold, limits)
}

/// The same of an envelope that was parsed from these bytes already.
pub(crate) fn open_parsed<'k, D: Document>(
    envelope: &Envelope,
    bytes: &[u8],
    keys: impl IntoIterator<Item = &'k PublicKey>,
    threshold: usize,
    limits: &Limits,
) -> Result<Verified<D>, EnvelopeError> {
    envelope.verify_threshold::<D>(keys, threshold)?;
    let document = envelope.read_unverified(limits)?;
    Ok(Verified { document, digest: envelope.digest(), envelope: bytes.to_vec() })
}

/// Takes back a document that this process or an earlier one verified and stored itself.
///
/// Its signatures are not checked again: keys may have been rotated since, and what was accepted stays usable.
///
/// # Errors
/// [`EnvelopeError`] where the stored bytes are damaged.
pub(crate) fn reopen<D: Document>(bytes: &[u8], limits: &Limits) -> Result<Verified<D>, EnvelopeError> {
    let envelope = Envelope::parse(bytes, limits)?;
    let document = envelope.read_unverified(limits)?;
    Ok(Verified { document, digest: envelope.digest(), envelope: bytes.to_vec() })
}

/// Reads a document that brings its own key (an enrolment request): the key must stand in the document and sign it.
///
/// # Errors
/// [`EnvelopeError`], one variant per refusal.
pub fn open_self_signed<D: Document>(
    bytes: &[u8],
    key: impl FnOnce(&D) -> PublicKey,
    limits: &Limits,
) -> Result<Verified<D>, EnvelopeError> {
    let envelope = Envelope::parse(bytes, limits)?;
    let document: D = envelope.read_unverified(limits)?;
    envelope.verify_threshold::<D>([&key(&document)], 1)?;
    Ok(Verified { document, digest: envelope.digest(), envelope: bytes.to_vec() })
}

#[cfg(test)]
mod tests;
