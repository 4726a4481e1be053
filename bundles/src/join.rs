//! What agent and hub say to each other while a site joins over the network: the token's text, and the hub's reply.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{FleetId, RandomId, Sha256Digest, SiteId, decode_hex, encode_hex};
use crate::json;
use crate::limits::Limits;

/// Path of the hub's enrolment: `POST` a request's envelope here, `GET` `/<nonce>` under it until it is decided.
pub const PATH: &str = "/enrol/v1";

const PREFIX: &str = "airlift1.";

/// A token's text is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an enrolment token: one line that begins with \"airlift1.\"")]
pub struct TokenError;

/// What an operator hands to a new site: whom to trust, and a secret that proves once that the site was meant.
///
/// The secret keys an HMAC over the request and is never sent.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentToken {
    /// The fleet.
    pub fleet_id: FleetId,
    /// Digest of the first root.
    pub root_sha256: Sha256Digest,
    /// SHA-256 of the hub CA's SubjectPublicKeyInfo, by which the site knows the hub's TLS.
    pub hub_key_sha256: Sha256Digest,
    /// Which token.
    pub id: RandomId,
    /// 32 random bytes.
    pub secret: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    fleet_id: FleetId,
    root_sha256: Sha256Digest,
    hub_key_sha256: Sha256Digest,
    id: RandomId,
    secret: String,
}

impl std::fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnrolmentToken({})", self.id)
    }
}

impl EnrolmentToken {
    /// The token as one line of text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let wire = Wire {
            fleet_id: self.fleet_id.clone(),
            root_sha256: self.root_sha256,
            hub_key_sha256: self.hub_key_sha256,
            id: self.id.clone(),
            secret: encode_hex(&self.secret),
        };
        let json = serde_json::to_vec(&wire).expect("names and digests serialise without failure");
        format!("{PREFIX}{}", BASE64_URL.encode(json))
    }

    /// Reads what [`EnrolmentToken::to_text`] wrote; white space around it is ignored.
    ///
    /// # Errors
    /// [`TokenError`] for anything else. It does not repeat the text, which may hold a secret.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).filter(|_| text.len() <= 2048).ok_or(TokenError)?;
        let json = BASE64_URL.decode(encoded).map_err(|_| TokenError)?;
        let wire: Wire = json::parse(&json, &Limits::DEFAULT).map_err(|_| TokenError)?;
        let secret = decode_hex(&wire.secret).and_then(|bytes| bytes.try_into().ok()).ok_or(TokenError)?;
        Ok(Self {
            fleet_id: wire.fleet_id,
            root_sha256: wire.root_sha256,
            hub_key_sha256: wire.hub_key_sha256,
            id: wire.id,
            secret,
        })
    }
}

/// The hub's answer to a request, at once and to every later question by nonce.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinReply {
    /// A person has to approve it first: ask again.
    Waiting {
        /// What the person compares.
        fingerprint: String,
        /// Seconds to wait before asking again.
        retry_after_s: u64,
    },
    /// Granted.
    Granted {
        /// The site's name.
        site: SiteId,
        /// Envelopes of all roots from version 1 on, in order.
        roots: Vec<Box<RawValue>>,
        /// Envelope of the grant.
        grant: Box<RawValue>,
    },
    /// Refused by a person.
    Rejected {
        /// Why, in that person's words.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> EnrolmentToken {
        EnrolmentToken {
            fleet_id: FleetId::new("fleet").unwrap(),
            root_sha256: Sha256Digest::of(b"root"),
            hub_key_sha256: Sha256Digest::of(b"hub"),
            id: RandomId::from_bytes([7; 16]),
            secret: [9; 32],
        }
    }

    #[test]
    fn a_token_round_trips_as_one_line() {
        let text = token().to_text();
        assert!(!text.contains(char::is_whitespace));
        assert_eq!(EnrolmentToken::parse(&format!(" {text}\n")), Ok(token()));
    }

    #[test]
    fn a_damaged_token_is_refused_without_being_repeated() {
        let text = token().to_text();
        for bad in ["", "airlift1.", &text[1..], &text[..text.len() - 3], &text.replace('.', "_")] {
            assert_eq!(EnrolmentToken::parse(bad), Err(TokenError), "{bad}");
        }
        assert!(!format!("{:?}", token()).contains(&encode_hex(&[9; 32])));
    }

    #[test]
    fn replies_are_told_apart_by_their_key() {
        let reply = JoinReply::Waiting { fingerprint: "aaaa-bbbb".into(), retry_after_s: 5 };
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(text, r#"{"waiting":{"fingerprint":"aaaa-bbbb","retry_after_s":5}}"#);
        let granted = r#"{"granted":{"site":"a","roots":[{"x": 1}],"grant":{"payload":"…"}}}"#;
        let JoinReply::Granted { roots, .. } = serde_json::from_str(granted).unwrap() else { panic!() };
        assert_eq!(roots[0].get(), r#"{"x": 1}"#, "envelopes keep their bytes");
    }
}
