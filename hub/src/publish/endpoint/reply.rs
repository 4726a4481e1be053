//! Writes what the endpoint sends.
//!
//! Reasons are always followed by an empty property section, though the standard lets both be left out:
//! rumqttc waits for ever for the missing byte of a short DISCONNECT.

use super::frame::kind;
use super::packet::Qos;
use super::reason::Reason;
use bytes::{BufMut, Bytes, BytesMut};

/// What CONNACK grants, beside its reason.
#[derive(Debug, Default)]
pub(super) struct Granted {
    pub(super) session_present: bool,
    /// Named only where it differs from what was asked.
    pub(super) session_expiry_s: Option<u32>,
    /// Named only where it differs from what was asked.
    pub(super) keep_alive_s: Option<u16>,
    pub(super) receive_maximum: u16,
    pub(super) packet_bytes_max: u32,
}

/// Writes an accepting CONNACK.
pub(super) fn connack(granted: &Granted) -> Bytes {
    let mut properties = BytesMut::with_capacity(32);
    if let Some(expiry_s) = granted.session_expiry_s {
        properties.put_u8(17);
        properties.put_u32(expiry_s);
    }
    if let Some(keep_alive_s) = granted.keep_alive_s {
        properties.put_u8(19);
        properties.put_u16(keep_alive_s);
    }
    properties.put_u8(33);
    properties.put_u16(granted.receive_maximum);
    properties.put_slice(&[36, 1]); // maximum QoS 1
    properties.put_u8(39);
    properties.put_u32(granted.packet_bytes_max);
    properties.put_slice(&[41, 0, 42, 0]); // no subscription identifiers, no shared subscriptions
    let mut body = BytesMut::with_capacity(48);
    body.put_u8(u8::from(granted.session_present));
    body.put_u8(Reason::SUCCESS.0);
    put_varint(&mut body, properties.len());
    body.put_slice(&properties);
    packet(kind::CONNACK, &body)
}

/// Writes a refusing CONNACK.
pub(super) fn connack_refused(reason: Reason) -> Bytes {
    packet(kind::CONNACK, &[0, reason.0, 0])
}

pub(super) fn puback(packet_id: u16, reason: Reason) -> Bytes {
    let [high, low] = packet_id.to_be_bytes();
    if reason == Reason::SUCCESS {
        return packet(kind::PUBACK, &[high, low]);
    }
    packet(kind::PUBACK, &[high, low, reason.0, 0])
}

pub(super) fn suback(packet_id: u16, reasons: &[Reason]) -> Bytes {
    answers(kind::SUBACK, packet_id, reasons)
}

pub(super) fn unsuback(packet_id: u16, reasons: &[Reason]) -> Bytes {
    answers(kind::UNSUBACK, packet_id, reasons)
}

fn answers(kind: u8, packet_id: u16, reasons: &[Reason]) -> Bytes {
    let mut body = BytesMut::with_capacity(3 + reasons.len());
    body.put_u16(packet_id);
    body.put_u8(0);
    body.extend(reasons.iter().map(|reason| reason.0));
    packet(kind, &body)
}

pub(super) fn pingresp() -> Bytes {
    Bytes::from_static(&[kind::PINGRESP << 4, 0])
}

pub(super) fn disconnect(reason: Reason) -> Bytes {
    packet(kind::DISCONNECT, &[reason.0, 0])
}

/// How one copy of a message goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    /// `None` is QoS 0.
    pub(super) packet_id: Option<u16>,
    pub(super) retain: bool,
    pub(super) duplicate: bool,
}

/// Writes a PUBLISH up to its payload, which follows from the shared buffer.
pub(super) fn publish_head(topic: &str, payload_len: usize, sending: Sending) -> Bytes {
    let qos = if sending.packet_id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    let flags = u8::from(sending.retain) | (qos as u8) << 1 | u8::from(sending.duplicate) << 3;
    let id_len = if sending.packet_id.is_some() { 2 } else { 0 };
    let mut head = BytesMut::with_capacity(5 + 2 + topic.len() + id_len + 1);
    head.put_u8(kind::PUBLISH << 4 | flags);
    put_varint(&mut head, 2 + topic.len() + id_len + 1 + payload_len);
    head.put_u16(u16::try_from(topic.len()).expect("a topic is bounded to 256 bytes when it is made"));
    head.put_slice(topic.as_bytes());
    if let Some(packet_id) = sending.packet_id {
        head.put_u16(packet_id);
    }
    head.put_u8(0);
    head.freeze()
}

fn packet(kind: u8, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + body.len());
    bytes.put_u8(kind << 4);
    put_varint(&mut bytes, body.len());
    bytes.put_slice(body);
    bytes.freeze()
}

fn put_varint(bytes: &mut BytesMut, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit a byte");
        value >>= 7;
        if value == 0 {
            bytes.put_u8(low);
            return;
        }
        bytes.put_u8(low | 0x80);
    }
}
