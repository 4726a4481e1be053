//! The messages; each is the whole JSON content of a frame, but [`Part`], which is binary.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{Blake3Digest, Counter, IdError, RandomId, Sha256Digest};

/// `d/desired`: the assignment's envelope, or where to get it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Desired {
    /// The envelope, up to 120 KiB framed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Box<RawValue>>,
    /// Digest of the payload of a larger one, wanted as `doc/HEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Sha256Digest>,
    /// Bytes of the envelope that the pointer means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Newest root at the hub; a site that is behind wants the ones between first.
    pub root_version: u64,
}

/// `u/conn`: presence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conn {
    /// Whether the site is there.
    pub state: ConnState,
    /// Which boot of the agent.
    pub boot: RandomId,
    /// Rises with each connection, so that a late will is recognised.
    pub conn_seq: u64,
    /// The assignment in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Counter>,
    /// The root in force.
    #[serde(default)]
    pub root_version: u64,
}

/// Whether a site is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnState {
    /// It is.
    Online,
    /// It said goodbye, or its will says that it is gone.
    Offline,
}

/// `h/state`: a hint to all sites, clamped by them to built-in bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubState {
    /// Which life of the hub.
    pub hub_incarnation: RandomId,
    /// Over how many milliseconds sites spread a status after a common event.
    pub jitter_ms: u64,
    /// Newest root.
    pub root_version: u64,
    /// Where a broker stands between: sites that see another one than before say again who is there and what was
    /// not acknowledged, each at its moment within `jitter_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll_call: Option<RandomId>,
}

/// `u/get`: what a site wants, most urgent first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// At most 64 items.
    pub want: Vec<Wanted>,
}

/// One wanted item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Which.
    pub item: WantedItem,
    /// True: the site knows the item's piece list and listens on `b/…`, where the hub publishes raw pieces for all
    /// who asked. False: the hub sends parts on the site's own `d/c`, and the site checks the item as a whole.
    #[serde(default)]
    pub pieces: bool,
    /// First piece or part that is wanted.
    #[serde(default)]
    pub from: u64,
    /// How many from there on, at most 256.
    pub count: u64,
    /// Which of those are wanted: bit i of byte i / 8 (lowest first) is piece `from` + i, in hex; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitmap: Option<String>,
}

/// What can be wanted, written `root/2`, `doc/HEX`, `sha256/HEX`, `b3/HEX`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WantedItem {
    /// A root by version.
    Root(u64),
    /// A release or assignment by the digest of its payload.
    Document(Sha256Digest),
    /// A blob.
    Blob(Sha256Digest),
    /// An encoding.
    Encoding(Blake3Digest),
}

impl std::fmt::Display for WantedItem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root(version) => write!(f, "root/{version}"),
            Self::Document(digest) => write!(f, "doc/{}", digest.to_hex()),
            Self::Blob(digest) => write!(f, "sha256/{}", digest.to_hex()),
            Self::Encoding(digest) => write!(f, "b3/{}", digest.to_hex()),
        }
    }
}

impl std::str::FromStr for WantedItem {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError {
            expected: "root/N, doc/HEX, sha256/HEX or b3/HEX",
            found: text.chars().take(80).collect(),
        };
        match text.split_once('/') {
            Some(("root", version)) => {
                let number = version.parse::<u64>().ok().filter(|number| number.to_string() == version);
                number.map(Self::Root).ok_or_else(refuse)
            }
            Some(("doc", hex)) => Ok(Self::Document(Sha256Digest::from_hex(hex)?)),
            Some(("sha256", hex)) => Ok(Self::Blob(Sha256Digest::from_hex(hex)?)),
            Some(("b3", hex)) => Ok(Self::Encoding(Blake3Digest::from_hex(hex)?)),
            _ => Err(refuse()),
        }
    }
}

impl Serialize for WantedItem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WantedItem {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `d/c`: one 64 KiB part of an item, for one site. Unlike the others it is not JSON:
/// version (1), encoding (2: raw part), length of the item's name (1 byte), the name, part and parts as 8 bytes
/// each (big endian), then the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of which item.
    pub item: WantedItem,
    /// Its number, from 0.
    pub part: u64,
    /// How many the item has.
    pub parts: u64,
    /// Its bytes, at most 64 KiB.
    pub bytes: Vec<u8>,
}

impl Part {
    /// Bytes in every part but the last.
    pub const BYTES: usize = 64 << 10;

    /// Writes the payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let name = self.item.to_string();
        let mut payload = vec![1, 2, u8::try_from(name.len()).expect("an item's name is at most 71 bytes")];
        payload.extend_from_slice(name.as_bytes());
        payload.extend_from_slice(&self.part.to_be_bytes());
        payload.extend_from_slice(&self.parts.to_be_bytes());
        payload.extend_from_slice(&self.bytes);
        payload
    }

    /// Reads the payload; `None` where it is not a part or contradicts itself.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let [1, 2, length, rest @ ..] = payload else { return None };
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (part, rest) = rest.split_first_chunk::<8>()?;
        let (parts, bytes) = rest.split_first_chunk::<8>()?;
        let (part, parts) = (u64::from_be_bytes(*part), u64::from_be_bytes(*parts));
        let item = std::str::from_utf8(name).ok()?.parse().ok()?;
        let left = parts.checked_sub(part).filter(|left| *left > 0)?;
        let whole = left == 1 || bytes.len() == Self::BYTES;
        (whole && bytes.len() <= Self::BYTES).then(|| Self { item, part, parts, bytes: bytes.to_vec() })
    }
}
