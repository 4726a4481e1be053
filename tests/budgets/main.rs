//! The benches: ours and the reference, measured in the same run on real components, started by `tests/bench`.
//!
//! Each prints what it does as it goes, and one JSON object as its last line.

mod apply;
mod idle;
mod live;
mod measure;
mod sim;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

/// What the command line asked for.
#[derive(Debug)]
struct Wish {
    bench: String,
    /// The agent as it is packaged, and its static build; for `sim` and `live` the simulator.
    agent: PathBuf,
    musl_agent: Option<PathBuf>,
    objects: usize,
    rounds: usize,
    minutes: u64,
    sites: Option<u64>,
    rate: u64,
    broker_sites: u64,
}

fn main() -> ExitCode {
    let Some(wish) = read(std::env::args().skip(1)) else {
        say("start the benches with tests/bench");
        return ExitCode::from(2);
    };
    let result = match wish.bench.as_str() {
        "apply" => apply::run(&wish.agent, wish.objects, wish.rounds),
        "idle" => idle::run(&wish.agent, wish.musl_agent.as_deref(), wish.minutes),
        "sim" => sim::run(&wish.agent, wish.sites),
        "live" => live::run(&wish.agent, wish.sites.unwrap_or(10_000), wish.rate, wish.broker_sites),
        other => {
            say(&format!("there is no bench {other}"));
            return ExitCode::from(2);
        }
    };
    say(&Value::to_string(&result));
    ExitCode::SUCCESS
}

fn read(mut words: impl Iterator<Item = String>) -> Option<Wish> {
    let (bench, agent) = (words.next()?, words.next()?.into());
    let (musl_agent, sites) = (None, None);
    let (objects, rounds, minutes, rate, broker_sites) = (4000, 3, 24, 500, 5000);
    let mut wish = Wish { bench, agent, musl_agent, objects, rounds, minutes, sites, rate, broker_sites };
    while let Some(option) = words.next() {
        let value = words.next()?;
        match option.as_str() {
            "--musl-agent" => wish.musl_agent = Some(value.into()),
            "--objects" => wish.objects = value.parse().ok().filter(|objects| *objects >= 400)?,
            "--rounds" => wish.rounds = value.parse().ok().filter(|rounds| *rounds > 0)?,
            "--sites" => wish.sites = Some(value.parse().ok()?),
            "--rate" => wish.rate = value.parse().ok().filter(|rate| *rate > 0)?,
            "--broker-sites" => wish.broker_sites = value.parse().ok()?,
            "--minutes" => wish.minutes = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(wish)
}

/// Tells the reader how it goes.
#[expect(clippy::print_stdout, reason = "the benches' output is their purpose")]
fn say(text: &str) {
    println!("{text}");
}
