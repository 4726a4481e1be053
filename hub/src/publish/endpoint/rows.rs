//! What outlives the process: the endpoint's rows, and the port through which they are stored.

use super::packet::Qos;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;

/// Names one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// The retained message of a topic.
    Retained(Arc<str>),
    /// The session of a client.
    Session(Arc<str>),
    /// A filter of a client.
    Subscription(Arc<str>, Arc<str>),
    /// A message that a client has not acknowledged, by its place in the client's order.
    InFlight(Arc<str>, u64),
}

/// One row, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A retained message.
    Retained(RetainedRow),
    /// A session that outlives its connection.
    Session(SessionRow),
    /// A subscription of such a session.
    Subscription(SubscriptionRow),
    /// An undelivered QoS 1 message of such a session.
    InFlight(InFlightRow),
}

/// The retained message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedRow {
    /// The full topic.
    pub topic: Arc<str>,
    /// The quality of service that it was published with.
    pub qos: Qos,
    /// What it says.
    pub payload: Bytes,
}

/// A session that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The client id, which is the site id.
    pub client: Arc<str>,
    /// Seconds that it lives without a connection, counted anew when the hub starts.
    pub expiry_s: u32,
}

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// The client id.
    pub client: Arc<str>,
    /// The filter.
    pub filter: Arc<str>,
    /// The quality of service granted.
    pub qos: Qos,
    /// Whether a live message keeps its retain flag.
    pub retain_as_published: bool,
}

/// An undelivered QoS 1 message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightRow {
    /// The client id.
    pub client: Arc<str>,
    /// Its place in the client's order.
    pub seq: u64,
    /// The full topic.
    pub topic: Arc<str>,
    /// What it says.
    pub payload: Bytes,
}

/// One change: the whole row, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowWrite {
    /// Inserts the row or replaces the one with its key.
    Put(Row),
    /// Deletes the row, if there is one.
    Delete(RowKey),
}

/// All rows, as loaded when the hub starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Every retained message.
    pub retained: Vec<RetainedRow>,
    /// Every session.
    pub sessions: Vec<SessionRow>,
    /// Every subscription.
    pub subscriptions: Vec<SubscriptionRow>,
    /// Every undelivered message, by client and then by place.
    pub in_flight: Vec<InFlightRow>,
}

/// Reports that rows could not be read or committed.
#[derive(Debug, thiserror::Error)]
#[error("the endpoint's rows could not be stored")]
pub struct SessionsFailed(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Stores the endpoint's rows.
///
/// [`super::store`] holds the SQL; the hub's database calls it inside one of its transactions.
pub trait Sessions: Send + Sync + 'static {
    /// Reads all rows.
    fn load(&self) -> impl Future<Output = Result<Rows, SessionsFailed>> + Send;

    /// Commits all of `writes`, or none; resolves when they are durable. Never called twice at once.
    fn commit(&self, writes: Vec<RowWrite>) -> impl Future<Output = Result<(), SessionsFailed>> + Send;
}
