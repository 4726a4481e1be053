//! Disks that are full, or read-only, from each single write on: it is said, nothing is lost, and everything goes on
//! when there is room again.

use std::path::Path;
use std::time::Duration;

use airlift_agent::core::write::{CounterKey, CounterRow, DocumentRow, MetaRow, ReceiptRow, Rows, Write};
use airlift_agent::ports::Store as _;
use airlift_agent::ports::store::StoreError;
use airlift_agent::store::SqliteStore;
use airlift_bundles::code::Code;
use airlift_bundles::ids::{Counter, FleetId, RandomId, Sha256Digest, SiteId, Timestamp};
use airlift_tests::chance::Chance;
use airlift_tests::clock::wait_until;
use airlift_tests::lossy::{LossyDisk, Refusal};

use super::ledger::{AgentRows, HubRows};
use super::stand::{SITE, Stand};
use crate::journey::receipt;
use crate::kills::seed;

/// Steps of a store's life, each a transaction.
const STEPS: u64 = 5;
/// Rollouts under a disk that takes no more, with the real agent.
const ROLLOUTS: u32 = 6;
const ROLLOUTS_LONG: u32 = 60;
/// A rollout of the stand's app changes its disk so many times, at the least.
const CHANGES: u64 = 40;

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn chain() -> RandomId {
    RandomId::from_bytes([7; 16])
}

/// What a rollout's transaction is made of: a document, a counter, a receipt, and the site's own row.
fn step(number: u64) -> Vec<Write> {
    let digest = |what: &str| Sha256Digest::of(format!("{what} {number}").as_bytes());
    let meta = MetaRow {
        fleet: FleetId::new("lab").unwrap(),
        site: SiteId::new(SITE).unwrap(),
        incarnation: 1,
        minimum: Counter { epoch: 0, seq: 0 },
        outbox_epoch: RandomId::from_bytes([4; 16]),
        outbox_next: number + 1,
        conn_seq: 0,
        starts: 1,
        chain_id: chain(),
        receipt_next: number + 1,
        receipt_head: Some(digest("receipt")),
        receipt_acked_next: 1,
        receipt_first: 1,
        time_floor: Timestamp::from_unix_s(1_800_000_000),
        cluster: None,
        hub_incarnation: None,
        hub_heard: None,
    };
    let receipt = ReceiptRow {
        chain_id: chain(),
        seq: number,
        outbox_seq: number,
        sha256: digest("receipt"),
        envelope: vec![1; 700].into(),
        acked: false,
    };
    vec![
        Write::PutMeta(meta),
        Write::PutDocument(DocumentRow { sha256: digest("document"), envelope: vec![2; 9000].into() }),
        Write::PutCounter(CounterRow { key: CounterKey::Assignment, epoch: 0, seq: number }),
        Write::AppendReceipt(receipt),
    ]
}

/// Opens a store, which may first have to wait for room; answers how often it was refused.
fn open(place: &Path, disk: &LossyDisk) -> (SqliteStore, u32) {
    match open_once(place) {
        Ok(store) => (store, 0),
        Err(fault) => {
            assert_said(&fault);
            disk.refuse(None);
            (open_once(place).expect("there is room again"), 1)
        }
    }
}

/// Tries once the directory is nobody's: a process that another test is just starting has the lock of the store before
/// until it becomes its program.
fn open_once(place: &Path) -> Result<SqliteStore, StoreError> {
    wait_until("the store's lock", Duration::from_secs(10), || match SqliteStore::open(place) {
        Err(StoreError::Locked(by)) => Err(by),
        outcome => Ok(outcome),
    })
}

fn assert_said(fault: &StoreError) {
    // SQLite cannot say why a file is not made.
    let known = matches!(fault.code(), Code::DiskFull | Code::StoreFailed);
    assert!(known, "a full disk is not damage: {fault}");
}

/// Lives through all steps on a disk that takes so many changes and no more until there is room again; answers how
/// many steps failed, and whether the disk refused anything.
fn live(changes: u64, refusal: Refusal) -> (u32, bool) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("state");
    let mut disk = LossyDisk::over(&place, changes);
    disk.refuse(Some((changes, refusal)));
    let (store, mut refused) = open(&place, &disk);
    let mut model = Rows::default();
    for number in 1..=STEPS {
        let writes = step(number);
        if let Err(fault) = block(store.commit(writes.clone())) {
            assert_said(&fault);
            refused += 1;
            // The core loads again; a disk that is only full can be read.
            let rows = block(store.load()).expect("what is there can be read");
            assert_eq!(rows, model, "step {number} after {changes} changes: nothing is half there");
            disk.refuse(None);
            block(store.load()).unwrap();
            block(store.commit(writes.clone())).expect("there is room again");
        }
        writes.iter().for_each(|write| model.apply(write));
    }
    assert_eq!(block(store.load()).unwrap(), model);
    drop(store);
    disk.refuse(None);
    let met = disk.refused() > 0;
    disk.lose_power();
    let (store, _) = open(&place, &disk);
    assert_eq!(block(store.load()).unwrap(), model, "after a power cut, with {changes} changes taken");
    (refused, met)
}

#[test]
fn a_store_whose_disk_refuses_any_single_write_says_so_loses_nothing_and_goes_on() {
    for refusal in [Refusal::Full, Refusal::ReadOnly] {
        let (mut changes, mut failed) = (0, 0);
        loop {
            let (refused, met) = live(changes, refusal);
            if !met {
                break;
            }
            failed += refused;
            changes += 1;
        }
        println!(
            "{refusal:?} at each of {changes} changes: {failed} steps failed, were told, and done again"
        );
        assert!(changes > 60 && u64::from(failed) > changes / 2, "{refusal:?}: {failed} of {changes}");
    }
}

#[test]
fn a_rollout_on_a_disk_that_takes_no_more_says_so_and_ends_well_when_there_is_room() {
    let long = std::env::var_os("AIRLIFT_TESTS_LONG").is_some();
    let (seed, rollouts) = (seed(), if long { ROLLOUTS_LONG } else { ROLLOUTS });
    println!("AIRLIFT_TESTS_SEED={seed} repeats the writes of this run");
    let mut chance = Chance(seed);
    let mut stand = Stand::set_up(seed);
    for seq in 1..=rollouts {
        stand.begin(seq);
        let refusal = if seq % 2 == 0 { Refusal::ReadOnly } else { Refusal::Full };
        let changes = chance.below(CHANGES);
        let (before, log) = (stand.site_disk.refused(), stand.site.process().log().len());
        stand.site_disk.refuse(Some((changes, refusal)));
        stand.finish();
        wait_until("the disk to refuse something", Duration::from_secs(60), || {
            stand.site.process().check_alive()?;
            let refused = stand.site_disk.refused() - before;
            if refused > 0 { Ok(()) } else { Err(format!("nothing after {changes} changes")) }
        });
        std::thread::sleep(Duration::from_millis(500 + chance.below(3000)));
        stand.site.process().check_alive().unwrap();
        let said = stand.site.process().log().split_off(log);
        stand.site_disk.refuse(None);
        let words = ["disk is full", "No space left", "is read-only", "Read-only file system"];
        let told = words.iter().any(|word| said.contains(word));
        println!("{refusal:?} after {changes} changes; told: {told}");
        let _ = receipt(&stand.hub, SITE, "healthy", &format!("{seq}.0.0"));
        assert!(told, "{refusal:?} after {changes} changes: {said}");
    }
    let _ = stand.hub.airlift(&["receipt", "verify", "--site", SITE]);
}

#[test]
fn a_hub_whose_disk_takes_no_more_acknowledges_nothing_says_so_and_goes_on_when_there_is_room() {
    let long = std::env::var_os("AIRLIFT_TESTS_LONG").is_some();
    let (seed, rollouts) = (seed(), if long { ROLLOUTS_LONG } else { ROLLOUTS });
    println!("AIRLIFT_TESTS_SEED={seed} repeats the writes of this run");
    let mut chance = Chance(seed);
    let mut stand = Stand::set_up(seed);
    let mut refused = 0;
    for seq in 1..=rollouts {
        stand.begin(seq);
        let refusal = if seq % 2 == 0 { Refusal::ReadOnly } else { Refusal::Full };
        // Some come late: in the assignment, or when the site's receipts do.
        let changes = chance.below(if seq % 3 == 0 { 4 * CHANGES } else { CHANGES });
        stand.hub_disk.refuse(Some((changes, refusal)));
        let said = stand.try_orders();
        println!("{refusal:?} after {changes} changes: {said:?}");
        if let Some(said) = said {
            assert!(said.contains(Code::StoreFailed.id()) || said.contains(Code::DiskFull.id()), "{said}");
            refused += 1;
        }
        std::thread::sleep(Duration::from_millis(500 + chance.below(2000)));
        stand.hub.process().check_alive().unwrap();
        stand.hub_disk.refuse(None);
        stand.finish();
        let _ = receipt(&stand.hub, SITE, "healthy", &format!("{seq}.0.0"));
        let (agent, hub) = (AgentRows::of(&stand.site_disk).unwrap(), HubRows::of(&stand.hub_disk).unwrap());
        stand.ledger.compare(None, Some(&hub)).and_then(|()| stand.ledger.match_up(&agent, &hub)).unwrap();
    }
    assert!(refused > 0, "no order met the disk's refusal");
    let _ = stand.hub.airlift(&["receipt", "verify", "--site", SITE]);
}
