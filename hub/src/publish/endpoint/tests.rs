//! Tests of the endpoint: its parts here, the whole over TCP and TLS in `fleet`.

mod bed;
mod fleet;
mod flow;
mod framing;
mod limits;
mod rights;
mod sessions;

use super::packet::WillPacket;
use super::*;
use airlift_bundles::ids::SiteId;
use airlift_bundles::wire::Topic;
use bytes::{Bytes, BytesMut};
use std::sync::{Mutex, PoisonError};

/// The endpoint's rows in SQLite, in memory; clones are the same database, as after a restart.
#[derive(Clone)]
struct Database(Arc<Mutex<rusqlite::Connection>>);

impl Database {
    fn new() -> Self {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../../migrations/0002_endpoint.sql")).unwrap();
        Self(Arc::new(Mutex::new(connection)))
    }

    fn rows(&self) -> Rows {
        store::load(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).unwrap()
    }

    fn write(&self, writes: &[RowWrite]) {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction().unwrap();
        store::write(&transaction, writes).unwrap();
        transaction.commit().unwrap();
    }
}

impl Sessions for Database {
    async fn load(&self) -> Result<Rows, SessionsFailed> {
        Ok(self.rows())
    }

    async fn commit(&self, writes: Vec<RowWrite>) -> Result<(), SessionsFailed> {
        self.write(&writes);
        Ok(())
    }
}

fn prefix() -> Name {
    Name::new("airlift").unwrap()
}

fn site(id: &str) -> SiteId {
    SiteId::new(id).unwrap()
}

/// Reads a topic without its prefix; `b/x/…` is short for a piece of some blob.
fn topic(path: &str) -> Topic {
    let path = path.replace("b/x/", &format!("b/sha256-{}/", "0f".repeat(32)));
    Topic::parse(&format!("airlift/v1/{path}"), &prefix()).unwrap()
}
