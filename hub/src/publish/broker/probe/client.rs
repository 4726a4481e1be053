//! A probe's connection to the broker: one request at a time, and all that is heard on it.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, LastWill, Packet, PubAckReason, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::link::PACKET_BYTES;
use super::ARRIVES_WITHIN;
use crate::config::BrokerPlace;

/// From connecting to CONNACK, and from a request to its answer. Who gets none has not been let in.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Requests on the way.
const IN_FLIGHT: u16 = 8;
/// Messages that are kept: a broker without rights delivers those of a whole fleet.
const HEARD_MAX: usize = 1000;
/// Of each, this much: enough to know a probe's.
const WORDS_BYTES_MAX: usize = 64;

/// What was heard, over all connections of one listener: topics and the beginning of what was said.
#[derive(Clone)]
pub(in super::super) struct Ears(Arc<watch::Sender<Vec<(String, String)>>>);

impl Default for Ears {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl Ears {
    /// Notes a message.
    pub(in super::super) fn take(&self, topic: &[u8], payload: &[u8]) {
        let words = &payload[..payload.len().min(WORDS_BYTES_MAX)];
        let heard = [topic, words].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        self.0.send_if_modified(|all| {
            let has_room = all.len() < HEARD_MAX;
            if has_room {
                all.push(heard.into());
            }
            has_room
        });
    }

    /// Waits for a message that should come.
    pub(super) async fn hear(&self, topic: &str, words: &str) -> bool {
        let mut all = self.0.subscribe();
        let arrives =
            all.wait_for(|all| all.iter().any(|heard| heard.0 == topic && heard.1.trim_end() == words));
        timeout(ARRIVES_WITHIN, arrives).await.is_ok_and(|heard| heard.is_ok())
    }

    /// The topics on which something like this was heard, each once.
    pub(super) fn topics(&self, is_it: impl Fn(&str) -> bool) -> Vec<String> {
        let all = self.0.borrow();
        let mut topics: Vec<String> =
            all.iter().filter(|heard| is_it(&heard.1)).map(|heard| heard.0.clone()).collect();
        topics.sort();
        topics.dedup();
        topics
    }
}

/// How a probe connects, beside its certificate and client id.
#[derive(Debug, Default)]
pub(super) struct Manner {
    /// The user that it says it is.
    pub(super) user: Option<String>,
    /// Topic and words of its will.
    pub(super) will: Option<(String, &'static str)>,
}

/// What the broker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Good,
    Refused,
    /// None came, or the connection ended.
    None,
}

impl Answer {
    pub(super) fn is_good(self) -> bool {
        self == Self::Good
    }
}

#[derive(Debug, Default)]
struct State {
    admitted: bool,
    /// How many requests were answered, and whether the last one was granted.
    answers: (u64, bool),
    ended: Option<String>,
}

/// A connection, with an empty session that ends with it.
pub(super) struct Client {
    requests: AsyncClient,
    state: watch::Receiver<State>,
    polling: JoinHandle<()>,
}

impl Client {
    /// Begins to connect.
    pub(super) fn connect(
        place: &BrokerPlace,
        tls: &Arc<ClientConfig>,
        name: &str,
        manner: Manner,
        ears: &Ears,
    ) -> Self {
        let mut options = MqttOptions::new(name, &place.host, place.port);
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))))
            .set_clean_start(true)
            .set_session_expiry_interval(Some(0))
            .set_max_packet_size(Some(PACKET_BYTES))
            .set_outgoing_inflight_upper_limit(IN_FLIGHT)
            .set_connection_timeout(ANSWERS_WITHIN.as_secs());
        if let Some(user) = manner.user {
            options.set_credentials(user, "");
        }
        if let Some((topic, words)) = manner.will {
            options.set_last_will(LastWill::new(topic, words, QoS::AtLeastOnce, false, None));
        }
        let (requests, eventloop) = AsyncClient::new(options, usize::from(IN_FLIGHT));
        let (told, state) = watch::channel(State::default());
        let polling = tokio::spawn(poll(eventloop, told, ears.clone()));
        Self { requests, state, polling }
    }

    /// Waits until the broker has let it in.
    ///
    /// # Errors
    /// Why it did not.
    pub(super) async fn admitted(&self) -> Result<(), String> {
        let mut state = self.state.clone();
        let answer = timeout(ANSWERS_WITHIN, state.wait_for(|state| state.admitted || state.ended.is_some()));
        match answer.await {
            Ok(Ok(state)) if state.admitted => Ok(()),
            Ok(Ok(state)) => Err(state.ended.clone().unwrap_or_default()),
            Ok(Err(_)) | Err(_) => Err("it does not answer".into()),
        }
    }

    /// Asks for a subscription, with or without what is retained.
    pub(super) async fn subscribe(&self, filter: &str, retained: bool) -> Answer {
        let filter = Filter {
            path: filter.to_owned(),
            qos: QoS::AtLeastOnce,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: match retained {
                true => RetainForwardRule::OnEverySubscribe,
                false => RetainForwardRule::Never,
            },
        };
        let before = self.answers();
        let asked = self.requests.try_subscribe_many([filter]).is_ok();
        self.answer(asked, before).await
    }

    /// Says something.
    pub(super) async fn publish(&self, topic: &str, payload: Vec<u8>) -> Answer {
        let before = self.answers();
        let asked = self.requests.try_publish(topic, QoS::AtLeastOnce, false, payload).is_ok();
        self.answer(asked, before).await
    }

    fn answers(&self) -> u64 {
        self.state.borrow().answers.0
    }

    async fn answer(&self, asked: bool, before: u64) -> Answer {
        if !asked {
            return Answer::None;
        }
        let mut state = self.state.clone();
        let answered = state.wait_for(|state| state.answers.0 > before || state.ended.is_some());
        match timeout(ANSWERS_WITHIN, answered).await {
            Ok(Ok(state)) if state.answers.0 > before => {
                if state.answers.1 {
                    Answer::Good
                } else {
                    Answer::Refused
                }
            }
            Ok(_) | Err(_) => Answer::None,
        }
    }

    /// Whether the connection stands.
    pub(super) fn is_there(&self) -> bool {
        let state = self.state.borrow();
        state.admitted && state.ended.is_none()
    }

    /// Ends the connection as a power cut would.
    pub(super) fn cut(self) {
        self.polling.abort();
    }

    /// Takes leave.
    pub(super) async fn leave(mut self) {
        if self.is_there() && self.requests.try_disconnect().is_ok() {
            // It ends by itself, or is ended.
            let _ = timeout(ANSWERS_WITHIN, self.state.wait_for(|state| state.ended.is_some())).await;
        }
        self.polling.abort();
    }
}

/// Polls a connection to its end. It is not made again: the next poll would.
async fn poll(mut eventloop: EventLoop, told: watch::Sender<State>, ears: Ears) {
    loop {
        let (is_answer, granted) = match eventloop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                told.send_modify(|state| state.admitted = true);
                (false, false)
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                ears.take(&publish.topic, &publish.payload);
                (false, false)
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let is_good = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                (true, suback.return_codes.iter().all(is_good))
            }
            Ok(Event::Incoming(Packet::PubAck(puback))) => {
                (true, matches!(puback.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers))
            }
            Ok(_) => (false, false),
            Err(error) => {
                // The library's own words stand before what the other end said.
                let words = error.to_string();
                let reason = words.rsplit("IO: ").next().unwrap_or_default().to_owned();
                return told.send_modify(|state| state.ended = Some(reason));
            }
        };
        if is_answer {
            told.send_modify(|state| state.answers = (state.answers.0 + 1, granted));
        }
    }
}
