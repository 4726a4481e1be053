//! Reason codes of MQTT v5 that the endpoint sends or reads (section 2.4 of the standard).

/// Names why a packet was answered, or a connection closed, as one byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub u8);

impl Reason {
    /// Accepted, or a normal disconnection.
    pub const SUCCESS: Self = Self(0x00);
    /// A client leaves and wants its will sent all the same.
    pub const DISCONNECT_WITH_WILL: Self = Self(0x04);
    /// The receiver could not do it and says no more.
    pub const UNSPECIFIED: Self = Self(0x80);
    /// The bytes of the packet break the format.
    pub const MALFORMED: Self = Self(0x81);
    /// The packet is well formed, but not allowed here.
    pub const PROTOCOL_ERROR: Self = Self(0x82);
    /// CONNECT asked for another version than 5.
    pub const UNSUPPORTED_VERSION: Self = Self(0x84);
    /// The client id is not the name in the certificate.
    pub const CLIENT_ID_INVALID: Self = Self(0x85);
    /// The topic, filter or identity is not this client's.
    pub const NOT_AUTHORIZED: Self = Self(0x87);
    /// The hub has no room for another connection.
    pub const SERVER_BUSY: Self = Self(0x89);
    /// The hub is stopping.
    pub const SHUTTING_DOWN: Self = Self(0x8b);
    /// CONNECT asked for an exchange of AUTH packets.
    pub const BAD_AUTHENTICATION_METHOD: Self = Self(0x8c);
    /// Nothing was heard for one and a half keep-alives.
    pub const KEEP_ALIVE_TIMEOUT: Self = Self(0x8d);
    /// The same client connected again.
    pub const SESSION_TAKEN_OVER: Self = Self(0x8e);
    /// A filter breaks the rules of filters.
    pub const FILTER_INVALID: Self = Self(0x8f);
    /// More publishes in flight than the hub announced.
    pub const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    /// A topic alias, of which the hub announced none.
    pub const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    /// A packet over the announced maximum.
    pub const PACKET_TOO_LARGE: Self = Self(0x95);
    /// A bound of this client is reached, or the hub cannot take more now.
    pub const QUOTA_EXCEEDED: Self = Self(0x97);
    /// The hub closed the connection by a person's decision.
    pub const ADMINISTRATIVE: Self = Self(0x98);
    /// The payload is not what the topic carries.
    pub const PAYLOAD_INVALID: Self = Self(0x99);
    /// Quality of service 2, which no topic of Airlift uses.
    pub const QOS_NOT_SUPPORTED: Self = Self(0x9b);
    /// A `$share` filter.
    pub const SHARED_NOT_SUPPORTED: Self = Self(0x9e);
    /// The site connects too often.
    pub const CONNECTION_RATE_EXCEEDED: Self = Self(0x9f);
    /// A subscription identifier.
    pub const SUBSCRIPTION_IDS_NOT_SUPPORTED: Self = Self(0xa1);
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}
