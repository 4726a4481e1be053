//! Each bound of the endpoint, as the peer that meets it sees it.

use super::bed::{Fleet, Server, connect_bytes, soon};
use super::*;

async fn start(limits: Limits) -> Server {
    Server::start_on(Fleet::new(), Database::new(), limits).await
}

/// Connects with a certificate that it has, and gives CONNACK's reason.
async fn connect(server: &Server, name: &str, tls: &Arc<rustls::ClientConfig>) -> (bed::Raw, u8) {
    let mut raw = server.raw(tls.clone()).await.unwrap();
    raw.write(&connect_bytes(name, 60, None)).await;
    let answer = soon(raw.frame()).await.expect("connect is answered");
    (raw, answer.body[1])
}

#[tokio::test]
async fn a_site_too_many_is_told_that_the_hub_is_busy_and_one_that_comes_again_is_let_in() {
    let server = start(Limits { connections_max: 2, ..Limits::default() }).await;
    let tls = ["a", "b", "c"].map(|name| server.fleet.issue(name, Some(name)));
    let (first, reason) = connect(&server, "a", &tls[0]).await;
    assert_eq!(reason, 0);
    let (second, reason) = connect(&server, "b", &tls[1]).await;
    assert_eq!(reason, 0);
    let (_, reason) = connect(&server, "c", &tls[2]).await;
    assert_eq!(reason, Reason::SERVER_BUSY.0);
    assert_eq!(server.publisher.counts().turned_away.no_place, 1);
    let (_again, reason) = connect(&server, "a", &tls[0]).await;
    assert_eq!(reason, 0, "it has a place: its own");
    first.expect_goodbye(Reason::SESSION_TAKEN_OVER).await;
    drop(second);
    soon(async {
        while connect(&server, "c", &tls[2]).await.1 != 0 {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_site_that_connects_too_often_is_told_so_and_others_are_not_touched() {
    let server = start(Limits { site_connects_burst: 3, ..Limits::default() }).await;
    let restless = server.fleet.issue("a", Some("a"));
    let mut reasons = Vec::new();
    // A slow machine earns it another one now and then.
    while reasons.last().is_none_or(|reason| *reason == 0) && reasons.len() < 100 {
        reasons.push(connect(&server, "a", &restless).await.1);
    }
    assert_eq!(reasons[..3], [0, 0, 0]);
    assert_eq!(reasons.last(), Some(&Reason::CONNECTION_RATE_EXCEEDED.0), "{reasons:?}");
    assert!(server.publisher.counts().turned_away.too_often > 0);
    assert_eq!(connect(&server, "b", &server.fleet.issue("b", Some("b"))).await.1, 0);
    server.stop().await;
}

#[tokio::test]
async fn strangers_who_wait_beyond_the_bound_are_turned_away_and_the_others_have_their_turn() {
    let limits = Limits {
        waiting_max: 4,
        handshakes_max: 2,
        handshakes_per_address_max: 2,
        handshake: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = start(limits).await;
    let mut strangers = Vec::new();
    for _ in 0..12 {
        strangers.push(server.stranger().await);
    }
    soon(async {
        while server.publisher.counts().turned_away.no_room_to_wait == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Whoever has a turn loses it after its time; so everybody gets one.
    soon(async {
        while server.publisher.counts().turned_away.all() < 12 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    server.site("a").await.kill().await;
    server.stop().await;
}

#[tokio::test]
async fn a_site_whose_socket_takes_nothing_is_cut_though_it_pings() {
    let limits = Limits { stalled: Duration::from_millis(600), units_burst: 1_000_000, ..Limits::default() };
    let server = start(limits).await;
    let mut raw = server.raw_site("a", 60, None).await;
    raw.subscribe("airlift/v1/b/#").await;
    let payload = Bytes::from(vec![0; 64 * 1024]);
    // More than the kernel's buffers and the hub's own take.
    for _ in 0..200 {
        let piece = topic("b/x/0");
        server.publisher.publish(&piece, payload.clone(), Qos::AtMostOnce, false).await.unwrap();
        sleep(Duration::from_millis(2)).await;
    }
    soon(async {
        while server.publisher.counts().stalled == 0 {
            // It may be cut while it speaks.
            drop(raw.try_write(&[0xc0, 0]).await);
            sleep(Duration::from_millis(50)).await;
        }
        while server.publisher.connected().contains_key(&site("a")) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn what_nobody_can_read_costs_more_than_what_is_taken() {
    let limits = Limits { units_per_s: 20, units_burst: 10, refused_units: 9, ..Limits::default() };
    let server = start(limits).await;
    let mut site = server.site("a").await;
    let begun = Instant::now();
    for _ in 0..3 {
        let topic = "airlift/v1/s/a/u/s";
        site.client
            .publish(topic, rumqttc::v5::mqttbytes::QoS::AtLeastOnce, false, "nonsense")
            .await
            .unwrap();
    }
    for _ in 0..3 {
        site.puback().await;
    }
    // One fits the burst of 10; the second and third wait for 10 units each, at 20 a second.
    let passed = begun.elapsed();
    assert!(passed >= Duration::from_millis(450), "{passed:?}");
    server.stop().await;
}
