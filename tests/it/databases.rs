//! The databases of agent and hub as a kill has left them: copies, so that the product itself recovers its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use airlift_tests::agent::Agent;
use airlift_tests::hub::Hub;
use rusqlite::{Connection, OpenFlags, Row};
use tempfile::TempDir;

/// A copy of a database, and the directory that it lives in.
struct Snapshot {
    connection: Connection,
    _dir: TempDir,
}

impl Snapshot {
    /// Copies a database that nobody writes, with the log that its process has left.
    fn of(database: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy.db");
        fs::copy(database, &copy).unwrap();
        let log = database.with_extension("db-wal");
        if log.exists() {
            fs::copy(log, copy.with_extension("db-wal")).unwrap();
        }
        Self { connection: Connection::open(copy).unwrap(), _dir: dir }
    }

    /// All of it can be read, every index agrees with its table, and every reference leads somewhere.
    fn assert_whole(&self) {
        assert_eq!(all(&self.connection, "PRAGMA integrity_check", |row| row.get::<_, String>(0)), ["ok"]);
        let astray = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(2)?));
        let astray = all(&self.connection, "PRAGMA foreign_key_check", astray);
        assert!(astray.is_empty(), "{astray:?}");
    }
}

fn all<T>(connection: &Connection, sql: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], read).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// What the agent says that the hub has acknowledged.
pub(crate) struct Acknowledged {
    chain_id: String,
    /// The first receipt that is not.
    next: u64,
    /// Number and digest of those that are still here.
    receipts: BTreeSet<(u64, String)>,
}

/// The agent's rows.
pub(crate) struct AgentRows(Snapshot);

impl AgentRows {
    /// Those of an agent that was killed.
    pub(crate) fn left_by_a_kill(agent: &Agent<'_>) -> Self {
        Self(Snapshot::of(&agent.dir().join("state/agent.db")))
    }

    /// What an agent that runs holds for acknowledged at this moment.
    pub(crate) fn of_running(agent: &Agent<'_>) -> Acknowledged {
        let database = agent.dir().join("state/agent.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(database, flags).unwrap();
        // One transaction, so that all rows are of one moment.
        let reading = connection.unchecked_transaction().unwrap();
        let meta = all(&reading, "SELECT chain_id, receipt_acked_next FROM meta", |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        let [(chain_id, next)] = <[_; 1]>::try_from(meta).expect("the site is enrolled");
        let receipts = all(
            &reading,
            "SELECT seq, 'sha256:' || lower(hex(sha256)) FROM receipt WHERE acked = 1",
            |row| Ok((row.get(0)?, row.get(1)?)),
        );
        Acknowledged { chain_id, next, receipts: receipts.into_iter().collect() }
    }

    /// Takes an app's inventory out of the database of an agent that does not run.
    pub(crate) fn lose_objects(agent: &Agent<'_>, app: &str) {
        let connection = Connection::open(agent.dir().join("state/agent.db")).unwrap();
        let lost = connection.execute("DELETE FROM object WHERE app = ?1", [app]).unwrap();
        assert!(lost > 0, "{app} had objects");
    }

    /// See [`Snapshot::assert_whole`].
    pub(crate) fn assert_whole(&self) {
        self.0.assert_whole();
    }

    /// How many objects of an app are in the inventory as applied, and how many there are.
    pub(crate) fn objects(&self, app: &str) -> (u64, u64) {
        let sql = "SELECT count(applied_sha256), count(*) FROM object WHERE app = ?1";
        self.0.connection.query_row(sql, [app], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }
}

/// The hub's rows.
pub(crate) struct HubRows(Snapshot);

impl HubRows {
    /// Those of a hub that was killed.
    pub(crate) fn left_by_a_kill(hub: &Hub) -> Self {
        Self(Snapshot::of(&hub.dir().join("hub/hub.db")))
    }

    /// What a hub that runs keeps as subscribed to by its sites.
    pub(crate) fn subscriptions(hub: &Hub) -> Vec<String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(hub.dir().join("hub/hub.db"), flags).unwrap();
        all(&connection, "SELECT filter FROM subscription ORDER BY filter", |row| row.get(0))
    }

    /// See [`Snapshot::assert_whole`].
    pub(crate) fn assert_whole(&self) {
        self.0.assert_whole();
    }

    /// Every receipt that a site was told to be here is here, once and with its digest.
    pub(crate) fn assert_holds_what_is_acknowledged(&self, told: &Acknowledged) {
        let held = all(&self.0.connection, "SELECT chain_id, seq, sha256 FROM receipt", |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, String>(2)?))
        });
        let count = held.len();
        let of_chain = held.into_iter().filter(|(chain_id, ..)| *chain_id == told.chain_id);
        let held: BTreeSet<(u64, String)> = of_chain.map(|(_, seq, sha256)| (seq, sha256)).collect();
        assert_eq!(held.len(), count, "one site has one chain, and each receipt is there once");
        let numbers: BTreeSet<u64> = held.iter().map(|(seq, _)| *seq).collect();
        let missing: Vec<u64> = (1..told.next).filter(|seq| !numbers.contains(seq)).collect();
        assert!(missing.is_empty(), "acknowledged below {}, and not here: {missing:?}", told.next);
        assert!(told.receipts.is_subset(&held), "{:?} is not in {held:?}", told.receipts);
    }
}
