//! `sim`: what a simulated site costs, in fleets of three sizes: a hundred thousand sites must live a day on one
//! machine, and the last of them must not cost much more than the first.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::measure::{machine, rounded};
use crate::say;

const SCENARIO: &str = "hundred-thousand";
/// The smallest is the yardstick of a site's cost, the largest has the budget.
const FLEETS: [u64; 3] = [1_000, 10_000, 100_000];
const GB: f64 = 1_000_000_000.0;

/// Measures, and gives the result. `sites` takes the place of the largest fleet.
pub(crate) fn run(program: &Path, sites: Option<u64>) -> Value {
    let mut fleets = FLEETS;
    fleets[2] = sites.unwrap_or(fleets[2]);
    let runs: Vec<Fleet> = fleets.into_iter().map(|sites| Fleet::run(program, sites)).collect();
    say(
        "     sites   wall s    CPU s   ms CPU a site   KB a site   steps a site   agent-hours per CPU-minute",
    );
    for run in &runs {
        say(&run.line());
    }
    let (first, last) = (&runs[0], &runs[runs.len() - 1]);
    json!({
        "bench": "sim",
        "machine": machine(),
        "sites": last.sites,
        "wall_s": rounded(last.wall_s),
        "cpu_s": rounded(last.cpu_s),
        "rss_gb_peak": rounded(last.memory_bytes / GB),
        "agent_hours_per_cpu_minute": last.agent_hours_per_cpu_minute,
        "cost_per_site_times_first": rounded(last.cpu_ms_per_site() / first.cpu_ms_per_site()),
        "memory_per_site_times_first": rounded(last.kb_per_site() / first.kb_per_site()),
        "cost_per_site": runs.iter().map(Fleet::object).collect::<Vec<_>>(),
        "trace_hash": last.trace_hash,
    })
}

/// One run, as the simulator itself measured it.
struct Fleet {
    sites: u64,
    count: f64,
    wall_s: f64,
    cpu_s: f64,
    memory_bytes: f64,
    steps: f64,
    agent_hours_per_cpu_minute: u64,
    trace_hash: String,
}

impl Fleet {
    fn run(program: &Path, sites: u64) -> Self {
        let fleet = sites.to_string();
        let mut child = Command::new(program)
            .args(["run", SCENARIO, "-o", "json", "--sites", &fleet])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the simulator starts");
        let mut text = String::new();
        let mut output = child.stdout.take().expect("its output is a pipe");
        output.read_to_string(&mut text).expect("it writes UTF-8");
        let ended = child.wait().expect("it is our child");
        let result: Value =
            text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        assert!(ended.success(), "the scenario does not hold with {sites} sites: {text}");
        let number = |key: &str| result[key].as_f64().unwrap_or_else(|| panic!("{key} is in {result}"));
        Self {
            sites: result["sites"].as_u64().expect("a count"),
            count: number("sites"),
            wall_s: number("wall_ms") / 1000.0,
            cpu_s: number("cpu_ms") / 1000.0,
            memory_bytes: number("memory_bytes_peak"),
            steps: number("steps"),
            agent_hours_per_cpu_minute: result["agent_hours_per_cpu_minute"].as_u64().expect("a count"),
            trace_hash: result["trace_hash"].as_str().expect("a word").to_owned(),
        }
    }

    fn cpu_ms_per_site(&self) -> f64 {
        self.cpu_s * 1000.0 / self.count
    }

    fn kb_per_site(&self) -> f64 {
        self.memory_bytes / 1000.0 / self.count
    }

    fn line(&self) -> String {
        format!(
            "{:>10} {:>8.1} {:>8.1} {:>15.2} {:>11.1} {:>14.0} {:>28}",
            self.sites,
            self.wall_s,
            self.cpu_s,
            self.cpu_ms_per_site(),
            self.kb_per_site(),
            self.steps / self.count,
            self.agent_hours_per_cpu_minute
        )
    }

    fn object(&self) -> Value {
        json!({
            "sites": self.sites,
            "wall_s": rounded(self.wall_s),
            "cpu_ms_per_site": rounded(self.cpu_ms_per_site()),
            "kb_per_site": rounded(self.kb_per_site()),
        })
    }
}
