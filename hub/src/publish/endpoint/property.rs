//! Reads fields and properties of one whole packet, without ever leaving it.

use super::frame::{Refusal, forbidden, malformed, read_varint};
use super::reason::Reason;
use bytes::{Buf, Bytes};

/// The unread rest of a packet's body.
pub(super) struct Fields(Bytes);

impl Fields {
    pub(super) fn new(body: Bytes) -> Self {
        Self(body)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all that is left: a PUBLISH's payload.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    /// Refuses bytes after the last field.
    pub(super) fn end(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed("bytes after the last field")) }
    }

    pub(super) fn u8(&mut self) -> Result<u8, Refusal> {
        self.0.try_get_u8().map_err(|_| malformed("cut short"))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Refusal> {
        self.0.try_get_u16().map_err(|_| malformed("cut short"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Refusal> {
        self.0.try_get_u32().map_err(|_| malformed("cut short"))
    }

    fn varint(&mut self) -> Result<u32, Refusal> {
        let (value, len) = read_varint(&self.0)?.ok_or(malformed("cut short"))?;
        self.0.advance(len);
        Ok(value)
    }

    fn take(&mut self, len: usize) -> Result<Bytes, Refusal> {
        if len > self.0.len() { Err(malformed("cut short")) } else { Ok(self.0.split_to(len)) }
    }

    pub(super) fn binary(&mut self) -> Result<Bytes, Refusal> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// Reads a string: UTF-8 without U+0000.
    pub(super) fn text(&mut self) -> Result<String, Refusal> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed("a string that is not utf-8"))?;
        if text.contains('\0') { Err(malformed("a string with u+0000")) } else { Ok(text.to_owned()) }
    }

    /// Reads a packet identifier, which is never 0.
    pub(super) fn packet_id(&mut self) -> Result<u16, Refusal> {
        match self.u16()? {
            0 => Err(forbidden("packet identifier 0")),
            id => Ok(id),
        }
    }
}

/// Packets, or parts of them, by the properties that they may carry from a client.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    Connect,
    Will,
    Publish,
    PubAck,
    Subscribe,
    Unsubscribe,
    Disconnect,
}

/// The properties that the endpoint acts on; all others are checked and let go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) session_expiry_s: Option<u32>,
    pub(super) receive_maximum: Option<u16>,
    pub(super) packet_bytes_max: Option<u32>,
    pub(super) will_delay_s: Option<u32>,
    pub(super) authentication: bool,
}

const USER_PROPERTY: u8 = 38;

impl Owner {
    /// Returns the identifiers that section 2.2.2.2 of the standard allows here, as a set of bits.
    fn allowed(self) -> u64 {
        let ids: &[u8] = match self {
            Self::Connect => &[17, 21, 22, 23, 25, 33, 34, USER_PROPERTY, 39],
            Self::Will => &[1, 2, 3, 8, 9, 24, USER_PROPERTY],
            Self::Publish => &[1, 2, 3, 8, 9, 11, 35, USER_PROPERTY],
            Self::PubAck => &[31, USER_PROPERTY],
            Self::Subscribe => &[11, USER_PROPERTY],
            Self::Unsubscribe => &[USER_PROPERTY],
            Self::Disconnect => &[17, 31, USER_PROPERTY],
        };
        ids.iter().fold(0, |set, id| set | 1 << id)
    }
}

impl Properties {
    /// Reads one section of properties: its length, then exactly that many bytes.
    pub(super) fn read(fields: &mut Fields, owner: Owner) -> Result<Self, Refusal> {
        let len = fields.varint()?;
        let mut section = Fields(fields.take(len as usize)?);
        let allowed = owner.allowed();
        let mut seen = 0_u64;
        let mut properties = Self::default();
        while !section.is_empty() {
            let id = section.u8()?;
            let bit = 1_u64.checked_shl(u32::from(id)).unwrap_or(0);
            if allowed & bit == 0 {
                return Err(malformed("a property that does not belong here"));
            }
            if seen & bit != 0 && id != USER_PROPERTY {
                return Err(forbidden("a property twice"));
            }
            seen |= bit;
            properties.read_one(id, &mut section)?;
        }
        if seen & 1 << 22 != 0 && seen & 1 << 21 == 0 {
            return Err(forbidden("authentication data without a method"));
        }
        Ok(properties)
    }

    fn read_one(&mut self, id: u8, section: &mut Fields) -> Result<(), Refusal> {
        match id {
            1 | 23 | 25 if section.u8()? > 1 => return Err(forbidden("a yes or no that is neither")),
            1 | 23 | 25 => {}
            2 => drop(section.u32()?),
            3 | 8 | 31 => drop(section.text()?),
            9 | 22 => drop(section.binary()?),
            11 => {
                return Err(Refusal {
                    reason: Reason::SUBSCRIPTION_IDS_NOT_SUPPORTED,
                    fault: "a subscription identifier",
                });
            }
            17 => self.session_expiry_s = Some(section.u32()?),
            21 => {
                section.text()?;
                self.authentication = true;
            }
            24 => self.will_delay_s = Some(section.u32()?),
            33 => match section.u16()? {
                0 => return Err(forbidden("receive maximum 0")),
                most => self.receive_maximum = Some(most),
            },
            34 => drop(section.u16()?),
            35 => return Err(Refusal { reason: Reason::TOPIC_ALIAS_INVALID, fault: "a topic alias" }),
            39 => match section.u32()? {
                0 => return Err(forbidden("maximum packet size 0")),
                most => self.packet_bytes_max = Some(most),
            },
            USER_PROPERTY => {
                section.text()?;
                section.text()?;
            }
            _ => return Err(malformed("an unknown property")),
        }
        Ok(())
    }
}
