//! One connection to the broker after the other, and what arrives on it.
//!
//! The task that polls a connection only polls. What sites say goes to the ingest in tasks of its own, bounded; the
//! broker's copy is acknowledged at once, because its word counts for nothing: a site drops a row only on the hub's
//! own signed ack.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::{Name, SiteId};
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{self, Topic};
use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, DisconnectReasonCode, Filter, Packet, PubAckReason, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error as MqttError, QoS};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::{AROUND_BYTES_MAX, Broker, HUB_NAME, Open, PAYLOAD_BYTES_MAX, random_id};
use crate::publish::endpoint::Ingest;

/// The hub has something to say more often than this wherever there are sites.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Longest time from connecting to CONNACK.
const CONNECT_S: u64 = 20;
/// One frame: payload limit plus topic and headers.
pub(super) const PACKET_BYTES: u32 = (128 << 10) + 512;
/// Publishes on the way to the broker; it may allow fewer.
const IN_FLIGHT: u16 = 256;
/// Messages that wait for the connection; beyond it whoever publishes waits.
const QUEUE: usize = 64;
/// Messages of sites that the ingest has at once. Beyond it nothing is read, and the broker drops what it cannot keep.
const INGEST_AT_ONCE: usize = 1024;
/// Pauses between attempts: doubled each time.
const PAUSE_MS: u64 = 500;
const PAUSE_MS_MAX: u64 = 30_000;
/// Time for the hub's own message to come back.
const ECHO_WITHIN: Duration = Duration::from_secs(15);

/// Where the broker is and how to speak to it.
#[derive(Clone)]
pub struct BrokerSettings {
    /// Host name or address.
    pub host: String,
    /// Port of MQTT over TLS.
    pub port: u16,
    /// The hub's own certificate, and whom it trusts.
    pub tls: Arc<ClientConfig>,
}

/// Keeps the link up until `stopped` resolves; `is_known` tells sites from strangers.
pub async fn run<I, K>(
    broker: Broker,
    settings: BrokerSettings,
    ingest: Arc<I>,
    is_known: K,
    stopped: impl Future<Output = ()>,
) where
    I: Ingest,
    K: Fn(&SiteId) -> bool,
{
    let at_once = Arc::new(Semaphore::new(INGEST_AT_ONCE));
    tokio::pin!(stopped);
    let mut failures = 0;
    let mut payload_bytes_max = PAYLOAD_BYTES_MAX;
    loop {
        let (broker, ingest, is_known, at_once) = (&broker, &ingest, &is_known, &at_once);
        let session = Session { broker, ingest, is_known, at_once, payload_bytes_max };
        let ended = tokio::select! {
            ended = session.run(&settings) => ended,
            () = &mut stopped => break,
        };
        let open = broker.open().take();
        failures = if open.is_some() { 0 } else { failures + 1 };
        tracing::warn!(host = %settings.host, port = settings.port, reason = ended.reason, "no connection to the broker");
        // Whatever else ended it, the broker may be another one, or have other settings.
        payload_bytes_max = match open.filter(|_| ended.by_size) {
            Some(open) => open.largest_bytes.saturating_sub(1),
            None => PAYLOAD_BYTES_MAX,
        };
        let pause_ms = (PAUSE_MS << failures.min(10)).min(PAUSE_MS_MAX);
        tokio::select! {
            () = sleep(Duration::from_millis(pause_ms)) => {}
            () = &mut stopped => break,
        }
    }
    drop(broker.open().take());
}

/// The way back of the hub's own message, which shows that the broker delivers what sites write.
fn echo_topic(prefix: &Name) -> String {
    format!("{prefix}/v1/s/{HUB_NAME}/u/echo")
}

/// Why a connection is over.
struct Ended {
    reason: String,
    /// The broker did not take a message for its size, without having said before how large one may be.
    by_size: bool,
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self { reason, by_size: false }
    }
}

impl From<&str> for Ended {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

impl Ended {
    fn by(error: &ConnectionError) -> Self {
        let by_size = match error {
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
                *reason_code == DisconnectReasonCode::PacketTooLarge
            }
            // mosquitto answers a publish so, and the client library knows no such answer to one.
            ConnectionError::MqttState(StateError::Deserialization(MqttError::InvalidConnectReturnCode(
                code,
            ))) => *code == DisconnectReasonCode::PacketTooLarge as u8,
            _ => false,
        };
        Self { reason: error.to_string(), by_size }
    }
}

struct Session<'a, I, K> {
    broker: &'a Broker,
    ingest: &'a Arc<I>,
    is_known: &'a K,
    at_once: &'a Arc<Semaphore>,
    /// The largest payload that the broker is known to take.
    payload_bytes_max: usize,
}

impl<I: Ingest, K: Fn(&SiteId) -> bool> Session<'_, I, K> {
    /// Connects, subscribes and serves; returns why it ended.
    async fn run(&self, settings: &BrokerSettings) -> Ended {
        let (client, mut eventloop) = connect(settings);
        let prefix = &self.broker.0.prefix;
        let echo = echo_topic(prefix);
        let mut echo_by: Option<Instant> = None;
        let mut payload_bytes_max = self.payload_bytes_max;
        loop {
            let event = match echo_by {
                None => eventloop.poll().await,
                Some(by) => match timeout_at(by, eventloop.poll()).await {
                    Ok(event) => event,
                    Err(_) => {
                        tracing::error!(
                            topic = echo,
                            "the broker does not deliver what is written for the hub: check its rights file"
                        );
                        echo_by = None;
                        continue;
                    }
                },
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                    payload_bytes_max = payload_that_fits(&connack).min(self.payload_bytes_max);
                    if payload_bytes_max < PAYLOAD_BYTES_MAX {
                        tracing::error!(
                            payload_bytes_max,
                            "the broker takes no message as large as the hub's: raise its limit to {PACKET_BYTES} bytes"
                        );
                    }
                    // What the broker retains of sites is not wanted: a call of the roll brings it newer and whole.
                    let all = Filter {
                        path: format!("{prefix}/v1/s/+/u/#"),
                        qos: QoS::AtLeastOnce,
                        nolocal: false,
                        preserve_retain: false,
                        retain_forward_rule: RetainForwardRule::Never,
                    };
                    if client.try_subscribe_many([all]).is_err() {
                        return "it could not be subscribed to".into();
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(granted))) => {
                    let good = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                    if !granted.return_codes.iter().all(good) {
                        return "it does not let the hub read what sites write: check its rights file".into();
                    }
                    let Some(roll_call) = random_id() else { return "the system has no randomness".into() };
                    *self.broker.open() =
                        Some(Open { client: client.clone(), payload_bytes_max, largest_bytes: 0, roll_call });
                    tracing::info!(host = %settings.host, port = settings.port, "connected to the broker");
                    if client.try_publish(&echo, QoS::AtLeastOnce, false, Vec::new()).is_ok() {
                        echo_by = Some(Instant::now() + ECHO_WITHIN);
                    }
                    self.broker.0.welcomed.notify_one();
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if publish.topic == echo.as_bytes() {
                        echo_by = None;
                    } else {
                        self.take(&publish.topic, publish.payload).await;
                    }
                }
                Ok(Event::Incoming(Packet::PubAck(puback))) if is_refusal(puback.reason) => {
                    tracing::error!(reason = ?puback.reason, "the broker refused a message of the hub: check its rights file");
                }
                Ok(Event::Incoming(Packet::Disconnect(disconnect))) => {
                    return format!("it closed the connection: {:?}", disconnect.reason_code).into();
                }
                Ok(_) => {}
                Err(error) => return Ended::by(&error),
            }
        }
    }

    /// Hands a message of a site to the ingest. Whose it is, is the broker's word; what it says is checked there.
    async fn take(&self, topic: &[u8], payload: Bytes) {
        let name = String::from_utf8_lossy(topic);
        let parsed = Topic::parse(&name, &self.broker.0.prefix);
        let (site, topic) = match parsed {
            Ok(topic @ (Topic::Status(_) | Topic::Get(_) | Topic::Conn(_))) => match &topic {
                Topic::Status(site) | Topic::Get(site) | Topic::Conn(site) => (site.clone(), topic),
                _ => return,
            },
            _ if self.broker.hear_probe(&name, &payload) => return,
            _ => {
                tracing::debug!(topic = %name, "a message on a topic that is none of a site");
                return;
            }
        };
        if !(self.is_known)(&site) {
            tracing::debug!(%site, "a message of a site that is not enrolled, or revoked");
            return self.broker.count(false);
        }
        let conn = match &topic {
            Topic::Conn(_) => wire::decode(&payload, &Limits::DEFAULT).ok(),
            _ => None,
        };
        self.broker.hear(&site, conn.as_ref());
        // The permits end with the process; waiting for one holds the broker back.
        let Ok(place) = Arc::clone(self.at_once).acquire_owned().await else { return };
        let (broker, ingest) = (self.broker.clone(), Arc::clone(self.ingest));
        tokio::spawn(async move {
            let outcome = ingest.publish(&site, topic, payload).await;
            if let Err(refused) = outcome {
                tracing::info!(%site, %refused, "message of a site refused");
            }
            broker.count(outcome.is_ok());
            drop(place);
        });
    }
}

fn connect(settings: &BrokerSettings) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(HUB_NAME, &settings.host, settings.port);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(&settings.tls))))
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(true)
        .set_session_expiry_interval(Some(0))
        .set_max_packet_size(Some(PACKET_BYTES))
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_connection_timeout(CONNECT_S);
    let mut network = options.network_options();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    AsyncClient::new(options, QUEUE)
}

/// The largest payload that goes into a packet as large as the broker takes.
fn payload_that_fits(connack: &ConnAck) -> usize {
    let packet = connack.properties.as_ref().and_then(|properties| properties.max_packet_size);
    let packet = packet.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    packet.saturating_sub(AROUND_BYTES_MAX).min(PAYLOAD_BYTES_MAX)
}

fn is_refusal(reason: PubAckReason) -> bool {
    !matches!(reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers)
}
