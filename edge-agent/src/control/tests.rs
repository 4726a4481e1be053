use std::path::{Path, PathBuf};
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::ids::{AppName, SiteId, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::client::{ClientError, ask, connect};
use super::desk::Desk;
use super::message::{Action, Answer};
use super::server::{ControlSocket, Hands};
use super::*;
use crate::core::Event;
use crate::core::event::LocalCommand;
use crate::core::status::{LocalReply, StatusReport};
use crate::receive::media::tests::{content_of, site_meta};
use crate::receive::media::{Loader, ReceiptWriter};
use crate::run::ops::Replies;
use crate::store::MemoryStore;

fn report() -> StatusReport {
    StatusReport {
        site: SiteId::new("berta").unwrap(),
        has_hub: true,
        connected: false,
        hub_heard: None,
        stale_after_s: None,
        stale: false,
        media: vec![],
        cluster_up: true,
        nodes: vec![],
        root_version: 3,
        assignment_seq: 7,
        assignment_parked: false,
        receipts_unacked: 2,
        time: Timestamp::from_unix_s(0),
        apps: vec![],
        refusals: vec![],
    }
}

/// Answers local requests as a core would.
async fn answer(mut events: mpsc::Receiver<Event>, replies: Replies) {
    while let Some(event) = events.recv().await {
        let Event::Local { request, command } = event else { continue };
        let reply = match command {
            LocalCommand::Status => LocalReply::Status(Box::new(report())),
            LocalCommand::Hold(app) => LocalReply::Done(format!("{app} is held")),
            _ => LocalReply::Refused { code: Code::NotFound, reason: "no such app".into() },
        };
        replies.answer(request, reply);
    }
}

pub(crate) struct Served {
    _dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) log: crate::support::ring::Ring,
}

pub(crate) async fn serve() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/control.sock");
    let (events, queue) = mpsc::channel(8);
    let replies = Replies::default();
    tokio::spawn(answer(queue, replies.clone()));
    let store = Arc::new(MemoryStore::default());
    let loader = Loader {
        desk: Desk::new(events, replies),
        store: store.clone(),
        content: Arc::new(content_of(dir.path(), store.clone()).await),
    };
    let key = Arc::new(airlift_bundles::keys::SecretKey::from_seed(&[7; 32]));
    let writer = ReceiptWriter::new(key, site_meta(), store);
    let socket = ControlSocket::bind(&path).unwrap();
    let log = crate::support::ring::Ring::default();
    tokio::spawn(socket.serve(Hands { loader, writer, log: log.clone() }));
    Served { _dir: dir, path, log }
}

async fn exchange(path: &Path, action: Action) -> Answer {
    ask(connect(path).await.unwrap(), action, |_| {}).await.unwrap()
}

async fn raw(path: &Path, bytes: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn requests_come_back_answered_by_the_core() {
    let served = serve().await;
    let Answer::Status(status) = exchange(&served.path, Action::Status).await else { panic!() };
    assert_eq!((status.site.as_str(), status.assignment_seq, status.receipts_waiting), ("berta", 7, 2));
    let app = AppName::new("shop").unwrap();
    let held = exchange(&served.path, Action::Hold(app.clone())).await;
    assert_eq!(held, Answer::Done("shop is held".into()));
    let Answer::Refused { code, .. } = exchange(&served.path, Action::Retry(app)).await else { panic!() };
    assert_eq!(code, Code::NotFound);
}

#[tokio::test]
async fn only_the_owner_may_open_the_socket_and_a_leftover_is_no_hindrance() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    std::fs::write(&path, "left over").unwrap();
    let socket = ControlSocket::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ControlSocket::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(socket);
    assert!(matches!(connect(&path).await, Err(ClientError::Absent { .. })));
}

#[tokio::test]
async fn lines_that_are_too_long_foreign_or_no_json_are_refused_and_the_next_caller_is_served() {
    let served = serve().await;
    let long = vec![b'x'; usize::try_from(REQUEST_BYTES_MAX).unwrap() + 2];
    for bytes in
        [long.as_slice(), b"not json\n", b"{\"version\":2,\"action\":\"status\"}\n", b"{\"version\":1}\n"]
    {
        let Answer::Refused { code, .. } = raw(&served.path, bytes).await else { panic!() };
        assert_eq!(code, Code::RequestInvalid);
    }
    assert!(matches!(exchange(&served.path, Action::Status).await, Answer::Status(_)));
}

#[tokio::test]
async fn media_that_is_none_is_refused_with_its_code() {
    let served = serve().await;
    let nowhere = Action::MediaLoad("/nonexistent".into());
    let Answer::Refused { code, reason } = exchange(&served.path, nowhere).await else { panic!() };
    assert_eq!(code, Code::ContentMissing, "{reason}");
}
