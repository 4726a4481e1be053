use super::*;
use crate::ids::{Name, RandomId, Sha256Digest, SiteId};

fn prefix() -> Name {
    Name::new("airlift").unwrap()
}

#[test]
fn every_topic_reads_back_as_itself() {
    let site = || SiteId::new("ship-7").unwrap();
    let digest = Sha256Digest::of(b"x");
    let topics = [
        Topic::Desired(site()),
        Topic::Ack(site()),
        Topic::Command(site()),
        Topic::Content(site()),
        Topic::Status(site()),
        Topic::Get(site()),
        Topic::Conn(site()),
        Topic::BlobPiece(digest, 12),
        Topic::EncodingPiece(crate::ids::Blake3Digest::of(b"x"), 0),
        Topic::HubState,
    ];
    for topic in topics {
        assert_eq!(Topic::parse(&topic.name(&prefix()), &prefix()), Ok(topic));
    }
}

#[test]
fn foreign_topics_are_refused() {
    for topic in [
        "other/v1/h/state",
        "airlift/v2/h/state",
        "airlift/v1/h/state/x",
        "airlift/v1/s/+/d/desired",
        "airlift/v1/s/A/u/s",
        "airlift/v1/s/a/u/s/x",
        "airlift/v1/s/a/d/s",
        "airlift/v1/b/sha256-00/1",
        "",
    ] {
        assert!(Topic::parse(topic, &prefix()).is_err(), "{topic}");
    }
    let piece = Topic::BlobPiece(Sha256Digest::of(b"x"), 7).name(&prefix());
    assert!(Topic::parse(&piece.replace("/7", "/07"), &prefix()).is_err());
}

#[test]
fn long_content_is_packed_and_comes_back() {
    let content = "manifest ".repeat(50_000).into_bytes();
    let framed = frame(&content, &Limits::DEFAULT).unwrap();
    assert!(framed.len() < 2_000);
    assert_eq!(unframe(&framed, &Limits::DEFAULT), Ok(content));
}

#[test]
fn bombs_and_strangers_are_refused() {
    let bomb = zstd::bulk::compress(&vec![0; 16 << 20], 19).unwrap();
    let bomb = [&[1, 1], bomb.as_slice()].concat();
    assert_eq!(unframe(&bomb, &Limits::DEFAULT), Err(WireError::TooLarge { limit: 1 << 20 }));
    assert!(matches!(unframe(&[2, 0, b'{', b'}'], &Limits::DEFAULT), Err(WireError::Frame { .. })));
    assert!(matches!(unframe(&[1], &Limits::DEFAULT), Err(WireError::Frame { .. })));
    assert_eq!(unframe(&[1, 1, 0xff], &Limits::DEFAULT), Err(WireError::Zstd));
}

#[test]
fn a_message_keeps_its_meaning() {
    let conn = Conn {
        state: ConnState::Online,
        boot: RandomId::from_bytes([1; 16]),
        conn_seq: 3,
        assignment: None,
        root_version: 2,
    };
    let framed = encode(&conn, &Limits::DEFAULT).unwrap();
    assert_eq!(decode::<Conn>(&framed, &Limits::DEFAULT), Ok(conn));
}

#[test]
fn a_part_reads_back_and_refuses_contradictions() {
    let part = Part { item: WantedItem::Root(3), part: 1, parts: 2, bytes: vec![7; 10] };
    assert_eq!(Part::decode(&part.encode()), Some(part.clone()));
    let beyond = Part { part: 2, ..part.clone() };
    assert_eq!(Part::decode(&beyond.encode()), None);
    let last_of_all = Part { part: u64::MAX, parts: u64::MAX, ..part.clone() };
    assert_eq!(Part::decode(&last_of_all.encode()), None);
    let short = Part { part: 0, ..part };
    assert_eq!(Part::decode(&short.encode()), None, "only the last part may be short");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = unframe(&bytes, &Limits::DEFAULT);
        let _ = Part::decode(&bytes);
        let _ = Topic::parse(&String::from_utf8_lossy(&bytes), &prefix());
    }
}
