//! Back-pressure and commits that fail: what a test over real sockets could show only with megabytes.

use super::bed::soon;
use super::*;
use rumqttc::v5::mqttbytes::QoS;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Commits everything.
struct Willing;

impl Ingest for Willing {
    async fn publish(&self, _: &SiteId, _: Topic, _: Bytes) -> Result<Accepted, Refused> {
        Ok(Accepted)
    }
}

async fn open(sessions: impl Sessions, limits: Limits) -> Endpoint<Willing> {
    Endpoint::open(prefix(), limits, sessions, Willing).await.unwrap()
}

/// Connects a site over a pipe of 1 KiB.
async fn connect(endpoint: &Endpoint<Willing>, keep_alive_s: u16) -> (DuplexStream, JoinHandle<()>) {
    let (mut near, far) = duplex(1024);
    let connect_by = Instant::now() + Duration::from_secs(10);
    let served = connection::serve(endpoint.shared.clone(), far, site("a"), connect_by, ());
    let served = tokio::spawn(served);
    near.write_all(&bed::connect_bytes("a", keep_alive_s, None)).await.unwrap();
    let mut connack = [0; 2];
    soon(near.read_exact(&mut connack)).await.unwrap();
    let mut rest = vec![0; connack[1].into()];
    soon(near.read_exact(&mut rest)).await.unwrap();
    (near, served)
}

#[tokio::test]
async fn a_site_that_leaves_its_answers_unread_is_not_read_from_and_falls_to_its_keep_alive() {
    let limits = Limits { unread_answers_bytes_max: 200, units_burst: 1_000_000, ..Limits::default() };
    let endpoint = open(Database::new(), limits).await;
    let (mut near, served) = connect(&endpoint, 1).await;
    let mut taken = 0;
    let begun = Instant::now();
    // Pings of two bytes; the pipes, a read of 8 KiB and a stage of 16 KiB are all that may pass.
    while let Ok(Ok(n)) = timeout(Duration::from_millis(500), near.write(&[0xc0, 0].repeat(100))).await {
        taken += n;
        assert!(taken < 100 * 1024, "pings are taken without end");
    }
    assert!(taken > 1024, "it was read from at first");
    soon(async {
        while endpoint.publisher().connected().contains_key(&site("a")) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(1_500));
    drop(near);
    soon(served).await.unwrap();
}

#[tokio::test]
async fn what_was_said_before_a_goodbye_counts() {
    let endpoint = open(Database::new(), Limits::default()).await;
    let (mut near, served) = connect(&endpoint, 60).await;
    let mut publish = BytesMut::new();
    let packet = rumqttc::v5::mqttbytes::v5::Publish::new("airlift/v1/s/a/u/get", QoS::AtMostOnce, "x", None);
    packet.write(&mut publish).unwrap();
    publish.extend_from_slice(&[0xe0, 0]);
    near.write_all(&publish).await.unwrap();
    soon(served).await.unwrap();
    assert_eq!(endpoint.publisher().counts().accepted, 1);
}

/// A database whose first commits fail.
struct Failing {
    database: Database,
    failures: AtomicU32,
}

impl Sessions for Failing {
    async fn load(&self) -> Result<Rows, SessionsFailed> {
        self.database.load().await
    }

    async fn commit(&self, writes: Vec<RowWrite>) -> Result<(), SessionsFailed> {
        let left = self.failures.load(Ordering::Relaxed);
        if left > 0 {
            self.failures.store(left - 1, Ordering::Relaxed);
            return Err(SessionsFailed("the disk is full".into()));
        }
        self.database.commit(writes).await
    }
}

#[tokio::test]
async fn a_commit_that_fails_is_tried_again_and_the_publish_waits_for_it() {
    let database = Database::new();
    let failing = Failing { database: database.clone(), failures: AtomicU32::new(2) };
    let endpoint = open(failing, Limits::default()).await;
    let desired = topic("s/a/d/desired");
    let publisher = endpoint.publisher();
    let mut publishing = std::pin::pin!(publisher.publish(&desired, "x".into(), Qos::AtLeastOnce, true));
    assert!(timeout(RETRY, &mut publishing).await.is_err(), "it returned before the commit");
    assert_eq!(database.rows(), Rows::default());
    soon(publishing).await.unwrap();
    assert_eq!(database.rows().retained.len(), 1);
}

#[tokio::test]
async fn a_publish_that_can_never_be_committed_ends_with_the_endpoint() {
    let failing = Failing { database: Database::new(), failures: AtomicU32::new(u32::MAX) };
    let endpoint = open(failing, Limits::default()).await;
    let publisher = endpoint.publisher();
    let state = topic("h/state");
    let publishing = publisher.publish(&state, "x".into(), Qos::AtLeastOnce, true);
    let stopping = endpoint.stop(JoinSet::new(), JoinSet::new());
    let (published, ()) = soon(async { tokio::join!(publishing, stopping) }).await;
    assert!(matches!(published, Err(PublishError::Stopped)), "{published:?}");
}

#[tokio::test]
async fn the_hubs_database_keeps_sessions_and_messages_across_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub.db");
    let database = crate::db::Db::open(&path).unwrap();
    let endpoint = open(database.clone(), Limits::default()).await;
    let (near, served) = connect(&endpoint, 60).await;
    let publisher = endpoint.publisher();
    publisher.publish(&topic("s/a/d/desired"), "x".into(), Qos::AtLeastOnce, true).await.unwrap();
    drop(near);
    soon(served).await.unwrap();
    soon(endpoint.stop(JoinSet::new(), JoinSet::new())).await;
    database.close();

    let rows = crate::db::Db::open(&path).unwrap().load().await.unwrap();
    assert_eq!((rows.sessions.len(), &*rows.sessions[0].client), (1, "a"));
    assert_eq!((rows.retained.len(), &rows.retained[0].payload[..]), (1, &b"x"[..]));
}
