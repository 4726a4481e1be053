//! The topics, parsed and written in one place.

use crate::ids::{Blake3Digest, IdError, Name, Sha256Digest, SiteId};

/// A topic of Airlift, without its prefix `PREFIX/v1/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// `s/SITE/d/desired`: the assignment, retained.
    Desired(SiteId),
    /// `s/SITE/d/ack`: the signed ack.
    Ack(SiteId),
    /// `s/SITE/d/cmd`: a signed request.
    Command(SiteId),
    /// `s/SITE/d/c`: a part of an item, for this site alone.
    Content(SiteId),
    /// `s/SITE/u/s`: a signed outbox batch.
    Status(SiteId),
    /// `s/SITE/u/get`: wanted items.
    Get(SiteId),
    /// `s/SITE/u/conn`: presence, retained, and the will.
    Conn(SiteId),
    /// `b/sha256-HEX/N`: raw piece N of a blob, for all who asked.
    BlobPiece(Sha256Digest, u64),
    /// `b/b3-HEX/N`: raw piece N of an encoding.
    EncodingPiece(Blake3Digest, u64),
    /// `h/state`: the hub's state, retained.
    HubState,
}

/// A topic is not one of Airlift's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Another prefix or version.
    #[error("topic is not under {0}/v1")]
    Prefix(Name),
    /// No such topic.
    #[error("topic {0:?} is unknown")]
    Unknown(String),
    /// A level does not have its form.
    #[error("topic level is not valid")]
    Level(#[from] IdError),
}

impl Topic {
    /// Writes the topic under `prefix`.
    #[must_use]
    pub fn name(&self, prefix: &Name) -> String {
        let rest = match self {
            Self::Desired(site) => format!("s/{site}/d/desired"),
            Self::Ack(site) => format!("s/{site}/d/ack"),
            Self::Command(site) => format!("s/{site}/d/cmd"),
            Self::Content(site) => format!("s/{site}/d/c"),
            Self::Status(site) => format!("s/{site}/u/s"),
            Self::Get(site) => format!("s/{site}/u/get"),
            Self::Conn(site) => format!("s/{site}/u/conn"),
            Self::BlobPiece(digest, piece) => format!("b/sha256-{}/{piece}", digest.to_hex()),
            Self::EncodingPiece(digest, piece) => format!("b/b3-{}/{piece}", digest.to_hex()),
            Self::HubState => "h/state".to_owned(),
        };
        format!("{prefix}/v1/{rest}")
    }

    /// Reads a topic; numbers are decimal without leading zeros, digests lower-case hex.
    ///
    /// # Errors
    /// [`TopicError`].
    pub fn parse(topic: &str, prefix: &Name) -> Result<Self, TopicError> {
        let unknown = || TopicError::Unknown(topic.chars().take(120).collect());
        let rest = topic
            .strip_prefix(prefix.as_str())
            .and_then(|rest| rest.strip_prefix("/v1/"))
            .ok_or_else(|| TopicError::Prefix(prefix.clone()))?;
        let levels: Vec<&str> = rest.splitn(5, '/').collect();
        match levels.as_slice() {
            ["h", "state"] => Ok(Self::HubState),
            ["b", item, piece] => {
                let number = piece.parse::<u64>().ok().filter(|number| number.to_string() == *piece);
                let piece = number.ok_or_else(unknown)?;
                match item.split_once('-') {
                    Some(("sha256", hex)) => Ok(Self::BlobPiece(Sha256Digest::from_hex(hex)?, piece)),
                    Some(("b3", hex)) => Ok(Self::EncodingPiece(Blake3Digest::from_hex(hex)?, piece)),
                    _ => Err(unknown()),
                }
            }
            ["s", site, direction, kind] => {
                let site = SiteId::new(site)?;
                match (*direction, *kind) {
                    ("d", "desired") => Ok(Self::Desired(site)),
                    ("d", "ack") => Ok(Self::Ack(site)),
                    ("d", "cmd") => Ok(Self::Command(site)),
                    ("d", "c") => Ok(Self::Content(site)),
                    ("u", "s") => Ok(Self::Status(site)),
                    ("u", "get") => Ok(Self::Get(site)),
                    ("u", "conn") => Ok(Self::Conn(site)),
                    _ => Err(unknown()),
                }
            }
            _ => Err(unknown()),
        }
    }

    /// The filter of everything that the hub says to one site.
    #[must_use]
    pub fn downward_filter(site: &SiteId, prefix: &Name) -> String {
        format!("{prefix}/v1/s/{site}/d/#")
    }

    /// The filter of a blob's pieces.
    #[must_use]
    pub fn pieces_filter(blob: &Sha256Digest, prefix: &Name) -> String {
        format!("{prefix}/v1/b/sha256-{}/+", blob.to_hex())
    }
}
