//! Receipts by the thousand at every site at once, while those who write, carry and take them are killed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::field::Field;
use super::report::Report;
use super::word::{Order, now_ns};
use super::{DEAD, Host, LiveError, PATIENCE, Victim};

/// Between two looks at how many are acknowledged.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Of so many parts one more is acknowledged before somebody is killed, so that most kills find most of them waiting.
const PARTS: u64 = 50;
/// Who is killed, one after the other.
const BEFORE_THE_ENDPOINT: [Blow; 5] =
    [Blow::Host(Victim::Hub), Blow::Sites, Blow::Host(Victim::Hub), Blow::Sites, Blow::Host(Victim::Hub)];
/// The same where a broker stands between.
const BEFORE_A_BROKER: [Blow; 5] = [
    Blow::Host(Victim::Hub),
    Blow::Host(Victim::Broker),
    Blow::Sites,
    Blow::Host(Victim::Both),
    Blow::Host(Victim::Hub),
];

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Host(Victim),
    /// Every process of agents.
    Sites,
}

/// What the burst came to.
pub(super) struct Written {
    /// Receipts that the sites wrote.
    pub(super) receipts: u64,
    /// From the order until the hub had acknowledged every one.
    pub(super) took_ms: u64,
    /// Who was killed, and how many were acknowledged by then.
    pub(super) kills: Vec<Value>,
}

/// Lets each site write so many, and waits until all of them are acknowledged.
pub(super) async fn write(
    each: u64,
    host: &mut Host,
    field: &mut Field,
    report: &mut Report,
) -> Result<(), LiveError> {
    let blows = if host.broker.is_some() { BEFORE_A_BROKER } else { BEFORE_THE_ENDPOINT };
    let _ = field.ask_chains().await?;
    let lasts = field.sites.iter().filter_map(|site| site.chain.as_ref()).map(|chain| chain.last);
    let upto = lasts.max().unwrap_or(0) + each;
    let (before, acked_before) = stand(field);
    let all = upto * field.sites.len() as u64 - before;

    let began_ns = now_ns();
    field.order(Order::Write(upto)).await?;
    let mut kills = Vec::new();
    for blow in blows {
        let part = stand(field).1 + all.div_ceil(PARTS);
        wait_acknowledged(field, part, upto).await?;
        let acknowledged = stand(field).1 - acked_before;
        let killed = match blow {
            Blow::Host(victim) => {
                host.kill(victim).await;
                sleep(DEAD).await;
                host.start().await?;
                victim.word()
            }
            Blow::Sites => {
                field.kill_and_start().await?;
                field.order(Order::Write(upto)).await?;
                "agents"
            }
        };
        kills.push(json!({ "killed": killed, "acknowledged": acknowledged }));
    }
    wait_acknowledged(field, u64::MAX, upto).await?;
    let took_ms = (now_ns() - began_ns) / 1_000_000;
    report.written(Written { receipts: stand(field).0 - before, took_ms, kills });
    Ok(())
}

/// How many receipts there are, and how many of them are acknowledged, by the sites' last words.
fn stand(field: &Field) -> (u64, u64) {
    let chains = field.sites.iter().filter_map(|site| site.chain.as_ref());
    chains.fold((0, 0), |(all, acked), chain| (all + chain.last, acked + chain.acked))
}

/// Waits until so many are acknowledged, or all are that were to be written.
async fn wait_acknowledged(field: &mut Field, part: u64, upto: u64) -> Result<(), LiveError> {
    let until_ns = now_ns() + u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
    loop {
        let waiting = field.ask_chains().await?;
        let (all, acked) = stand(field);
        let written =
            field.sites.iter().all(|site| site.chain.as_ref().is_some_and(|chain| chain.last >= upto));
        if acked >= part || written && waiting == 0 {
            return Ok(());
        }
        if now_ns() > until_ns {
            return Err(LiveError::Failed(format!(
                "{acked} of {all} receipts are acknowledged, and no more come"
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}
