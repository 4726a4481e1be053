//! The endpoint as sites see it: over TCP and TLS, with the client that agents use.

use super::bed::{PATIENCE, Server, connect_bytes, soon};
use super::*;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, PubAckReason, SubscribeReasonCode};

fn own(site: &str, topic: &str) -> String {
    format!("airlift/v1/s/{site}/{topic}")
}

fn will(site: &str) -> LastWill {
    LastWill::new(own(site, "u/conn"), *b"gone", QoS::AtLeastOnce, true, None)
}

#[tokio::test]
async fn a_killed_site_leaves_its_will_and_one_that_says_goodbye_does_not() {
    let mut server = Server::start().await;
    let mut presence = server.publisher.presence();
    let polite = server
        .site_with("polite", |options| {
            options.set_last_will(will("polite"));
        })
        .await;
    polite.client.disconnect().await.unwrap();
    assert_eq!(soon(presence.next()).await, Some(Presence::Connected { site: site("polite") }));
    let gone = Presence::Disconnected { site: site("polite"), clean: true };
    assert_eq!(soon(presence.next()).await, Some(gone));
    let cut = server
        .site_with("cut", |options| {
            options.set_last_will(will("cut"));
        })
        .await;
    cut.kill().await;
    let said = soon(server.said.recv()).await.unwrap();
    assert_eq!(said, (site("cut"), Topic::Conn(site("cut")), "gone".into()), "the only will that came");
    assert_eq!(soon(presence.next()).await, Some(Presence::Connected { site: site("cut") }));
    let gone = Presence::Disconnected { site: site("cut"), clean: false };
    assert_eq!(soon(presence.next()).await, Some(gone));
    assert_eq!(soon(presence.next()).await, Some(Presence::Will { site: site("cut") }));
    server.stop().await;
}

#[tokio::test]
async fn the_newer_connection_takes_over_and_the_older_is_told() {
    let server = Server::start().await;
    let older = server.raw_site("a", 60, None).await;
    let mut newer = server.site("a").await;
    older.expect_goodbye(Reason::SESSION_TAKEN_OVER).await;
    newer.subscribe(&own("a", "d/#")).await;
    server.publisher.publish(&topic("s/a/d/cmd"), "x".into(), Qos::AtLeastOnce, false).await.unwrap();
    assert_eq!(newer.message().await.payload, "x");
    assert_eq!(server.publisher.connected().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_retained_message_meets_each_new_reader() {
    let server = Server::start().await;
    let desired = Bytes::from(vec![5; 120 * 1024]);
    server.publisher.publish(&topic("s/a/d/desired"), desired.clone(), Qos::AtLeastOnce, true).await.unwrap();
    server.publisher.publish(&topic("s/b/d/desired"), "other".into(), Qos::AtLeastOnce, true).await.unwrap();
    let server = server.restart().await;
    let mut site = server.site("a").await;
    assert_eq!(site.subscribe(&own("a", "d/#")).await, SubscribeReasonCode::Success(QoS::AtLeastOnce));
    let message = site.message().await;
    assert_eq!((message.retain, &message.topic[..]), (true, own("a", "d/desired").as_bytes()));
    assert_eq!(message.payload, desired);
    server.publisher.clear_retained(&topic("s/a/d/desired")).await.unwrap();
    site.subscribe(&own("a", "d/desired")).await;
    server.publisher.publish(&topic("s/a/d/cmd"), "live".into(), Qos::AtLeastOnce, false).await.unwrap();
    let message = site.message().await;
    assert_eq!((message.payload, message.retain), ("live".into(), false), "the retained one is gone");
    server.stop().await;
}

#[tokio::test]
async fn an_unacknowledged_message_comes_again_after_a_cut_and_after_a_restart_of_the_hub() {
    let server = Server::start().await;
    let mut site = server
        .site_with("a", |options| {
            options.set_manual_acks(true);
        })
        .await;
    site.subscribe(&own("a", "d/#")).await;
    server.publisher.publish(&topic("s/a/d/cmd"), "x".into(), Qos::AtLeastOnce, false).await.unwrap();
    let first = site.message().await;
    assert_eq!((first.payload, first.dup), ("x".into(), false));
    site.kill().await;

    let mut site = server
        .site_with("a", |options| {
            options.set_manual_acks(true);
        })
        .await;
    assert!(site.session_present);
    let again = site.message().await;
    assert_eq!((again.payload, again.dup, again.pkid), ("x".into(), true, first.pkid));
    site.kill().await;

    let server = server.restart().await;
    let mut site = server.site("a").await;
    assert!(site.session_present);
    let again = site.message().await;
    assert_eq!((again.payload, again.dup), ("x".into(), true));
    soon(async {
        while !server.database.rows().in_flight.is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_site_that_reads_nothing_costs_its_buffer_and_nobody_else() {
    let server = Server::start().await;
    let mut stuck = server.raw_site("stuck", 60, None).await;
    let filter = b"airlift/v1/b/#";
    let mut subscribe = vec![0x82, u8::try_from(filter.len() + 6).unwrap(), 0, 1, 0, 0];
    subscribe.push(u8::try_from(filter.len()).unwrap());
    subscribe.extend(filter);
    subscribe.push(0);
    stuck.write(&subscribe).await;
    assert_eq!(soon(stuck.frame()).await.unwrap().body[..], [0, 1, 0, 0]);
    let mut reader = server.site("reader").await;
    reader.subscribe("airlift/v1/b/#").await;
    let piece = Bytes::from(vec![9; 64 * 1024]);
    // 25 MB: more than socket buffers of a few MB and the send buffer can hold.
    for n in 0..400 {
        let topic = topic(&format!("b/x/{n}"));
        server.publisher.publish(&topic, piece.clone(), Qos::AtMostOnce, false).await.unwrap();
        assert_eq!(reader.message().await.topic, topic.name(&prefix()));
    }
    let connected = server.publisher.connected();
    assert!(connected[&site("stuck")].dropped > 0, "{connected:?}");
    assert!(connected[&site("stuck")].unsent_bytes <= 1024 * 1024);
    assert_eq!(connected[&site("reader")].dropped, 0);
    server.stop().await;
}

#[tokio::test]
async fn topics_of_others_are_refused_in_both_directions() {
    let mut server = Server::start().await;
    let mut site = server.site("a").await;
    for filter in ["#", "airlift/v1/s/b/d/#", "airlift/v1/s/+/d/#", "airlift/v1/s/a/u/#"] {
        assert_eq!(site.subscribe(filter).await, SubscribeReasonCode::NotAuthorized, "{filter}");
    }
    let shared = site.subscribe("$share/group/airlift/v1/h/#").await;
    assert_eq!(shared, SubscribeReasonCode::SharedSubscriptionsNotSupported);
    for topic in [own("b", "u/s"), own("a", "d/desired"), "airlift/v1/h/state".into()] {
        site.client.publish(topic.as_str(), QoS::AtLeastOnce, false, "x").await.unwrap();
        assert_eq!(site.puback().await, PubAckReason::NotAuthorized, "{topic}");
    }
    site.client.publish(own("a", "u/s"), QoS::AtLeastOnce, false, "mine").await.unwrap();
    assert_eq!(site.puback().await, PubAckReason::Success);
    assert_eq!(
        soon(server.said.recv()).await.unwrap(),
        (self::site("a"), Topic::Status(self::site("a")), "mine".into())
    );
    site.client.publish(own("b", "u/get"), QoS::AtMostOnce, false, "x").await.unwrap();
    site.ended().await;
    assert!(server.said.try_recv().is_err(), "nothing else reached the hub");
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_break_the_rules_end_the_connection_with_the_reason() {
    let server = Server::start().await;
    for (name, bytes, reason) in [
        ("oversized", &[0x32, 0x80, 0x84, 0x08][..], Reason::PACKET_TOO_LARGE), // 128 KiB + 512
        ("malformed", &[0x30, 3, 0, 9, b't'], Reason::MALFORMED),
        ("qos2", &[0x34, 6, 0, 1, b't', 0, 1, 0], Reason::QOS_NOT_SUPPORTED),
        ("second-connect", &connect_bytes("second-connect", 1, None), Reason::PROTOCOL_ERROR),
    ] {
        let mut raw = server.raw_site(name, 60, None).await;
        raw.write(bytes).await;
        raw.expect_goodbye(reason).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_peer_in_the_middle_of_an_oversized_packet_still_hears_why() {
    let server = Server::start().await;
    let mut raw = server.raw_site("a", 60, None).await;
    let mut packet = vec![0x30, 0x80, 0x80, 0x20]; // half a megabyte
    packet.resize(512 * 1024 + 4, 0);
    raw.write(&packet).await;
    raw.expect_goodbye(Reason::PACKET_TOO_LARGE).await;
    server.stop().await;
}

#[tokio::test]
async fn a_publish_is_acknowledged_only_when_the_ingest_has_committed_it() {
    let mut server = Server::start().await;
    let mut site = server.site("a").await;
    server.gate.send_replace(false);
    for payload in ["1", "nonsense", "3"] {
        site.client.publish(own("a", "u/s"), QoS::AtLeastOnce, false, payload).await.unwrap();
    }
    for payload in ["1", "nonsense", "3"] {
        let said = soon(server.said.recv()).await.unwrap();
        assert_eq!(said.2, payload, "all are handed over before the first is answered");
    }
    sleep(Duration::from_millis(200)).await;
    assert!(site.heard_nothing(), "acknowledged before the commit");
    server.gate.send_replace(true);
    assert_eq!(site.puback().await, PubAckReason::Success);
    assert_eq!(site.puback().await, PubAckReason::PayloadFormatInvalid);
    assert_eq!(site.puback().await, PubAckReason::Success);
    let counts = server.publisher.counts();
    assert_eq!((counts.connected, counts.accepted, counts.refused), (1, 2, 1));
    server.stop().await;
}

#[tokio::test]
async fn more_publishes_at_once_than_announced_end_the_connection() {
    let server = Server::start().await;
    server.gate.send_replace(false);
    let mut raw = server.raw_site("a", 60, None).await;
    let topic = own("a", "u/s");
    for id in 1..=17 {
        let mut bytes = vec![0x32, u8::try_from(topic.len() + 5).unwrap(), 0];
        bytes.push(u8::try_from(topic.len()).unwrap());
        bytes.extend(topic.as_bytes());
        bytes.extend([0, id, 0]);
        raw.write(&bytes).await;
    }
    sleep(Duration::from_millis(200)).await;
    server.gate.send_replace(true);
    for id in 1..=16 {
        // What came within the bound still counts.
        let frame = soon(raw.frame()).await.unwrap();
        if frame.first == 0xe0 {
            assert_eq!(frame.body[0], Reason::RECEIVE_MAXIMUM_EXCEEDED.0);
            return server.stop().await;
        }
        assert_eq!((frame.first, frame.body[1]), (0x40, id));
    }
    raw.expect_goodbye(Reason::RECEIVE_MAXIMUM_EXCEEDED).await;
    server.stop().await;
}

#[tokio::test]
async fn a_silent_site_is_ended_after_one_and_a_half_keep_alives_and_leaves_its_will() {
    let mut server = Server::start().await;
    let mut raw = server.raw_site("a", 1, Some(will("a"))).await;
    let begun = Instant::now();
    sleep(Duration::from_secs(1)).await;
    raw.write(&[0xc0, 0]).await;
    assert_eq!(soon(raw.frame()).await.unwrap().first, 0xd0, "a ping is answered, and starts the time anew");
    raw.expect_goodbye(Reason::KEEP_ALIVE_TIMEOUT).await;
    let silent = begun.elapsed();
    assert!(silent >= Duration::from_millis(2_400) && silent < Duration::from_secs(8), "{silent:?}");
    assert_eq!(soon(server.said.recv()).await.unwrap().2, "gone");
    server.stop().await;
}

#[tokio::test]
async fn strangers_and_impostors_do_not_get_in() {
    let server = Server::start().await;
    let fleet = server.fleet.clone();
    // TLS 1.3 tells a client without a certificate only when it reads.
    if let Ok(mut nobody) = server.raw(fleet.anonymous()).await {
        assert_eq!(soon(nobody.frame()).await, None);
    }
    for (case, tls) in [
        ("a key that nobody enrolled", fleet.issue("a", None)),
        ("the key of another site", fleet.issue("a", Some("b"))),
    ] {
        let mut raw = server.raw(tls).await.unwrap();
        assert_eq!(soon(raw.frame()).await, None, "{case}");
    }
    let known = fleet.issue("a", Some("a"));
    let old_version = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 9, 0, 1, b'a'];
    let others_will = connect_bytes("a", 9, Some(will("b")));
    for (bytes, reason) in [
        (&connect_bytes("b", 9, None)[..], Reason::CLIENT_ID_INVALID),
        (&old_version, Reason::UNSUPPORTED_VERSION),
        (&others_will, Reason::NOT_AUTHORIZED),
    ] {
        let mut raw = server.raw(known.clone()).await.unwrap();
        raw.write(bytes).await;
        let answer = soon(raw.frame()).await.unwrap();
        assert_eq!((answer.first, answer.body[1]), (0x20, reason.0));
        assert_eq!(soon(raw.frame()).await, None);
    }
    assert_eq!(server.publisher.counts().connected, 0);
    assert_eq!(server.publisher.counts().turned_away.all(), 6);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_sends_no_connect_is_let_go() {
    let limits = Limits { handshake: Duration::from_millis(300), ..Limits::default() };
    let server = Server::start_on(bed::Fleet::new(), Database::new(), limits).await;
    let mut raw = server.raw(server.fleet.issue("a", Some("a"))).await.unwrap();
    raw.write(&[0x10]).await;
    assert_eq!(soon(raw.frame()).await, None);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_sends_a_byte_now_and_then_is_let_go_and_holds_up_nobody() {
    let limits = Limits { handshake: Duration::from_secs(3), ..Limits::default() };
    let server = Server::start_on(bed::Fleet::new(), Database::new(), limits).await;
    let mut slow = server.raw(server.fleet.issue("slow", Some("slow"))).await.unwrap();
    for byte in &connect_bytes("slow", 60, None)[..3] {
        slow.write(&[*byte]).await;
        sleep(Duration::from_millis(50)).await;
    }
    let mut other = server.site("other").await;
    other.client.publish(own("other", "u/s"), QoS::AtLeastOnce, false, "now").await.unwrap();
    assert_eq!(other.puback().await, PubAckReason::Success);
    assert_eq!(soon(slow.frame()).await, None);
    let connected = server.publisher.connected();
    assert!(
        connected.contains_key(&site("other")) && !connected.contains_key(&site("slow")),
        "{connected:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_flood_is_slowed_and_not_lost() {
    let limits = Limits { units_per_s: 20, units_burst: 5, ..Limits::default() };
    let mut server = Server::start_on(bed::Fleet::new(), Database::new(), limits).await;
    let mut site = server.site("flood").await;
    let mut other = server.site("other").await;
    let begun = Instant::now();
    for n in 0..30 {
        site.client.publish(own("flood", "u/s"), QoS::AtLeastOnce, false, n.to_string()).await.unwrap();
    }
    other.client.publish(own("other", "u/s"), QoS::AtLeastOnce, false, "now").await.unwrap();
    other.puback().await;
    assert!(begun.elapsed() < Duration::from_millis(1_000), "one site's flood delayed another");
    for _ in 0..30 {
        assert_eq!(site.puback().await, PubAckReason::Success);
    }
    // 30 messages, of which the burst lets 5 through: 25 at 20 a second.
    assert!(begun.elapsed() >= Duration::from_millis(1_100), "{:?}", begun.elapsed());
    let mut numbers = Vec::new();
    while numbers.len() < 30 {
        let (from, _, payload) = soon(server.said.recv()).await.unwrap();
        numbers.extend((from.as_str() == "flood").then(|| String::from_utf8(payload.to_vec()).unwrap()));
    }
    assert_eq!(numbers, (0..30).map(|n| n.to_string()).collect::<Vec<_>>(), "in order");
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_hub_says_so_and_fires_no_will() {
    let mut server = Server::start().await;
    let raw = server.raw_site("a", 60, Some(will("a"))).await;
    let mut said = std::mem::replace(&mut server.said, mpsc::unbounded_channel().1);
    let publisher = server.publisher.clone();
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < PATIENCE / 5, "it waited for what does not come");
    raw.expect_goodbye(Reason::SHUTTING_DOWN).await;
    assert_eq!(soon(said.recv()).await, None, "no will, and the ingest is released");
    let late = publisher.publish(&topic("h/state"), "x".into(), Qos::AtLeastOnce, true).await;
    assert!(matches!(late, Err(PublishError::Stopped)), "{late:?}");
}

#[tokio::test]
async fn a_site_is_disconnected_and_forgotten_by_the_hub() {
    let server = Server::start().await;
    let raw = server.raw_site("a", 60, None).await;
    server.publisher.disconnect(&site("a"));
    raw.expect_goodbye(Reason::ADMINISTRATIVE).await;
    let mut site = server.site("b").await;
    site.subscribe(&own("b", "d/#")).await;
    server.publisher.publish(&topic("s/b/d/desired"), "x".into(), Qos::AtLeastOnce, true).await.unwrap();
    server.publisher.forget(&self::site("b"));
    site.ended().await;
    let site = server.site("b").await;
    assert!(!site.session_present);
    assert!(server.publisher.connected().contains_key(&self::site("b")));
    server.stop().await;
}

#[tokio::test]
async fn what_the_hub_may_not_publish_is_refused_before_anything_is_sent() {
    let server = Server::start().await;
    let publish = |path: &'static str, bytes| {
        let publisher = server.publisher.clone();
        async move { publisher.publish(&topic(path), vec![0; bytes].into(), Qos::AtMostOnce, false).await }
    };
    assert!(matches!(publish("s/a/u/s", 1).await, Err(PublishError::Topic(_))));
    assert!(matches!(publish("h/state", 128 * 1024 + 400).await, Err(PublishError::TooLarge { .. })));
    assert!(publish("h/state", 128 * 1024).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn new_connections_over_the_rate_wait_and_are_then_let_in() {
    let limits = Limits { connects_per_s: 10, connects_burst: 2, ..Limits::default() };
    let server = Server::start_on(bed::Fleet::new(), Database::new(), limits).await;
    let begun = Instant::now();
    let mut sites = Vec::new();
    for n in 0..7 {
        sites.push(server.raw_site(&format!("site-{n}"), 60, None).await);
    }
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    assert_eq!(server.publisher.connected().len(), 7);
    server.stop().await;
}
