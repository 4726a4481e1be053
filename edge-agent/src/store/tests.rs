//! The contract of the `Store` port, held by both stores; and what only a disk can do.

mod damage;

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::release::Scalar;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{
    AppName, Blake3Digest, Counter, FleetId, Name, RandomId, SiteId, Timestamp, Version,
};

use super::*;
use crate::core::object::{AppPolicy, Generation, Gvk, ImageEntry, ObjectRef, ObjectTraits, Uid};
use crate::core::state::{GenerationVerdict, Purpose, Step};
use crate::core::write::{
    AcceptedRow, AppRow, AppliedRow, AssignmentRow, CounterKey, CounterRow, DocumentRow, GenerationRow,
    ImageRow, MetaRow, ObjectRow, PreparedRow, QuarantineRow, RefusalRow, RootRow, SecretRow, Slot,
    WantedRow,
};

fn block<T>(future: Boxed<'_, T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn digest(text: &str) -> Sha256Digest {
    Sha256Digest::of(text.as_bytes())
}

fn chain() -> RandomId {
    RandomId::from_bytes([3; 16])
}

fn meta() -> MetaRow {
    MetaRow {
        fleet: FleetId::new("fleet").unwrap(),
        site: SiteId::new("ship").unwrap(),
        incarnation: 2,
        minimum: Counter { epoch: 1, seq: 7 },
        outbox_epoch: RandomId::from_bytes([4; 16]),
        outbox_next: 9,
        conn_seq: 3,
        starts: 5,
        chain_id: chain(),
        receipt_next: 4,
        receipt_head: Some(digest("head")),
        receipt_acked_next: 2,
        receipt_first: 1,
        time_floor: Timestamp::from_unix_s(1_800_000_000),
        cluster: Some(Uid("kube-system-uid".into())),
        hub_incarnation: Some(RandomId::from_bytes([5; 16])),
        hub_heard: Some(Timestamp::from_unix_s(1_800_000_000)),
    }
}

fn app_row() -> AppRow {
    let seen =
        Evidence { object: "Pod a/b".into(), reason: "BackOff".into(), message: "käse \"quoted\"".into() };
    AppRow {
        target: Some(digest("target")),
        retry: 2,
        state: AppState::RollingBack,
        step: Step::Settle,
        purpose: Purpose::RollBack,
        working: Some(digest("working")),
        planned: Some(digest("planned")),
        current: Some(digest("current")),
        previous: Some(digest("previous")),
        failed: Some(digest("failed")),
        held: true,
        retire_ms: 1,
        settle_ms: 2,
        soak_ms: 3,
        starts: 2,
        attempts: 4,
        code: Some(Code::NotHealthyInTime),
        reason: "why".into(),
        evidence: vec![seen],
        since: Some(Timestamp::from_unix_s(1_800_000_001)),
        ..AppRow::new(AppName::new("shop").unwrap())
    }
}

fn generation_row() -> GenerationRow {
    let name = |text| Name::new(text).unwrap();
    let generation = Generation {
        id: digest("target"),
        app: AppName::new("shop").unwrap(),
        release: digest("release"),
        bundle: digest("bundle"),
        counter: Counter { epoch: 1, seq: 12 },
        version: Version::new("1.2.0").unwrap(),
        parameters: BTreeMap::from([
            (name("replicas"), serde_json::from_str::<Scalar>("3").unwrap()),
            (name("greeting"), serde_json::from_str::<Scalar>("\"hi\"").unwrap()),
        ]),
        overlays: vec![name("small")],
        secrets: BTreeMap::from([(name("token"), digest("sealed"))]),
        stopped: true,
    };
    let policy = AppPolicy { soak_ms: 3000, timeout_ms: 20_000, watch_ms: 60_000, deletion_budget: Some(5) };
    GenerationRow {
        generation: Arc::new(generation),
        verdict: GenerationVerdict::LeftByHand,
        retry: 1,
        prepared: Some(PreparedRow { policy, objects: 40 }),
    }
}

fn object_row(name: &str, namespace: Option<&str>) -> ObjectRow {
    ObjectRow {
        app: AppName::new("shop").unwrap(),
        object: ObjectRef {
            gvk: Arc::new(Gvk::new("apps/v1", "Deployment")),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        },
        applied: Some(AppliedRow {
            uid: Uid("u-1".into()),
            sha256: digest("body"),
            fields_hash: Blake3Digest::of(b"fields"),
            generation: digest("target"),
        }),
        wanted: Some(WantedRow { index: 4, sha256: digest("body 2") }),
        wave: 3,
        traits: ObjectTraits { observed: true, once: true, recreate: true, ..ObjectTraits::default() },
    }
}

fn receipt_row(seq: u64) -> ReceiptRow {
    ReceiptRow {
        chain_id: chain(),
        seq,
        outbox_seq: seq + 10,
        sha256: digest(&format!("receipt {seq}")),
        envelope: vec![7; 100].into(),
        acked: false,
    }
}

/// One write of every kind that puts something.
fn every_put() -> Vec<Write> {
    let refusal =
        RefusalRow { code: Code::OtherSite, carrier: "hub".into(), count: 3, last: "for another".into() };
    let image = ImageEntry { reference: "shop:1".into(), digest: digest("image") };
    let envelope: Arc<[u8]> = b"envelope".as_slice().into();
    vec![
        Write::PutMeta(meta()),
        Write::PutRoot(RootRow { version: 1, sha256: digest("root"), envelope: envelope.clone() }),
        Write::PutDocument(DocumentRow { sha256: digest("release"), envelope: envelope.clone() }),
        Write::PutAccepted(AcceptedRow {
            app: AppName::new("shop").unwrap(),
            counter: Counter { epoch: 0, seq: 12 },
            release: digest("release"),
        }),
        Write::PutCounter(CounterRow { key: CounterKey::Assignment, epoch: 0, seq: 99 }),
        Write::PutCounter(CounterRow {
            key: CounterKey::Floor(AppName::new("shop").unwrap()),
            epoch: 0,
            seq: 4,
        }),
        Write::PutAssignment(AssignmentRow {
            slot: Slot::Current,
            sha256: digest("a"),
            envelope: envelope.clone(),
        }),
        Write::PutAssignment(AssignmentRow {
            slot: Slot::Parked,
            sha256: digest("b"),
            envelope: envelope.clone(),
        }),
        Write::PutApp(app_row().into()),
        Write::PutApp(AppRow::new(AppName::new("bare").unwrap()).into()),
        Write::PutGeneration(generation_row()),
        Write::PutGeneration(GenerationRow {
            prepared: None,
            generation: Arc::new(Generation {
                id: digest("other"),
                ..(*generation_row().generation).clone()
            }),
            ..generation_row()
        }),
        Write::PutObject(object_row("web", Some("shop")).into()),
        Write::PutObject(ObjectRow { applied: None, ..object_row("cluster-wide", None) }.into()),
        Write::PutObject(ObjectRow { wanted: None, ..object_row("leaving", Some("shop")) }.into()),
        Write::PutImage(ImageRow { generation: digest("target"), image }),
        Write::AppendReceipt(receipt_row(1)),
        Write::AppendReceipt(receipt_row(2)),
        Write::AppendReceipt(receipt_row(3)),
        Write::PutOutbox(OutboxRow { key: "status".into(), seq: 8, payload: b"{}".as_slice().into() }),
        Write::PutRefusal(refusal),
        Write::PutSecret(SecretRow { sha256: digest("sealed"), sealed: b"age".as_slice().into() }),
        Write::PutQuarantine(QuarantineRow { sha256: digest("bad"), deaths: 1 }),
        Write::PutTransfer(TransferRow { sha256: digest("blob"), size: 70_000, bitmap: vec![1].into() }),
        Write::PutBlob(BlobRow { sha256: digest("whole"), size: 5 }),
    ]
}

/// One drop for each kind that can go.
fn every_drop() -> Vec<Write> {
    let row = object_row("web", Some("shop"));
    vec![
        Write::DropDocument(digest("release")),
        Write::DropAssignment(Slot::Parked),
        Write::DropApp(AppName::new("bare").unwrap()),
        Write::DropGeneration(digest("other")),
        Write::DropObject(row.app, row.object),
        Write::DropImage(digest("target"), "shop:1".into()),
        Write::ReceiptAcked { chain_id: chain(), upto: 2 },
        Write::DropReceipts { chain_id: chain(), below: 2 },
        Write::DropOutbox("status".into()),
        Write::DropQuarantine(digest("bad")),
        Write::DropTransfer(digest("blob")),
        Write::DropBlob(digest("whole")),
    ]
}

/// Checks the port's contract on an empty store.
fn holds_the_contract(store: &dyn Store) {
    let mut model = Rows::default();
    for writes in [every_put(), every_put(), every_drop(), every_drop()] {
        writes.iter().for_each(|write| model.apply(write));
        block(store.commit(writes)).unwrap();
        assert_eq!(block(store.load()).unwrap(), model);
    }
    let acked = |rows: Vec<ReceiptRow>| rows.iter().map(|row| (row.seq, row.acked)).collect::<Vec<_>>();
    assert_eq!(acked(block(store.receipts(chain(), 1, 9, 1 << 20)).unwrap()), [(2, true), (3, false)]);
    assert_eq!(acked(block(store.receipts(chain(), 1, 9, 1)).unwrap()), [(2, true)], "at least one");
    assert_eq!(acked(block(store.receipts(chain(), 4, 3, 1)).unwrap()), []);
    assert!(block(store.outbox("status")).unwrap().is_none());
    assert!(block(store.content()).unwrap().0.is_empty());
    block(store.commit(every_put())).unwrap();
    assert_eq!(block(store.outbox("status")).unwrap().map(|row| row.seq), Some(8));
    assert_eq!(block(store.document(digest("release"))).unwrap().as_deref(), Some(b"envelope".as_slice()));
    let (blobs, transfers) = block(store.content()).unwrap();
    assert_eq!((blobs.len(), transfers.len(), transfers[0].size), (1, 1, 70_000));
}

#[test]
fn the_store_in_memory_holds_the_contract() {
    holds_the_contract(&MemoryStore::default());
}

#[test]
fn the_store_on_disk_holds_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    holds_the_contract(&SqliteStore::open(directory.path()).unwrap());
}

#[test]
fn what_was_acknowledged_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    block(store.commit(every_put())).unwrap();
    let before = block(store.load()).unwrap();
    drop(store);
    let store = SqliteStore::open(directory.path()).unwrap();
    assert_eq!(block(store.load()).unwrap(), before);
}

#[test]
fn the_state_directory_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let first = SqliteStore::open(directory.path()).unwrap();
    assert!(matches!(SqliteStore::open(directory.path()), Err(StoreError::Locked(_))));
    drop(first);
    assert!(SqliteStore::open(directory.path()).is_ok());
}

#[test]
fn commits_keep_their_order_however_many_wait() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    let answers: Vec<_> =
        (1..=600).map(|starts| store.commit(vec![Write::PutMeta(MetaRow { starts, ..meta() })])).collect();
    assert_eq!(block(store.load()).unwrap().meta.unwrap().starts, 600);
    assert!(answers.into_iter().all(|answer| block(answer).is_ok()));
}

#[test]
fn after_a_failed_commit_nothing_is_written_until_rows_were_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    block(store.commit(vec![Write::PutMeta(meta())])).unwrap();
    // SQLite holds no integer above 2^63: such a step fails as a whole.
    let bad = vec![
        Write::PutMeta(MetaRow { starts: 77, ..meta() }),
        Write::PutBlob(BlobRow { sha256: digest("x"), size: u64::MAX }),
    ];
    assert!(block(store.commit(bad)).is_err());
    let later = vec![Write::PutMeta(MetaRow { starts: 78, ..meta() })];
    assert!(block(store.commit(later.clone())).is_err(), "a later step must not be released before a load");
    assert_eq!(block(store.load()).unwrap().meta.unwrap().starts, meta().starts);
    block(store.commit(later)).unwrap();
    assert_eq!(block(store.load()).unwrap().meta.unwrap().starts, 78);
}

#[test]
fn a_database_of_a_later_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(directory.path()).unwrap());
    let connection = Connection::open(directory.path().join("agent.db")).unwrap();
    connection.execute_batch("PRAGMA user_version = 999").unwrap();
    drop(connection);
    assert!(matches!(SqliteStore::open(directory.path()), Err(StoreError::Damaged { .. })));
}
