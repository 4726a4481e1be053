//! Enrolment: a site's request waits for a person, or is granted at once by a token that works once.

use std::collections::BTreeMap;

use airlift_bundles::code::Code;
use airlift_bundles::document::enrolment::{ContactClass, EnrolmentRequest, Grant, fingerprint};
use airlift_bundles::envelope::{Envelope, EnvelopeError, Verified, open_self_signed};
use airlift_bundles::ids::{Counter, Sha256Digest, SiteId};
use airlift_bundles::join::JoinReply;
use airlift_bundles::limits::Limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::Connection;
use serde_json::value::RawValue;

use crate::api::types::Standing;
use crate::clock::Now;
use crate::db::DbError;
use crate::db::rows::enrolments::{self, EnrolmentRow, EnrolmentState};
use crate::db::rows::sites::{self, SiteKeyRow, SiteRow};
use crate::db::rows::{audit, roots, tokens};
use crate::plan::compose::Renewal;
use crate::plan::sign::sign_next;
use crate::server::Hub;
use crate::tls::{SiteTlsKey, TlsError};

/// Requests that may wait: strangers can send as many as they like.
const WAITING_MAX: u64 = 1000;
/// How long a site waits before it asks again.
const RETRY_AFTER_S: u64 = 5;

/// A request is not taken, or not granted.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Not a request, or not signed by the key that it brings.
    #[error("not an enrolment request")]
    Envelope(#[from] EnvelopeError),
    /// For another fleet, or installed with another first root.
    #[error("request is for {found}, this hub serves {expected}")]
    OtherFleet {
        /// Here.
        expected: String,
        /// In the request.
        found: String,
    },
    /// The TLS key is not usable.
    #[error(transparent)]
    TlsKey(#[from] TlsError),
    /// The token does not allow it.
    #[error("enrolment token is refused: {0}")]
    Token(&'static str),
    /// It contradicts what the hub holds.
    #[error("{0}")]
    Conflict(String),
    /// The waiting room is full.
    #[error("{WAITING_MAX} requests wait already")]
    Full,
    /// The fingerprint that a person typed is another one.
    #[error("the fingerprint of this request is {0}, another one was given")]
    Fingerprint(String),
    /// No such request.
    #[error("no request {0} waits")]
    NotFound(String),
    /// The hub may not sign yet.
    #[error("the newest root does not name this hub's director key: publish one that does")]
    NoDirector,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<rusqlite::Error> for EnrolError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Db(error.into())
    }
}

impl EnrolError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Envelope(error) => error.code(),
            Self::OtherFleet { .. } => Code::OtherFleet,
            Self::TlsKey(_) | Self::Fingerprint(_) => Code::RequestInvalid,
            Self::Token(_) => Code::TokenRefused,
            Self::Conflict(_) | Self::Full | Self::NoDirector => Code::Conflict,
            Self::NotFound(_) => Code::NotFound,
            Self::Db(_) => Code::StoreFailed,
        }
    }
}

/// How a site is to be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Its name.
    pub site: SiteId,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// How it is reached.
    pub contact: ContactClass,
    /// Whether the name may be taken over from an enrolled site.
    pub replace: bool,
    /// Who decided.
    pub actor: String,
}

/// Takes a request: stores it, and grants it at once where its token allows.
///
/// The same request again finds what became of it, so that a site whose connection broke can ask once more.
///
/// # Errors
/// [`EnrolError`].
pub fn receive(
    connection: &Connection,
    hub: &Hub,
    bytes: &[u8],
    carrier: &str,
    now: &Now,
) -> Result<EnrolmentRow, EnrolError> {
    let request = open_request(bytes)?;
    check_fleet(connection, hub, request.document())?;
    read_tls_key(request.document())?;
    let nonce = &request.document().nonce;
    if let Some(known) = enrolments::find(connection, nonce)? {
        let same = Envelope::parse(&known.request, &Limits::DEFAULT)?.digest() == request.digest();
        return if same { Ok(known) } else { Err(EnrolError::Conflict(format!("nonce {nonce} is taken"))) };
    }
    let waiting = EnrolmentRow {
        nonce: nonce.clone(),
        site_keyid: request.document().site_key.key_id(),
        request: bytes.to_vec(),
        carrier: carrier.to_owned(),
        state: EnrolmentState::Waiting,
        received_at: now.time(),
    };
    match allow_by_token(connection, request.document(), now)? {
        Some(terms) => grant(connection, hub, waiting, request.document(), &terms, now),
        None if enrolments::count_waiting(connection)? >= WAITING_MAX => Err(EnrolError::Full),
        None => {
            enrolments::put(connection, &waiting)?;
            Ok(waiting)
        }
    }
}

fn open_request(bytes: &[u8]) -> Result<Verified<EnrolmentRequest>, EnvelopeError> {
    open_self_signed(bytes, |request: &EnrolmentRequest| request.site_key.clone(), &Limits::DEFAULT)
}

fn check_fleet(connection: &Connection, hub: &Hub, request: &EnrolmentRequest) -> Result<(), EnrolError> {
    let other = |expected: &dyn ToString, found: &dyn ToString| EnrolError::OtherFleet {
        expected: expected.to_string(),
        found: found.to_string(),
    };
    if request.fleet_id != hub.fleet {
        return Err(other(&hub.fleet, &request.fleet_id));
    }
    match roots::list(connection)?.first() {
        Some(first) if first.sha256 != request.root_sha256 => Err(other(&first.sha256, &request.root_sha256)),
        Some(_) => Ok(()),
        None => Err(EnrolError::NoDirector),
    }
}

fn read_tls_key(request: &EnrolmentRequest) -> Result<SiteTlsKey, TlsError> {
    let spki = BASE64.decode(&request.tls_key).map_err(|_| TlsError::NotP256)?;
    SiteTlsKey::from_spki(&spki)
}

/// The terms of the token that the request proves; `None` without a token, which means the waiting room.
fn allow_by_token(
    connection: &Connection,
    request: &EnrolmentRequest,
    now: &Now,
) -> Result<Option<Terms>, EnrolError> {
    let Some(proof) = &request.token else { return Ok(None) };
    let token = tokens::find(connection, &proof.id)?.ok_or(EnrolError::Token("it is unknown"))?;
    if !equal_in_constant_time(&request.prove(&token.secret), &proof.hmac) {
        return Err(EnrolError::Token("the proof does not fit the request"));
    }
    if token.used_by.is_some() {
        return Err(EnrolError::Token("it was used"));
    }
    if token.expires_at < now.time() {
        return Err(EnrolError::Token("it has expired"));
    }
    let named = token.site.clone();
    let site = named.clone().or_else(|| request.site.clone());
    let site = site.ok_or(EnrolError::Token("neither it nor the request names the site"))?;
    if !tokens::mark_used(connection, &token.id, &site)? {
        return Err(EnrolError::Token("it was used"));
    }
    // A token that was made for a name is the operator's word that the name may be taken over.
    let replace = named.is_some();
    let actor = format!("token {}", token.id);
    Ok(Some(Terms { site, labels: token.labels, contact: token.contact, replace, actor }))
}

fn equal_in_constant_time(a: &Sha256Digest, b: &Sha256Digest) -> bool {
    a.as_bytes().iter().zip(b.as_bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Grants a waiting request on a person's terms.
///
/// # Errors
/// [`EnrolError`].
pub fn approve(
    connection: &Connection,
    hub: &Hub,
    waiting: EnrolmentRow,
    terms: &Terms,
    now: &Now,
) -> Result<EnrolmentRow, EnrolError> {
    let request = open_request(&waiting.request)?;
    grant(connection, hub, waiting, request.document(), terms, now)
}

fn grant(
    connection: &Connection,
    hub: &Hub,
    waiting: EnrolmentRow,
    request: &EnrolmentRequest,
    terms: &Terms,
    now: &Now,
) -> Result<EnrolmentRow, EnrolError> {
    if !hub.may_direct() {
        return Err(EnrolError::NoDirector);
    }
    if sites::key(connection, &waiting.site_keyid)?.is_some() {
        return Err(EnrolError::Conflict("the site key is enrolled already: make a new one".into()));
    }
    let site = &terms.site;
    let before = sites::find(connection, site)?;
    if let Some(before) = before.as_ref().filter(|before| before.standing == Standing::Enrolled)
        && !terms.replace
    {
        let detail = format!("site {} is enrolled: name another, or say that it is replaced", before.site);
        return Err(EnrolError::Conflict(detail));
    }
    let minimum = before.as_ref().map_or_else(Counter::default, |before| before.last);
    let row = SiteRow {
        site: site.clone(),
        incarnation: before.as_ref().map_or(0, |before| before.incarnation) + 1,
        contact: terms.contact,
        standing: Standing::Enrolled,
        last: minimum,
        seen: None,
    };
    sites::revoke_keys(connection, site)?;
    sites::put(connection, &row)?;
    let tls_key = read_tls_key(request)?;
    let key = SiteKeyRow {
        key: request.site_key.clone(),
        site: site.clone(),
        incarnation: row.incarnation,
        chain_id: request.chain_id.clone(),
        tls_sha256: tls_key.sha256(),
        revoked: false,
    };
    sites::add_key(connection, &key)?;
    for (key, value) in &terms.labels {
        sites::set_label(connection, site, key, value)?;
    }
    let grant = Grant {
        fleet_id: hub.fleet.clone(),
        site: site.clone(),
        incarnation: row.incarnation,
        site_keyid: waiting.site_keyid.clone(),
        nonce: waiting.nonce.clone(),
        minimum,
        hubs: hub.addresses(),
        hub_ca: hub.hub_ca.certificate_pem(),
        certificate: hub.site_ca.issue_site(&hub.fleet, site, &tls_key)?,
        topic_prefix: hub.config.topic_prefix.clone(),
        contact: terms.contact,
        issued_at: now.time(),
        crit: Vec::new(),
    };
    let state = EnrolmentState::Granted(site.clone(), hub.sign(&grant).to_json());
    let granted = EnrolmentRow { state, ..waiting };
    enrolments::put(connection, &granted)?;
    sign_next(connection, &hub.directing(), site, Renewal::OnChange, now)?;
    let detail = format!("incarnation {}, key {}", row.incarnation, granted.site_keyid);
    audit::append(connection, now.time(), &terms.actor, "site.enrol", site.as_str(), &detail)?;
    Ok(granted)
}

/// What the site is told.
///
/// # Errors
/// [`EnrolError`].
pub fn reply(connection: &Connection, row: &EnrolmentRow) -> Result<JoinReply, EnrolError> {
    let raw = |bytes: Vec<u8>| -> Result<Box<RawValue>, EnrolError> {
        let text = String::from_utf8(bytes).map_err(|error| DbError::Broken(error.to_string()))?;
        Ok(RawValue::from_string(text).map_err(|error| DbError::Broken(error.to_string()))?)
    };
    Ok(match &row.state {
        EnrolmentState::Waiting => {
            let request = open_request(&row.request)?;
            let fingerprint = fingerprint(&request.document().site_key);
            JoinReply::Waiting { fingerprint, retry_after_s: RETRY_AFTER_S }
        }
        EnrolmentState::Granted(site, grant) => {
            let roots = roots::envelopes(connection)?.into_iter().map(raw).collect::<Result<_, _>>()?;
            JoinReply::Granted { site: site.clone(), roots, grant: raw(grant.clone())? }
        }
        EnrolmentState::Rejected(reason) => JoinReply::Rejected { reason: reason.clone() },
    })
}

/// Whether a person typed the fingerprint of this request; hyphens, spaces and case do not count.
#[must_use]
pub fn same_fingerprint(typed: &str, expected: &str) -> bool {
    let digits = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|digit| digit.to_ascii_lowercase()).collect()
    };
    digits(typed) == digits(expected)
}

/// The request in a row, for showing.
///
/// # Errors
/// [`EnvelopeError`].
pub fn read_request(row: &EnrolmentRow) -> Result<EnrolmentRequest, EnvelopeError> {
    open_request(&row.request).map(|request| request.document().clone())
}
