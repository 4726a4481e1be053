//! What a run has shown: a line for each thing as it is known, and one object at the end.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::audit::Found;
use super::host::Spent;
use super::load::Measured;
use super::receipts::Written;

/// What 99 of 100 assignments may take.
const P99_MS_MAX: f64 = 1_000.0;

/// A stretch of assignments at one rate; hub and crowds, before and after.
pub(super) struct Stretch {
    pub(super) wanted_rate: u64,
    pub(super) measured: Measured,
    pub(super) before: (Spent, Spent),
    pub(super) after: (Spent, Spent),
}

/// What a kill of the hub did.
pub(super) struct Kill {
    pub(super) victim: &'static str,
    /// From the hub's being there again to the last site's connection.
    pub(super) again_ms: u64,
    pub(super) failed_orders: u64,
    /// Assignments whose order failed, or which were overtaken.
    pub(super) lost: u64,
}

/// Collects the figures.
pub(super) struct Report {
    json: bool,
    sites: u64,
    base: Spent,
    object: Value,
    stretches: Vec<Value>,
    kills: Vec<Value>,
    found: Option<Found>,
}

/// Prints a line.
pub(super) fn say(text: &str) {
    // Whoever closed the pipe wants to hear no more; the exit code tells the rest.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

impl Report {
    pub(super) fn begin(sites: u32, processes: u32, json: bool) -> Self {
        let object = json!({ "sites": sites, "processes": processes });
        say(&format!("{sites} sites in {processes} processes"));
        let (stretches, kills) = (Vec::new(), Vec::new());
        Self { json, sites: sites.into(), base: Spent::default(), object, stretches, kills, found: None }
    }

    /// Whether nothing that was acknowledged is lost.
    pub(super) fn is_whole(&self) -> bool {
        self.found.is_some_and(|found| {
            found.acknowledged_lost == 0 && found.missing == 0 && found.broken_chains == 0
        })
    }

    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.object[key] = value.into();
    }

    pub(super) fn enrolled(&mut self, took_ms: u64) {
        say(&format!("enrolled in {}", seconds(took_ms)));
        self.set("enrol_ms", took_ms);
    }

    pub(super) fn hub_starts(&mut self, spent: Spent) {
        self.base = spent;
        self.set("hub_start_rss_kb", spent.rss_kb);
    }

    pub(super) fn connected(&mut self, took_ms: u64, connected: u64, before: Spent, after: Spent) {
        let cpu_ms = after.cpu_ms - before.cpu_ms;
        let kb = self.kb_per_site(after);
        say(&format!(
            "{connected} connected in {}: hub {} of processor, {kb} KB a site",
            seconds(took_ms),
            seconds(cpu_ms)
        ));
        self.set("connected", connected);
        self.set("connect_ms", took_ms);
        self.set("connect_hub_cpu_ms", cpu_ms);
        self.set("connected_hub_kb_per_site", kb);
    }

    pub(super) fn installed(&mut self, took_ms: u64, before: (Spent, Spent), after: (Spent, Spent)) {
        say(&format!(
            "one order to all: healthy everywhere in {}; {}",
            seconds(took_ms),
            used(before, after)
        ));
        self.set("install_all_ms", took_ms);
    }

    /// Tells a stretch; whether it kept the bound.
    pub(super) fn stretched(&mut self, stretch: Stretch) -> bool {
        let Stretch { wanted_rate, measured, before, after } = stretch;
        let [p50, p90, p99, all] = [500, 900, 990, 1000].map(|per_mille| measured.quantile_ms(per_mille));
        let good = p99.is_some_and(|p99| p99 < P99_MS_MAX);
        let text = |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
        say(&format!(
            "{} assignments a second ({wanted_rate} wanted): 50 % within {}, 90 % {}, 99 % {}, all {}; {} lost; {}",
            measured.rate(),
            text(p50),
            text(p90),
            text(p99),
            text(all),
            measured.lost,
            used(before, after)
        ));
        self.stretches.push(json!({
            "wanted_rate": wanted_rate,
            "rate": measured.rate(),
            "assignments": measured.ordered,
            "lost": measured.lost,
            "skipped": measured.skipped,
            "p50_ms": p50,
            "p90_ms": p90,
            "p99_ms": p99,
            "max_ms": all,
            "hub_cpu_ms": after.0.cpu_ms - before.0.cpu_ms,
            "agents_cpu_ms": after.1.cpu_ms - before.1.cpu_ms,
        }));
        // A rate that was not reached because no site was at rest says nothing about the hub.
        good && measured.rate() * 100 >= wanted_rate * 97
    }

    pub(super) fn burst(&mut self, took_ms: u64, before: Spent, after: Spent) {
        let cpu_ms = after.cpu_ms - before.cpu_ms;
        say(&format!("a status of every site acknowledged in {}: hub {}", seconds(took_ms), seconds(cpu_ms)));
        self.set("burst_ms", took_ms);
        self.set("burst_hub_cpu_ms", cpu_ms);
    }

    pub(super) fn killed(&mut self, kill: Kill) {
        let Kill { victim, again_ms, failed_orders, lost } = kill;
        say(&format!(
            "killed under load: {victim}; all sites are back {} later; {failed_orders} orders failed",
            seconds(again_ms)
        ));
        self.kills.push(json!({ "killed": victim, "reconnect_ms": again_ms, "failed_orders": failed_orders, "unknown": lost }));
    }

    pub(super) fn written(&mut self, written: Written) {
        let Written { receipts, took_ms, kills } = written;
        say(&format!(
            "{receipts} receipts written at once: all acknowledged in {}, with {} kills in between",
            seconds(took_ms),
            kills.len()
        ));
        self.set("receipts_written", receipts);
        self.set("receipts_ms", took_ms);
        self.set("receipts_kills", kills);
    }

    pub(super) fn settled(&mut self, took_ms: u64, acked_ms: u64) {
        say(&format!(
            "one more order to all: healthy everywhere in {}; every receipt acknowledged {} later",
            seconds(took_ms),
            seconds(acked_ms)
        ));
        self.set("settle_ms", took_ms);
        self.set("acknowledge_ms", acked_ms);
    }

    pub(super) fn idled(&mut self, idle_s: u64, connected: u64, hub: Spent, agents: Spent) {
        let kb = self.kb_per_site(hub);
        let agent_kb = agents.rss_kb / self.sites;
        say(&format!(
            "after {idle_s} idle seconds {connected} are connected: hub {kb} KB a site ({} MB in all), agents {agent_kb} KB each",
            hub.rss_kb / 1024
        ));
        self.set("idle_connected", connected);
        self.set("hub_kb_per_site", kb);
        self.set("hub_rss_kb", hub.rss_kb);
        self.set("agent_kb_per_site", agent_kb);
    }

    pub(super) fn found(&mut self, found: Found) {
        say(&format!(
            "{} receipts in the hub's database; acknowledged and lost: {}; missing: {}; chains that are not whole: {}",
            found.receipts, found.acknowledged_lost, found.missing, found.broken_chains
        ));
        self.found = Some(found);
        self.set("receipts", found.receipts);
        self.set("acknowledged_lost", found.acknowledged_lost);
        self.set("missing", found.missing);
        self.set("broken_chains", found.broken_chains);
        self.object["rates"] = std::mem::take(&mut self.stretches).into();
        self.object["kills"] = std::mem::take(&mut self.kills).into();
        if self.json {
            say(&self.object.to_string());
        }
    }

    /// What the hub holds for a site, over what it held before the first one came.
    fn kb_per_site(&self, hub: Spent) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "memory in KB")]
        let kb = hub.rss_kb.saturating_sub(self.base.rss_kb) as f64 / self.sites as f64;
        (kb * 10.0).round() / 10.0
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn used(before: (Spent, Spent), after: (Spent, Spent)) -> String {
    let (hub, agents) = (after.0.cpu_ms - before.0.cpu_ms, after.1.cpu_ms - before.1.cpu_ms);
    format!("processor: hub {}, agents {}", seconds(hub), seconds(agents))
}
