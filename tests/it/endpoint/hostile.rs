//! Peers that mean harm, each in its own way, and what becomes of each.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::{RandomId, Sha256Digest};
use airlift_tests::clock::now;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::honest::word;
use super::line::{HTTPS, Line, MQTT, connect, head, own, packet, publish, subscribe, tcp, tls};
use super::roster::Party;

/// How long the hub gives a peer to show who it is, and some time for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(8);

/// Strangers at one address who say nothing: more than the hub lets wait, so that some are turned away at once.
/// Gives how many were let go while `length` passed.
pub(crate) async fn fill(from: Ipv4Addr, port: u16, count: usize, length: Duration) -> usize {
    let mut strangers = JoinSet::new();
    for number in 0..count {
        strangers.spawn(async move {
            // No faster than the kernel takes them: what it drops it has sent again after seconds.
            sleep(Duration::from_micros(250) * u32::try_from(number).expect("thousands")).await;
            let Ok(mut stream) = tcp(from, port).await else { return true };
            timeout(length, stream.read(&mut [0])).await.is_ok()
        });
    }
    strangers.join_all().await.into_iter().filter(|gone| *gone).count()
}

/// The first bytes of a handshake, one a second: let go in time.
pub(crate) async fn drip_hello(from: Ipv4Addr) {
    let mut stream = tcp(from, MQTT).await.expect("the hub accepts");
    let began = now();
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    for byte in hello.into_iter().cycle() {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        if matches!(timeout(Duration::from_secs(1), stream.read(&mut [0])).await, Ok(Ok(0) | Err(_))) {
            break;
        }
        assert!(began.elapsed() < 2 * PATIENCE + SLACK, "a handshake of a byte a second is heard for ever");
    }
}

/// A site that sends CONNECT a byte a second: let go in time, without a word.
pub(crate) async fn drip_connect(party: Party) {
    let mut line = Line::open(&party).await.expect("it has a certificate");
    let began = now();
    for byte in connect(&party.name, 60) {
        let said = line.send(&[byte]).await;
        if said.is_err() || timeout(Duration::from_secs(1), line.next()).await.is_ok() {
            break;
        }
        assert!(began.elapsed() < PATIENCE + SLACK, "a connect of a byte a second is heard for ever");
    }
    assert!(began.elapsed() + SLACK > PATIENCE, "it was let go before its time: {:?}", began.elapsed());
}

/// No certificate: TLS refuses it.
pub(crate) async fn without_certificate(from: Ipv4Addr, hub_key: Sha256Digest) {
    let config = airlift_agent::tls::pinned(hub_key).expect("it is a digest");
    // With TLS 1.3 the client hears of it after its own handshake.
    if let Ok(mut stream) = tls(from, MQTT, Arc::new(config)).await {
        let read = timeout(PATIENCE, stream.read(&mut [0; 16])).await.expect("it is told soon");
        assert!(read.is_err(), "a stranger was answered: {read:?}");
    }
}

/// HTTP/2 on the API's port that asks for nothing: let go.
pub(crate) async fn idle_http2(from: Ipv4Addr, hub_key: Sha256Digest) {
    let mut config = airlift_agent::tls::pinned(hub_key).expect("it is a digest");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let Ok(mut stream) = tls(from, HTTPS, Arc::new(config)).await else { return };
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream
        .write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat())
        .await
        .expect("it is open");
    let began = now();
    // It takes what the hub says, and answers nothing.
    let ended = timeout(2 * PATIENCE + SLACK, async {
        while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
    });
    ended.await.expect("a connection that asks for nothing is kept for ever");
    assert!(began.elapsed() + SLACK > PATIENCE, "it was let go before its time: {:?}", began.elapsed());
}

/// Bytes that a connected site may not send, and the reason that it is told in DISCONNECT.
fn wrong_packets(site: &str) -> Vec<(&'static str, Vec<u8>, u8)> {
    let own_topic = own(site, "u/conn");
    let (most, boot) = (128 * 1024 + 512, RandomId::from_bytes([8; 16]));
    vec![
        ("a type that does not exist", vec![0x00, 0], 0x81),
        ("a server's packet", packet(0x20, &[0, 0, 0]), 0x82),
        ("a length without end", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x7f], 0x81),
        ("a padded length", vec![0xc0, 0x80, 0x00], 0x81),
        ("flags that are reserved", vec![0xc1, 0], 0x81),
        ("a ping with a body", packet(0xc0, &[0]), 0x81),
        ("a topic longer than its packet", packet(0x30, &[0xff, 0xff, b'a']), 0x81),
        ("a topic that is no text", packet(0x30, &[0, 1, 0xff, 0]), 0x81),
        ("properties beyond the packet", packet(0x30, &[0, 1, b'a', 0x7f]), 0x81),
        ("quality 2", packet(0x34, &[0, 1, b'a', 0, 1, 0]), 0x9b),
        ("a topic of another", publish(&own("h-0", "u/conn"), None, b"x"), 0x87),
        ("a second connect", connect(site, 60), 0x82),
        ("a packet one byte too long", head(0x30, most - 3), 0x95),
        ("a packet of 256 MiB", head(0x30, (1 << 28) - 1), 0x95),
        ("a subscription of 16 KiB", head(0x82, 16 * 1024), 0x95),
        (
            "more at once than may be",
            (1..=200).flat_map(|id| publish(&own_topic, Some(id), &word(&boot, id.into()))).collect(),
            0x93,
        ),
    ]
}

/// Sends each of them over a connection of its own, and hears its reason.
pub(crate) async fn say_wrong(party: Party) {
    let mut heard = Vec::new();
    let wrong = wrong_packets(&party.name);
    for (what, bytes, _) in &wrong {
        let mut line = Line::welcome(&party, 60).await;
        line.send(bytes).await.expect("it is connected");
        let reason = timeout(PATIENCE, line.goodbye()).await.expect("it is told soon");
        heard.push((*what, reason));
    }
    let expected: Vec<_> = wrong.iter().map(|(what, _, reason)| (*what, Some(*reason))).collect();
    assert_eq!(heard, expected);
}

/// Another site's name, and another site's topic.
pub(crate) async fn impersonate(party: Party, victim: &str) {
    let mut line = Line::open(&party).await.expect("it has a certificate");
    line.send(&connect(victim, 60)).await.expect("it is open");
    let answer = line.next().await.expect("it is told").expect("it is told");
    assert_eq!((answer.first, answer.reason()), (0x20, 0x85), "another site's name");
    let mut line = Line::welcome(&party, 60).await;
    line.send(&publish(&own(victim, "u/conn"), Some(9), b"x")).await.expect("it is open");
    let answer = line.next().await.expect("it is told").expect("it is told");
    assert_eq!((answer.first, answer.reason()), (0x40, 0x87), "another site's topic");
    line.send(&subscribe(&[&own(victim, "d/#")], 1)).await.expect("it is open");
    let answer = line.next().await.expect("it is told").expect("it is told");
    assert_eq!((answer.first, answer.body.last()), (0x90, Some(&0x87)), "another site's messages");
}

/// A site that asks for its messages again and again and reads none: not read from, then let go.
pub(crate) async fn read_nothing(party: Party) {
    let mut line = Line::welcome(&party, 3).await;
    // A kilobyte or two comes back for each filter.
    let filters = ["d/desired", "d/#", "d/+", "+/desired", "+/+", "#"].map(|rest| own(&party.name, rest));
    let (began, asks) = (now(), subscribe(&filters.each_ref().map(String::as_str), 0).repeat(64));
    let mut sent = 0;
    // Until the socket takes no more, and then until it is closed.
    while let Ok(Ok(())) = timeout(PATIENCE + SLACK, line.send(&asks)).await {
        sent += asks.len();
        assert!(sent < 64 << 20, "it is heard without end");
    }
    assert!(began.elapsed() < PATIENCE + SLACK, "a site that reads nothing is kept: {:?}", began.elapsed());
}

/// A site that begins the longest packet and does not finish it: let go after its keep-alive.
pub(crate) async fn never_finish(party: Party) {
    let mut line = Line::welcome(&party, 4).await;
    let whole = publish(&own(&party.name, "u/s"), Some(1), &vec![0; 128 * 1024]);
    line.send(&whole[..whole.len() - 1]).await.expect("it is connected");
    let heard = timeout(PATIENCE + SLACK, line.goodbye()).await.expect("it is told in time");
    assert_eq!(heard, Some(0x8d), "the keep-alive");
}

/// A site that publishes as fast as it is acknowledged; how many were, and it stays connected.
pub(crate) async fn flood(party: Party, length: Duration, payload: Option<&[u8]>, reason: u8) -> u64 {
    let mut line = Line::welcome(&party, 60).await;
    let (boot, began) = (RandomId::from_bytes([9; 16]), now());
    let topic = own(&party.name, if payload.is_some() { "u/s" } else { "u/conn" });
    let (mut sent, mut answered) = (0_u64, 0_u64);
    while began.elapsed() < length {
        while sent < answered + 16 {
            sent += 1;
            let id = u16::try_from(sent % 1000 + 1).expect("below 1001");
            let words = payload.map_or_else(|| word(&boot, sent), <[u8]>::to_vec);
            line.send(&publish(&topic, Some(id), &words)).await.expect("a flood is slowed and not cut");
        }
        let answer = line.next().await.expect("a flood is slowed and not cut");
        let answer = answer.expect("a flood is slowed and not cut");
        if answer.first == 0x40 {
            assert_eq!(answer.reason(), reason);
            answered += 1;
        }
    }
    answered
}

/// A site that connects again and again: told that it does so too often.
pub(crate) async fn connect_again_and_again(party: Party, length: Duration) -> (u32, u32) {
    let (began, mut let_in, mut told) = (now(), 0, 0);
    while began.elapsed() < length {
        match Line::connect(&party, 60).await {
            Ok((_, Some(0))) => let_in += 1,
            Ok((_, Some(reason))) => {
                assert_eq!(reason, 0x9f, "too often");
                told += 1;
            }
            Ok((_, None)) | Err(_) => {}
        }
        sleep(Duration::from_millis(20)).await;
    }
    (let_in, told)
}

/// A raw request over the API's port, of which a person at another address hears soon.
pub(crate) async fn ask_health(from: Ipv4Addr, hub_key: Sha256Digest, path: &str) -> String {
    let config: ClientConfig = airlift_agent::tls::pinned(hub_key).expect("it is a digest");
    let mut stream = tls(from, HTTPS, Arc::new(config)).await.expect("the API answers");
    let request = format!("GET {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is open");
    let mut text = Vec::new();
    // A peer that closes without TLS's goodbye has said all the same.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}
