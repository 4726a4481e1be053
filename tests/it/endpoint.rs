//! The hub's built-in MQTT endpoint under load and attack, all at once: memory stays bounded, others are not touched,
//! and nothing that was acknowledged is lost, though the hub is killed in the middle.
//!
//! Everybody speaks over TLS on loopback of the hub's namespace, honest sites from one address and each kind of
//! attacker from another.

mod honest;
mod hostile;
mod line;
mod roster;

use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use airlift_bundles::ids::Sha256Digest;
use airlift_hub::config::DataDir;
use airlift_hub::descriptors;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::hub::Hub;
use airlift_tests::sample::Sample;
use rusqlite::{Connection, OpenFlags};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

use crate::journey::publish;
use honest::{BEAT, Life, Lives, begin_anew, live, sum};
use line::{HTTPS, MQTT};
use roster::{Party, enrol};

/// Honest sites.
const SITES: usize = 500;
const SITES_LONG: usize = 5_000;
/// For how long everybody attacks: longer than the deadline of a handshake.
const ATTACK: Duration = Duration::from_secs(15);
/// Until all are connected.
const GATHER: Duration = Duration::from_secs(60);
/// The longest that a word of an honest site may take to be acknowledged, or an assignment to arrive, while two busy
/// processors serve everybody on this machine.
const ROUND_TRIP: Duration = Duration::from_secs(5);

// What the hub may weigh more than with nobody connected, in KiB.
/// A connected site: TLS, its session, what it has on its way, and what the allocator leaves between them.
const SITE_KIB: u64 = 48;
/// A peer in its handshake, of whom there are at most 1,024 on each port.
const HANDSHAKE_KIB: u64 = 32;
const HANDSHAKES: u64 = 2 * 1_024;
/// A hostile site: the longest packet, begun; its answers unread, and a TLS buffer full of them.
const HOSTILE_KIB: u64 = 256;
/// The writer's queue and group, the database's cache, and what else work leaves.
const WORK_KIB: u64 = 32 * 1_024;

/// Hostile sites of each sort that needs a certificate.
const OF_A_SORT: usize = 20;

fn sites() -> usize {
    if std::env::var_os("AIRLIFT_TESTS_LONG").is_some() { SITES_LONG } else { SITES }
}

/// The address of a kind of peer.
const fn address(kind: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, kind)
}

#[test]
fn sites_are_served_through_strangers_floods_slow_readers_malformed_packets_and_a_kill_of_the_hub() {
    descriptors::raise();
    let mut hub = Hub::start();
    publish(&hub, &Sample::new("calm", "1.0.0"), 1);
    hub.kill();
    let (runtime, _ends) = runtime_beside(&hub);
    let began = now();
    let mut names: Vec<_> = (0..sites()).map(|n| (format!("h-{n}"), address(1))).collect();
    names.extend((0..3 * OF_A_SORT + 8).map(|n| (format!("x-{n}"), address(9))));
    let (mut parties, hub_key) = runtime.block_on(enrol(&hub, names));
    let hostile = parties.split_off(sites());
    println!("{} sites are enrolled after {:?}", parties.len(), began.elapsed());
    hub.run();
    let idle = rss_kib(&mut hub);

    let _in_runtime = runtime.enter();
    let began = now();
    let (lives, _living) = live(&parties);
    wait_connected(&lives, GATHER);
    println!("all are connected after {:?}", began.elapsed());
    let connected = rss_kib(&mut hub);
    begin_anew(&lives);
    std::thread::sleep(2 * BEAT);
    println!("in peace: {:?}", sum(&lives));

    begin_anew(&lives);
    let mut attack = JoinSet::new();
    begin_attack(&mut attack, &hostile, hub_key);
    let began = now();
    std::thread::sleep(ATTACK / 3);
    let ordered = now();
    let _ = hub.airlift(&["assign", "calm", "--release", "newest", "--selector", "*"]);
    println!("all are assigned after {:?}", ordered.elapsed());
    wait_until("an assignment at every site", ROUND_TRIP, || {
        let has = |life: &Mutex<Life>| life.lock().unwrap().desired.iter().any(|came| *came >= ordered);
        let without = lives.iter().filter(|life| !has(life)).count();
        if without == 0 { Ok(()) } else { Err(format!("{without} have none")) }
    });
    println!("and all have it after {:?}", ordered.elapsed());
    let mut peak = 0;
    while began.elapsed() < ATTACK {
        peak = peak.max(rss_kib(&mut hub));
        std::thread::sleep(Duration::from_millis(500));
    }
    let mut failed = 0;
    while let Some(ended) = runtime.block_on(attack.join_next()) {
        failed += usize::from(ended.is_err());
        peak = peak.max(rss_kib(&mut hub));
    }
    let attacked = sum(&lives);
    println!("under attack, for {:?}: {attacked:?}", began.elapsed());
    println!("KiB: {idle} idle, {connected} connected, {peak} at most");
    let all = u64::try_from(lives.len()).unwrap();
    let most = idle
        + all * SITE_KIB
        + HANDSHAKES * HANDSHAKE_KIB
        + u64::try_from(hostile.len()).unwrap() * HOSTILE_KIB
        + WORK_KIB;
    assert_eq!(failed, 0, "attacks did not go as they should: their panics are above");
    assert!(peak <= most, "the hub weighs {peak} KiB, and {most} is the most");
    assert_eq!((attacked.cuts, attacked.denied), (0, 0), "{attacked:?}");
    assert!(attacked.refused.is_empty(), "{attacked:?}");
    assert!(attacked.worst <= ROUND_TRIP, "{attacked:?}");
    // Spawned, because only the runtime's own threads are in the namespace.
    let asked = runtime.spawn(hostile::ask_health(address(1), hub_key, "/metrics"));
    let metrics = runtime.block_on(asked).expect("the API answers");
    for why in ["handshake", "refused", "too_often"] {
        let line = format!("airlift_hub_connections_turned_away_total{{why=\"{why}\"}} ");
        let count = metrics.lines().find_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok());
        assert!(count > Some(0), "{why}: {metrics}");
    }

    storm(&mut hub, &lives);
    let held = committed(&hub);
    for (party, life) in parties.iter().zip(lives.iter()) {
        let acknowledged = life.lock().unwrap().acknowledged;
        let number = held.iter().find(|(site, _)| **site == *party.name).map(|(_, number)| *number);
        assert!(number >= Some(acknowledged), "{}: {acknowledged} acknowledged, {number:?} held", party.name);
    }
}

/// Kills the hub while everybody speaks, and starts it again: all come back at once, strangers among them.
fn storm(hub: &mut Hub, lives: &Lives) {
    std::thread::sleep(BEAT / 2);
    hub.kill();
    let acknowledged = sum(lives).acknowledged;
    let strangers = tokio::spawn(hostile::fill(address(71), MQTT, 600, Duration::from_secs(10)));
    hub.run();
    let began = now();
    wait_connected(lives, GATHER);
    println!("all are back after {:?}", began.elapsed());
    begin_anew(lives);
    wait_until("a word of every site", GATHER, || {
        let silent = lives.iter().filter(|life| life.lock().unwrap().round_trips.is_empty()).count();
        if silent == 0 { Ok(()) } else { Err(format!("{silent} have said none")) }
    });
    let after = sum(lives);
    println!("after the storm: {after:?}");
    assert!(after.acknowledged > acknowledged, "{after:?}");
    assert_eq!(after.denied, 0, "{after:?}");
    strangers.abort();
}

fn begin_attack(attack: &mut JoinSet<()>, hostile: &[Party], hub_key: Sha256Digest) {
    attack.spawn(async {
        // 512 have a turn at once, for 10 s, and 3,948 wait: of 5,000 some may be turned away at once.
        let gone = hostile::fill(address(66), MQTT, 5_000, ATTACK).await;
        println!("{gone} of 5,000 strangers were let go");
    });
    attack.spawn(async {
        // Of one address 768 have a place, for 10 s, and 1,024 wait.
        let gone = hostile::fill(address(67), HTTPS, 2_000, ATTACK).await;
        println!("{gone} of 2,000 strangers were let go from the API");
    });
    attack.spawn(async move {
        for _ in 0..10 {
            let began = now();
            let alive = hostile::ask_health(address(1), hub_key, "/livez").await;
            assert!(alive.ends_with("ok\n"), "{alive}");
            assert!(began.elapsed() < ROUND_TRIP, "health took {:?}", began.elapsed());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    for _ in 0..50 {
        attack.spawn(hostile::drip_hello(address(68)));
        attack.spawn(hostile::without_certificate(address(69), hub_key));
        attack.spawn(hostile::idle_http2(address(70), hub_key));
    }
    let mut hostile = hostile.iter().cloned();
    let mut next = || hostile.next().expect("as many are enrolled");
    for _ in 0..OF_A_SORT {
        attack.spawn(hostile::drip_connect(next()));
        attack.spawn(hostile::read_nothing(next()));
        attack.spawn(hostile::never_finish(next()));
    }
    for _ in 0..2 {
        let (words, nonsense) = (next(), next());
        attack.spawn(async move {
            let taken = hostile::flood(words, ATTACK, None, 0).await;
            let most = 1_024 + 256 * ATTACK.as_secs() + 256;
            assert!((64..=most).contains(&taken), "{taken} words of a flood were taken");
        });
        attack.spawn(async move {
            // What nobody can read costs 17 units.
            let taken = hostile::flood(nonsense, ATTACK, Some(b"nonsense"), 0x99).await;
            let most = (1_024 + 256 * ATTACK.as_secs()) / 17 + 64;
            assert!((16..=most).contains(&taken), "{taken} words of nonsense were looked at");
        });
    }
    attack.spawn(hostile::say_wrong(next()));
    attack.spawn(hostile::impersonate(next(), "h-0"));
    let restless = next();
    attack.spawn(async move {
        let (let_in, told) = hostile::connect_again_and_again(restless, ATTACK).await;
        assert!(told > 0, "{let_in} connections, and it was never told");
        assert!(u64::from(let_in) <= 20 + ATTACK.as_secs() + 2, "{let_in} connections of one site");
    });
}

/// A runtime whose threads are in the hub's namespace; it ends when the sender goes.
fn runtime_beside(hub: &Hub) -> (Handle, mpsc::Sender<()>) {
    let (ends, until) = mpsc::channel::<()>();
    let (give, take) = mpsc::channel();
    let _ = hub.namespace().enter(move || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("it starts");
        give.send(runtime.handle().clone()).expect("the test waits for it");
        let _ = until.recv(); // nobody sends: it is the end
        runtime.shutdown_background();
    });
    (take.recv().expect("the namespace can be entered"), ends)
}

fn wait_connected(lives: &Lives, within: Duration) {
    wait_until("all sites to be connected", within, || {
        let sum = sum(lives);
        if sum.connected == lives.len() { Ok(()) } else { Err(format!("{sum:?}")) }
    });
}

/// What the hub weighs.
fn rss_kib(hub: &mut Hub) -> u64 {
    let path = format!("/proc/{}/status", hub.process().id());
    let status = fs::read_to_string(path).expect("the hub runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

/// The number of each site's last word in the hub's database.
fn committed(hub: &Hub) -> Vec<(String, u64)> {
    let path = DataDir::new(&hub.dir().join("hub")).database();
    let open = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it is there");
    let mut rows = open.prepare("SELECT site, conn_seq FROM site").expect("it has sites");
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<u64>>(1)?.unwrap_or(0))));
    rows.expect("it can be read").collect::<Result<_, _>>().expect("it can be read")
}
