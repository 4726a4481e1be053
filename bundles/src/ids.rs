//! Names and numbers that travel in documents, each a type whose constructor can refuse.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The largest integer that a document may hold: 2^53 − 1, which every JSON reader keeps exact.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A name, digest or number from outside does not have its required form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {expected}")]
pub struct IdError {
    /// The form that was required, in words.
    pub expected: &'static str,
    /// What was found, cut to 80 characters.
    pub found: String,
}

impl IdError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.chars().take(80).collect() }
    }
}

/// Whether `text` is a DNS label (RFC 1123): lower-case letters, digits and inner hyphens, 1–63 bytes.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&first), Some(&last)) if inner(first) && inner(last))
        && bytes.len() <= 63
        && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
}

fn is_lower_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

// Clones share the text: a name stands in many rows.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the form of `text`.
            ///
            /// # Errors
            /// [`IdError`] with the required form.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(IdError::new($expected, text)) }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A site: one K3s cluster with one agent identity.
    SiteId,
    "a site id (DNS label: lower-case letters, digits, inner hyphens, at most 63)",
    is_dns_label
);
text_id!(
    /// An app: what is versioned and deployed as one.
    AppName,
    "an app name (DNS label: lower-case letters, digits, inner hyphens, at most 63)",
    is_dns_label
);
text_id!(
    /// A fleet: everything that one trust root governs.
    FleetId,
    "a fleet id (DNS label: lower-case letters, digits, inner hyphens, at most 63)",
    is_dns_label
);
text_id!(
    /// A short name inside an app: a parameter, overlay, secret slot or release role.
    Name,
    "a name (letters, digits, '.', '_' and '-', at most 63, starting with a letter or digit)",
    |text| {
        text.len() <= 63
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    }
);
text_id!(
    /// A version for people, such as `1.4.2`; order comes from `seq`, never from this text.
    Version,
    "a version (printable ASCII without spaces, at most 64)",
    |text| !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic())
);
text_id!(
    /// The TUF key id: 64 lower-case hex digits, SHA-256 of the canonical key object.
    KeyId,
    "a key id (64 lower-case hex digits)",
    |text| is_lower_hex(text, 64)
);
text_id!(
    /// A random identity of 128 bits in 32 lower-case hex digits: a chain, an outbox, a hub, a nonce.
    RandomId,
    "a random id (32 lower-case hex digits)",
    |text| is_lower_hex(text, 32)
);

impl RandomId {
    /// Makes an id of 16 bytes that the caller drew from the operating system (or, in a simulation, a seed).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(encode_hex(&bytes).into())
    }
}

/// Lower-case hex of any bytes.
#[must_use]
pub fn encode_hex(bytes: &[u8]) -> String {
    // Documents are full of digests: `write!` of each byte took a thirtieth of a simulated fleet's time.
    let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'a' - 10 + half });
    let mut text = String::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|byte| text.extend([digit(byte >> 4), digit(byte & 15)]));
    text
}

/// Bytes of lower-case hex, or `None` where `text` is anything else.
#[must_use]
pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !is_lower_hex(text, text.len()) || !text.len().is_multiple_of(2) {
        return None;
    }
    let half = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
    Some(text.as_bytes().chunks_exact(2).map(|pair| half(pair[0]) << 4 | half(pair[1])).collect())
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes 32 bytes that already are a digest.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Reads 64 lower-case hex digits, without an algorithm prefix.
            ///
            /// # Errors
            /// [`IdError`] for anything else.
            pub fn from_hex(hex: &str) -> Result<Self, IdError> {
                let bytes = decode_hex(hex).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                bytes.map(Self).ok_or_else(|| IdError::new($expected, hex))
            }

            /// The 32 bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// 64 lower-case hex digits, without a prefix.
            #[must_use]
            pub fn to_hex(&self) -> String {
                encode_hex(&self.0)
            }

            fn text(&self) -> String {
                [$prefix, &self.to_hex()].concat()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.text())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let hex = text.strip_prefix($prefix).ok_or_else(|| IdError::new($expected, text))?;
                Self::from_hex(hex)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.text())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest!(
    /// The identity of content: SHA-256, written `sha256:<64 hex>` as in OCI descriptors.
    Sha256Digest,
    "sha256:",
    "a digest (sha256: and 64 lower-case hex digits)"
);
digest!(
    /// The BLAKE3 hash of a piece or of an encoding, written `b3:<64 hex>`.
    Blake3Digest,
    "b3:",
    "a piece hash (b3: and 64 lower-case hex digits)"
);

impl Sha256Digest {
    /// Hashes bytes that are at hand as a whole.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Blake3Digest {
    /// Hashes bytes that are at hand as a whole.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// A counter that refuses older documents: epochs first, then the number within the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Counter {
    /// Raised by a root only, which resets the number.
    pub epoch: u64,
    /// Raised by each document within its epoch.
    pub seq: u64,
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

/// A moment for display and staleness, never for a refusal: whole seconds since 1970, as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 9999-12-30T22:00:00Z, the last second that jiff can write: one later in any time zone has five digits of a year.
    const LAST_S: i64 = 253_402_207_200;

    /// Takes whole seconds since 1970-01-01T00:00:00Z, clamped to what has four digits of a year.
    #[must_use]
    pub fn from_unix_s(seconds: i64) -> Self {
        Self(seconds.clamp(0, Self::LAST_S))
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn unix_s(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_second(self.0).map_err(|_| fmt::Error)?;
        f.pad(&moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

impl FromStr for Timestamp {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError::new("a time (RFC 3339, UTC, whole seconds: 2026-01-31T12:00:00Z)", text);
        if text.len() != 20 || !text.ends_with('Z') || !text.is_ascii() {
            return Err(refuse());
        }
        let moment: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
        let time = Self::from_unix_s(moment.as_second());
        if time.to_string() == text { Ok(time) } else { Err(refuse()) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_ids_are_dns_labels() {
        for good in ["a", "site-7", "0a", &"x".repeat(63)] {
            assert!(SiteId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "a+", "#", &"x".repeat(64), "ä"] {
            assert!(SiteId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_round_trip_and_refuse_upper_case() {
        let digest = Sha256Digest::of(b"abc");
        assert_eq!(digest.to_string().parse::<Sha256Digest>().as_ref(), Ok(&digest));
        assert!(digest.to_string().to_uppercase().parse::<Sha256Digest>().is_err());
        assert!(digest.to_hex().parse::<Sha256Digest>().is_err(), "the prefix is required");
    }

    #[test]
    fn times_have_one_spelling() {
        let time: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-21T12:00:00Z");
        for bad in ["2026-11-21T12:00:00+00:00", "2026-11-21t12:00:00Z", "2026-11-21T12:00:60Z", "now"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        let last = Timestamp::from_unix_s(i64::MAX);
        assert_eq!(
            last.to_string().parse(),
            Ok(last),
            "no clock is so wrong that its reading cannot be written"
        );
    }

    #[test]
    fn an_epoch_outranks_any_number() {
        assert!(Counter { epoch: 2, seq: 0 } > Counter { epoch: 1, seq: INTEGER_MAX });
    }
}
