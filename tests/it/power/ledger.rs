//! What was acknowledged, by whom and to whom, compared with what is on the disks after a power cut.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use airlift_tests::lossy::LossyDisk;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::stand::{APP, SITE};

/// The rows of an agent that only ever rise, and its receipts.
pub(super) struct AgentRows {
    /// Counters and floors, as (epoch, number).
    counters: BTreeMap<String, (i64, i64)>,
    /// Numbers that the site has given out, or told the hub.
    numbers: BTreeMap<&'static str, i64>,
    receipts: BTreeMap<i64, String>,
    /// Receipts below it are the hub's, by the hub's word.
    acked_next: i64,
    receipt_next: i64,
}

/// What the hub has of the site.
pub(super) struct HubRows {
    receipts: BTreeMap<i64, String>,
    /// The greatest assignment of the site.
    assignment: (i64, i64),
    /// The release that is to run.
    desired: i64,
    published: i64,
    /// Entries of the log of changes.
    audit: i64,
}

impl AgentRows {
    /// Looks at a copy of the disk.
    pub(super) fn of(disk: &LossyDisk) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        disk.copy_to(folder.path());
        for file in ["keys/site.json", "keys/tls.pem", "keys/grant.json"] {
            let text =
                std::fs::read_to_string(folder.path().join(file)).map_err(|e| format!("{file}: {e}"))?;
            if text.is_empty() {
                return Err(format!("{file} is empty"));
            }
        }
        let database = open(&folder.path().join("agent.db"))?;
        Self::read(&database).map_err(|error| format!("agent.db: {error}"))
    }

    fn read(database: &Connection) -> rusqlite::Result<Self> {
        const NUMBERS: [&str; 4] = ["receipt_next", "outbox_next", "conn_seq", "starts"];
        let counters = "SELECT kind || ' ' || name, epoch, seq FROM counter
                        UNION ALL SELECT 'accepted ' || app || ' ' || epoch || ' ' || seq, epoch, seq FROM accepted
                        UNION ALL SELECT 'root', 0, max(version) FROM root
                        UNION ALL SELECT 'enrolment', 0, incarnation FROM meta";
        let number = |column: &str| {
            database.query_row(&format!("SELECT {column} FROM meta"), [], |row| row.get::<_, i64>(0))
        };
        let mut numbers = BTreeMap::new();
        for column in NUMBERS {
            numbers.insert(column, number(column)?);
        }
        Ok(Self {
            counters: rows(database, counters, |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?,
            receipts: rows(database, "SELECT seq, lower(hex(sha256)) FROM receipt", |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?,
            acked_next: number("receipt_acked_next")?,
            receipt_next: number("receipt_next")?,
            numbers,
        })
    }
}

impl HubRows {
    /// Looks at a copy of the disk.
    pub(super) fn of(disk: &LossyDisk) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        disk.copy_to(folder.path());
        let database = open(&folder.path().join("hub.db"))?;
        Self::read(&database).map_err(|error| format!("hub.db: {error}"))
    }

    fn read(database: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| {
            let found = database.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).optional()?;
            Ok::<_, rusqlite::Error>(found.flatten().unwrap_or(0))
        };
        let of_site = |column: &str| number(&format!("SELECT {column} FROM site WHERE site = '{SITE}'"));
        Ok(Self {
            receipts: rows(database, "SELECT seq, replace(sha256, 'sha256:', '') FROM receipt", |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?,
            assignment: (of_site("last_epoch")?, of_site("last_seq")?),
            desired: number(
                "SELECT release.seq FROM desired JOIN release ON release.sha256 = desired.release",
            )?,
            published: number(&format!("SELECT max(seq) FROM release WHERE app = '{APP}'"))?,
            audit: number("SELECT max(seq) FROM audit")?,
        })
    }
}

/// Opens a database as whoever comes next would, and lets SQLite check it.
fn open(path: &Path) -> Result<Connection, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let check = || -> rusqlite::Result<(Connection, String)> {
        let database = Connection::open(path)?;
        let said = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        Ok((database, said))
    };
    match check().map_err(|error| format!("{name}: {error}"))? {
        (database, said) if said == "ok" => Ok(database),
        (_, said) => Err(format!("{name}: {said}")),
    }
}

fn rows<K: Ord, V>(
    database: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<(K, V)>,
) -> rusqlite::Result<BTreeMap<K, V>> {
    database.prepare(sql)?.query_map([], read)?.collect()
}

/// The state of things that nobody may fall behind any more.
#[derive(Default)]
pub(super) struct Ledger {
    /// The release whose publishing the hub has acknowledged.
    pub(super) published: u32,
    /// The release whose assignment the hub has acknowledged.
    pub(super) assigned: u32,
    agent: Option<AgentRows>,
    hub: Option<HubRows>,
    receipts_matched: usize,
}

impl Ledger {
    /// Compares what came out of a cut with what came out of the one before.
    pub(super) fn compare(&self, agent: Option<&AgentRows>, hub: Option<&HubRows>) -> Result<(), String> {
        if let (Some(before), Some(now)) = (&self.agent, agent) {
            not_less("counter", &before.counters, &now.counters)?;
            not_less("number", &before.numbers, &now.numbers)?;
        }
        let Some(hub) = hub else { return Ok(()) };
        if let Some(before) = &self.hub {
            if hub.assignment < before.assignment || hub.audit < before.audit {
                return Err(format!(
                    "the hub's assignment went from {:?} to {:?}, its log from {} to {}",
                    before.assignment, hub.assignment, before.audit, hub.audit
                ));
            }
            if let Some(seq) = before.receipts.keys().find(|seq| !hub.receipts.contains_key(seq)) {
                return Err(format!("receipt {seq} is not at the hub any more"));
            }
        }
        if hub.published < i64::from(self.published) || hub.desired < i64::from(self.assigned) {
            return Err(format!(
                "the hub acknowledged {} as published and {} as assigned, and has {} and {}",
                self.published, self.assigned, hub.published, hub.desired
            ));
        }
        Ok(())
    }

    /// Compares what site and hub have told each other.
    pub(super) fn match_up(&mut self, agent: &AgentRows, hub: &HubRows) -> Result<(), String> {
        for (seq, sha256) in &hub.receipts {
            if *seq >= agent.receipt_next {
                return Err(format!(
                    "the hub has receipt {seq}, the site is at {} again",
                    agent.receipt_next
                ));
            }
            if agent.receipts.get(seq).is_some_and(|own| own != sha256) {
                return Err(format!("receipt {seq} is {sha256} at the hub, and another one at the site"));
            }
        }
        if let Some(seq) = (1..agent.acked_next).find(|seq| !hub.receipts.contains_key(seq)) {
            return Err(format!("receipt {seq} was acknowledged, and is not at the hub"));
        }
        let accepted = agent.counters.get("assignment ").copied().unwrap_or_default();
        if accepted > hub.assignment {
            return Err(format!("the site has accepted {accepted:?}, the hub is at {:?}", hub.assignment));
        }
        self.receipts_matched = hub.receipts.len();
        Ok(())
    }

    /// What came out of this cut is what the next is compared with.
    pub(super) fn keep(&mut self, agent: Option<AgentRows>, hub: Option<HubRows>) {
        self.agent = agent.or_else(|| self.agent.take());
        self.hub = hub.or_else(|| self.hub.take());
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.agent.as_ref().map(|agent| &agent.numbers);
        write!(f, "{} releases, {} receipts matched, {numbers:?}", self.assigned, self.receipts_matched)
    }
}

fn not_less<K: Ord + fmt::Debug, V: PartialOrd + fmt::Debug>(
    what: &str,
    before: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
) -> Result<(), String> {
    let less = |(key, value): &(&K, &V)| now.get(key).is_none_or(|now| now < value);
    match before.iter().find(less) {
        Some((key, value)) => Err(format!("{what} {key:?} went from {value:?} to {:?}", now.get(key))),
        None => Ok(()),
    }
}
