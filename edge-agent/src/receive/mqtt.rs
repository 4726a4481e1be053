//! The link to the hub: one MQTT v5 connection at a time, made when the core asks.
//!
//! Nothing is kept here. Each connection starts with an empty client, because the outbox owns what has to arrive
//! and the content store owns what is wanted; the broker's session is a cache. The task that polls the connection
//! only polls: what arrives goes to [`Inbox`], what leaves comes from a bounded queue.

mod assemble;
mod inbox;
mod wants;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airlift_bundles::document::enrolment::HubAddress;
use airlift_bundles::ids::{Name, RandomId, Sha256Digest, SiteId};
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{self, Conn, ConnState, Get, Topic, Wanted, WantedItem};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, SubAck, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event as MqttEvent, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use crate::core::Event;
use crate::core::effect::WantedDocument;
use crate::core::event::ConnId;
use crate::ports::link::{Link, LinkBusy, Outgoing};
use crate::ports::{Boxed, Content};
use inbox::Inbox;

/// Silence after which the hub may think us gone; the idle budget in bytes is this one's doing.
const KEEP_ALIVE: Duration = Duration::from_secs(240);
/// How long the broker keeps a session for us: a cache, so short.
const SESSION_S: u32 = 24 * 3600;
/// One frame: payload limit plus topic and headers.
const PACKET_BYTES: u32 = (128 << 10) + 512;
/// Publishes that may wait for their PUBACK; rumqttc allocates a slot each.
const INFLIGHT: u16 = 8;
/// Messages of ours that may wait for the connection.
const QUEUE: usize = 16;
/// Longest time from connecting to CONNACK.
const CONNECT_S: u64 = 20;

/// What a link needs to know of its site.
#[derive(Clone)]
pub struct MqttSite {
    /// The site: client id, and part of every topic.
    pub site: SiteId,
    /// First level of the topics.
    pub prefix: Name,
    /// This boot of the agent.
    pub boot: RandomId,
    /// Connections so far, from the database.
    pub conn_seq: u64,
    /// Addresses, tried in turn.
    pub hubs: Vec<HubAddress>,
    /// Whom to trust, and who we are.
    pub tls: Arc<ClientConfig>,
}

/// The link over MQTT.
pub struct MqttLink {
    site: MqttSite,
    events: mpsc::Sender<Event>,
    content: Arc<dyn Content>,
    attempts: Arc<AtomicU64>,
    open: Arc<Mutex<Option<Open>>>,
    last_seq: Arc<AtomicU64>,
    kept: Arc<Mutex<Kept>>,
}

/// What this process knows of the session that the broker keeps for its site.
#[derive(Debug, Default)]
struct Kept {
    /// The session began with this process. What an earlier one listened to, and never said that it no longer does,
    /// would fill the session up.
    ours: bool,
    /// Blobs whose pieces were subscribed to and not given up since, over whichever connection.
    listens: BTreeSet<Sha256Digest>,
}

/// The connection of the moment.
struct Open {
    conn: ConnId,
    outgoing: mpsc::Sender<Outgoing>,
    close: watch::Sender<bool>,
    closed: watch::Receiver<bool>,
}

impl MqttLink {
    /// Makes a link that is not connected; `events` takes what arrives for the core, `content` the pieces.
    #[must_use]
    pub fn new(site: MqttSite, events: mpsc::Sender<Event>, content: Arc<dyn Content>) -> Self {
        let last_seq = Arc::new(AtomicU64::new(site.conn_seq));
        let (attempts, open, kept) = (Arc::default(), Arc::default(), Arc::default());
        Self { site, events, content, attempts, open, last_seq, kept }
    }
}

impl Link for MqttLink {
    fn connect(&self, after: Duration) {
        let conn = ConnId(self.attempts.fetch_add(1, Ordering::Relaxed) + 1);
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let (close, closing) = watch::channel(false);
        let (ended, closed) = watch::channel(false);
        let open = Open { conn, outgoing, close, closed };
        let before = self.open.lock().unwrap_or_else(PoisonError::into_inner).replace(open);
        drop(before); // ends the connection before this one, if the core did not
        let session = Session {
            site: self.site.clone(),
            conn,
            events: self.events.clone(),
            content: Arc::clone(&self.content),
            last_seq: Arc::clone(&self.last_seq),
            kept: Arc::clone(&self.kept),
        };
        let now_open = Arc::clone(&self.open);
        tokio::spawn(async move {
            let events = session.events.clone();
            let reason = session.run(after, queue, closing).await;
            // Where another connection took its place, its end is no news: a core that was loaded anew knows neither,
            // and would ask for a third in the place of the second, without end.
            let replaced = {
                let open = now_open.lock().unwrap_or_else(PoisonError::into_inner);
                open.as_ref().is_some_and(|open| open.conn != conn)
            };
            if !replaced {
                let _ = events.send(Event::LinkDown { conn, reason }).await; // the core is gone: so is the need
            }
            let _ = ended.send(true); // as above
        });
    }

    fn disconnect(&self) -> Boxed<'_, ()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let Some(mut open) = open else { return };
            let _ = open.close.send(true); // the session may have ended by itself
            let _ = open.closed.wait_for(|closed| *closed).await; // as above
        })
    }

    fn publish(&self, conn: ConnId, message: Outgoing) -> Result<(), LinkBusy> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.as_ref().filter(|open| open.conn == conn) {
            Some(open) => match open.outgoing.try_send(message) {
                Err(mpsc::error::TrySendError::Full(_)) => Err(LinkBusy),
                _ => Ok(()),
            },
            None => Ok(()), // for a connection that is gone: dropped, the core hears of its end
        }
    }
}

/// Resolves when the link wants the session to end, or has forgotten it.
async fn closed_by(mut closing: watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await; // an error: the sender is gone, which means the same
}

/// Resolves when the message that waits for room has left; never where none does.
async fn left(leaving: &mut Option<Boxed<'_, ()>>) {
    match leaving {
        Some(message) => message.await,
        None => std::future::pending().await,
    }
}

/// One connection from the attempt to its end.
struct Session {
    site: MqttSite,
    conn: ConnId,
    events: mpsc::Sender<Event>,
    content: Arc<dyn Content>,
    last_seq: Arc<AtomicU64>,
    kept: Arc<Mutex<Kept>>,
}

impl Session {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it is held.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects and serves until the connection ends; returns why it did.
    async fn run(
        self,
        after: Duration,
        mut queue: mpsc::Receiver<Outgoing>,
        closing: watch::Receiver<bool>,
    ) -> String {
        tokio::select! {
            biased;
            () = closed_by(closing.clone()) => return "closed".into(),
            () = tokio::time::sleep(after) => {}
        }
        let Some(hub) = self.hub() else { return "no hub address is known".into() };
        debug!(host = hub.mqtt_host(), port = hub.mqtt_port, "connecting to hub");
        let (client, mut eventloop) = self.client(&hub);
        let inbox = Inbox::new(
            self.site.site.clone(),
            self.site.prefix.clone(),
            self.events.clone(),
            Arc::clone(&self.content),
        );
        let (inbox_sender, inbox_task) = inbox.spawn();
        let (content, kept) = (Arc::clone(&self.content), Arc::clone(&self.kept));
        let mut wants = wants::WantPump::new(content, self.site.clone(), client.clone(), kept);
        let mut up = false;
        let mut leaving: Option<Boxed<'_, ()>> = None;
        let reason = loop {
            tokio::select! {
                biased;
                event = eventloop.poll() => match event {
                    Ok(MqttEvent::Incoming(Packet::ConnAck(connack))) => {
                        up = true;
                        self.kept().ours = true;
                        info!(host = hub.mqtt_host(), session_present = connack.session_present, "connected to hub");
                        self.subscribe(&client);
                        let event = Event::LinkUp { conn: self.conn, session_present: connack.session_present };
                        if self.events.send(event).await.is_err() {
                            break "the agent is ending".into();
                        }
                    }
                    Ok(MqttEvent::Incoming(Packet::Publish(publish))) => {
                        // A full inbox holds the connection back, which is how the hub feels a slow disk.
                        if inbox_sender.send(publish).await.is_err() {
                            break "the agent is ending".into();
                        }
                    }
                    Ok(MqttEvent::Incoming(Packet::PubAck(puback))) if !accepted(puback.reason) => {
                        break format!("hub refused a message: {:?}", puback.reason);
                    }
                    Ok(MqttEvent::Incoming(Packet::SubAck(suback))) if is_full(&suback) => {
                        self.kept().ours = false;
                        break "the session at the hub is full; the next one begins with nothing".into();
                    }
                    Ok(MqttEvent::Incoming(Packet::Disconnect(disconnect))) => {
                        break format!("hub closed the connection: {:?}", disconnect.reason_code);
                    }
                    Ok(_) => {}
                    Err(error) => break error.to_string(),
                },
                () = left(&mut leaving) => leaving = None,
                message = queue.recv(), if up && leaving.is_none() => match message {
                    Some(message) => leaving = Some(self.send(&client, message)),
                    None => break self.leave(&client, &mut eventloop).await,
                },
                () = wants.tick(), if up => {}
                () = closed_by(closing.clone()) => break self.leave(&client, &mut eventloop).await,
            }
        };
        drop(inbox_sender);
        let _ = inbox_task.await; // what had arrived is handed on before the end is told
        reason
    }

    /// The address of this attempt: each in turn.
    fn hub(&self) -> Option<HubAddress> {
        let count = u64::try_from(self.site.hubs.len()).ok().filter(|count| *count > 0)?;
        let at = usize::try_from((self.conn.0 - 1) % count).ok()?;
        self.site.hubs.get(at).cloned()
    }

    fn client(&self, hub: &HubAddress) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(self.site.site.as_str(), hub.mqtt_host(), hub.mqtt_port);
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(&self.site.tls))))
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(!self.kept().ours)
            .set_session_expiry_interval(Some(SESSION_S))
            .set_receive_maximum(Some(INFLIGHT * 2))
            .set_max_packet_size(Some(PACKET_BYTES))
            .set_outgoing_inflight_upper_limit(INFLIGHT)
            .set_connection_timeout(CONNECT_S);
        options.set_last_will(self.will());
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        AsyncClient::new(options, QUEUE)
    }

    /// Says for the connection after the last known one that it is over, so that it can only end that one.
    fn will(&self) -> LastWill {
        let next = self.last_seq.load(Ordering::Relaxed) + 1;
        let topic = Topic::Conn(self.site.site.clone()).name(&self.site.prefix);
        LastWill::new(
            topic,
            self.conn_message(ConnState::Offline, next, None, 0),
            QoS::AtLeastOnce,
            true,
            None,
        )
    }

    fn conn_message(
        &self,
        state: ConnState,
        conn_seq: u64,
        assignment: Option<airlift_bundles::ids::Counter>,
        root_version: u64,
    ) -> Vec<u8> {
        let conn = Conn { state, boot: self.site.boot.clone(), conn_seq, assignment, root_version };
        wire::encode(&conn, &Limits::DEFAULT).expect("a presence message is a few hundred bytes")
    }

    fn subscribe(&self, client: &AsyncClient) {
        let down = Topic::downward_filter(&self.site.site, &self.site.prefix);
        let state = Topic::HubState.name(&self.site.prefix);
        for filter in [down, state] {
            let _ = client.try_subscribe(filter, QoS::AtLeastOnce); // the queue of a new connection is empty
        }
    }

    /// Hands one message to the client, as soon as that has room for it.
    fn send<'a>(&self, client: &'a AsyncClient, message: Outgoing) -> Boxed<'a, ()> {
        let site = || self.site.site.clone();
        let (topic, qos, retain, payload) = match message {
            Outgoing::Birth { conn_seq, assignment, root_version } => {
                self.last_seq.store(conn_seq, Ordering::Relaxed);
                let payload = self.conn_message(ConnState::Online, conn_seq, assignment, root_version);
                (Topic::Conn(site()), QoS::AtLeastOnce, true, payload)
            }
            Outgoing::Batch(batch) => (Topic::Status(site()), QoS::AtLeastOnce, false, batch.to_vec()),
            Outgoing::Documents(documents) => {
                let want = documents.iter().map(wanted_document).take(64).collect();
                let payload = wire::encode(&Get { want }, &Limits::DEFAULT);
                let payload = payload.expect("64 items are a few kilobytes");
                (Topic::Get(site()), QoS::AtMostOnce, false, payload)
            }
        };
        let topic = topic.name(&self.site.prefix);
        Box::pin(async move {
            let _ = client.publish(topic, qos, retain, payload).await; // the connection has ended: so has the need
        })
    }

    /// Says goodbye in order: no will is needed, so the message says offline itself.
    async fn leave(&self, client: &AsyncClient, eventloop: &mut EventLoop) -> String {
        let seq = self.last_seq.load(Ordering::Relaxed);
        let payload = self.conn_message(ConnState::Offline, seq, None, 0);
        let topic = Topic::Conn(self.site.site.clone()).name(&self.site.prefix);
        let _ = client.try_publish(topic, QoS::AtLeastOnce, true, payload); // a full queue: the will says it then
        let _ = client.try_disconnect(); // as above
        let drain = async { while eventloop.poll().await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), drain).await; // a hub that does not answer is left
        "closed".into()
    }
}

fn wanted_document(document: &WantedDocument) -> Wanted {
    let item = match document {
        WantedDocument::Root(version) => WantedItem::Root(*version),
        WantedDocument::Release(sha256) | WantedDocument::Assignment(sha256) => WantedItem::Document(*sha256),
    };
    Wanted { item, pieces: false, from: 0, count: 16, bitmap: None }
}

/// The session holds as many subscriptions as it may, so that pieces would never come.
fn is_full(suback: &SubAck) -> bool {
    suback.return_codes.contains(&SubscribeReasonCode::QuotaExceeded)
}

fn accepted(reason: rumqttc::v5::mqttbytes::v5::PubAckReason) -> bool {
    use rumqttc::v5::mqttbytes::v5::PubAckReason;
    matches!(reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers)
}
