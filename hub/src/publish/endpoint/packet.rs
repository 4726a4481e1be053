//! Reads what a client may send, from one whole frame.
//!
//! Every field is checked here, so that what the connection acts on is known to be in bounds. Reading is
//! total: any bytes give a packet or a refusal.

use super::frame::{Frame, Refusal, forbidden, kind, malformed};
use super::property::{Fields, Owner, Properties};
use super::reason::Reason;
use bytes::Bytes;

/// Quality of service, as far as the endpoint goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// Sent once, perhaps lost.
    AtMostOnce,
    /// Sent until acknowledged, perhaps twice.
    AtLeastOnce,
}

/// One packet from a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Connect(Box<Connect>),
    Publish(Publish),
    PubAck { packet_id: u16, reason: Reason },
    Subscribe { packet_id: u16, filters: Vec<Wanted> },
    Unsubscribe { packet_id: u16, filters: Vec<String> },
    PingReq,
    Disconnect { reason: Reason, session_expiry_s: Option<u32> },
}

/// A client's first packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connect {
    pub(super) client_id: String,
    pub(super) clean_start: bool,
    pub(super) keep_alive_s: u16,
    pub(super) session_expiry_s: u32,
    /// QoS 1 publishes that the client takes at once.
    pub(super) receive_maximum: u16,
    /// Longest packet that the client takes.
    pub(super) packet_bytes_max: u32,
    pub(super) will: Option<WillPacket>,
}

/// The message that a client leaves for its own unclean end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WillPacket {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) delay_s: u32,
}

/// A message from a client; `packet_id` is there for QoS 1 only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) packet_id: Option<u16>,
    pub(super) payload: Bytes,
}

/// One filter of a SUBSCRIBE, with its options.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) filter: String,
    pub(super) qos: Qos,
    pub(super) retain_as_published: bool,
    pub(super) retained: SendRetained,
}

/// When a subscription brings the retained messages that match it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendRetained {
    Always,
    IfNew,
    Never,
}

impl Packet {
    /// Reads one whole frame.
    pub(super) fn read(frame: Frame) -> Result<Self, Refusal> {
        let (kind, flags) = (frame.kind(), frame.flags());
        let mut fields = Fields::new(frame.body);
        match kind {
            kind::CONNECT => Ok(Self::Connect(Box::new(Connect::read(fields)?))),
            kind::PUBLISH => Ok(Self::Publish(Publish::read(flags, fields)?)),
            kind::PUBACK => {
                let packet_id = fields.packet_id()?;
                let reason = read_reason(&mut fields)?;
                if !fields.is_empty() {
                    Properties::read(&mut fields, Owner::PubAck)?;
                }
                fields.end()?;
                Ok(Self::PubAck { packet_id, reason })
            }
            kind::SUBSCRIBE => read_subscribe(fields),
            kind::UNSUBSCRIBE => read_unsubscribe(fields),
            kind::PINGREQ => fields.end().map(|()| Self::PingReq),
            kind::DISCONNECT => {
                let reason = read_reason(&mut fields)?;
                let mut session_expiry_s = None;
                if !fields.is_empty() {
                    session_expiry_s = Properties::read(&mut fields, Owner::Disconnect)?.session_expiry_s;
                }
                fields.end()?;
                Ok(Self::Disconnect { reason, session_expiry_s })
            }
            kind::AUTH => Err(forbidden("auth without an authentication method")),
            _ => Err(forbidden("a packet that only a server sends")),
        }
    }
}

/// Reads a reason that may be left out: no byte is success.
fn read_reason(fields: &mut Fields) -> Result<Reason, Refusal> {
    if fields.is_empty() { Ok(Reason::SUCCESS) } else { Ok(Reason(fields.u8()?)) }
}

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

impl Connect {
    fn read(mut fields: Fields) -> Result<Self, Refusal> {
        if fields.binary()?.as_ref() != b"MQTT" {
            return Err(Refusal { reason: Reason::UNSUPPORTED_VERSION, fault: "not mqtt" });
        }
        if fields.u8()? != 5 {
            return Err(Refusal { reason: Reason::UNSUPPORTED_VERSION, fault: "not mqtt version 5" });
        }
        let flags = fields.u8()?;
        if flags & 0x01 != 0 {
            return Err(malformed("the reserved connect flag is set"));
        }
        let keep_alive_s = fields.u16()?;
        let properties = Properties::read(&mut fields, Owner::Connect)?;
        if properties.authentication {
            let reason = Reason::BAD_AUTHENTICATION_METHOD;
            return Err(Refusal { reason, fault: "an authentication method" });
        }
        let client_id = fields.text()?;
        let will = WillPacket::read(flags, &mut fields)?;
        // Name and password are let go: the certificate alone says who this is.
        if flags & USER_NAME != 0 {
            fields.text()?;
        }
        if flags & PASSWORD != 0 {
            fields.binary()?;
        }
        fields.end()?;
        Ok(Self {
            client_id,
            clean_start: flags & CLEAN_START != 0,
            keep_alive_s,
            session_expiry_s: properties.session_expiry_s.unwrap_or(0),
            receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
            packet_bytes_max: properties.packet_bytes_max.unwrap_or(u32::MAX),
            will,
        })
    }
}

impl WillPacket {
    fn read(flags: u8, fields: &mut Fields) -> Result<Option<Self>, Refusal> {
        if flags & WILL == 0 {
            let stray = flags & (WILL_QOS | WILL_RETAIN) != 0;
            return if stray { Err(malformed("will flags without a will")) } else { Ok(None) };
        }
        read_qos((flags & WILL_QOS) >> 3)?;
        let properties = Properties::read(fields, Owner::Will)?;
        let topic = fields.text()?;
        let payload = fields.binary()?;
        Ok(Some(Self { topic, payload, delay_s: properties.will_delay_s.unwrap_or(0) }))
    }
}

fn read_qos(bits: u8) -> Result<Qos, Refusal> {
    match bits {
        0 => Ok(Qos::AtMostOnce),
        1 => Ok(Qos::AtLeastOnce),
        2 => Err(Refusal { reason: Reason::QOS_NOT_SUPPORTED, fault: "a publish of qos 2" }),
        _ => Err(malformed("qos 3")),
    }
}

impl Publish {
    fn read(flags: u8, mut fields: Fields) -> Result<Self, Refusal> {
        let qos = read_qos(flags >> 1 & 0x03)?;
        if qos == Qos::AtMostOnce && flags & 0x08 != 0 {
            return Err(malformed("a duplicate of qos 0"));
        }
        let topic = fields.text()?;
        let packet_id = match qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(fields.packet_id()?),
        };
        Properties::read(&mut fields, Owner::Publish)?;
        Ok(Self { topic, packet_id, payload: fields.rest() })
    }
}

fn read_subscribe(mut fields: Fields) -> Result<Packet, Refusal> {
    let packet_id = fields.packet_id()?;
    Properties::read(&mut fields, Owner::Subscribe)?;
    let mut filters = Vec::new();
    while !fields.is_empty() {
        let filter = fields.text()?;
        let options = fields.u8()?;
        if options & 0xc0 != 0 {
            return Err(malformed("reserved subscription options are set"));
        }
        filters.push(Wanted {
            filter,
            // A wish for QoS 2 is granted as 1: CONNACK announced it as the maximum.
            qos: match options & 0x03 {
                0 => Qos::AtMostOnce,
                1 | 2 => Qos::AtLeastOnce,
                _ => return Err(malformed("qos 3")),
            },
            // No local (0x04) has nothing to act on: a site never hears another site, nor itself.
            retain_as_published: options & 0x08 != 0,
            retained: match options >> 4 & 0x03 {
                0 => SendRetained::Always,
                1 => SendRetained::IfNew,
                2 => SendRetained::Never,
                _ => return Err(malformed("retain handling 3")),
            },
        });
    }
    if filters.is_empty() {
        return Err(forbidden("a subscribe without a filter"));
    }
    Ok(Packet::Subscribe { packet_id, filters })
}

fn read_unsubscribe(mut fields: Fields) -> Result<Packet, Refusal> {
    let packet_id = fields.packet_id()?;
    Properties::read(&mut fields, Owner::Unsubscribe)?;
    let mut filters = Vec::new();
    while !fields.is_empty() {
        filters.push(fields.text()?);
    }
    if filters.is_empty() {
        return Err(forbidden("an unsubscribe without a filter"));
    }
    Ok(Packet::Unsubscribe { packet_id, filters })
}
