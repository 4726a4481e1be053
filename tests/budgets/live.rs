//! `live`: ten thousand real agents on one machine against one hub, and half as many behind mosquitto: how long an
//! assignment takes, what a site costs the hub, and that nothing which was acknowledged is lost.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::measure::machine;
use crate::say;

/// What 99 of 100 assignments may take.
const P99_MS_MAX: f64 = 1_000.0;

/// Measures, and gives the result; `broker_sites` may be 0.
pub(crate) fn run(program: &Path, sites: u64, rate: u64, broker_sites: u64) -> Value {
    let load = ["--rate", &rate.to_string(), "--seconds", "20", "--kills", "3"].map(str::to_owned);
    let live = |sites: u64, more: &[&str]| {
        let sites = ["live".to_owned(), "--sites".to_owned(), sites.to_string()];
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        measure(program, &[&sites[..], &load, &more].concat())
    };
    let own = live(sites, &["--fastest", "--idle", "60", "-o", "json"]);
    let mut result = json!({
        "bench": "live",
        "machine": machine(),
        "sites": own["sites"],
        "connected": own["connected"],
        "connect_ms": own["connect_ms"],
        "assignments_per_s": own["rates"][0]["rate"],
        "hub_to_applied_p50_ms": own["rates"][0]["p50_ms"],
        "hub_to_applied_p99_ms": own["rates"][0]["p99_ms"],
        "fastest_assignments_per_s": fastest(&own),
        "acknowledged_lost": own["acknowledged_lost"],
        "missing": own["missing"],
        "broken_chains": own["broken_chains"],
        "receipts": own["receipts"],
        "kills": own["kills"],
        "hub_kb_per_site": own["hub_kb_per_site"],
        "agent_kb_per_site": own["agent_kb_per_site"],
    });
    if broker_sites > 0 {
        let behind = live(broker_sites, &["--broker", "-o", "json"]);
        let mut told = json!({});
        for key in [
            "sites",
            "connected",
            "connect_ms",
            "acknowledged_lost",
            "missing",
            "broken_chains",
            "receipts",
            "kills",
        ] {
            told[key] = behind[key].clone();
        }
        told["assignments_per_s"] = behind["rates"][0]["rate"].clone();
        told["hub_to_applied_p99_ms"] = behind["rates"][0]["p99_ms"].clone();
        result["mosquitto"] = told;
    }
    result
}

/// The greatest rate of those tried at which the bound held.
fn fastest(run: &Value) -> Option<u64> {
    let rates = run["rates"].as_array()?;
    let held = rates.iter().filter(|stretch| {
        let p99 = stretch["p99_ms"].as_f64().is_some_and(|p99| p99 < P99_MS_MAX);
        // A rate that was wanted and not reached is none that held.
        let reached = stretch["rate"].as_u64().zip(stretch["wanted_rate"].as_u64());
        p99 && reached.is_some_and(|(rate, wanted)| rate * 100 >= wanted * 97)
    });
    held.filter_map(|stretch| stretch["rate"].as_u64()).max()
}

/// Runs it, shows what it says as it goes, and reads its last line.
fn measure(program: &Path, arguments: &[String]) -> Value {
    say(&format!("{} {}", program.display(), arguments.join(" ")));
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("it was built");
    let mut last = String::new();
    for line in BufReader::new(child.stdout.take().expect("piped above")).lines() {
        last = line.expect("it prints UTF-8");
        say(&last);
    }
    let status = child.wait().expect("it is ours");
    // Where something was lost it ends with 1, and the figures tell what.
    let object = serde_json::from_str(&last);
    object.unwrap_or_else(|error| panic!("{status}: {error}: {last}"))
}
