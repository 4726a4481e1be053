//! Where messages go: subscriptions, retained messages, and the queues of those who read a topic.

use super::packet::{Qos, SendRetained, Wanted};
use super::reason::Reason;
use super::registry::{Registry, Retained, subscription_row};
use super::reply::{Sending, publish_head, suback, unsuback};
use super::rows::{InFlightRow, RetainedRow, Row, RowKey};
use super::session::{Batch, Message, Session, Subscription};
use super::topic::{literal_head, matches};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where one message of the hub went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fanout {
    /// Connections that it was queued for at QoS 0.
    pub sent: usize,
    /// Connections that had no room for it.
    pub dropped: usize,
    /// Sessions that it was queued for at QoS 1.
    pub queued: usize,
}

impl Registry {
    // Subscriptions.

    /// Grants or refuses each filter, answers SUBACK, and sends the retained messages that match.
    pub(super) fn subscribe(
        &mut self,
        client: &Arc<str>,
        connection: u64,
        packet_id: u16,
        wanted: &[Wanted],
    ) {
        let Some(outbox) = self.outbox_of(client, connection) else { return };
        let mut reasons = Vec::with_capacity(wanted.len());
        let mut retained = Vec::new();
        for wanted in wanted {
            match self.subscribe_one(client, wanted) {
                Ok((granted, new)) => {
                    reasons.push(Reason(granted.qos as u8));
                    let send = match wanted.retained {
                        SendRetained::Always => true,
                        SendRetained::IfNew => new,
                        SendRetained::Never => false,
                    };
                    if send {
                        retained.push((wanted.filter.as_str(), granted.qos));
                    }
                }
                Err(reason) => reasons.push(reason),
            }
        }
        outbox.push_answer(suback(packet_id, &reasons));
        for (filter, qos) in retained {
            self.send_retained(client, filter, qos, true);
        }
        self.pump(client);
    }

    fn subscribe_one(&mut self, client: &Arc<str>, wanted: &Wanted) -> Result<(Subscription, bool), Reason> {
        self.topics.check_filter(client, &wanted.filter)?;
        let session = self.sessions.get_mut(client).ok_or(Reason::UNSPECIFIED)?;
        let new = !session.subscriptions.contains_key(wanted.filter.as_str());
        if new && session.subscriptions.len() >= self.limits.filters_per_site_max {
            return Err(Reason::QUOTA_EXCEEDED);
        }
        let granted = Subscription { qos: wanted.qos, retain_as_published: wanted.retain_as_published };
        let filter: Arc<str> = match self.readers.get_key_value(wanted.filter.as_str()) {
            Some((known, _)) => known.clone(), // ten thousand sites share one `h/#`
            None => wanted.filter.as_str().into(),
        };
        let before = session.subscriptions.insert(filter.clone(), granted);
        if session.is_persistent() && before != Some(granted) {
            self.put(subscription_row(client, &filter, granted));
        }
        self.readers.entry(filter).or_default().insert(client.clone());
        Ok((granted, new))
    }

    /// Drops each filter and answers UNSUBACK.
    pub(super) fn unsubscribe(
        &mut self,
        client: &Arc<str>,
        connection: u64,
        packet_id: u16,
        filters: &[String],
    ) {
        const NO_SUBSCRIPTION_EXISTED: Reason = Reason(0x11);
        let Some(outbox) = self.outbox_of(client, connection) else { return };
        let mut reasons = Vec::with_capacity(filters.len());
        for filter in filters {
            let session = self.sessions.get_mut(client);
            match session.and_then(|session| session.subscriptions.remove_entry(filter.as_str())) {
                Some((filter, _)) => {
                    self.drop_reader(client, &filter);
                    if self.sessions.get(client).is_some_and(Session::is_persistent) {
                        self.delete(RowKey::Subscription(client.clone(), filter));
                    }
                    reasons.push(Reason::SUCCESS);
                }
                None => reasons.push(NO_SUBSCRIPTION_EXISTED),
            }
        }
        outbox.push_answer(unsuback(packet_id, &reasons));
    }

    // Messages.

    /// Queues one message of the hub for everyone who reads it, and keeps it if it is retained.
    ///
    /// Returns where it went and the batch whose commit makes it durable; 0 if nothing of it is stored.
    pub(super) fn publish(
        &mut self,
        topic: &Arc<str>,
        payload: Bytes,
        qos: Qos,
        retain: bool,
    ) -> (Fanout, Batch) {
        let mut durable = 0;
        if retain {
            durable = self.open;
            self.put(Row::Retained(RetainedRow { topic: topic.clone(), qos, payload: payload.clone() }));
            let kept = Retained { payload: payload.clone(), qos, after: durable };
            self.retained.insert(topic.clone(), kept);
        }
        let heads = [false, true].map(|retain| {
            let sending = Sending { packet_id: None, retain, duplicate: false };
            publish_head(topic, payload.len(), sending)
        });
        let message = Message { topic: topic.clone(), payload, retained: retain };
        let mut fanout = Fanout::default();
        for (client, granted) in self.readers_of(topic) {
            let retain = retain && granted.retain_as_published;
            if qos.min(granted.qos) == Qos::AtMostOnce {
                let Some(attached) = self.sessions.get(&client).and_then(|s| s.attached.as_ref()) else {
                    continue;
                };
                let head = heads[usize::from(retain)].clone();
                let fits = head.len() + message.payload.len() <= attached.packet_bytes_max as usize;
                if fits && attached.outbox.push_droppable(head, message.payload.clone()) {
                    fanout.sent += 1;
                } else {
                    fanout.dropped += 1;
                }
            } else {
                durable = durable.max(self.enqueue(&client, message.clone(), retain, durable));
                fanout.queued += 1;
            }
        }
        (fanout, durable)
    }

    /// Drops a topic's retained message, and its copies that were not sent yet.
    pub(super) fn clear_retained(&mut self, topic: &Arc<str>) -> Batch {
        if self.retained.remove(topic).is_none() {
            return 0;
        }
        for (client, _) in self.readers_of(topic) {
            if let Some(session) = self.sessions.get_mut(&client) {
                session.retract(topic);
            }
        }
        self.delete(RowKey::Retained(topic.clone()));
        self.open
    }

    /// Takes a client's PUBACK.
    pub(super) fn acknowledge(&mut self, client: &Arc<str>, connection: u64, packet_id: u16) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        if session.attached.as_ref().is_some_and(|attached| attached.connection == connection) {
            let freed = session.acknowledge(packet_id);
            self.drop_rows(client, freed);
            self.pump(client);
        }
    }

    /// Queues a QoS 1 message; returns the batch that holds its row, or 0.
    fn enqueue(&mut self, client: &Arc<str>, message: Message, retain: bool, after: Batch) -> Batch {
        let limits = self.limits.clone();
        let open = self.open;
        let Some(session) = self.sessions.get_mut(client) else { return 0 };
        // A retained message has its own row, and is queued again after a restart.
        let stored = session.is_persistent() && !message.retained;
        let after = if stored { open } else { after };
        let (topic, payload) = (message.topic.clone(), message.payload.clone());
        let (seq, dropped) = session.enqueue(message, retain, after, stored, &limits);
        if stored {
            let client = client.clone();
            self.put(Row::InFlight(InFlightRow { client, seq, topic, payload }));
        }
        self.drop_rows(client, dropped);
        if after > self.committed {
            self.awaiting.insert(client.clone(), after);
        } else {
            self.pump(client);
        }
        if stored { open } else { 0 }
    }

    /// Queues what a new subscription brings: the retained messages that match its filter.
    fn send_retained(&mut self, client: &Arc<str>, filter: &str, granted: Qos, droppable: bool) {
        let matching: Vec<_> = self
            .retained_from(literal_head(filter))
            .filter(|(topic, _)| matches(filter, topic))
            .map(|(topic, kept)| (topic.clone(), kept.payload.clone(), kept.qos, kept.after))
            .collect();
        for (topic, payload, qos, after) in matching {
            if qos.min(granted) == Qos::AtLeastOnce {
                self.enqueue(client, Message { topic, payload, retained: true }, true, after);
            } else if droppable
                && let Some(attached) = self.sessions.get(client).and_then(|s| s.attached.as_ref())
            {
                let sending = Sending { packet_id: None, retain: true, duplicate: false };
                let head = publish_head(&topic, payload.len(), sending);
                if head.len() + payload.len() <= attached.packet_bytes_max as usize {
                    attached.outbox.push_droppable(head, payload);
                }
            }
        }
    }

    /// After the hub's restart nobody knows which retained messages a session was still owed: all of QoS 1.
    pub(super) fn queue_retained_again(&mut self, client: &Arc<str>) {
        let Some(session) = self.sessions.get(client) else { return };
        let filters: Vec<_> =
            session.subscriptions.iter().map(|(f, granted)| (f.clone(), granted.qos)).collect();
        for (filter, qos) in filters {
            self.send_retained(client, &filter, qos, false);
        }
    }

    pub(super) fn retained_from<'a>(
        &'a self,
        head: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Retained)> {
        self.retained
            .range::<str, _>((std::ops::Bound::Included(head), std::ops::Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(head))
    }

    /// Returns everyone who reads a topic, each once, with the best that their filters were granted.
    pub(super) fn readers_of(&self, topic: &str) -> BTreeMap<Arc<str>, Subscription> {
        let mut found: BTreeMap<Arc<str>, Subscription> = BTreeMap::new();
        for filter in self.topics.filters_of(topic) {
            for client in self.readers.get(filter.as_str()).into_iter().flatten() {
                let granted = self.sessions.get(client).and_then(|s| s.subscriptions.get(filter.as_str()));
                if let Some(&granted) = granted {
                    let best = found.entry(client.clone()).or_insert(granted);
                    best.qos = best.qos.max(granted.qos);
                    best.retain_as_published |= granted.retain_as_published;
                }
            }
        }
        found
    }
}
