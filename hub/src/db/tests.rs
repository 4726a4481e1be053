use super::*;
use std::path::PathBuf;
use std::process::Command;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    (folder, path)
}

async fn put(db: &Db, key: String, value: String) -> Result<(), DbError> {
    db.write(move |connection| {
        connection.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", [key, value])?;
        Ok(())
    })
    .await
}

async fn count(db: &Db) -> u64 {
    let count = db.read(|connection| {
        Ok::<u64, DbError>(connection.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))?)
    });
    count.await.unwrap()
}

#[tokio::test]
async fn many_requests_share_a_commit_and_a_failing_one_is_undone_alone() {
    let (_folder, path) = scratch();
    let db = Db::open(&path).unwrap();
    put(&db, "taken".into(), "1".into()).await.unwrap();
    let requests: Vec<_> = (0..200)
        .map(|number| {
            let db = db.clone();
            tokio::spawn(async move {
                db.write(move |connection| {
                    let insert = "INSERT INTO meta (key, value) VALUES (?1, '')";
                    connection.execute(insert, [format!("{number}")])?;
                    if number % 10 == 0 {
                        connection.execute(insert, ["taken"])?;
                    }
                    Ok::<_, DbError>(())
                })
                .await
            })
        })
        .collect();
    let mut refused = 0;
    for request in requests {
        refused += u64::from(request.await.unwrap().is_err());
    }
    assert_eq!((refused, count(&db).await), (20, 181));
}

#[tokio::test]
async fn a_panic_in_a_request_harms_nobody_else() {
    let (_folder, path) = scratch();
    let db = Db::open(&path).unwrap();
    let broken = db.write(|connection| {
        connection.execute("INSERT INTO meta (key, value) VALUES ('half', '')", [])?;
        if connection.is_autocommit() { Ok(()) } else { panic!("told to") }
    });
    assert!(matches!(broken.await, Err(DbError::Broken(text)) if text == "told to"));
    put(&db, "after".into(), String::new()).await.unwrap();
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn a_request_that_ends_the_transaction_acknowledges_nothing() {
    let (_folder, path) = scratch();
    let db = Db::open(&path).unwrap();
    let torn = db.write(|connection| {
        connection.execute("INSERT INTO meta (key, value) VALUES ('torn', '')", [])?;
        connection.execute_batch("ROLLBACK")?;
        Ok::<_, DbError>(())
    });
    assert!(matches!(torn.await, Err(DbError::Commit(_))));
    assert_eq!(count(&db).await, 0);
    put(&db, "next".into(), String::new()).await.unwrap();
}

#[tokio::test]
async fn closing_commits_what_was_taken_and_refuses_what_comes_after() {
    let (_folder, path) = scratch();
    let db = Db::open(&path).unwrap();
    let taken = (0..50).map(|number| (db.clone(), number));
    let spawn = |(db, number): (Db, u32)| {
        tokio::spawn(async move { put(&db, format!("{number}"), String::new()).await })
    };
    let taken: Vec<_> = taken.map(spawn).collect();
    for request in taken {
        request.await.unwrap().unwrap();
    }
    db.close();
    assert!(matches!(put(&db, "late".into(), String::new()).await, Err(DbError::Closed)));
    assert_eq!(count(&Db::open(&path).unwrap()).await, 50);
}

/// The writing half of the test below: prints each key after its commit was acknowledged, until it is killed.
#[tokio::test]
#[ignore = "the test below runs it in a process of its own, and kills that"]
async fn writes_until_it_is_killed() {
    let path = std::env::var_os("AIRLIFT_TEST_DATABASE").expect("the path of the database");
    let db = Db::open(Path::new(&path)).unwrap();
    for number in 0.. {
        put(&db, format!("{number:06}"), "x".repeat(300)).await.unwrap();
        println!("acknowledged {number:06}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    use std::io::{BufRead, BufReader};
    let (_folder, path) = scratch();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "db::tests::writes_until_it_is_killed", "--nocapture"])
        .env("AIRLIFT_TEST_DATABASE", &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let acknowledged = lines.filter(|line| line.starts_with("acknowledged")).take(200).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(acknowledged, 200);
    assert!(count(&Db::open(&path).unwrap()).await >= 200);
}

#[test]
fn a_foreign_or_newer_database_is_left_alone() {
    let (_folder, path) = scratch();
    let foreign = Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(Db::open(&path), Err(MigrateError::Foreign(_))));
    drop(foreign);

    let newer = path.with_extension("newer");
    drop(Db::open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Db::open(&newer), Err(MigrateError::Newer { found: 99, .. })));
}

#[test]
fn a_statement_is_prepared_once_whatever_its_parameters_are() {
    let connection = Db::in_memory().unwrap();
    let sql = "SELECT public_key FROM site_key WHERE site = ?1 ORDER BY incarnation DESC";
    let mut statement = connection.prepare(sql).unwrap();
    for site in ["anna", "bela", "carl"] {
        assert!(statement.query([site]).unwrap().next().unwrap().is_none());
    }
    assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0);
}
