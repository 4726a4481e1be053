//! Joining: the site's self-signed request, and the director's grant.

use serde::{Deserialize, Serialize};

use crate::envelope::{Contradiction, Document};
use crate::ids::{Counter, FleetId, KeyId, Name, RandomId, Sha256Digest, SiteId, Timestamp};
use crate::keys::PublicKey;
use crate::limits::Limits;

/// What a site asks for; signed by the key that it brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentRequest {
    /// The fleet that the site was installed for.
    pub fleet_id: FleetId,
    /// Digest of the first root that it was installed with.
    pub root_sha256: Sha256Digest,
    /// The site key, made at the site.
    pub site_key: PublicKey,
    /// The chain that the site's receipts will stand in, made with the key.
    pub chain_id: RandomId,
    /// Where secrets for the site are sealed to: an age X25519 recipient; absent until it can open them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_recipient: Option<String>,
    /// The key of its TLS certificate: P-256 SubjectPublicKeyInfo, DER, base64.
    pub tls_key: String,
    /// Makes the request unlike any other.
    pub nonce: RandomId,
    /// The name that the site would like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteId>,
    /// What the machine says of itself, for the operator's eye: name and value, ascending.
    #[serde(default)]
    pub machine: Vec<(Name, String)>,
    /// Proof that the site holds a token; absent on the offline way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenProof>,
    /// The site's idea of the time.
    pub issued_at: Timestamp,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// HMAC-SHA-256 under the token's secret, which itself is never sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenProof {
    /// Which token.
    pub id: RandomId,
    /// 64 hex digits over [`EnrolmentRequest::token_message`].
    pub hmac: Sha256Digest,
}

impl EnrolmentRequest {
    /// The bytes that a token's secret keys: site key, sealing recipient, TLS key and nonce, each with its length.
    #[must_use]
    pub fn token_message(&self) -> Vec<u8> {
        let recipient = self.age_recipient.as_deref().unwrap_or_default();
        let parts: [&[u8]; 4] = [
            self.site_key.as_bytes(),
            recipient.as_bytes(),
            self.tls_key.as_bytes(),
            self.nonce.as_str().as_bytes(),
        ];
        let mut message = b"airlift enrolment v1\n".to_vec();
        for part in parts {
            message.extend_from_slice(format!("{}:", part.len()).as_bytes());
            message.extend_from_slice(part);
        }
        message
    }

    /// The proof of a token's secret over this request.
    #[must_use]
    pub fn prove(&self, secret: &[u8]) -> Sha256Digest {
        hmac_sha256(secret, &self.token_message())
    }

    /// What a person compares on both screens: the site key's id in groups of four, its first 32 digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.site_key)
    }
}

/// What a person compares on both screens: the key's id in groups of four, its first 32 digits.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    let id = key.key_id();
    let digits: Vec<&str> = (0..8).map(|group| &id.as_str()[group * 4..group * 4 + 4]).collect();
    digits.join("-")
}

/// HMAC-SHA-256 (RFC 2104).
#[must_use]
pub fn hmac_sha256(secret: &[u8], message: &[u8]) -> Sha256Digest {
    let mut block = [0u8; 64];
    if secret.len() > block.len() {
        block[..32].copy_from_slice(Sha256Digest::of(secret).as_bytes());
    } else {
        block[..secret.len()].copy_from_slice(secret);
    }
    let padded = |pad: u8, rest: &[u8]| {
        let mut bytes: Vec<u8> = block.iter().map(|byte| byte ^ pad).collect();
        bytes.extend_from_slice(rest);
        Sha256Digest::of(&bytes)
    };
    padded(0x5c, padded(0x36, message).as_bytes())
}

/// What the director grants a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The fleet.
    pub fleet_id: FleetId,
    /// The site's name from now on.
    pub site: SiteId,
    /// Rises with each enrolment of the site.
    pub incarnation: u64,
    /// The site key that is granted.
    pub site_keyid: KeyId,
    /// The request that is granted.
    pub nonce: RandomId,
    /// Assignments at or below this are not for this incarnation.
    pub minimum: Counter,
    /// Where the hub listens; empty at a site that only media reach.
    #[serde(default)]
    pub hubs: Vec<HubAddress>,
    /// The hub's CA certificate, PEM.
    pub hub_ca: String,
    /// The site's TLS certificate, PEM.
    pub certificate: String,
    /// First level of the MQTT topics.
    pub topic_prefix: Name,
    /// How the site is reached, which decides when silence is overdue.
    pub contact: ContactClass,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// Where a hub listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubAddress {
    /// Host name or address.
    pub host: String,
    /// Port of HTTPS.
    pub https_port: u16,
    /// Port of MQTT over TLS.
    pub mqtt_port: u16,
    /// Where MQTT is spoken, if elsewhere: a broker stands between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt_host: Option<String>,
}

impl HubAddress {
    /// The host of MQTT.
    #[must_use]
    pub fn mqtt_host(&self) -> &str {
        self.mqtt_host.as_deref().unwrap_or(&self.host)
    }
}

/// How a site is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContactClass {
    /// Over a network: silence is overdue after minutes.
    #[default]
    Mqtt,
    /// By sticks: silence is overdue after weeks.
    Media,
}

impl Document for EnrolmentRequest {
    const PAYLOAD_TYPE: &'static str = "application/vnd.airlift.enrolment.v1+json";
    const FIELDS: &'static [&'static str] = &[
        "fleet_id",
        "root_sha256",
        "site_key",
        "chain_id",
        "age_recipient",
        "tls_key",
        "nonce",
        "site",
        "machine",
        "token",
        "issued_at",
        "crit",
    ];

    fn check(&self) -> Result<(), Contradiction> {
        super::check_count("machine facts", self.machine.len(), 32)?;
        super::check_ascending("machine facts", &self.machine, |(name, _)| name.clone())?;
        let text = self.machine.iter().map(|(_, value)| value.len()).sum::<usize>() + self.tls_key.len();
        Ok(super::check_count("bytes of facts and keys", text, Limits::DEFAULT.evidence_bytes)?)
    }
}

impl Document for Grant {
    const PAYLOAD_TYPE: &'static str = "application/vnd.airlift.grant.v1+json";
    const FIELDS: &'static [&'static str] = &[
        "fleet_id",
        "site",
        "incarnation",
        "site_keyid",
        "nonce",
        "minimum",
        "hubs",
        "hub_ca",
        "certificate",
        "topic_prefix",
        "contact",
        "issued_at",
        "crit",
    ];

    fn check(&self) -> Result<(), Contradiction> {
        super::check_count("hub addresses", self.hubs.len(), 8)?;
        if self.incarnation == 0 { Err("incarnation is 0".into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_gives_the_answers_of_rfc_4231() {
        let case_2 = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(case_2.to_hex(), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let case_6 = hmac_sha256(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(case_6.to_hex(), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}
