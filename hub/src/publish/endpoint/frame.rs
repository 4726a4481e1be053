//! Cuts the byte stream into whole packets, and refuses a packet by its first bytes.

use super::limits::Limits;
use super::reason::Reason;
use bytes::{Buf, Bytes, BytesMut};

/// Numbers of the packet types, as in the high half of a packet's first byte.
pub(super) mod kind {
    pub(in super::super) const CONNECT: u8 = 1;
    pub(in super::super) const CONNACK: u8 = 2;
    pub(in super::super) const PUBLISH: u8 = 3;
    pub(in super::super) const PUBACK: u8 = 4;
    pub(in super::super) const SUBSCRIBE: u8 = 8;
    pub(in super::super) const SUBACK: u8 = 9;
    pub(in super::super) const UNSUBSCRIBE: u8 = 10;
    pub(in super::super) const UNSUBACK: u8 = 11;
    pub(in super::super) const PINGREQ: u8 = 12;
    pub(in super::super) const PINGRESP: u8 = 13;
    pub(in super::super) const DISCONNECT: u8 = 14;
    pub(in super::super) const AUTH: u8 = 15;
}

/// Refuses bytes from a peer: the reason that it is told, and what was wrong, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (reason {reason})")]
pub struct Refusal {
    /// What DISCONNECT or CONNACK carries.
    pub reason: Reason,
    /// What was wrong.
    pub fault: &'static str,
}

/// Makes the refusal of bytes that break the format.
pub(super) fn malformed(fault: &'static str) -> Refusal {
    Refusal { reason: Reason::MALFORMED, fault }
}

/// Makes the refusal of a packet that is well formed, but not allowed.
pub(super) fn forbidden(fault: &'static str) -> Refusal {
    Refusal { reason: Reason::PROTOCOL_ERROR, fault }
}

/// One whole packet: its first byte, and all that follows the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first: u8,
    pub(super) body: Bytes,
}

impl Frame {
    pub(super) fn kind(&self) -> u8 {
        self.first >> 4
    }

    pub(super) fn flags(&self) -> u8 {
        self.first & 0x0f
    }
}

/// What the beginning of a packet says about the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    header_len: usize,
    body_len: usize,
}

/// Takes the first whole packet off `buffer`; `None` asks for more bytes.
///
/// A packet that will not be accepted is refused as soon as its first bytes are there. While a packet is
/// incomplete, room for exactly its rest is reserved, so an honest length is the only allocation.
pub(super) fn take_frame(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Frame>, Refusal> {
    let Some(header) = read_header(buffer, limits)? else { return Ok(None) };
    let whole = header.header_len + header.body_len;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    let first = buffer[0];
    buffer.advance(header.header_len);
    let body = buffer.split_to(header.body_len).freeze();
    if buffer.is_empty() {
        // The frame holds the allocation now; an idle connection holds none.
        *buffer = BytesMut::new();
    }
    Ok(Some(Frame { first, body }))
}

fn read_header(bytes: &[u8], limits: &Limits) -> Result<Option<Header>, Refusal> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let (kind, flags) = (first >> 4, first & 0x0f);
    let flags_expected = match kind {
        kind::PUBLISH => flags,
        kind::SUBSCRIBE | kind::UNSUBSCRIBE => 2,
        kind::CONNECT | kind::PUBACK | kind::PINGREQ | kind::DISCONNECT | kind::AUTH => 0,
        5..=7 => return Err(Refusal { reason: Reason::QOS_NOT_SUPPORTED, fault: "a packet of qos 2" }),
        0 => return Err(malformed("packet type 0")),
        _ => return Err(forbidden("a packet that only a server sends")),
    };
    if flags != flags_expected {
        return Err(malformed("wrong flags in the fixed header"));
    }
    let Some((body_len, length_len)) = read_varint(&bytes[1..])? else { return Ok(None) };
    let header = Header { header_len: 1 + length_len, body_len: body_len as usize };
    let max = if kind == kind::PUBLISH { limits.packet_bytes_max } else { limits.other_packet_bytes_max };
    if header.header_len + header.body_len > max as usize {
        return Err(Refusal { reason: Reason::PACKET_TOO_LARGE, fault: "a packet over the limit" });
    }
    Ok(Some(header))
}

/// Reads a variable byte integer and how many bytes it took; `None` asks for more bytes.
pub(super) fn read_varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Refusal> {
    let mut value = 0_u32;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            // One value has one form: a last byte of zero after others is padding.
            if byte == 0 && index > 0 {
                return Err(malformed("a padded length"));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(malformed("a length of more than four bytes")) } else { Ok(None) }
}
