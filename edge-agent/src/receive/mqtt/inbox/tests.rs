use airlift_bundles::ids::{Blake3Digest, RandomId, Sha256Digest};
use airlift_bundles::wire::Conn;
use rumqttc::v5::mqttbytes::QoS;

use super::*;
use crate::receive::content::DiskContent;
use crate::store::MemoryStore;

/// Hands messages over one after the other; gives what reached the core.
async fn heard(messages: Vec<(String, Vec<u8>)>) -> Vec<Event> {
    let dir = tempfile::tempdir().unwrap();
    let platform = crate::config::host_platform();
    let content = DiskContent::open(dir.path().to_owned(), platform, Arc::new(MemoryStore::default()));
    let (events, mut heard) = mpsc::channel(64);
    let (site, prefix) = (SiteId::new("ship").unwrap(), Name::new("airlift").unwrap());
    let (inbox, task) = Inbox::new(site, prefix, events, Arc::new(content.await.unwrap())).spawn();
    for (topic, payload) in messages {
        inbox.send(Publish::new(topic, QoS::AtLeastOnce, payload, None)).await.unwrap();
    }
    drop(inbox);
    task.await.unwrap();
    let mut all = Vec::new();
    while let Some(event) = heard.recv().await {
        all.push(event);
    }
    all
}

fn framed(text: &str) -> Vec<u8> {
    wire::frame(text.as_bytes(), &Limits::DEFAULT).unwrap()
}

#[tokio::test]
async fn messages_that_mean_nothing_are_dropped_and_the_next_one_is_read() {
    let piece = format!("airlift/v1/b/sha256-{}/0", Sha256Digest::of(b"x").to_hex());
    let conn = Conn {
        state: wire::ConnState::Online,
        boot: RandomId::from_bytes([1; 16]),
        conn_seq: 1,
        assignment: None,
        root_version: 1,
    };
    let bomb = [&[1, 1][..], &zstd_bomb()].concat();
    let part = |part: u64, parts: u64, bytes: usize| {
        let item = WantedItem::Document(Sha256Digest::of(b"x"));
        WirePart { item, part, parts, bytes: vec![b'x'; bytes] }.encode()
    };
    let poison: Vec<(&str, Vec<u8>)> = vec![
        ("airlift/v1/s/ship/d/desired", b"\0\xff".to_vec()),
        ("airlift/v1/s/ship/d/desired", framed("{}")),
        ("airlift/v1/s/ship/d/desired", framed("[1,2")),
        ("airlift/v1/s/ship/d/desired", framed(&"[".repeat(10_000))),
        ("airlift/v1/s/ship/d/desired", framed(r#"{"root_version":1,"root_version":2}"#)),
        ("airlift/v1/s/ship/d/desired", bomb),
        ("airlift/v1/s/ship/d/desired", vec![b'x'; 300 << 10]),
        ("airlift/v1/s/shore/d/desired", framed(r#"{"root_version":9}"#)),
        ("airlift/v1/s/ship/d/ack", vec![7, 7]),
        ("airlift/v1/s/ship/d/cmd", vec![]),
        ("airlift/v1/s/ship/d/c", b"no part".to_vec()),
        ("airlift/v1/s/ship/d/c", part(u64::MAX - 1, u64::MAX, 64 << 10)),
        ("airlift/v1/s/ship/d/c", part(0, 1, 100)),
        ("airlift/v1/s/ship/u/s", framed("{}")),
        ("airlift/v1/s/ship/u/conn", wire::encode(&conn, &Limits::DEFAULT).unwrap()),
        ("airlift/v1/h/state", framed("{\"root_version\":-1}")),
        ("airlift/v9/h/state", framed("{}")),
        ("", vec![]),
        (&piece, vec![0; 70 << 10]),
    ];
    let mut messages: Vec<_> =
        poison.into_iter().map(|(topic, payload)| (topic.to_owned(), payload)).collect();
    let encoding = format!("airlift/v1/b/b3-{}/99999999999", Blake3Digest::of(b"x").to_hex());
    messages.push((encoding, vec![1]));
    assert_eq!(heard(messages.clone()).await, []);
    let state = HubState {
        hub_incarnation: RandomId::from_bytes([2; 16]),
        jitter_ms: 0,
        root_version: 7,
        roll_call: None,
    };
    messages.push(("airlift/v1/h/state".into(), wire::encode(&state, &Limits::DEFAULT).unwrap()));
    assert_eq!(heard(messages).await, [Event::RootHint { version: 7 }]);
}

/// 64 MiB of zeros in a few kilobytes.
fn zstd_bomb() -> Vec<u8> {
    let mut bomb = Vec::new();
    // A frame whose header names 64 MiB, then blocks of repeated zeros (RFC 8878, section 3.1.1).
    bomb.extend([0x28, 0xb5, 0x2f, 0xfd, 0xa0]);
    bomb.extend((64_u32 << 20).to_le_bytes());
    for block in 0..512_u32 {
        let last = u32::from(block == 511);
        let header = last | 1 << 1 | (128 << 10) << 3;
        bomb.extend(&header.to_le_bytes()[..3]);
        bomb.push(0);
    }
    bomb
}
