//! `airlift doctor`: what is wrong on this machine and at the hub, each with what to do about it.

use std::os::unix::fs::PermissionsExt as _;

use clap::Args;
use serde::Serialize;

use super::context::ContextName;
use super::failure::{Failure, Kind};
use super::output::{OutputArgs, Table};
use crate::api::types::{HubInfo, route};
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
    check: &'static str,
    ok: bool,
    found: String,
    fix: String,
}

pub(crate) fn doctor(arguments: &Doctor, context: &ContextName) -> Result<(), Failure> {
    let mut checks = vec![clock(), login(context)];
    let hub = context.client().and_then(|client| client.get::<HubInfo>(route::HUB));
    match hub {
        Ok(hub) => checks.extend(look_at(&hub)),
        Err(failure) => checks.push(Check {
            check: "hub answers",
            ok: false,
            found: failure.summary(),
            fix: failure.advice(),
        }),
    }
    let mut table = Table::new("CheckList", &["CHECK", "RESULT", "FOUND", "FIX"], &[]);
    for check in &checks {
        let result = if check.ok { "ok" } else { "BAD" };
        let fix = if check.ok { "-" } else { &check.fix };
        table.row(
            check,
            check.check,
            vec![check.check.into(), result.into(), check.found.clone(), fix.into()],
        );
    }
    table.print(arguments.output.format)?;
    match checks.iter().filter(|check| !check.ok).count() {
        0 => Ok(()),
        bad => Err(Failure::new(Kind::No, format!("{bad} of {} checks are bad", checks.len()))
            .next("Each row says what to do.")),
    }
}

fn clock() -> Check {
    let now = Clock::start().now().time();
    Check {
        check: "clock is set",
        ok: now.unix_s() >= PLAUSIBLE_TIME_S,
        found: now.to_string(),
        fix: "Set the clock: releases and roots say when they were drafted.".into(),
    }
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
    Check { check: "logged in", ok, found: path, fix }
}

fn look_at(hub: &HubInfo) -> Vec<Check> {
    let ours = env!("CARGO_PKG_VERSION");
    let root = hub.root_version.map_or_else(|| "none".into(), |version| format!("root {version}"));
    let check = |check, ok, found: String, fix: &str| Check { check, ok, found, fix: fix.into() };
    vec![
        check("hub answers", true, format!("fleet {}, {} sites", hub.fleet_id, hub.sites.total), ""),
        check(
            "hub's version",
            hub.version == ours,
            format!("hub {}, this {ours}", hub.version),
            "Use an airlift of the hub's version.",
        ),
        check(
            "root is installed",
            hub.root_version.is_some(),
            root.clone(),
            "Run `airlift root publish roots/`.",
        ),
        check(
            "director key is in the root",
            hub.director_in_root,
            root,
            "Draft the next root with `airlift root edit` and `add-key --role director`; nothing is signed until then.",
        ),
        check(
            "hub publishes",
            !hub.reconcile_needed,
            if hub.reconcile_needed { "waits after a restore" } else { "yes" }.into(),
            "Run `airlift hub reconcile`.",
        ),
        check(
            "no site is quarantined",
            hub.sites.quarantined == 0,
            format!("{} quarantined", hub.sites.quarantined),
            "Find the clone or restored copy, and enrol the real one again.",
        ),
    ]
}
