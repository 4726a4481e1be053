//! What is known of sites, with how fresh it is: stale and unknown are never shown as healthy.

use airlift_bundles::ids::Timestamp;

use super::{labels, word};
use crate::api::types::{Freshness, SiteApp, SiteDetail, SiteInfo, Standing};
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Table, human_bytes, line, print_json, printable};

/// Sites as rows.
pub(crate) fn site_rows(sites: &[SiteInfo]) -> Table {
    let columns = ["SITE", "STATE", "APPS", "LAST SEEN", "CONTACT", "LABELS"];
    let mut table = Table::new("SiteList", &columns, &["CONNECTED", "ASSIGNED", "REPORTED", "INCARNATION"]);
    let counter = |counter: Option<airlift_bundles::ids::Counter>| {
        counter.map_or_else(|| "-".into(), |counter| counter.to_string())
    };
    for site in sites {
        let apps: Vec<String> = site.apps.iter().map(app_in_short).collect();
        let cells = vec![
            site.site.to_string(),
            state(site),
            if apps.is_empty() { "-".into() } else { apps.join(" ") },
            moment(site.last_seen),
            word(&site.contact),
            labels(&site.labels),
            site.connected.to_string(),
            counter(site.assignment),
            counter(site.assignment_reported),
            site.incarnation.to_string(),
        ];
        table.row(site, &site.site, cells);
    }
    table
}

/// One word for a site: what is stale or unknown is never called healthy.
fn state(site: &SiteInfo) -> String {
    match (site.standing, site.freshness) {
        (Standing::Revoked | Standing::Quarantined, _) => word(&site.standing),
        (Standing::Enrolled, Freshness::Never) => "unknown".into(),
        (Standing::Enrolled, Freshness::Stale) => "stale".into(),
        (Standing::Enrolled, Freshness::Fresh) => {
            let worst = site.apps.iter().filter(|app| !app.done).find(|app| app.reason.is_some());
            match worst.or_else(|| site.apps.iter().find(|app| !app.done)) {
                Some(app) if app.reason.is_some() => {
                    app.state.as_ref().map_or_else(|| "waiting".into(), word)
                }
                Some(_) => "progressing".into(),
                None if site.apps.is_empty() => "idle".into(),
                None => "healthy".into(),
            }
        }
    }
}

/// `shop@1.4.2:healthy`: what runs, and what it is doing.
fn app_in_short(app: &SiteApp) -> String {
    let version = app.running.as_ref().map_or_else(|| "-".into(), ToString::to_string);
    let state = app.state.as_ref().map_or_else(|| "unknown".into(), word);
    format!("{}@{version}:{state}", app.app)
}

fn moment(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "never".into(), |time| time.to_string())
}

/// Shows one site in full.
pub(super) fn show(detail: &SiteDetail, format: Format) -> Result<(), Failure> {
    let site = &detail.site;
    match format {
        Format::Json => return Ok(print_json("Site", detail)?),
        Format::Name => return Ok(line(site.site.as_str())?),
        Format::Table | Format::Wide => {}
    }
    let mut lines = vec![
        format!("site         {} (incarnation {})", site.site, site.incarnation),
        format!(
            "state        {}, {}",
            state(site),
            if site.connected { "connected" } else { "not connected" }
        ),
        format!(
            "last seen    {} ({}), reached by {}",
            moment(site.last_seen),
            word(&site.freshness),
            word(&site.contact)
        ),
        format!("labels       {}", labels(&site.labels)),
    ];
    lines.extend(detail.keys.iter().map(|key| {
        let revoked = if key.revoked { ", revoked" } else { "" };
        format!("key          {} (incarnation {}{revoked})", key.fingerprint, key.incarnation)
    }));
    for app in &site.apps {
        let desired = app.desired.as_ref().map_or_else(
            || "nothing".into(),
            |desired| format!("{} (seq {}, {})", desired.version, desired.seq, desired.release),
        );
        let retiring = if app.retiring { ", told to leave" } else { "" };
        let reason = app.reason.map(|code| format!(", {code} {}", code.title())).unwrap_or_default();
        lines.push(format!("app          {}{retiring}{reason}", app_in_short(app)));
        lines.push(format!("  desired    {desired}"));
        for (name, value) in app.desired.iter().flat_map(|desired| &desired.parameters) {
            lines.push(format!("  parameter  {name}={value}"));
        }
    }
    match &detail.status {
        None => lines.push("status       none received".into()),
        Some(status) => {
            lines.push(format!("status       as of {}", moment(detail.status_as_of)));
            lines.push(format!("  agent      {}, root {}", status.agent_version, status.root.version));
            let cluster = if status.cluster_up { "answers" } else { "does not answer" };
            lines.push(format!("  cluster    {cluster}, {} nodes", status.nodes.len()));
            lines.extend(
                status.disk_free_bytes.map(|free| format!("  disk       {} free", human_bytes(free))),
            );
            for (app, state) in &status.apps {
                for evidence in &state.evidence {
                    lines.push(format!(
                        "  {app}: {} {}: {}",
                        evidence.object, evidence.reason, evidence.message
                    ));
                }
            }
        }
    }
    for chain in &detail.chains {
        let gap = chain.gap.map(|(first, last)| format!(", {first}-{last} missing")).unwrap_or_default();
        let fork = chain.fork.map(|at| format!(", forked at {at}")).unwrap_or_default();
        lines.push(format!("receipts     {} complete to {}{gap}{fork}", chain.chain_id, chain.head));
    }
    lines.iter().try_for_each(|text| line(printable(text)))?;
    Ok(())
}
