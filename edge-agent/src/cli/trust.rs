//! `trust show`: whom this site believes, from its own database.

use std::collections::BTreeMap;

use airlift_bundles::code::Code;
use airlift_bundles::document::root::TrustedRoot;
use airlift_bundles::ids::{Counter, FleetId, KeyId, Sha256Digest, SiteId, Timestamp};
use airlift_bundles::limits::Limits;
use clap::Subcommand;
use serde::Serialize;

use super::failure::Failure;
use super::output::{self, Format, OutputArgs, json_of, table_of};
use crate::config::Config;
use crate::core::write::{CounterKey, Rows};
use crate::store::Peek;

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Show the pinned root, the roles that it names, and the counters that never go back
    #[command(after_help = "Examples:\n  airlift-agent trust show\n  airlift-agent trust show -o json")]
    Show(OutputArgs),
}

/// Whom a site believes.
#[derive(Debug, Serialize)]
pub(super) struct Trust {
    fleet: FleetId,
    site: SiteId,
    incarnation: u64,
    /// Digest of the first root.
    first_root_sha256: Sha256Digest,
    root_version: u64,
    root_sha256: Sha256Digest,
    root_issued_at: Timestamp,
    roles: Vec<Role>,
    revoked_keys: usize,
    revoked_releases: usize,
    assignment: Counter,
    /// Releases below these numbers do not return.
    floors: BTreeMap<String, Counter>,
}

#[derive(Debug, Serialize)]
struct Role {
    name: String,
    threshold: usize,
    keyids: Vec<KeyId>,
    /// The apps that a release role may sign, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    apps: Vec<String>,
}

/// Shows whom this site believes.
pub(super) fn show(config: &Config, format: Format) -> Result<(), Failure> {
    let trust = known(config)?;
    match format {
        Format::Json => output::show(&json_of("Trust", &trust)),
        Format::Table => output::show(&describe(&trust)),
    }
    Ok(())
}

/// Whom this site believes.
pub(super) fn known(config: &Config) -> Result<Trust, Failure> {
    read(&Peek::open(&config.state_dir)?.rows()?)
}

fn read(rows: &Rows) -> Result<Trust, Failure> {
    let not_enrolled = || Failure::coded(Code::NotEnrolled, "this site believes nobody yet");
    let meta = rows.meta.as_ref().ok_or_else(not_enrolled)?;
    let first = rows.roots.values().next().ok_or_else(not_enrolled)?;
    let newest = rows.roots.values().next_back().ok_or_else(not_enrolled)?;
    let root = TrustedRoot::stored(&newest.envelope, &Limits::DEFAULT)
        .map_err(|error| Failure::coded(Code::StoreFailed, error))?;
    let plain = |name: &str, threshold: usize, keyids: &[KeyId]| Role {
        name: name.to_owned(),
        threshold,
        keyids: keyids.to_vec(),
        apps: Vec::new(),
    };
    let roles = &root.roles;
    let mut shown = vec![
        plain("root", roles.root.threshold, &roles.root.keyids),
        plain("director", roles.director.threshold, &roles.director.keyids),
    ];
    shown.extend(roles.releases.iter().map(|role| Role {
        apps: role.apps.iter().map(|pattern| pattern.0.clone()).collect(),
        ..plain(&format!("release {}", role.name), role.threshold, &role.keyids)
    }));
    let mut assignment = Counter { epoch: 0, seq: 0 };
    let mut floors = BTreeMap::new();
    for row in rows.counters.values() {
        let counter = Counter { epoch: row.epoch, seq: row.seq };
        match &row.key {
            CounterKey::Assignment => assignment = counter,
            CounterKey::Floor(app) => drop(floors.insert(app.to_string(), counter)),
        }
    }
    Ok(Trust {
        fleet: meta.fleet.clone(),
        site: meta.site.clone(),
        incarnation: meta.incarnation,
        first_root_sha256: first.sha256,
        root_version: root.version,
        root_sha256: root.digest(),
        root_issued_at: root.issued_at,
        roles: shown,
        revoked_keys: root.revoked.keyids.len(),
        revoked_releases: root.revoked.releases.len(),
        assignment,
        floors,
    })
}

fn describe(trust: &Trust) -> String {
    let mut text = format!(
        "fleet      {}\nsite       {} (incarnation {})\nfirst root {}\nroot       {} of {}, {}\nrevoked    {} keys, {} releases\nassignment {} in epoch {}\n\n",
        trust.fleet,
        trust.site,
        trust.incarnation,
        trust.first_root_sha256,
        trust.root_version,
        trust.root_issued_at,
        trust.root_sha256,
        trust.revoked_keys,
        trust.revoked_releases,
        trust.assignment.seq,
        trust.assignment.epoch,
    );
    let rows: Vec<Vec<String>> = trust
        .roles
        .iter()
        .flat_map(|role| {
            let need = format!("{} of {}", role.threshold, role.keyids.len());
            role.keyids.iter().enumerate().map(move |(at, key)| {
                let first = |text: String| if at == 0 { text } else { String::new() };
                vec![
                    first(role.name.clone()),
                    first(need.clone()),
                    first(role.apps.join(",")),
                    key.to_string(),
                ]
            })
        })
        .collect();
    text.push_str(&table_of(&["ROLE", "NEEDS", "APPS", "KEY"], &rows));
    if !trust.floors.is_empty() {
        let rows: Vec<Vec<String>> = trust
            .floors
            .iter()
            .map(|(app, floor)| vec![app.clone(), floor.epoch.to_string(), floor.seq.to_string()])
            .collect();
        text.push('\n');
        text.push_str(&table_of(&["APP", "EPOCH", "FLOOR"], &rows));
    }
    text
}
