//! Sessions, queues and rows, without a network: what one outbox is given, and what a restart finds.

use super::super::outbox::Outbox;
use super::super::packet::{Connect, SendRetained, Wanted};
use super::super::registry::{Ending, Registry};
use super::*;

const GONE: Ending = Ending { without_will: false, session_expiry_s: None };

/// A registry over a database, and what each connection was sent.
struct Hub {
    registry: Registry,
    database: Database,
    limits: Arc<Limits>,
    now: Instant,
}

/// One connection, as its socket would see it.
struct Line {
    site: Arc<str>,
    number: u64,
    outbox: Arc<Outbox>,
}

impl Hub {
    fn start(database: &Database, limits: Limits) -> Self {
        let limits = Arc::new(limits);
        let now = Instant::now();
        let topics = Topics::new(prefix());
        let registry = Registry::load(limits.clone(), topics, database.rows(), now);
        Self { registry, database: database.clone(), limits, now }
    }

    fn connect(&mut self, site: &str, change: impl FnOnce(&mut Connect)) -> Line {
        let mut connect = Connect {
            client_id: site.into(),
            clean_start: false,
            keep_alive_s: 60,
            session_expiry_s: 3600,
            receive_maximum: 16,
            packet_bytes_max: u32::MAX,
            will: None,
        };
        change(&mut connect);
        let (site, outbox) = (Arc::<str>::from(site), Arc::new(Outbox::new(&self.limits, 0)));
        let number = self.registry.attach(&site, connect, outbox.clone(), self.now).connection;
        Line { site, number, outbox }
    }

    fn subscribe(&mut self, line: &Line, filter: &str) {
        let wanted = Wanted {
            filter: format!("airlift/v1/{filter}"),
            qos: Qos::AtLeastOnce,
            retain_as_published: false,
            retained: SendRetained::Always,
        };
        self.registry.subscribe(&line.site, line.number, 1, &[wanted]);
    }

    fn publish(&mut self, path: &str, payload: &str, qos: Qos, retain: bool) -> Fanout {
        let topic = self.registry.topics.hub_topic(&topic(path)).unwrap();
        self.registry.publish(&topic, Bytes::copy_from_slice(payload.as_bytes()), qos, retain).0
    }

    fn commit(&mut self) {
        if let Some((batch, writes)) = self.registry.take_batch() {
            self.database.write(&writes);
            self.registry.commit(batch);
        }
    }
}

impl Line {
    /// Returns (packet id, duplicate, retain, payload) of each publish since the last look.
    fn sent(&self) -> Vec<(u16, bool, bool, String)> {
        let mut sent = Vec::new();
        while let Some(chunk) = self.outbox.pop() {
            let mut bytes = BytesMut::from(&chunk.head[..]);
            bytes.extend_from_slice(&chunk.payload);
            let packet = rumqttc::v5::mqttbytes::v5::Packet::read(&mut bytes, None).unwrap();
            if let rumqttc::v5::mqttbytes::v5::Packet::Publish(publish) = packet {
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                sent.push((publish.pkid, publish.dup, publish.retain, payload));
            }
        }
        sent
    }

    fn payloads(&self) -> Vec<String> {
        self.sent().into_iter().map(|(.., payload)| payload).collect()
    }
}

#[tokio::test]
async fn nothing_of_qos_1_is_sent_before_its_row_is_committed() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    hub.commit();
    hub.publish("s/a/d/ack", "ack", Qos::AtLeastOnce, false);
    hub.publish("s/a/d/desired", "desired", Qos::AtLeastOnce, true);
    assert_eq!(line.payloads(), Vec::<String>::new());
    hub.commit();
    assert_eq!(line.payloads(), ["ack", "desired"]);
}

#[tokio::test]
async fn a_message_that_waits_for_a_later_commit_is_not_forgotten_by_an_earlier_one() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    let (first, _) = hub.registry.take_batch().unwrap();
    hub.publish("s/a/d/ack", "ack", Qos::AtLeastOnce, false);
    let (second, _) = hub.registry.take_batch().unwrap();
    hub.registry.commit(first);
    assert_eq!(line.payloads(), Vec::<String>::new());
    hub.registry.commit(second);
    assert_eq!(line.payloads(), ["ack"]);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_on_the_next_connection() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    for payload in ["1", "2"] {
        hub.publish("s/a/d/cmd", payload, Qos::AtLeastOnce, false);
    }
    hub.commit();
    let sent = line.sent();
    assert_eq!(sent.len(), 2);
    hub.registry.acknowledge(&line.site, line.number, sent[0].0);
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    hub.publish("s/a/d/cmd", "3", Qos::AtLeastOnce, false);
    hub.commit();
    let line = hub.connect("a", |_| {});
    let again = line.sent();
    assert_eq!(again[0], (sent[1].0, true, false, "2".into()), "same identifier, marked as duplicate");
    assert_eq!((again[1].1, again[1].3.as_str()), (false, "3"));
    assert_eq!(again.len(), 2);
}

#[tokio::test]
async fn a_restarted_hub_still_owes_what_it_owed() {
    let database = Database::new();
    let mut hub = Hub::start(&database, Limits::default());
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    hub.publish("s/a/d/cmd", "command", Qos::AtLeastOnce, false);
    hub.publish("s/a/d/desired", "assignment", Qos::AtLeastOnce, true);
    hub.commit();
    drop(hub);

    let mut hub = Hub::start(&database, Limits::default());
    let line = hub.connect("a", |_| {});
    assert_eq!(line.payloads(), ["command", "assignment"]);
    hub.publish("s/a/d/cmd", "next", Qos::AtLeastOnce, false);
    hub.commit();
    assert_eq!(line.payloads(), ["next"], "the subscription is back too");
}

#[tokio::test]
async fn acknowledged_and_ended_things_leave_no_rows() {
    let database = Database::new();
    let mut hub = Hub::start(&database, Limits::default());
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    hub.publish("s/a/d/cmd", "x", Qos::AtLeastOnce, false);
    hub.commit();
    assert_eq!(database.rows().in_flight.len(), 1);
    let id = line.sent()[0].0;
    hub.registry.acknowledge(&line.site, line.number, id);
    hub.commit();
    assert_eq!(database.rows().in_flight, []);
    assert_eq!((database.rows().sessions.len(), database.rows().subscriptions.len()), (1, 1));
    hub.publish("s/a/d/desired", "x", Qos::AtLeastOnce, true);
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    hub.registry.expire(hub.now + Duration::from_secs(3599));
    hub.commit();
    assert_eq!(database.rows().sessions.len(), 1, "one second is left");
    hub.registry.expire(hub.now + Duration::from_secs(3600));
    hub.commit();
    let rows = database.rows();
    assert_eq!((rows.sessions.len(), rows.subscriptions.len(), rows.in_flight.len()), (0, 0, 0));
    assert_eq!(rows.retained.len(), 1, "a retained message is the topic's, not the session's");
    hub.registry.forget(&line.site);
    hub.commit();
    assert_eq!(database.rows(), Rows::default());
}

#[tokio::test]
async fn clean_start_and_expiry_zero_begin_with_nothing() {
    let database = Database::new();
    let mut hub = Hub::start(&database, Limits::default());
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    hub.publish("s/a/d/cmd", "x", Qos::AtLeastOnce, false);
    let line = hub.connect("a", |connect| (connect.clean_start, connect.session_expiry_s) = (true, 0));
    hub.commit();
    assert_eq!(line.payloads(), Vec::<String>::new());
    assert_eq!(hub.publish("s/a/d/cmd", "y", Qos::AtLeastOnce, false), Fanout::default());
    hub.subscribe(&line, "s/a/d/#");
    hub.publish("s/a/d/cmd", "z", Qos::AtLeastOnce, false);
    assert_eq!(line.payloads(), ["z"], "a session without rows waits for no commit");
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    hub.commit();
    assert_eq!(database.rows(), Rows::default());
    assert_eq!(hub.publish("s/a/d/cmd", "y", Qos::AtLeastOnce, false), Fanout::default());
}

#[tokio::test]
async fn the_window_is_the_smaller_of_what_both_offer() {
    let mut hub = Hub::start(&Database::new(), Limits { in_flight_max: 4, ..Limits::default() });
    let line = hub.connect("a", |connect| connect.receive_maximum = 2);
    hub.subscribe(&line, "s/a/d/#");
    for payload in ["1", "2", "3"] {
        hub.publish("s/a/d/cmd", payload, Qos::AtLeastOnce, false);
    }
    hub.commit();
    let sent = line.sent();
    assert_eq!(sent.len(), 2);
    hub.registry.acknowledge(&line.site, line.number, sent[1].0);
    assert_eq!(line.payloads(), ["3"]);
    hub.registry.acknowledge(&line.site, line.number, 999);
    assert_eq!(line.payloads(), Vec::<String>::new(), "an unknown acknowledgement frees nothing");
}

#[tokio::test]
async fn a_site_that_was_away_gets_the_newest_retained_message_only() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    for payload in ["v1", "v2", "v3"] {
        hub.publish("s/a/d/desired", payload, Qos::AtLeastOnce, true);
        hub.commit();
    }
    assert_eq!(hub.registry.queued("a"), 1);
    let line = hub.connect("a", |_| {});
    assert_eq!(line.payloads(), ["v3"]);
}

#[tokio::test]
async fn a_cleared_message_is_not_sent_to_those_who_were_away() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    hub.publish("s/a/d/desired", "v1", Qos::AtLeastOnce, true);
    let topic = hub.registry.topics.hub_topic(&topic("s/a/d/desired")).unwrap();
    hub.registry.clear_retained(&topic);
    hub.commit();
    let line = hub.connect("a", |_| {});
    assert_eq!(line.payloads(), Vec::<String>::new());
    assert_eq!(hub.database.rows().retained, []);
}

#[tokio::test]
async fn a_full_queue_loses_its_oldest_message_and_its_row() {
    let limits = Limits { queued_messages_per_site_max: 3, ..Limits::default() };
    let mut hub = Hub::start(&Database::new(), limits);
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    for payload in ["1", "2", "3", "4", "5"] {
        hub.publish("s/a/d/cmd", payload, Qos::AtLeastOnce, false);
    }
    hub.commit();
    let kept: Vec<_> = hub.database.rows().in_flight.into_iter().map(|row| row.payload).collect();
    assert_eq!(kept, ["3", "4", "5"]);
}

#[tokio::test]
async fn queued_bytes_are_bounded_too() {
    let limits = Limits { queued_bytes_per_site_max: 100, ..Limits::default() };
    let mut hub = Hub::start(&Database::new(), limits);
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "s/a/d/#");
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    for _ in 0..9 {
        hub.publish("s/a/d/cmd", &"x".repeat(40), Qos::AtLeastOnce, false);
    }
    assert_eq!(hub.registry.queued("a"), 2);
}

#[tokio::test]
async fn a_site_is_sent_nothing_over_its_own_packet_limit() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let line = hub.connect("a", |connect| connect.packet_bytes_max = 100);
    hub.subscribe(&line, "s/a/d/#");
    for payload in [&"x".repeat(200), "small"] {
        hub.publish("s/a/d/cmd", payload, Qos::AtLeastOnce, false);
    }
    hub.commit();
    assert_eq!(line.payloads(), ["small"]);
    hub.commit();
    assert_eq!(hub.database.rows().in_flight.len(), 1, "the long one is given up");
    assert_eq!(hub.publish("s/a/d/c", &"x".repeat(200), Qos::AtMostOnce, false).dropped, 1);
}

#[tokio::test]
async fn a_site_holds_a_bounded_number_of_filters() {
    let limits = Limits { filters_per_site_max: 2, ..Limits::default() };
    let mut hub = Hub::start(&Database::new(), limits);
    let line = hub.connect("a", |_| {});
    let reasons = |line: &Line| {
        std::iter::from_fn(|| line.outbox.pop())
            .filter(|chunk| chunk.head[0] == 0x90)
            .map(|c| c.head[5])
            .collect()
    };
    for filter in ["b/1", "b/2", "b/3", "b/2"] {
        hub.subscribe(&line, filter);
    }
    let granted: Vec<u8> = reasons(&line);
    assert_eq!(granted, [1, 1, Reason::QUOTA_EXCEEDED.0, 1]);
    let filters = ["airlift/v1/b/1".to_owned(), "airlift/v1/b/9".to_owned()];
    hub.registry.unsubscribe(&line.site, line.number, 2, &filters);
    assert_eq!(line.outbox.pop().unwrap().head[5..], [0x00, 0x11]);
    hub.subscribe(&line, "b/3");
    let granted: Vec<u8> = reasons(&line);
    assert_eq!(granted, [1]);
}

#[tokio::test]
async fn overlapping_filters_bring_one_copy() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let line = hub.connect("a", |_| {});
    for filter in ["b/#", &format!("b/sha256-{}/#", "0f".repeat(32)), "b/+/1"] {
        hub.subscribe(&line, filter);
    }
    assert_eq!(hub.publish("b/x/1", "piece", Qos::AtMostOnce, false).sent, 1);
    assert_eq!(line.payloads(), ["piece"]);
}

#[tokio::test]
async fn a_fan_out_shares_one_payload() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let lines: Vec<_> = (0..1000).map(|n| hub.connect(&format!("s{n}"), |_| {})).collect();
    for line in &lines {
        hub.subscribe(line, "b/#");
        line.payloads();
    }
    let piece = Bytes::from(vec![1; 65_536]);
    let topic = hub.registry.topics.hub_topic(&topic("b/x/1")).unwrap();
    let (fanout, durable) = hub.registry.publish(&topic, piece.clone(), Qos::AtMostOnce, false);
    assert_eq!((fanout.sent, durable), (1000, 0));
    for line in &lines {
        assert_eq!(line.outbox.pop().unwrap().payload.as_ptr(), piece.as_ptr());
    }
}

#[tokio::test]
async fn a_full_socket_drops_qos_0_and_lets_answers_and_qos_1_pass_first() {
    let mut hub = Hub::start(&Database::new(), Limits { send_buffer_bytes_max: 1000, ..Limits::default() });
    let line = hub.connect("a", |_| {});
    hub.subscribe(&line, "b/#");
    hub.subscribe(&line, "s/a/d/#");
    line.payloads();
    let sent: usize =
        (0..9).map(|_| hub.publish("b/x/1", &"p".repeat(200), Qos::AtMostOnce, false).sent).sum();
    assert_eq!(sent, 3);
    assert_eq!(line.outbox.dropped(), 6);
    assert!(line.outbox.queued_bytes() <= 1000);
    hub.publish("s/a/d/desired", "assignment", Qos::AtLeastOnce, true);
    hub.commit();
    assert_eq!(line.payloads()[0], "assignment");
}

#[tokio::test]
async fn wills_wait_their_delay_and_are_let_go_when_the_site_is_back() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let will = |delay_s| WillPacket { topic: "t".into(), payload: "gone".into(), delay_s };
    let line = hub.connect("a", |connect| connect.will = Some(will(30)));
    assert_eq!(hub.registry.detach(&line.site, line.number, GONE, hub.now), Some(None));
    assert_eq!(hub.registry.expire(hub.now + Duration::from_secs(29)), []);
    let line = hub.connect("a", |connect| connect.will = Some(will(30)));
    assert_eq!(hub.registry.expire(hub.now + Duration::from_secs(31)), []);
    hub.registry.detach(&line.site, line.number, GONE, hub.now);
    let due = hub.registry.expire(hub.now + Duration::from_secs(30));
    assert_eq!(due.len(), 1);
    assert_eq!(hub.registry.expire(hub.now + Duration::from_secs(31)), [], "a will fires once");

    let line = hub.connect("b", |connect| connect.will = Some(will(0)));
    let fired = hub.registry.detach(&line.site, line.number, GONE, hub.now);
    assert!(fired.flatten().is_some(), "without a delay it is due at once");
    let line = hub.connect("b", |connect| connect.will = Some(will(30)));
    let goodbye = Ending { without_will: true, session_expiry_s: None };
    assert_eq!(hub.registry.detach(&line.site, line.number, goodbye, hub.now), Some(None));
    assert_eq!(hub.registry.expire(hub.now + Duration::from_secs(60)), []);
}

#[tokio::test]
async fn an_old_connection_cannot_touch_the_session_that_went_on_without_it() {
    let mut hub = Hub::start(&Database::new(), Limits::default());
    let old = hub.connect("a", |_| {});
    let new = hub.connect("a", |_| {});
    assert_eq!(hub.registry.detach(&old.site, old.number, GONE, hub.now), None);
    hub.subscribe(&old, "s/a/d/#");
    assert_eq!(old.outbox.queued_bytes(), hub.connect("z", |_| {}).outbox.queued_bytes(), "only connack");
    assert!(hub.registry.attached().any(|(_, attached)| attached.connection == new.number));
}

#[test]
fn a_bucket_lets_the_burst_through_and_then_the_rate() {
    let now = Instant::now();
    let mut bucket = Bucket::new(now, 10, 5);
    for _ in 0..5 {
        assert_eq!(bucket.take(now, 1), Duration::ZERO);
    }
    assert_eq!(bucket.take(now, 1), Duration::from_millis(100));
    assert_eq!(bucket.take(now, 4), Duration::from_millis(500));
    assert_eq!(bucket.take(now + Duration::from_secs(60), 5), Duration::ZERO, "debt is paid by time");
}

#[test]
fn every_row_survives_the_database() {
    let database = Database::new();
    let client: Arc<str> = "a".into();
    let rows = Rows {
        retained: vec![RetainedRow { topic: "t".into(), qos: Qos::AtMostOnce, payload: "p".into() }],
        sessions: vec![SessionRow { client: client.clone(), expiry_s: u32::MAX }],
        subscriptions: vec![SubscriptionRow {
            client: client.clone(),
            filter: "f/#".into(),
            qos: Qos::AtLeastOnce,
            retain_as_published: true,
        }],
        in_flight: [2, 10]
            .map(|seq| InFlightRow { client: client.clone(), seq, topic: "t".into(), payload: Bytes::new() })
            .into(),
    };
    let puts: Vec<_> = (rows.retained.iter().cloned().map(Row::Retained))
        .chain(rows.sessions.iter().cloned().map(Row::Session))
        .chain(rows.subscriptions.iter().cloned().map(Row::Subscription))
        .chain(rows.in_flight.iter().cloned().map(Row::InFlight))
        .map(RowWrite::Put)
        .collect();
    database.write(&puts);
    database.write(&puts);
    assert_eq!(database.rows(), rows, "a row put twice is one row");
    let keys = [
        RowKey::Retained("t".into()),
        RowKey::Session(client.clone()),
        RowKey::Subscription(client.clone(), "f/#".into()),
        RowKey::InFlight(client.clone(), 2),
        RowKey::InFlight(client, 10),
    ];
    database.write(&keys.map(RowWrite::Delete));
    assert_eq!(database.rows(), Rows::default());
}
