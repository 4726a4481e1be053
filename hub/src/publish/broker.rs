//! The hub's link to a broker that stands between it and its sites: same topics, same ingest as at the endpoint.
//!
//! Nothing depends on what the broker keeps or queues: every connection starts with an empty session, sites send
//! again what was not acknowledged by the hub itself, and the hub publishes again what no site has confirmed.
//! `hub/DESIGN.md` has the reasons.

mod files;
mod link;
mod muster;
mod probe;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airlift_bundles::ids::{Name, RandomId, SiteId};
use airlift_bundles::wire::{Conn, ConnState, Topic};
use bytes::Bytes;
use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

pub use files::{BrokerFiles, broker_files};
pub use link::{BrokerSettings, run};
pub(super) use muster::call_the_roll;
pub use probe::{ProbeError, try_broker};

use self::probe::Ears;
use super::endpoint::{Connected, Counts, Fanout, PublishError, Qos};

/// The name by which a broker knows the hub: common name of its certificate, user name and client id. Its first
/// letter makes sure that no site is called so.
pub const HUB_NAME: &str = "_hub";
/// Topic and headers of a message, at the most.
const AROUND_BYTES_MAX: usize = 256 + 32;
/// Longest payload, as at the endpoint: 128 KiB and what surrounds it.
const PAYLOAD_BYTES_MAX: usize = (128 << 10) + 512 - AROUND_BYTES_MAX;
/// Between two calls of the roll. A site with nothing to say is heard of no oftener, and a call costs it some 400
/// bytes.
pub(super) const ROLL_EVERY: Duration = Duration::from_secs(1800);

/// Longest wait for room on the link, for words that nobody depends on.
const SAID_WITHIN: Duration = Duration::from_secs(5);

/// The hub's handle on its link. Clones are the same handle.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    prefix: Name,
    /// The connection of the moment.
    open: Mutex<Option<Open>>,
    heard: Mutex<BTreeMap<SiteId, Heard>>,
    /// Who listens to what probes say, while the broker is tried.
    probing: Mutex<Option<Ears>>,
    /// Rung on each connection once the hub hears what sites say.
    welcomed: Notify,
    connected: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// A connection on which the hub's subscription stands.
#[derive(Clone)]
struct Open {
    client: AsyncClient,
    /// The largest payload that the broker takes, as it said at connecting, and that sites do.
    payload_bytes_max: usize,
    /// The largest payload that was handed over so far.
    largest_bytes: usize,
    /// Sites that see another one than before answer with who and where they are.
    roll_call: RandomId,
}

/// What is known of a site's connection to the broker, from its own words.
#[derive(Debug, Clone)]
struct Heard {
    since: Instant,
    at: Instant,
    online: bool,
    /// The presence message that said so: a later one of the same boot overrules it.
    presence: Option<(RandomId, u64)>,
}

impl Broker {
    /// A link that is not connected; topics are `prefix/v1/…`.
    #[must_use]
    pub fn new(prefix: Name) -> Self {
        Self(Arc::new(Shared {
            prefix,
            open: Mutex::default(),
            heard: Mutex::default(),
            probing: Mutex::default(),
            welcomed: Notify::new(),
            connected: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// Hands a message to the link. Where there is no connection nothing is kept for later.
    pub(super) async fn publish(
        &self,
        topic: &Topic,
        payload: Bytes,
        qos: Qos,
        retain: bool,
    ) -> Result<Fanout, PublishError> {
        let client = self.client_for(payload.len())?;
        let name = topic.name(&self.0.prefix);
        let qos = match qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
        };
        // Waits for room; the other end goes with the connection, and then the wait ends.
        client.publish_bytes(name, qos, retain, payload).await.map_err(|_| PublishError::Away)?;
        Ok(Fanout { sent: 1, ..Fanout::default() })
    }

    /// The connection that takes a payload of so many bytes.
    fn client_for(&self, bytes: usize) -> Result<AsyncClient, PublishError> {
        let mut open = self.open();
        let open = open.as_mut().ok_or(PublishError::Away)?;
        // One that is larger would end the connection, again each time that it was tried anew.
        let max = open.payload_bytes_max;
        if bytes > max {
            return Err(PublishError::TooLarge { bytes, max });
        }
        open.largest_bytes = open.largest_bytes.max(bytes);
        Ok(open.client.clone())
    }

    /// Says a few words on a topic that no site has, once.
    async fn say(&self, topic: String, words: &str) {
        let open = self.open().clone();
        if let Some(open) = open {
            // What is not sent is not heard, which is what is looked at.
            let said = open.client.publish(topic, QoS::AtLeastOnce, false, words.as_bytes().to_vec());
            let _ = timeout(SAID_WITHIN, said).await;
        }
    }

    /// Lends an ear to probes until the guard is dropped; `None` where somebody does so already.
    fn listen_to_probes(&self, ears: &Ears) -> Option<Listening> {
        let mut probing = self.probing();
        if probing.is_some() {
            return None;
        }
        *probing = Some(ears.clone());
        Some(Listening(self.clone()))
    }

    /// Takes what a probe says, whose name no site can have; `false` for all else.
    fn hear_probe(&self, topic: &str, payload: &[u8]) -> bool {
        let is_of_a_probe = topic.split('/').nth(3).is_some_and(|name| name.starts_with(probe::PROBE));
        if let Some(ears) = self.probing().as_ref().filter(|_| is_of_a_probe) {
            ears.take(topic.as_bytes(), payload);
        }
        is_of_a_probe
    }

    /// Which call of the roll stands; `None` while the hub is not connected.
    pub(super) fn roll_call(&self) -> Option<RandomId> {
        self.open().as_ref().map(|open| open.roll_call.clone())
    }

    /// Calls the roll anew on the connection that stands.
    fn renew_roll_call(&self) {
        if let (Some(open), Some(roll_call)) = (self.open().as_mut(), random_id()) {
            open.roll_call = roll_call;
        }
    }

    pub(super) fn forget(&self, site: &SiteId) {
        self.heard().remove(site);
    }

    /// Sites whose last word was that they are there; nobody while the hub itself is not.
    pub(super) fn connected(&self) -> BTreeMap<SiteId, Connected> {
        if self.open().is_none() {
            return BTreeMap::new();
        }
        let now = Instant::now();
        let heard = self.heard();
        let online = heard.iter().filter(|(_, heard)| heard.online).map(|(site, heard)| {
            let connected = Connected {
                since: now.saturating_duration_since(heard.since),
                heard: now.saturating_duration_since(heard.at),
                // Pings end at the broker, so that silence is measured in calls of the roll.
                keep_alive: ROLL_EVERY,
                unsent_bytes: 0,
                dropped: 0,
                owed: 0,
            };
            (site.clone(), connected)
        });
        online.collect()
    }

    pub(super) fn counts(&self) -> Counts {
        let Shared { connected, accepted, refused, .. } = &*self.0;
        let [connected, accepted, refused] =
            [connected, accepted, refused].map(|counter| counter.load(Ordering::Relaxed));
        Counts { connected, accepted, refused, ..Counts::default() }
    }

    /// Notes that a site spoke, and what it said of its presence.
    fn hear(&self, site: &SiteId, conn: Option<&Conn>) {
        let now = Instant::now();
        let mut heard = self.heard();
        let known = heard.entry(site.clone()).or_insert_with(|| {
            self.0.connected.fetch_add(1, Ordering::Relaxed);
            Heard { since: now, at: now, online: true, presence: None }
        });
        let Some(conn) = conn else {
            // A message of an old connection may come after its will; the next presence message puts it right.
            (known.at, known.online) = (now, true);
            return;
        };
        let is_older = known
            .presence
            .as_ref()
            .is_some_and(|(boot, conn_seq)| *boot == conn.boot && *conn_seq > conn.conn_seq);
        if is_older {
            return; // a late will
        }
        let online = conn.state == ConnState::Online;
        if online {
            known.at = now;
            if !known.online {
                known.since = now;
            }
        }
        known.online = online;
        known.presence = Some((conn.boot.clone(), conn.conn_seq));
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<SiteId, Heard>> {
        // As above.
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probing(&self) -> MutexGuard<'_, Option<Ears>> {
        // As above.
        self.0.probing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, accepted: bool) {
        let counter = if accepted { &self.0.accepted } else { &self.0.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends the listening to probes when it is dropped.
struct Listening(Broker);

impl Drop for Listening {
    fn drop(&mut self) {
        *self.0.probing() = None;
    }
}

/// 128 random bits, where the system has them.
fn random_id() -> Option<RandomId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(RandomId::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> SiteId {
        SiteId::new("anna").unwrap()
    }

    fn conn(state: ConnState, boot: u8, conn_seq: u64) -> Conn {
        let boot = RandomId::from_bytes([boot; 16]);
        Conn { state, boot, conn_seq, assignment: None, root_version: 1 }
    }

    fn is_online(broker: &Broker) -> bool {
        broker.heard()[&site()].online
    }

    #[test]
    fn a_late_will_ends_no_newer_connection() {
        let broker = Broker::new(Name::new("airlift").unwrap());
        broker.hear(&site(), Some(&conn(ConnState::Online, 1, 5)));
        broker.hear(&site(), Some(&conn(ConnState::Offline, 1, 4)));
        assert!(is_online(&broker));
        broker.hear(&site(), Some(&conn(ConnState::Offline, 1, 5)));
        assert!(!is_online(&broker));
        broker.hear(&site(), Some(&conn(ConnState::Online, 2, 1)));
        assert!(is_online(&broker), "another boot counts anew");
    }

    #[test]
    fn nobody_is_connected_while_the_hub_is_not() {
        let broker = Broker::new(Name::new("airlift").unwrap());
        broker.hear(&site(), None);
        assert!(is_online(&broker) && broker.connected().is_empty());
    }

    #[test]
    fn no_site_can_have_the_hubs_name() {
        assert!(SiteId::new(HUB_NAME).is_err());
    }
}
