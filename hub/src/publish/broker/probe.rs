//! Tries whether the broker keeps sites apart: with certificates as sites have them, under names that no site can
//! have, it does what a site may and what none may, and looks at what arrives.
//!
//! Nothing of it stays: the keys never leave the process, sessions end with their connections, and no message is
//! retained or goes to a topic that a site reads.

mod client;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::{Name, Timestamp, encode_hex};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ClientConfig;
use tokio::time::sleep;

use self::client::{Client, Manner};
use self::verdict::{Impostor, Seen, Trial, judge};
use super::{Broker, PAYLOAD_BYTES_MAX};
use crate::api::types::BrokerCheck;
use crate::config::BrokerPlace;
use crate::server::Hub;
use crate::tls::{Authority, AuthorityKind, TlsError, client_config, generate_key, stranger_config};

pub(super) use client::Ears;

/// Probes are called so. The first letter is in no site's name, so that no such certificate is ever a site's.
pub(super) const PROBE: &str = "_probe-";
/// What should arrive does so within this.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);
/// What has not arrived so long after everything else is taken for withheld.
const SILENCE: Duration = Duration::from_millis(1500);
/// The same for one message, after another one on the same way has arrived.
const SILENCE_AFTER: Duration = Duration::from_millis(500);
/// A certificate ends so long after it was made: hub and broker may be as far apart in time.
const VALID_S: i64 = 24 * 3600;
/// Words by which a message is known for whose it is.
const FROM_HUB: &str = "airlift doctor: from the hub";
const FROM_SITE: &str = "airlift doctor: from a site";
const LARGE: &str = "airlift doctor: as large as may be";
const FORGED: &str = "airlift doctor: forged";
const WILL: &str = "airlift doctor: a will";

/// The broker was not tried.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Somebody else tries it at this moment.
    #[error("the broker is being tried already")]
    Busy,
    /// A key or certificate could not be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Who takes part, and where.
struct Stage<'a> {
    broker: &'a Broker,
    place: &'a BrokerPlace,
    prefix: &'a Name,
    /// Reads what it may not.
    reader: Part,
    /// Whose things are to be kept from others.
    other: Part,
    /// Writes what it may not.
    writer: Part,
    /// Has no certificate.
    stranger: Part,
    /// Has a certificate of an authority that nobody knows.
    foreigner: Part,
}

/// A probe: its name, what it shows of itself, and what it has heard.
struct Part {
    name: String,
    tls: Arc<ClientConfig>,
    ears: Ears,
}

/// Tries the hub's broker; takes some five seconds.
///
/// # Errors
/// [`ProbeError`].
pub async fn try_broker(
    hub: &Hub,
    broker: &Broker,
    place: &BrokerPlace,
) -> Result<Vec<BrokerCheck>, ProbeError> {
    let hub_ears = Ears::default();
    let _listening = broker.listen_to_probes(&hub_ears).ok_or(ProbeError::Busy)?;
    if broker.roll_call().is_none() {
        return Ok(judge(&Seen::default()));
    }
    let stage = Stage::set(hub, broker, place)?;
    Ok(judge(&stage.play(&hub_ears).await))
}

impl<'a> Stage<'a> {
    fn set(hub: &'a Hub, broker: &'a Broker, place: &'a BrokerPlace) -> Result<Self, TlsError> {
        let mut number = [0; 6];
        // Two runs never meet, and if they had one name, each would only hear the other.
        let _ = getrandom::fill(&mut number);
        let until = Timestamp::from_unix_s(hub.clock.now().time().unix_s() + VALID_S);
        let unknown = Authority::new(AuthorityKind::Site, &hub.fleet, &generate_key()?)?;
        let name = |role: &str| format!("{PROBE}{}-{role}", encode_hex(&number));
        let part = |role: &str, authority: &Authority| {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let certificate = authority.issue_probe(&hub.fleet, &name(role), &key, until)?;
            let tls = client_config(certificate, &key, hub.hub_ca.certificate())?;
            Ok::<_, TlsError>(Part { name: name(role), tls, ears: Ears::default() })
        };
        let stranger = Part {
            name: name("stranger"),
            tls: stranger_config(hub.hub_ca.certificate())?,
            ears: Ears::default(),
        };
        Ok(Self {
            broker,
            place,
            prefix: &hub.config.topic_prefix,
            reader: part("reader", &hub.site_ca)?,
            other: part("other", &hub.site_ca)?,
            writer: part("writer", &hub.site_ca)?,
            stranger,
            foreigner: part("foreigner", &unknown)?,
        })
    }

    async fn play(&self, hub_ears: &Ears) -> Seen {
        let mut seen = Seen { hub_is_connected: true, ..Seen::default() };
        let mut other = self.connect(&self.other, Manner::default());
        seen.turned_away = other.admitted().await.err();
        for filter in [
            self.of(&self.other, "d/#"),
            self.topic(&format!("b/{}/#", self.writer.name)),
            self.topic(&format!("h/{}", self.writer.name)),
        ] {
            if seen.turned_away.is_none() && !other.subscribe(&filter, false).await.is_good() {
                seen.turned_away = Some(format!("it grants no subscription to {filter}"));
            }
        }
        if seen.turned_away.is_some() {
            return seen;
        }
        let reader = self.listen_everywhere().await;
        for topic in
            [self.of(&self.other, "d/cmd"), self.of(&self.other, "d/desired"), self.of(&self.reader, "d/cmd")]
        {
            self.broker.say(topic, FROM_HUB).await;
        }
        let own_up = self.of(&self.other, "u/s");
        other.publish(&own_up, FROM_SITE.into()).await;
        self.write_everywhere().await;
        seen.will = self.leave_a_will().await;

        seen.own_read = self.reader.ears.hear(&self.of(&self.reader, "d/cmd"), FROM_HUB).await
            && self.other.ears.hear(&self.of(&self.other, "d/cmd"), FROM_HUB).await;
        seen.own_write = hub_ears.hear(&own_up, FROM_SITE).await;
        sleep(SILENCE).await;
        seen.heard = self.reader.ears.topics(|_| true);
        (seen.prefix, seen.reader) = (self.prefix.to_string(), self.reader.name.clone());
        let is_forged = |words: &str| words.starts_with(FORGED);
        seen.forged_as_site = hub_ears.topics(is_forged);
        seen.forged_as_hub =
            [&self.other.ears, &self.writer.ears].map(|ears| ears.topics(is_forged)).concat();
        if !hub_ears.topics(|words| words.starts_with(WILL)).is_empty() {
            seen.will = Trial::Succeeded;
        }
        seen.large = self.write_at_large(hub_ears).await;
        reader.leave().await;

        seen.user_name = self.pretend(&other, false).await;
        if !other.is_there() {
            other = self.connect(&self.other, Manner::default());
            other.subscribe(&self.of(&self.other, "d/#"), false).await;
        }
        seen.client_id = self.pretend(&other, true).await;
        let (stranger, foreigner) = tokio::join!(self.intrude(&self.stranger), self.intrude(&self.foreigner));
        (seen.stranger, seen.foreigner) = (stranger, foreigner);
        other.leave().await;
        seen
    }

    fn connect(&self, part: &Part, manner: Manner) -> Client {
        Client::connect(self.place, &part.tls, &part.name, manner, &part.ears)
    }

    fn topic(&self, rest: &str) -> String {
        format!("{}/v1/{rest}", self.prefix)
    }

    fn of(&self, part: &Part, rest: &str) -> String {
        self.topic(&format!("s/{}/{rest}", part.name))
    }

    /// Subscribes to its own and then to all else. A broker that ends the connection for a filter has refused it, and
    /// is asked for the next.
    async fn listen_everywhere(&self) -> Client {
        let own = self.of(&self.reader, "d/#");
        let mut reader = self.connect(&self.reader, Manner::default());
        let mut granted = vec![(own, false)];
        reader.subscribe(&granted[0].0, false).await;
        for (filter, retained) in [
            ("#".to_owned(), false),
            ("+/#".to_owned(), false),
            (self.topic("#"), false),
            (self.topic("s/#"), false),
            (self.topic("s/+/d/#"), false),
            (self.topic("s/+/u/#"), false),
            (self.of(&self.other, "#"), false),
            (self.of(&self.other, "d/cmd"), false),
            (format!("$share/{}/{}", self.reader.name, self.topic("#")), false),
            // What a broker says of itself is retained, and repeated seldom.
            ("$SYS/#".to_owned(), true),
        ] {
            reader.subscribe(&filter, retained).await;
            if reader.is_there() {
                granted.push((filter, retained));
                continue;
            }
            reader = self.connect(&self.reader, Manner::default());
            for (filter, retained) in &granted {
                reader.subscribe(filter, *retained).await;
            }
        }
        reader
    }

    /// Writes in the other's name and in the hub's, where only probes read.
    async fn write_everywhere(&self) {
        let own_down = self.of(&self.writer, "d/#");
        let mut writer = self.connect(&self.writer, Manner::default());
        writer.subscribe(&own_down, false).await;
        for topic in [
            self.of(&self.other, "u/s"),
            self.of(&self.other, "u/conn"),
            self.of(&self.other, "d/cmd"),
            self.of(&self.other, "d/desired"),
            self.of(&self.writer, "d/cmd"),
            self.topic(&format!("b/{}/0", self.writer.name)),
            self.topic(&format!("h/{}", self.writer.name)),
        ] {
            writer.publish(&topic, FORGED.into()).await;
            if !writer.is_there() {
                writer = self.connect(&self.writer, Manner::default());
                writer.subscribe(&own_down, false).await;
            }
        }
        // What comes back of the last one comes before the answer to this.
        writer.subscribe(&own_down, false).await;
        writer.leave().await;
    }

    /// Leaves a will in the other's name, and is cut off.
    async fn leave_a_will(&self) -> Trial {
        let manner = Manner { will: Some((self.of(&self.other, "u/conn"), WILL)), ..Manner::default() };
        let writer = self.connect(&self.writer, manner);
        match writer.admitted().await {
            Ok(()) => {
                writer.cut();
                Trial::Silent
            }
            Err(reason) => Trial::Refused(reason),
        }
    }

    /// Sends the largest message that a site may send. A broker that does not take it may end the connection.
    async fn write_at_large(&self, hub_ears: &Ears) -> bool {
        let writer = self.connect(&self.writer, Manner::default());
        let topic = self.of(&self.writer, "u/s");
        let mut payload = LARGE.as_bytes().to_vec();
        payload.resize(PAYLOAD_BYTES_MAX, b' ');
        let answer = writer.publish(&topic, payload).await;
        let arrived = answer.is_good() && hub_ears.hear(&topic, LARGE).await;
        writer.leave().await;
        arrived
    }

    /// Connects with the reader's certificate under the other's name, as client id or as user, and looks who hears
    /// what is for the other.
    async fn pretend(&self, other: &Client, as_client: bool) -> Impostor {
        let ears = Ears::default();
        let user = (!as_client).then(|| self.other.name.clone());
        let name = if as_client { &self.other.name } else { &self.reader.name };
        let manner = Manner { user, will: None };
        let impostor = Client::connect(self.place, &self.reader.tls, name, manner, &ears);
        if let Err(reason) = impostor.admitted().await {
            impostor.cut();
            return if other.is_there() { Impostor::Refused(reason) } else { Impostor::CutsOff };
        }
        let topic = self.of(&self.other, "d/cmd");
        impostor.subscribe(&topic, false).await;
        let words = format!("{FROM_HUB}, {}", if as_client { "again" } else { "once more" });
        self.broker.say(topic.clone(), &words).await;
        let arrived = self.other.ears.hear(&topic, &words).await;
        sleep(SILENCE_AFTER).await;
        let overheard = !ears.topics(|_| true).is_empty();
        impostor.leave().await;
        match (arrived && other.is_there(), overheard) {
            (false, _) => Impostor::CutsOff,
            (true, true) => Impostor::Hears,
            (true, false) => Impostor::Nothing,
        }
    }

    async fn intrude(&self, part: &Part) -> Trial {
        let client = self.connect(part, Manner::default());
        let admitted = client.admitted().await;
        client.leave().await;
        admitted.map_or_else(Trial::Refused, |()| Trial::Succeeded)
    }
}
