//! Everything that the endpoint knows: who is connected, what each site reads, what it is owed, what is
//! retained, and which rows have changed.
//!
//! Synchronous, with the time as an argument: what it decides goes into outboxes (which never wait), into
//! changed rows, and into the values it returns.

use super::limits::Limits;
use super::outbox::Outbox;
use super::packet::{Connect, Qos, WillPacket};
use super::rates::Rates;
use super::reason::Reason;
use super::reply::{Granted, connack};
use super::rows::{InFlightRow, RetainedRow, Row, RowKey, RowWrite, Rows, SessionRow, SubscriptionRow};
use super::session::{Attached, Batch, Dropped, Message, Session, Subscription};
use super::topic::Topics;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A will whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DueWill {
    pub(super) client: Arc<str>,
    pub(super) will: WillPacket,
}

/// A topic's retained message, and the batch that makes it durable.
#[derive(Debug)]
pub(super) struct Retained {
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) after: Batch,
}

/// What a connection begins with.
#[derive(Debug)]
pub(super) struct Welcome {
    /// Its number; the next one of the same client has another.
    pub(super) connection: u64,
    /// The keep-alive that it was granted.
    pub(super) keep_alive_s: u16,
    /// The will that the connection before it leaves, if that is due.
    pub(super) due: Option<DueWill>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The will is not wanted: a normal DISCONNECT, or the hub itself is stopping.
    pub(super) without_will: bool,
    /// The expiry that the client's DISCONNECT asked for.
    pub(super) session_expiry_s: Option<u32>,
}

pub(super) struct Registry {
    pub(super) limits: Arc<Limits>,
    pub(super) topics: Topics,
    pub(super) sessions: BTreeMap<Arc<str>, Session>,
    pub(super) readers: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    pub(super) retained: BTreeMap<Arc<str>, Retained>,
    pub(super) changed: BTreeMap<RowKey, RowWrite>,
    pub(super) open: Batch,
    pub(super) committed: Batch,
    /// Clients that are owed something which waits for a commit, with the last batch that they wait for.
    pub(super) awaiting: BTreeMap<Arc<str>, Batch>,
    pub(super) last_connection: u64,
    pub(super) rates: Rates,
}

impl Registry {
    /// Builds the registry from its rows. Every loaded session counts its expiry from `now`.
    pub(super) fn load(limits: Arc<Limits>, topics: Topics, rows: Rows, now: Instant) -> Self {
        let mut registry = Self {
            limits,
            topics,
            sessions: BTreeMap::new(),
            readers: BTreeMap::new(),
            retained: BTreeMap::new(),
            changed: BTreeMap::new(),
            open: 1,
            committed: 0,
            awaiting: BTreeMap::new(),
            last_connection: 0,
            rates: Rates::default(),
        };
        for RetainedRow { topic, qos, payload } in rows.retained {
            registry.retained.insert(topic, Retained { payload, qos, after: 0 });
        }
        for SessionRow { client, expiry_s } in rows.sessions {
            let ends_at = Some(now + Duration::from_secs(expiry_s.into()));
            let mut session = Session::default();
            (session.expiry_s, session.ends_at, session.loaded) = (expiry_s, ends_at, true);
            registry.sessions.insert(client, session);
        }
        for row in rows.subscriptions {
            if let Some(session) = registry.sessions.get_mut(&row.client) {
                let granted = Subscription { qos: row.qos, retain_as_published: row.retain_as_published };
                session.subscriptions.insert(row.filter.clone(), granted);
                registry.readers.entry(row.filter).or_default().insert(row.client);
            }
        }
        for InFlightRow { client, seq, topic, payload } in rows.in_flight {
            if let Some(session) = registry.sessions.get_mut(&client) {
                session.restore(seq, Message { topic, payload, retained: false });
            }
        }
        registry
    }

    // Connections.

    /// Connects a client: takes over its session or makes one, answers CONNACK, and sends what is owed.
    pub(super) fn attach(
        &mut self,
        client: &Arc<str>,
        connect: Connect,
        outbox: Arc<Outbox>,
        now: Instant,
    ) -> Welcome {
        let limits = self.limits.clone();
        let expiry_s = connect.session_expiry_s.min(limits.session_expiry_s_max);
        let keep_alive_s = match connect.keep_alive_s {
            0 => limits.keep_alive_s_max,
            asked => asked.min(limits.keep_alive_s_max),
        };
        let mut due = None;
        if let Some(old) = self.sessions.get_mut(client) {
            let taken_over = old.attached.is_some();
            if let Some(attached) = &old.attached {
                attached.outbox.close(Reason::SESSION_TAKEN_OVER);
            }
            // A delayed will is let go when its session goes on; else the old connection's end fires it.
            let ends = connect.clean_start || !old.is_persistent();
            let will = old.will.take().filter(|will| ends || taken_over && will.delay_s == 0);
            due = will.map(|will| DueWill { client: client.clone(), will });
            old.detach();
            if ends {
                self.end_session(client);
            }
        }
        let session_present = self.sessions.contains_key(client);
        self.last_connection += 1;
        let connection = self.last_connection;
        let granted = Granted {
            session_present,
            session_expiry_s: (expiry_s != connect.session_expiry_s).then_some(expiry_s),
            keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
            receive_maximum: limits.ingest_in_flight_max,
            packet_bytes_max: limits.packet_bytes_max,
        };
        outbox.push_answer(connack(&granted));
        let session = self.sessions.entry(client.clone()).or_default();
        session.attached = Some(Attached {
            connection,
            outbox,
            receive_maximum: connect.receive_maximum,
            packet_bytes_max: connect.packet_bytes_max,
            keep_alive_s,
            since: now,
        });
        (session.ends_at, session.will_due) = (None, None);
        session.will = connect.will;
        let loaded = std::mem::take(&mut session.loaded);
        self.change_expiry(client, expiry_s);
        if loaded {
            self.queue_retained_again(client);
        }
        self.pump(client);
        Welcome { connection, keep_alive_s, due }
    }

    /// Ends one connection, and returns the will that is due at once.
    ///
    /// `None` if it was over already: the client has another by now, or is forgotten.
    pub(super) fn detach(
        &mut self,
        client: &Arc<str>,
        connection: u64,
        ending: Ending,
        now: Instant,
    ) -> Option<Option<DueWill>> {
        let session = self.sessions.get_mut(client)?;
        if session.attached.as_ref()?.connection != connection {
            return None;
        }
        session.detach();
        let will = session.will.take().filter(|_| !ending.without_will);
        // A session that began without expiry cannot be given one in the end (section 3.14.2.2.2).
        if let Some(expiry_s) = ending.session_expiry_s.filter(|_| session.is_persistent()) {
            self.change_expiry(client, expiry_s.min(self.limits.session_expiry_s_max));
        }
        let session = self.sessions.get_mut(client)?;
        let delay_s = will.as_ref().map_or(0, |will| will.delay_s).min(session.expiry_s);
        if session.is_persistent() {
            session.ends_at = Some(now + Duration::from_secs(session.expiry_s.into()));
        }
        if delay_s > 0 {
            session.will = will;
            session.will_due = Some(now + Duration::from_secs(delay_s.into()));
            return Some(None);
        }
        if !session.is_persistent() {
            self.end_session(client);
        }
        Some(will.map(|will| DueWill { client: client.clone(), will }))
    }

    /// Ends what has run out: sessions without a site, and the delays of wills, which it returns.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<DueWill> {
        self.rates.forget_at_rest(now);
        let mut due = Vec::new();
        let mut ended = Vec::new();
        for (client, session) in &mut self.sessions {
            let ends = session.ends_at.is_some_and(|at| at <= now);
            if (ends || session.will_due.is_some_and(|at| at <= now))
                && let Some(will) = session.will.take()
            {
                session.will_due = None;
                due.push(DueWill { client: client.clone(), will });
            }
            if ends {
                ended.push(client.clone());
            }
        }
        for client in ended {
            self.end_session(&client);
        }
        due
    }

    /// Forgets a client's session and its own retained messages; tells whether this ended a connection.
    pub(super) fn forget(&mut self, client: &Arc<str>) -> bool {
        let attached = self.sessions.get(client).and_then(|session| session.attached.as_ref());
        let connected = attached.is_some();
        if let Some(attached) = attached {
            attached.outbox.close(Reason::NOT_AUTHORIZED);
        }
        self.end_session(client);
        let head = self.topics.site_head(client);
        for topic in self.retained_from(&head).map(|(topic, _)| topic.clone()).collect::<Vec<_>>() {
            self.clear_retained(&topic);
        }
        connected
    }

    /// Asks every connection, or one, to end.
    pub(super) fn close(&self, client: Option<&str>, reason: Reason) {
        for (_, attached) in self.attached().filter(|(id, _)| client.is_none_or(|client| client == &***id)) {
            attached.outbox.close(reason);
        }
    }

    /// Tells whether a client is connected.
    pub(super) fn is_attached(&self, client: &str) -> bool {
        self.sessions.get(client).is_some_and(|session| session.attached.is_some())
    }

    pub(super) fn attached(&self) -> impl Iterator<Item = (&Arc<str>, &Attached)> {
        self.sessions.iter().filter_map(|(client, session)| Some((client, session.attached.as_ref()?)))
    }

    /// Returns how many messages wait for a client's acknowledgement or connection.
    pub(super) fn queued(&self, client: &str) -> usize {
        self.sessions.get(client).map_or(0, Session::queued)
    }

    // Rows.

    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Takes the changed rows as the next batch to commit; `None` if nothing changed.
    pub(super) fn take_batch(&mut self) -> Option<(Batch, Vec<RowWrite>)> {
        if self.changed.is_empty() {
            return None;
        }
        let batch = self.open;
        self.open += 1;
        Some((batch, std::mem::take(&mut self.changed).into_values().collect()))
    }

    /// Notes that a batch is durable and sends what waited for it.
    pub(super) fn commit(&mut self, batch: Batch) {
        self.committed = batch;
        let waiting: Vec<_> = self.awaiting.keys().cloned().collect();
        self.awaiting.retain(|_, after| *after > batch);
        for client in waiting {
            self.pump(&client);
        }
    }

    // Inside.

    pub(super) fn pump(&mut self, client: &Arc<str>) {
        let limits = self.limits.clone();
        let committed = self.committed;
        let Some(session) = self.sessions.get_mut(client) else { return };
        let dropped = session.pump(committed, &limits);
        self.drop_rows(client, dropped);
    }

    /// Gives a session another expiry, and rows if it now outlives its connection, or takes them away.
    fn change_expiry(&mut self, client: &Arc<str>, expiry_s: u32) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        let before = std::mem::replace(&mut session.expiry_s, expiry_s);
        if expiry_s == before {
            return;
        }
        if expiry_s == 0 {
            self.delete_rows(client);
            return;
        }
        // Messages queued without a row stay without: they came when the session promised nothing.
        let mut rows = vec![Row::Session(SessionRow { client: client.clone(), expiry_s })];
        if before == 0 {
            rows.extend(
                session.subscriptions.iter().map(|(f, granted)| subscription_row(client, f, *granted)),
            );
        }
        for row in rows {
            self.put(row);
        }
    }

    fn end_session(&mut self, client: &Arc<str>) {
        if self.sessions.get(client).is_some_and(Session::is_persistent) {
            self.delete_rows(client);
        }
        let Some(session) = self.sessions.remove(client) else { return };
        for filter in session.subscriptions.keys() {
            self.drop_reader(client, filter);
        }
        self.awaiting.remove(client);
    }

    fn delete_rows(&mut self, client: &Arc<str>) {
        let Some(session) = self.sessions.get(client) else { return };
        let mut keys = vec![RowKey::Session(client.clone())];
        keys.extend(session.subscriptions.keys().map(|f| RowKey::Subscription(client.clone(), f.clone())));
        keys.extend(session.stored_places().map(|seq| RowKey::InFlight(client.clone(), seq)));
        for key in keys {
            self.delete(key);
        }
    }

    pub(super) fn drop_rows(&mut self, client: &Arc<str>, places: Dropped) {
        for seq in places {
            self.delete(RowKey::InFlight(client.clone(), seq));
        }
    }

    pub(super) fn drop_reader(&mut self, client: &Arc<str>, filter: &Arc<str>) {
        if let Some(clients) = self.readers.get_mut(filter) {
            clients.remove(client);
            if clients.is_empty() {
                self.readers.remove(filter);
            }
        }
    }

    pub(super) fn outbox_of(&self, client: &Arc<str>, connection: u64) -> Option<Arc<Outbox>> {
        let attached = self.sessions.get(client)?.attached.as_ref()?;
        (attached.connection == connection).then(|| attached.outbox.clone())
    }

    pub(super) fn put(&mut self, row: Row) {
        let key = match &row {
            Row::Retained(row) => RowKey::Retained(row.topic.clone()),
            Row::Session(row) => RowKey::Session(row.client.clone()),
            Row::Subscription(row) => RowKey::Subscription(row.client.clone(), row.filter.clone()),
            Row::InFlight(row) => RowKey::InFlight(row.client.clone(), row.seq),
        };
        self.changed.insert(key, RowWrite::Put(row));
    }

    pub(super) fn delete(&mut self, key: RowKey) {
        self.changed.insert(key.clone(), RowWrite::Delete(key));
    }
}

pub(super) fn subscription_row(client: &Arc<str>, filter: &Arc<str>, granted: Subscription) -> Row {
    Row::Subscription(SubscriptionRow {
        client: client.clone(),
        filter: filter.clone(),
        qos: granted.qos,
        retain_as_published: granted.retain_as_published,
    })
}
