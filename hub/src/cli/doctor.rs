//! `airlift doctor`: what is wrong on this machine and at the hub, each with what to do about it.

use std::os::unix::fs::PermissionsExt as _;

use airlift_bundles::code::Code;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::client::Client;
use super::context::ContextName;
use super::failure::{Failure, Kind};
use super::output::{OutputArgs, Table};
use crate::api::types::{BrokerCheck, BrokerTried, HubInfo, route};
use crate::clock::Clock;

/// A wall clock before this is not set: 2020-01-01.
const PLAUSIBLE_TIME_S: i64 = 1_577_836_800;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    output: OutputArgs,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Check {
    check: String,
    ok: bool,
    found: String,
    /// What it means where it is bad, if that does not go without saying.
    #[serde(skip_serializing_if = "String::is_empty")]
    means: String,
    fix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
}

impl Check {
    fn new(check: &str, ok: bool, found: impl Into<String>, fix: impl Into<String>) -> Self {
        let (check, found, fix) = (check.to_owned(), found.into(), fix.into());
        Self { check, ok, found, means: String::new(), fix, code: None }
    }
}

impl From<BrokerCheck> for Check {
    fn from(tried: BrokerCheck) -> Self {
        let BrokerCheck { check, ok, found, means, fix, code } = tried;
        Self { check, ok, found, means, fix, code }
    }
}

pub(crate) fn doctor(arguments: &Doctor, context: &ContextName) -> Result<(), Failure> {
    let mut checks = vec![clock(), login(context)];
    match context.client().and_then(|client| ask(&client)) {
        Ok(found) => checks.extend(found),
        Err(failure) => checks.push(Check::new("hub answers", false, failure.summary(), failure.advice())),
    }
    let mut table = Table::new("CheckList", &["CHECK", "RESULT", "FOUND", "FIX", "CODE"], &[]);
    for check in &checks {
        let result = if check.ok { "ok" } else { "FAILED" };
        let fix = if check.ok { "-" } else { &check.fix };
        let found = match check.means.as_str() {
            "" => check.found.clone(),
            means => format!("{}. {means}", check.found),
        };
        let code = check.code.map_or_else(|| "-".into(), |code| code.to_string());
        table.row(check, &check.check, vec![check.check.clone(), result.into(), found, fix.into(), code]);
    }
    table.print(arguments.output.format)?;
    match checks.iter().filter(|check| !check.ok).count() {
        0 => Ok(()),
        bad => Err(Failure::new(Kind::No, format!("{bad} of {} checks failed", checks.len()))
            .next("Each row says what to do; `airlift explain CODE` says more.")),
    }
}

/// Asks the hub about itself, and has it try its broker where it has one.
fn ask(client: &Client) -> Result<Vec<Check>, Failure> {
    let hub: HubInfo = client.get(route::HUB)?;
    let mut checks = look_at(&hub);
    if let Some(place) = &hub.broker {
        match client.post::<BrokerTried>(route::BROKER_TRY, &json!({})) {
            Ok(tried) => checks.extend(tried.checks.into_iter().map(Check::from)),
            Err(failure) => {
                let found = format!("{place}: {}", failure.summary());
                checks.push(Check::new("broker is tried", false, found, failure.advice()));
            }
        }
    }
    Ok(checks)
}

fn clock() -> Check {
    let now = Clock::start().now().time();
    let fix = "Set the clock: releases and roots say when they were drafted.";
    Check::new("clock is set", now.unix_s() >= PLAUSIBLE_TIME_S, now.to_string(), fix)
}

fn login(context: &ContextName) -> Check {
    let file = context.file();
    let mode = file.as_ref().ok().and_then(|file| std::fs::metadata(file).ok());
    let mode = mode.map(|metadata| metadata.permissions().mode() & 0o777);
    let path = file.map_or_else(|failure| failure.summary(), |file| file.display().to_string());
    let (ok, fix) = match mode {
        None => (false, "Run `airlift login`.".to_owned()),
        Some(mode) if mode & 0o077 != 0 => (false, format!("Others may read the token: chmod 600 {path}")),
        Some(_) => (true, String::new()),
    };
    Check::new("logged in", ok, path, fix)
}

fn look_at(hub: &HubInfo) -> Vec<Check> {
    let ours = env!("CARGO_PKG_VERSION");
    let root = hub.root_version.map_or_else(|| "none".into(), |version| format!("root {version}"));
    vec![
        Check::new("hub answers", true, format!("fleet {}, {} sites", hub.fleet_id, hub.sites.total), ""),
        Check::new(
            "hub's version",
            hub.version == ours,
            format!("hub {}, this {ours}", hub.version),
            "Use an airlift of the hub's version.",
        ),
        Check::new(
            "root is installed",
            hub.root_version.is_some(),
            root.clone(),
            "Run `airlift root publish roots/`.",
        ),
        Check::new(
            "director key is in the root",
            hub.director_in_root,
            root,
            "Draft the next root with `airlift root edit` and `add-key --role director`; nothing is signed until then.",
        ),
        Check::new(
            "hub publishes",
            !hub.reconcile_needed,
            if hub.reconcile_needed { "waits after a restore" } else { "yes" },
            "Run `airlift hub reconcile`.",
        ),
        Check::new(
            "no site is quarantined",
            hub.sites.quarantined == 0,
            format!("{} quarantined", hub.sites.quarantined),
            "Find the clone or restored copy, and enrol the real one again.",
        ),
    ]
}
