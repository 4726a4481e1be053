//! Framing and packets: every boundary, every refusal, and rumqttc's codec as the second opinion.

use super::super::frame::{Frame, Refusal, take_frame};
use super::super::packet::{Packet, Publish};
use super::super::reply::{
    Granted, Sending, connack, connack_refused, disconnect, pingresp, puback, publish_head, suback, unsuback,
};
use super::*;
use proptest::prelude::*;
use rumqttc::v5::mqttbytes::{QoS, v5};

fn frame(bytes: &[u8]) -> Result<Option<Frame>, Refusal> {
    take_frame(&mut BytesMut::from(bytes), &Limits::default())
}

fn read(bytes: &[u8]) -> Result<Packet, Refusal> {
    Packet::read(frame(bytes)?.expect("a whole packet"))
}

fn written(packet: &v5::Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, None).unwrap();
    bytes.to_vec()
}

fn reason_of<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Reason {
    result.unwrap_err().reason
}

fn agent_connect() -> v5::Packet {
    let properties = v5::ConnectProperties {
        session_expiry_interval: Some(86_400),
        receive_maximum: Some(16),
        max_packet_size: Some(131_584),
        user_properties: vec![("a".into(), "b".into()), ("a".into(), "b".into())],
        ..v5::ConnectProperties::new()
    };
    let connect = v5::Connect {
        keep_alive: 240,
        client_id: "site-1".into(),
        clean_start: false,
        properties: Some(properties),
    };
    let delay = v5::LastWillProperties {
        delay_interval: Some(30),
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let topic = "airlift/v1/s/site-1/u/conn";
    let will = v5::LastWill::new(topic, *b"gone", QoS::AtLeastOnce, true, Some(delay));
    v5::Packet::Connect(connect, Some(will), Some(v5::Login::new("name", "word")))
}

/// A packet of each kind that a client sends, as rumqttc writes it.
fn client_packets() -> Vec<Vec<u8>> {
    let mut publish = v5::Publish::new("airlift/v1/s/a/u/s", QoS::AtLeastOnce, vec![7; 300], None);
    publish.pkid = 7;
    let filters = ["airlift/v1/b/#", "airlift/v1/h/state"];
    let filters = filters.map(|filter| v5::Filter::new(filter, QoS::AtLeastOnce));
    let mut subscribe = v5::Subscribe::new_many(filters, None);
    subscribe.pkid = 8;
    let mut packets = vec![
        written(&agent_connect()),
        written(&v5::Packet::Publish(publish)),
        written(&v5::Packet::Subscribe(subscribe)),
        written(&v5::Packet::PubAck(v5::PubAck::new(9, None))),
        vec![0xa2, 6, 0, 1, 0, 0, 1, b'x'],
        vec![0xc0, 0],
        vec![0xe0, 0],
        vec![0xe0, 7, 0, 5, 17, 0, 0, 0, 9],
    ];
    packets.push(written(&v5::Packet::Publish(v5::Publish::new("t", QoS::AtMostOnce, "p", None))));
    packets
}

#[test]
fn connect_of_a_real_client_is_read_whole() {
    let Packet::Connect(connect) = read(&written(&agent_connect())).unwrap() else { panic!("not connect") };
    assert_eq!(connect.client_id, "site-1");
    assert!(!connect.clean_start);
    assert_eq!((connect.keep_alive_s, connect.session_expiry_s), (240, 86_400));
    assert_eq!((connect.receive_maximum, connect.packet_bytes_max), (16, 131_584));
    let will = connect.will.unwrap();
    assert_eq!((will.topic.as_str(), will.payload.as_ref()), ("airlift/v1/s/site-1/u/conn", &b"gone"[..]));
    assert_eq!(will.delay_s, 30);
}

#[test]
fn publish_of_a_real_client_keeps_its_payload() {
    let packet = read(&client_packets()[1]).unwrap();
    let payload = Bytes::from(vec![7; 300]);
    let publish = Publish { topic: "airlift/v1/s/a/u/s".into(), packet_id: Some(7), payload };
    assert_eq!(packet, Packet::Publish(publish));
}

#[test]
fn a_packet_is_taken_only_when_its_last_byte_is_there() {
    for packet in client_packets() {
        for cut in 0..packet.len() {
            let mut buffer = BytesMut::from(&packet[..cut]);
            assert_eq!(take_frame(&mut buffer, &Limits::default()), Ok(None));
            assert_eq!(buffer, packet[..cut], "nothing is taken from an incomplete packet");
        }
        assert!(frame(&packet).unwrap().is_some());
    }
}

#[test]
fn packets_that_arrive_together_are_taken_one_by_one() {
    let mut buffer: BytesMut = client_packets().concat().as_slice().into();
    for packet in client_packets() {
        let frame = take_frame(&mut buffer, &Limits::default()).unwrap().unwrap();
        assert_eq!(frame.first, packet[0]);
        Packet::read(frame).unwrap();
    }
    assert_eq!(take_frame(&mut buffer, &Limits::default()), Ok(None));
}

#[test]
fn a_packet_cut_inside_is_refused_and_never_read_beyond() {
    for packet in client_packets() {
        // The length says less than the fields need: each cut must be a refusal or another whole packet.
        let body = packet.len() - if packet[1] & 0x80 == 0 { 2 } else { 3 };
        for kept in 0..body.min(120) {
            let mut bytes = vec![packet[0], u8::try_from(kept).unwrap()];
            bytes.extend(&packet[packet.len() - body..][..kept]);
            if let Ok(Packet::Connect(_) | Packet::Subscribe { .. }) = read(&bytes) {
                assert_eq!(packet[0], 0x82, "a shorter connect was accepted");
            }
        }
    }
}

#[test]
fn length_over_the_limit_is_refused_before_the_body_comes() {
    let limits = Limits::default();
    let most = limits.packet_bytes_max - 4;
    let varint = |value: u32| {
        [value & 0x7f | 0x80, value >> 7 & 0x7f | 0x80, value >> 14].map(|byte| u8::try_from(byte).unwrap())
    };
    let header = |first: u8, len: u32| [vec![first], varint(len).to_vec()].concat();
    assert_eq!(frame(&header(0x30, most)), Ok(None));
    assert_eq!(reason_of(frame(&header(0x30, most + 1))), Reason::PACKET_TOO_LARGE);
    assert_eq!(reason_of(frame(&header(0x82, limits.other_packet_bytes_max))), Reason::PACKET_TOO_LARGE);
}

#[test]
fn bad_fixed_headers_are_refused_by_their_first_bytes() {
    for (bytes, reason) in [
        (&[0x00][..], Reason::MALFORMED),
        (&[0x20], Reason::PROTOCOL_ERROR),                    // connack
        (&[0x50], Reason::QOS_NOT_SUPPORTED),                 // pubrec
        (&[0x80], Reason::MALFORMED),                         // subscribe without its flag
        (&[0xc1], Reason::MALFORMED),                         // pingreq with one
        (&[0x30, 0x80, 0x80, 0x80, 0x80], Reason::MALFORMED), // a fifth byte of length
        (&[0x30, 0x82, 0x00], Reason::MALFORMED),             // padded length
    ] {
        assert_eq!(reason_of(frame(bytes)), reason, "{bytes:02x?}");
    }
}

#[test]
fn well_framed_nonsense_is_refused_with_its_reason() {
    let long_name = [&[0x30, 5][..], &[0, 9, b't', 0, 0]].concat();
    for (name, bytes, reason) in [
        ("topic longer than the packet", long_name.as_slice(), Reason::MALFORMED),
        ("qos 3", &[0x36, 5, 0, 1, b't', 0, 1], Reason::MALFORMED),
        ("qos 2", &[0x34, 6, 0, 1, b't', 0, 1, 0], Reason::QOS_NOT_SUPPORTED),
        ("dup of qos 0", &[0x38, 4, 0, 1, b't', 0], Reason::MALFORMED),
        ("packet id 0", &[0x32, 6, 0, 1, b't', 0, 0, 0], Reason::PROTOCOL_ERROR),
        ("nul in a topic", &[0x30, 4, 0, 1, 0, 0], Reason::MALFORMED),
        ("topic not utf-8", &[0x30, 4, 0, 1, 0xff, 0], Reason::MALFORMED),
        ("topic alias", &[0x30, 7, 0, 1, b't', 3, 35, 0, 1], Reason::TOPIC_ALIAS_INVALID),
        ("properties past the packet", &[0x30, 4, 0, 1, b't', 9], Reason::MALFORMED),
        ("property cut by its section", &[0x30, 6, 0, 1, b't', 2, 2, 0], Reason::MALFORMED),
        ("property of another packet", &[0x30, 7, 0, 1, b't', 3, 33, 0, 1], Reason::MALFORMED),
        ("property 64", &[0x30, 5, 0, 1, b't', 1, 64], Reason::MALFORMED),
        ("property twice", &[0x30, 8, 0, 1, b't', 4, 1, 0, 1, 0], Reason::PROTOCOL_ERROR),
        (
            "subscription identifier",
            &[0x82, 9, 0, 1, 2, 11, 1, 0, 1, b'x', 0],
            Reason::SUBSCRIPTION_IDS_NOT_SUPPORTED,
        ),
        ("no filter", &[0x82, 3, 0, 1, 0], Reason::PROTOCOL_ERROR),
        ("reserved option", &[0x82, 7, 0, 1, 0, 0, 1, b'x', 0x40], Reason::MALFORMED),
        ("retain handling 3", &[0x82, 7, 0, 1, 0, 0, 1, b'x', 0x30], Reason::MALFORMED),
        ("bytes after pingreq", &[0xc0, 1, 0], Reason::MALFORMED),
        ("bytes after puback", &[0x40, 5, 0, 1, 0, 0, 9], Reason::MALFORMED),
        ("auth", &[0xf0, 0], Reason::PROTOCOL_ERROR),
        (
            "mqtt 3.1.1",
            &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 9, 0, 0],
            Reason::UNSUPPORTED_VERSION,
        ),
        (
            "will qos without will",
            &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 0x08, 0, 9, 0, 0, 0],
            Reason::MALFORMED,
        ),
        (
            "reserved connect flag",
            &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 1, 0, 9, 0, 0, 0],
            Reason::MALFORMED,
        ),
        (
            "receive maximum 0",
            &[0x10, 16, 0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 9, 3, 33, 0, 0, 0, 0],
            Reason::PROTOCOL_ERROR,
        ),
        (
            "authentication",
            &[0x10, 17, 0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 9, 4, 21, 0, 1, b'x', 0, 0],
            Reason::BAD_AUTHENTICATION_METHOD,
        ),
    ] {
        assert_eq!(reason_of(read(bytes)), reason, "{name}");
    }
}

#[test]
fn a_goodbye_without_a_body_is_a_goodbye() {
    assert_eq!(read(&[0xe0, 0]), Ok(Packet::Disconnect { reason: Reason::SUCCESS, session_expiry_s: None }));
}

#[test]
fn a_real_client_reads_every_answer() {
    let parse = |bytes: Bytes| {
        let mut stream = BytesMut::from(&bytes[..]);
        let packet = v5::Packet::read(&mut stream, None).unwrap();
        assert!(stream.is_empty());
        packet
    };
    let granted = Granted {
        session_present: true,
        session_expiry_s: Some(3600),
        keep_alive_s: Some(1200),
        receive_maximum: 16,
        packet_bytes_max: 131_584,
    };
    let v5::Packet::ConnAck(ack) = parse(connack(&granted)) else { panic!("not connack") };
    assert!(ack.session_present && ack.code == v5::ConnectReturnCode::Success);
    let properties = ack.properties.unwrap();
    assert_eq!(properties.session_expiry_interval, Some(3600));
    assert_eq!((properties.server_keep_alive, properties.receive_max), (Some(1200), Some(16)));
    assert_eq!((properties.max_qos, properties.max_packet_size), (Some(1), Some(131_584)));
    let v5::Packet::ConnAck(ack) = parse(connack_refused(Reason::CLIENT_ID_INVALID)) else { panic!() };
    assert_eq!(ack.code, v5::ConnectReturnCode::ClientIdentifierNotValid);
    let v5::Packet::PubAck(ack) = parse(puback(300, Reason::SUCCESS)) else { panic!("not puback") };
    assert_eq!((ack.pkid, ack.reason), (300, v5::PubAckReason::Success));
    let v5::Packet::PubAck(ack) = parse(puback(300, Reason::NOT_AUTHORIZED)) else { panic!("not puback") };
    assert_eq!((ack.pkid, ack.reason), (300, v5::PubAckReason::NotAuthorized));
    let reasons = [Reason(1), Reason::NOT_AUTHORIZED];
    let v5::Packet::SubAck(ack) = parse(suback(5, &reasons)) else { panic!("not suback") };
    let expected =
        [v5::SubscribeReasonCode::Success(QoS::AtLeastOnce), v5::SubscribeReasonCode::NotAuthorized];
    assert_eq!((ack.pkid, ack.return_codes.as_slice()), (5, &expected[..]));
    let v5::Packet::UnsubAck(ack) = parse(unsuback(6, &[Reason::SUCCESS])) else { panic!("not unsuback") };
    assert_eq!(ack.pkid, 6);
    assert_eq!(parse(pingresp()), v5::Packet::PingResp(v5::PingResp));
    let v5::Packet::Disconnect(bye) = parse(disconnect(Reason::SESSION_TAKEN_OVER)) else { panic!() };
    assert_eq!(bye.reason_code, v5::DisconnectReasonCode::SessionTakenOver);
}

proptest! {
    #[test]
    fn a_real_client_reads_every_publish(
        topic in "[a-z/]{1,200}",
        payload in proptest::collection::vec(any::<u8>(), 0..20_000),
        packet_id in proptest::option::of(1_u16..),
        retain: bool,
        duplicate: bool,
    ) {
        let sending = Sending { packet_id, retain, duplicate: duplicate && packet_id.is_some() };
        let mut bytes = BytesMut::from(&publish_head(&topic, payload.len(), sending)[..]);
        bytes.extend_from_slice(&payload);
        let v5::Packet::Publish(publish) = v5::Packet::read(&mut bytes, None).unwrap() else {
            panic!("not publish")
        };
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(&publish.topic[..], topic.as_bytes());
        prop_assert_eq!(&publish.payload[..], &payload[..]);
        prop_assert_eq!(publish.pkid, packet_id.unwrap_or(0));
        prop_assert_eq!((publish.retain, publish.dup), (retain, sending.duplicate));
    }

    #[test]
    fn mutated_packets_are_read_or_refused(
        which in 0_usize..9,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = client_packets().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(tail);
        let mut buffer = BytesMut::from(bytes.as_slice());
        while let Ok(Some(frame)) = take_frame(&mut buffer, &Limits::default()) {
            // Reading is total; what it accepts is in bounds.
            if let Ok(Packet::Publish(publish)) = Packet::read(frame) {
                prop_assert!(publish.packet_id != Some(0) && !publish.topic.contains('\0'));
            }
        }
        prop_assert!(buffer.len() <= bytes.len());
    }

    #[test]
    fn random_bytes_never_reserve_more_than_a_packet(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        while let Ok(Some(frame)) = take_frame(&mut buffer, &Limits::default()) {
            drop(Packet::read(frame));
        }
        prop_assert!(buffer.capacity() <= 2 * Limits::default().packet_bytes_max as usize);
    }
}
