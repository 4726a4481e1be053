//! Databases that were damaged in every way that a disk knows, with a backup and without.

use std::fs;
use std::path::Path;

use super::*;
use crate::store::damage::{back_up, suspect};

/// A site that made a backup, and accepted more since; its database was not closed, as after a power cut.
fn cut_off(directory: &Path) -> Rows {
    let live = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(live.path()).unwrap();
    block(store.commit(every_put())).unwrap();
    let then = block(store.load()).unwrap();
    let reader = Connection::open(live.path().join("agent.db")).unwrap();
    back_up(&reader, live.path()).unwrap();
    drop(reader);
    let shop = AppName::new("shop").unwrap();
    block(store.commit(vec![
        Write::PutCounter(CounterRow { key: CounterKey::Assignment, epoch: 0, seq: 120 }),
        Write::PutCounter(CounterRow { key: CounterKey::Floor(shop), epoch: 0, seq: 6 }),
        Write::PutMeta(MetaRow { starts: 50, ..meta() }),
    ]))
    .unwrap();
    for file in fs::read_dir(live.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
    then
}

/// Writes what is in the log into the database, and damages it behind SQLite's back.
fn spoil(directory: &Path, how: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let path = directory.join("agent.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    let mut bytes = fs::read(&path).unwrap();
    how(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    suspect(directory);
    bytes
}

#[test]
fn a_damaged_database_is_kept_aside_and_its_backup_takes_its_place_with_no_counter_older() {
    type Spoil = fn(&mut Vec<u8>);
    let ways: [(&str, Spoil); 5] = [
        ("its head is another's", |bytes| bytes[..100].fill(0x55)),
        ("pages of it are noise", |bytes| {
            let middle = bytes.len() / 2;
            bytes[4096..middle].fill(0xaa);
        }),
        ("half of it is gone", |bytes| bytes.truncate(bytes.len() / 2)),
        ("it is empty", |bytes| bytes.clear()),
        ("its end is zeros", |bytes| {
            let from = bytes.len() / 3;
            bytes[from..].fill(0);
        }),
    ];
    for (what, how) in ways {
        let directory = tempfile::tempdir().unwrap();
        let mut expected = cut_off(directory.path());
        let bytes = spoil(directory.path(), how);
        let store = SqliteStore::open(directory.path()).unwrap_or_else(|fault| panic!("{what}: {fault}"));
        let restored = store.restored().unwrap_or_else(|| panic!("{what} went unseen"));
        assert_eq!(fs::read(&restored.aside).unwrap(), bytes, "{what}");
        assert_eq!(put_aside(directory.path()), std::slice::from_ref(&restored.aside));
        let shop = AppName::new("shop").unwrap();
        // 120 itself may come again; 119 and what is older may not.
        for (key, seq) in [(CounterKey::Assignment, 119), (CounterKey::Floor(shop), 6)] {
            expected.apply(&Write::PutCounter(CounterRow { key, epoch: 0, seq }));
        }
        assert_eq!(block(store.load()).unwrap(), expected, "{what}");
        block(store.commit(every_drop())).unwrap();
        drop(store);
        assert!(SqliteStore::open(directory.path()).unwrap().restored().is_none(), "{what}: once");
    }
}

#[test]
fn without_a_backup_a_damaged_database_is_left_as_it_is_and_said() {
    let directory = tempfile::tempdir().unwrap();
    cut_off(directory.path());
    fs::remove_file(directory.path().join("agent.db.backup")).unwrap();
    let bytes = spoil(directory.path(), |bytes| bytes[..100].fill(0));
    let outcome = SqliteStore::open(directory.path());
    let fault = outcome.err().unwrap();
    assert!(fault.code() == Code::StoreDamaged && fault.to_string().contains("no backup"), "{fault}");
    assert_eq!(fs::read(directory.path().join("agent.db")).unwrap(), bytes);
    assert!(put_aside(directory.path()).is_empty());
}

#[test]
fn a_backup_from_before_the_newest_root_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    cut_off(directory.path());
    let mut floors = Floors::open(directory.path()).unwrap();
    let root = RootRow { version: 2, sha256: digest("root 2"), envelope: b"envelope".as_slice().into() };
    floors.note([Write::PutRoot(root)].iter()).unwrap();
    spoil(directory.path(), |bytes| bytes.clear());
    assert!(matches!(SqliteStore::open(directory.path()), Err(StoreError::Corrupt(_))));
}

#[test]
fn a_new_root_renews_a_backup_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    cut_off(directory.path());
    let store = SqliteStore::open(directory.path()).unwrap();
    let root = RootRow { version: 2, sha256: digest("root 2"), envelope: b"envelope".as_slice().into() };
    block(store.commit(vec![Write::PutRoot(root)])).unwrap();
    let now = block(store.load()).unwrap();
    drop(store);
    spoil(directory.path(), |bytes| bytes.clear());
    let store = SqliteStore::open(directory.path()).unwrap();
    assert!(store.restored().is_some());
    assert_eq!(block(store.load()).unwrap().roots, now.roots);
}

#[test]
fn a_sound_database_that_was_not_closed_is_checked_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    cut_off(directory.path());
    let store = SqliteStore::open(directory.path()).unwrap();
    assert!(store.restored().is_none());
    assert_eq!(block(store.load()).unwrap().meta.unwrap().starts, 50);
}

#[test]
fn restoring_goes_on_where_a_power_cut_stopped_it() {
    let directory = tempfile::tempdir().unwrap();
    let expected = cut_off(directory.path());
    // The backup is on its way, and the damaged one's log lies there still.
    let path = |name: &str| directory.path().join(name);
    fs::copy(path("agent.db.backup"), path("agent.db.next")).unwrap();
    assert!(fs::metadata(path("agent.db-wal")).unwrap().len() > 0);
    let store = SqliteStore::open(directory.path()).unwrap();
    assert_eq!(block(store.load()).unwrap(), expected, "not a row of the log");
    assert!(!path("agent.db.next").exists());
}
