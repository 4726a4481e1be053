//! The endpoint's rows in SQLite, inside a transaction that the caller opens; and in the hub's database.

use super::packet::Qos;
use super::rows::{
    InFlightRow, RetainedRow, Row, RowKey, RowWrite, Rows, SessionRow, Sessions, SessionsFailed,
    SubscriptionRow,
};
use crate::db::{Db, DbError};
use bytes::Bytes;
use rusqlite::{Connection, Result, Row as SqlRow, params};
use std::sync::Arc;

impl Sessions for Db {
    async fn load(&self) -> std::result::Result<Rows, SessionsFailed> {
        let loaded = self.read(|connection| load(connection).map_err(DbError::from)).await;
        loaded.map_err(|failure| SessionsFailed(failure.into()))
    }

    async fn commit(&self, writes: Vec<RowWrite>) -> std::result::Result<(), SessionsFailed> {
        let written = self.write(move |connection| write(connection, &writes).map_err(DbError::from)).await;
        written.map_err(|failure| SessionsFailed(failure.into()))
    }
}

/// Reads all rows.
pub fn load(connection: &Connection) -> Result<Rows> {
    Ok(Rows {
        retained: select(connection, "SELECT topic, qos, payload FROM retained", |row| {
            Ok(RetainedRow { topic: text(row, 0)?, qos: qos(row, 1)?, payload: blob(row, 2)? })
        })?,
        sessions: select(connection, "SELECT client, expiry_s FROM session", |row| {
            Ok(SessionRow { client: text(row, 0)?, expiry_s: row.get(1)? })
        })?,
        subscriptions: select(
            connection,
            "SELECT client, filter, qos, retain_as_published FROM subscription",
            |row| {
                Ok(SubscriptionRow {
                    client: text(row, 0)?,
                    filter: text(row, 1)?,
                    qos: qos(row, 2)?,
                    retain_as_published: row.get(3)?,
                })
            },
        )?,
        in_flight: select(
            connection,
            "SELECT client, seq, topic, payload FROM inflight ORDER BY client, seq",
            |row| {
                Ok(InFlightRow {
                    client: text(row, 0)?,
                    seq: row.get(1)?,
                    topic: text(row, 2)?,
                    payload: blob(row, 3)?,
                })
            },
        )?,
    })
}

/// Writes all of `writes`; the caller commits them together, or none.
pub fn write(connection: &Connection, writes: &[RowWrite]) -> Result<()> {
    for write in writes {
        match write {
            RowWrite::Put(row) => put(connection, row)?,
            RowWrite::Delete(key) => delete(connection, key)?,
        }
    }
    Ok(())
}

fn put(connection: &Connection, row: &Row) -> Result<()> {
    match row {
        Row::Retained(row) => connection
            .prepare_cached("INSERT OR REPLACE INTO retained (topic, qos, payload) VALUES (?1, ?2, ?3)")?
            .execute(params![&*row.topic, row.qos as u8, &*row.payload]),
        Row::Session(row) => connection
            .prepare_cached("INSERT OR REPLACE INTO session (client, expiry_s) VALUES (?1, ?2)")?
            .execute(params![&*row.client, row.expiry_s]),
        Row::Subscription(row) => connection
            .prepare_cached(
                "INSERT OR REPLACE INTO subscription (client, filter, qos, retain_as_published)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![&*row.client, &*row.filter, row.qos as u8, row.retain_as_published]),
        Row::InFlight(row) => connection
            .prepare_cached(
                "INSERT OR REPLACE INTO inflight (client, seq, topic, payload) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![&*row.client, row.seq, &*row.topic, &*row.payload]),
    }
    .map(drop)
}

fn delete(connection: &Connection, key: &RowKey) -> Result<()> {
    match key {
        RowKey::Retained(topic) => {
            connection.prepare_cached("DELETE FROM retained WHERE topic = ?1")?.execute([&**topic])
        }
        RowKey::Session(client) => {
            connection.prepare_cached("DELETE FROM session WHERE client = ?1")?.execute([&**client])
        }
        RowKey::Subscription(client, filter) => connection
            .prepare_cached("DELETE FROM subscription WHERE client = ?1 AND filter = ?2")?
            .execute([&**client, &**filter]),
        RowKey::InFlight(client, seq) => connection
            .prepare_cached("DELETE FROM inflight WHERE client = ?1 AND seq = ?2")?
            .execute(params![&**client, seq]),
    }
    .map(drop)
}

fn select<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&SqlRow<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map([], read)?.collect()
}

fn text(row: &SqlRow<'_>, index: usize) -> Result<Arc<str>> {
    row.get_ref(index)?.as_str().map(Arc::from).map_err(Into::into)
}

fn blob(row: &SqlRow<'_>, index: usize) -> Result<Bytes> {
    row.get_ref(index)?.as_blob().map(Bytes::copy_from_slice).map_err(Into::into)
}

fn qos(row: &SqlRow<'_>, index: usize) -> Result<Qos> {
    // The table's CHECK leaves two values.
    Ok(if row.get::<_, u8>(index)? == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce })
}
