//! Sites that do as sites do: say something now and then, take what they are sent, and come back when they are cut.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use airlift_bundles::ids::RandomId;
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{Conn, ConnState, encode};
use airlift_tests::clock::now;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::line::{Line, own, puback, publish, subscribe};
use super::roster::Party;

/// Between two words of one site.
pub(crate) const BEAT: Duration = Duration::from_secs(2);

/// What one honest site has lived through.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) connected: bool,
    /// Connections that ended.
    pub(crate) cuts: u32,
    /// CONNECTs that the hub refused, with the last reason.
    pub(crate) refused: Option<u8>,
    pub(crate) said: u64,
    /// The last word that was acknowledged.
    pub(crate) acknowledged: u64,
    /// Words that were refused.
    pub(crate) denied: u32,
    /// When words went, and how long each took to be acknowledged.
    pub(crate) round_trips: Vec<Duration>,
    /// When assignments came.
    pub(crate) desired: Vec<Instant>,
}

pub(crate) type Lives = Arc<Vec<Mutex<Life>>>;

/// A word of presence, as an agent's: the hub commits its number.
pub(crate) fn word(boot: &RandomId, number: u64) -> Vec<u8> {
    // An offline word asks for nothing: the hub would publish its assignment again to one that has none.
    let (state, boot) = (ConnState::Offline, boot.clone());
    let word = Conn { state, boot, conn_seq: number, assignment: None, root_version: 1 };
    encode(&word, &Limits::DEFAULT).expect("it is short")
}

/// Lets every site live until the set is dropped.
pub(crate) fn live(parties: &[Party]) -> (Lives, JoinSet<()>) {
    let lives: Lives = Arc::new(parties.iter().map(|_| Mutex::default()).collect());
    let mut tasks = JoinSet::new();
    for (index, party) in parties.iter().cloned().enumerate() {
        let lives = Arc::clone(&lives);
        tasks.spawn(async move {
            let boot = RandomId::from_bytes([7; 16]);
            loop {
                // Spread over a beat, as sites are.
                sleep(BEAT * u32::try_from(index % 64).expect("below 64") / 64).await;
                stay(&party, &lives[index], &boot).await;
                let mut life = lives[index].lock().expect("nobody panics with it");
                life.cuts += u32::from(life.connected);
                life.connected = false;
            }
        });
    }
    (lives, tasks)
}

/// One connection, from its beginning to its end.
async fn stay(party: &Party, life: &Mutex<Life>, boot: &RandomId) {
    let at = || life.lock().expect("nobody panics with it");
    let Ok((mut line, reason)) = Line::connect(party, 60).await else { return };
    if reason != Some(0) {
        at().refused = reason.or(Some(0xff));
        return;
    }
    if line.send(&subscribe(&[&own(&party.name, "d/#")], 1)).await.is_err() {
        return;
    }
    at().connected = true;
    let (topic, mut said_at) = (own(&party.name, "u/conn"), None);
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let packet = tokio::select! {
            packet = line.next() => packet,
            _ = beat.tick(), if said_at.is_none() => {
                let number = {
                    let mut life = at();
                    life.said += 1;
                    life.said
                };
                said_at = Some(now());
                if line.send(&publish(&topic, Some(1), &word(boot, number))).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Ok(Some(packet)) = packet else { return };
        match packet.first & 0xf0 {
            0x40 => {
                let mut life = at();
                if packet.reason() == 0 {
                    life.acknowledged = life.said;
                    life.round_trips.extend(said_at.map(|at| at.elapsed()));
                } else {
                    life.denied += 1;
                }
                said_at = None;
            }
            0x30 => {
                let length = usize::from(u16::from_be_bytes([packet.body[0], packet.body[1]]));
                let topic = &packet.body[2..2 + length];
                if topic.ends_with(b"/d/desired") {
                    at().desired.push(now());
                }
                let id = [packet.body[2 + length], packet.body[3 + length]];
                if line.send(&puback(id)).await.is_err() {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// What all of them together lived through.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) connected: usize,
    pub(crate) cuts: u32,
    pub(crate) denied: u32,
    pub(crate) refused: Vec<u8>,
    pub(crate) acknowledged: u64,
    pub(crate) typical: Duration,
    pub(crate) worst: Duration,
}

pub(crate) fn sum(lives: &Lives) -> Sum {
    let mut sum = Sum {
        connected: 0,
        cuts: 0,
        denied: 0,
        refused: Vec::new(),
        acknowledged: 0,
        typical: Duration::ZERO,
        worst: Duration::ZERO,
    };
    let mut round_trips = Vec::new();
    for life in lives.iter() {
        let life = life.lock().expect("nobody panics with it");
        sum.connected += usize::from(life.connected);
        sum.cuts += life.cuts;
        sum.denied += life.denied;
        sum.refused.extend(life.refused);
        sum.acknowledged += life.acknowledged;
        round_trips.extend(life.round_trips.iter().copied());
    }
    round_trips.sort_unstable();
    sum.typical = round_trips.get(round_trips.len() / 2).copied().unwrap_or_default();
    sum.worst = round_trips.last().copied().unwrap_or_default();
    sum
}

/// Forgets the round trips and cuts so far.
pub(crate) fn begin_anew(lives: &Lives) {
    for life in lives.iter() {
        let mut life = life.lock().expect("nobody panics with it");
        life.round_trips.clear();
        (life.cuts, life.denied, life.refused) = (0, 0, None);
    }
}
