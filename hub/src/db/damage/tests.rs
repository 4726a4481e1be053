use std::fs;
use std::path::Path;

use airlift_bundles::ids::{FleetId, RandomId};

use super::*;
use crate::db::Db;

/// Makes a hub's database with some pages, and closes it.
fn make(path: &Path) {
    Db::open(path).unwrap().close();
    let connection = Connection::open(path).unwrap();
    let fleet = FleetId::new("harbour").unwrap();
    meta::put_identity(&connection, &fleet, &RandomId::from_bytes([1; 16])).unwrap();
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
               INSERT INTO audit SELECT i, 0, 'a', 'b', 'c', hex(randomblob(200)), NULL, '' FROM n";
    connection.execute_batch(sql).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}

/// Leaves it as a killed process does, with a log; gives the folder of that.
fn cut_off(path: &Path) -> tempfile::TempDir {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("INSERT INTO audit VALUES (NULL, 0, 'a', 'b', 'c', 'd', NULL, '')").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for ending in ["", "-wal"] {
        fs::copy(beside(path, ending), beside(&folder.path().join("hub.db"), ending)).unwrap();
    }
    folder
}

/// Overwrites the pages behind the schema with zeros.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0);
    fs::write(path, bytes).unwrap();
}

fn must_reconcile(path: &Path) -> bool {
    meta::must_reconcile(&Connection::open(path).unwrap()).unwrap()
}

#[test]
fn a_database_that_nobody_closed_is_checked_and_a_damaged_one_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    make(&folder.path().join("hub.db"));
    let sound = cut_off(&folder.path().join("hub.db"));
    Db::open(&sound.path().join("hub.db")).unwrap().close();

    let left = cut_off(&folder.path().join("hub.db"));
    let path = left.path().join("hub.db");
    damage(&path);
    let before = fs::read(&path).unwrap();
    let refused = Db::open(&path).map(|db| db.close());
    assert!(
        matches!(refused, Err(MigrateError::Damage(DamageError::Damaged { .. }))),
        "{:?}",
        refused.map_err(|error| error.to_string())
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_backup_takes_the_place_of_a_damaged_database_and_must_be_reconciled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    make(&path);
    back_up(&path, &backup_of(&path)).unwrap();
    assert!(!must_reconcile(&path));
    damage(&path);
    let damaged = fs::read(&path).unwrap();

    let aside = restore(&path, &backup_of(&path)).unwrap().unwrap();
    assert_eq!(fs::read(&aside).unwrap(), damaged);
    Db::open(&path).unwrap().close();
    let connection = Connection::open(&path).unwrap();
    let (fleet, _) = meta::identity(&connection).unwrap().unwrap();
    assert_eq!(fleet.as_str(), "harbour");
    assert!(meta::must_reconcile(&connection).unwrap());
    meta::clear_restored(&connection).unwrap();
    assert!(!meta::must_reconcile(&connection).unwrap());

    // A second time, also where the first one was stopped before the copy had its name.
    fs::rename(&path, beside(&path, ".lost")).unwrap();
    assert_eq!(restore(&path, &backup_of(&path)).unwrap(), None);
    assert!(must_reconcile(&path));
}

#[test]
fn what_is_no_sound_database_of_a_hub_takes_nothings_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    make(&path);
    let before = fs::read(&path).unwrap();
    let (torn, other) = (folder.path().join("torn"), folder.path().join("other"));
    back_up(&path, &torn).unwrap();
    damage(&torn);
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE hello (world)").unwrap();

    assert!(matches!(restore(&path, &torn), Err(DamageError::Damaged { .. })));
    assert!(matches!(restore(&path, &other), Err(DamageError::Foreign(_))));
    assert!(matches!(restore(&path, Path::new("not/there")), Err(DamageError::Io { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
}
