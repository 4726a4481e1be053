//! What must always hold, and a site's ledger against which it is checked: kept by the simulator from what it sees
//! on disks, wires and clusters, and never from what a core says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use airlift_agent::core::object::{GenerationId, Uid};
use airlift_agent::core::write::{CounterKey, CounterRow, Rows, Write};
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, Sha256Digest, SiteId};

/// What was broken: an invariant of `ARCHITECTURE.md`, by its number there, or the scenario's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// 1: nothing is applied that does not descend from a verified release and an assignment.
    Descent,
    /// 2: counters and floors never go down.
    Counters,
    /// 3: no reading of a clock causes a refusal.
    Clocks,
    /// 4: acknowledged means durable.
    Durable,
    /// 5: every receipt arrives at least once and is stored once; chains do not fork.
    Receipts,
    /// 6: nothing is deleted but what is ours and no longer wanted.
    Deletions,
    /// 7: killed at any instant, a process starts again and needs no hand.
    Restarts,
    /// 8: a site keeps what it runs, with or without a hub.
    Upkeep,
    /// 9: unknown and stale are never shown as healthy.
    Stale,
    /// 10: no site delays or fails another.
    Independence,
    /// 13: the director key alone introduces no content, and no value outside its declaration.
    Director,
    /// 14: one seed, one story.
    Determinism,
    /// 11: what is used has its signed digest.
    Content,
    /// 12: nothing from outside is taken in beyond its limits.
    Limits,
    /// An agent that can do nothing sleeps: it does not wake up for nothing again and again.
    Sleep,
    /// What the scenario expects has not come.
    Expectation,
    /// The scenario asks for what the hub refuses.
    Scenario,
}

impl Invariant {
    /// Its numbers in `ARCHITECTURE.md`; none for the scenario's own.
    #[must_use]
    pub fn numbers(self) -> &'static [u8] {
        match self {
            Self::Descent => &[1],
            Self::Counters => &[2],
            Self::Clocks => &[3],
            Self::Durable => &[4],
            Self::Receipts => &[5],
            Self::Deletions => &[6],
            Self::Restarts => &[7],
            Self::Upkeep => &[8],
            Self::Stale => &[9],
            Self::Independence => &[10],
            Self::Director => &[13],
            Self::Determinism => &[14],
            Self::Content => &[11],
            Self::Limits => &[12],
            Self::Sleep | Self::Expectation | Self::Scenario => &[],
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Descent => "only what was released and assigned is applied",
            Self::Counters => "counters never go down",
            Self::Clocks => "no reading of a clock refuses anything",
            Self::Durable => "acknowledged means durable",
            Self::Receipts => "every receipt arrives and is stored once",
            Self::Deletions => "nothing is deleted that is not ours and unwanted",
            Self::Restarts => "a process starts again without a hand",
            Self::Upkeep => "a site keeps what it runs",
            Self::Independence => "no site delays or fails another",
            Self::Director => "the director's key only chooses",
            Self::Determinism => "one seed is one story",
            Self::Stale => "what is stale is not shown as healthy",
            Self::Content => "what is used has its signed digest",
            Self::Limits => "nothing is taken in beyond its limits",
            Self::Sleep => return f.write_str("an agent that can do nothing sleeps"),
            Self::Expectation => return f.write_str("expectation"),
            Self::Scenario => return f.write_str("scenario"),
        };
        let numbers: Vec<String> = self.numbers().iter().map(ToString::to_string).collect();
        write!(f, "invariant {} ({words})", numbers.join(" and "))
    }
}

/// One thing that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What was broken.
    pub invariant: Invariant,
    /// Where.
    pub site: Option<SiteId>,
    /// When, in milliseconds since the world began.
    pub at_ms: u64,
    /// After how many steps.
    pub step: u64,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes) = (self.at_ms / 3_600_000, self.at_ms / 60_000 % 60);
        let seconds = self.at_ms / 1000 % 60;
        write!(f, "step {} at {hours}:{minutes:02}:{seconds:02}", self.step)?;
        if let Some(site) = &self.site {
            write!(f, " at {site}")?;
        }
        write!(f, ": {}: {}", self.invariant, self.text)
    }
}

/// What the simulator itself knows of one site.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counters: BTreeMap<CounterKey, (u64, u64)>,
    /// Every receipt that was ever on disk, and when it came there.
    pub(crate) receipts: BTreeMap<u64, (Sha256Digest, u64)>,
    /// Receipts below are acknowledged.
    acked_next: u64,
    /// Every object that was ever applied here, by identity.
    pub(crate) applied: BTreeMap<Uid, AppName>,
    /// Every generation that an assignment of the hub has named for this site.
    pub(crate) granted: BTreeSet<GenerationId>,
    /// Every app that one has told to leave.
    pub(crate) retired: BTreeSet<AppName>,
    /// Every generation that was healthy here.
    pub(crate) healthy: BTreeSet<(AppName, GenerationId)>,
    /// When something of the site last reached the hub.
    pub(crate) heard_ms: Option<u64>,
    /// Receipts up to here were written onto the stick of this number.
    pub(crate) written: BTreeMap<usize, u64>,
    /// Receipts up to here came home by stick.
    pub(crate) returned: u64,
    /// Receipts that were on its disk until a power cut showed that they never were; one number may come up more
    /// than once.
    pub(crate) lost: BTreeMap<u64, BTreeSet<Sha256Digest>>,
    /// Receipts up to here were acknowledged by a hub whose disk is lost.
    pub(crate) lost_upto: u64,
    /// A thief with the director's key gave it orders.
    pub(crate) robbed: bool,
    /// The minute in which it last woke up, and how often it did since that began.
    wakes: (u64, u64),
    /// The hour in which it last sent a batch, and how many it did since that began; the same of what it asked for.
    batches: (u64, u64),
    asks: (u64, u64),
}

/// What a write says that has to be asked of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) seq: u64,
    pub(crate) sha256: Sha256Digest,
}

/// Wake-ups of one agent in a minute, beyond which it is busy doing nothing: ten a second for as long as that.
const WAKES_MAX: u64 = 600;
/// Batches of one agent in an hour, beyond which it talks to no end: one every six seconds for as long as that.
const BATCHES_MAX: u64 = 600;
/// Requests for documents of one site in an hour: one a minute, and a few for each of many connections.
const ASKS_MAX: u64 = 150;

fn count_in_hour(counted: &mut (u64, u64), now_ms: u64) -> u64 {
    let hour = now_ms / 3_600_000;
    *counted = if counted.0 == hour { (hour, counted.1 + 1) } else { (hour, 1) };
    counted.1
}

impl Ledger {
    /// Counts a wake-up; `true` where there were too many within the minute.
    pub(crate) fn wakes_too_often(&mut self, now_ms: u64) -> bool {
        let minute = now_ms / 60_000;
        self.wakes = if self.wakes.0 == minute { (minute, self.wakes.1 + 1) } else { (minute, 1) };
        self.wakes.1 > WAKES_MAX
    }

    /// Counts a batch; `true` where there were too many within the hour.
    pub(crate) fn talks_too_much(&mut self, now_ms: u64) -> bool {
        count_in_hour(&mut self.batches, now_ms) > BATCHES_MAX
    }

    /// Counts a request for documents; `true` where there were too many within the hour.
    pub(crate) fn asks_too_often(&mut self, now_ms: u64) -> bool {
        count_in_hour(&mut self.asks, now_ms) > ASKS_MAX
    }

    /// The floor that its healthy releases have set for an app.
    pub(crate) fn floor(&self, app: &AppName) -> Option<(u64, u64)> {
        self.counters.get(&CounterKey::Floor(app.clone())).copied()
    }

    /// A disk has lost what it said it had: these are its rows now.
    pub(crate) fn go_back(&mut self, rows: &Rows) {
        let standing = |row: &CounterRow| (row.key.clone(), (row.epoch, row.seq));
        self.counters = rows.counters.values().map(standing).collect();
        let meta = rows.meta.as_ref();
        let next = meta.map_or(1, |meta| meta.receipt_next);
        for (seq, (sha256, _)) in self.receipts.split_off(&next) {
            self.lost.entry(seq).or_default().insert(sha256);
        }
        self.acked_next = meta.map_or(0, |meta| meta.receipt_acked_next);
        let kept = |upto: &mut u64| *upto = (*upto).min(next - 1);
        self.written.values_mut().for_each(kept);
        kept(&mut self.returned);
    }

    /// Takes one write that reaches the disk; answers with what is wrong, and with the receipts that it says the
    /// hub holds.
    pub(crate) fn take(
        &mut self,
        write: &Write,
        now_ms: u64,
    ) -> Result<Vec<Acknowledged>, (Invariant, String)> {
        match write {
            Write::PutCounter(row) => {
                let (new, key) = ((row.epoch, row.seq), row.key.clone());
                let old = self.counters.insert(key, new);
                if let Some(old) = old.filter(|old| *old > new) {
                    let text = format!("{:?} goes from {old:?} back to {new:?}", row.key);
                    return Err((Invariant::Counters, text));
                }
            }
            Write::AppendReceipt(row) => {
                let last = self.receipts.last_key_value().map_or(0, |(seq, _)| *seq);
                if row.seq != last + 1 {
                    let text = format!("receipt {} is made after receipt {last}", row.seq);
                    return Err((Invariant::Receipts, text));
                }
                self.receipts.insert(row.seq, (row.sha256, now_ms));
            }
            Write::ReceiptAcked { upto, .. } => {
                let first = self.acked_next.max(1);
                self.acked_next = self.acked_next.max(upto + 1);
                if first <= *upto {
                    let acked = self.receipts.range(first..=*upto);
                    return Ok(acked
                        .map(|(seq, (sha256, _))| Acknowledged { seq: *seq, sha256: *sha256 })
                        .collect());
                }
            }
            Write::DropReceipts { below, .. } if *below > self.acked_next.max(1) => {
                let text = format!(
                    "receipts below {below} are dropped, acknowledged are those below {}",
                    self.acked_next
                );
                return Err((Invariant::Receipts, text));
            }
            Write::PutApp(row) if row.state == AppState::Healthy => {
                self.healthy.extend(row.current.map(|current| (row.app.clone(), current)));
            }
            _ => {}
        }
        Ok(Vec::new())
    }
}
