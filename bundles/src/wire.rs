//! What MQTT carries: topics, the two-byte frame around every payload but a raw piece, and the messages in it.

pub mod message;
pub mod topic;

pub use message::{Conn, ConnState, Desired, Get, HubState, Part, Wanted, WantedItem};
pub use topic::{Topic, TopicError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json::{self, JsonError};
use crate::limits::Limits;

/// The version of the frame.
const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// log2 of the largest zstd window that a reader grants a wire payload.
const WINDOW_LOG: u32 = 17;
/// Shorter payloads are sent as they are: zstd saves nothing there.
const COMPRESS_FROM_BYTES: usize = 512;

/// Why a wire payload is not read; the packet is acknowledged, counted and dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter than its frame, or of a later version.
    #[error("frame {found:02x?} is not version 1 with encoding 0 or 1")]
    Frame {
        /// The first two bytes, as far as there are any.
        found: Vec<u8>,
    },
    /// More bytes than the limit, packed or unpacked.
    #[error("wire payload is over the limit of {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The zstd frame is damaged, lacks its size, or wants a larger window.
    #[error("zstd frame is not readable within its limits")]
    Zstd,
    /// Not the message that the topic carries.
    #[error("message is not valid")]
    Json(#[from] JsonError),
}

/// Frames bytes, compressed where that helps.
///
/// # Errors
/// [`WireError::TooLarge`] where neither form fits a packet.
pub fn frame(content: &[u8], limits: &Limits) -> Result<Vec<u8>, WireError> {
    if content.len() > limits.document_bytes {
        return Err(WireError::TooLarge { limit: limits.document_bytes });
    }
    let packed = (content.len() >= COMPRESS_FROM_BYTES).then(|| pack(content)).flatten();
    let (encoding, body) = match &packed {
        Some(packed) if packed.len() < content.len() => (ZSTD, packed.as_slice()),
        _ => (PLAIN, content),
    };
    if body.len() + 2 > limits.wire_bytes {
        return Err(WireError::TooLarge { limit: limits.wire_bytes });
    }
    let mut framed = Vec::with_capacity(body.len() + 2);
    framed.extend_from_slice(&[VERSION, encoding]);
    framed.extend_from_slice(body);
    Ok(framed)
}

fn pack(content: &[u8]) -> Option<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(3).ok()?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::WindowLog(WINDOW_LOG)).ok()?;
    compressor.compress(content).ok()
}

/// Takes the frame off; the result is at most [`Limits::document_bytes`] long.
///
/// # Errors
/// [`WireError`].
pub fn unframe(payload: &[u8], limits: &Limits) -> Result<Vec<u8>, WireError> {
    if payload.len() > limits.wire_bytes {
        return Err(WireError::TooLarge { limit: limits.wire_bytes });
    }
    match payload {
        [VERSION, PLAIN, body @ ..] => Ok(body.to_vec()),
        [VERSION, ZSTD, body @ ..] => unpack(body, limits),
        _ => Err(WireError::Frame { found: payload.iter().take(2).copied().collect() }),
    }
}

fn unpack(body: &[u8], limits: &Limits) -> Result<Vec<u8>, WireError> {
    let declared = zstd::zstd_safe::get_frame_content_size(body).ok().flatten().ok_or(WireError::Zstd)?;
    let size = usize::try_from(declared).ok().filter(|size| *size <= limits.document_bytes);
    let size = size.ok_or(WireError::TooLarge { limit: limits.document_bytes })?;
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|_| WireError::Zstd)?;
    decompressor.window_log_max(WINDOW_LOG).map_err(|_| WireError::Zstd)?;
    let content = decompressor.decompress(body, size).map_err(|_| WireError::Zstd)?;
    if content.len() == size { Ok(content) } else { Err(WireError::Zstd) }
}

/// Writes a message into a frame.
///
/// # Errors
/// [`WireError::TooLarge`].
pub fn encode<T: Serialize>(message: &T, limits: &Limits) -> Result<Vec<u8>, WireError> {
    frame(&serde_json::to_vec(message).expect("wire messages serialise without failure"), limits)
}

/// Reads a message out of its frame, in strict JSON.
///
/// # Errors
/// [`WireError`].
pub fn decode<T: DeserializeOwned>(payload: &[u8], limits: &Limits) -> Result<T, WireError> {
    Ok(json::parse(&unframe(payload, limits)?, limits)?)
}

#[cfg(test)]
mod tests;
