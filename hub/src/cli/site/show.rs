//! What is known of sites, with how fresh it is: stale and unknown are never shown as healthy.

use std::io::{self, Write as _};

use airlift_bundles::code::Code;
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::Timestamp;
use airlift_bundles::telling::words::{COLUMNS, span, wrap};
use airlift_bundles::telling::{Moment, Way, labelled, tell};

use super::{labels, word};
use crate::api::types::{Freshness, SiteApp, SiteDetail, SiteInfo, Standing};
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Table, human_bytes, line, print_json};

/// Sites as rows.
pub(crate) fn site_rows(sites: &[SiteInfo]) -> Table {
    let columns = ["SITE", "STATE", "APPS", "LAST SEEN", "CONTACT", "LABELS"];
    let mut table = Table::new("SiteList", &columns, &["CONNECTED", "ASSIGNED", "REPORTED", "INCARNATION"]);
    let counter = |counter: Option<airlift_bundles::ids::Counter>| {
        counter.map_or_else(|| "-".into(), |counter| counter.to_string())
    };
    for site in sites {
        let apps: Vec<String> = site.apps.iter().map(|app| app_in_short(app, site.freshness)).collect();
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
                // It went back from what is desired, or keeps it away: well, and yet not as it should be.
                Some(app) if app.reason.is_some() && app.state == Some(AppState::Healthy) => "behind".into(),
                Some(app) if app.reason.is_some() => {
                    app.state.as_ref().map_or_else(|| "waiting".into(), word)
                }
                Some(app) if app.state == Some(AppState::Unknown) => "unknown".into(),
                Some(_) => "progressing".into(),
                None if site.apps.is_empty() => "idle".into(),
                None => "healthy".into(),
            }
        }
    }
}

/// `shop@1.4.2:healthy`: what runs, and what it is doing; `was-healthy` where that is old.
fn app_in_short(app: &SiteApp, freshness: Freshness) -> String {
    let version = app.running.as_ref().map_or_else(|| "-".into(), ToString::to_string);
    let was = if freshness == Freshness::Fresh { "" } else { "was-" };
    let state = app.state.as_ref().map_or_else(|| "unknown".into(), |state| format!("{was}{}", word(state)));
    format!("{}@{version}:{state}", app.app)
}

fn moment(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "never".into(), |time| time.to_string())
}

/// Shows one site in full: what the hub wants, and what the site said, with how old that is.
pub(super) fn show(detail: &SiteDetail, format: Format, coloured: bool) -> Result<(), Failure> {
    match format {
        Format::Json => return Ok(print_json("Site", detail)?),
        Format::Name => return Ok(line(detail.site.site.as_str())?),
        Format::Table | Format::Wide => {}
    }
    Ok(write!(io::stdout().lock(), "{}", page(detail, coloured))?)
}

fn page(detail: &SiteDetail, coloured: bool) -> String {
    let site = &detail.site;
    let mut text = format!("site {}: {}\n", site.site, state(site));
    if site.freshness == Freshness::Stale {
        let last = moment(site.last_seen);
        let warning = format!(
            "STALE: nothing was heard of this site since {last}. What follows is what it said then; how it is now, nobody \
             knows. What runs there does not need the hub."
        );
        text.push_str(&(wrap(&warning, COLUMNS).join("\n") + "\n"));
    }
    for (label, sentence) in about(detail) {
        text.push_str(&labelled(label, &sentence));
    }
    for app in &site.apps {
        text.push('\n');
        text.push_str(&app_page(detail, app, coloured));
    }
    text
}

/// Everything around the apps.
fn about(detail: &SiteDetail) -> Vec<(&'static str, String)> {
    let site = &detail.site;
    let connected = if site.connected { "connected" } else { "not connected" };
    let (last, contact) = (moment(site.last_seen), word(&site.contact));
    let mut lines = vec![
        (
            "contact",
            format!("{connected}; last heard {last} ({}), reached by {contact}", word(&site.freshness)),
        ),
        ("labels", labels(&site.labels)),
    ];
    lines.extend(detail.keys.iter().map(|key| {
        let revoked = if key.revoked { ", revoked" } else { "" };
        ("key", format!("{} (incarnation {}{revoked})", key.fingerprint, key.incarnation))
    }));
    match &detail.status {
        None => lines.push(("as of", "the site has said nothing yet".to_owned())),
        Some(status) => {
            let age = detail.status_age_s.map_or_else(
                || "age unknown: a clock went back".to_owned(),
                |age_s| format!("{} ago", span(age_s * 1000)),
            );
            let (received, said) = (moment(detail.status_as_of), status.known_time);
            lines.push(("as of", format!("{received} ({age}); {said} by the site's own clock")));
            lines.push(("agent", format!("version {}, root {}", status.agent_version, status.root.version)));
            let ready = status.nodes.iter().filter(|node| node.ready).count();
            let cluster = if status.cluster_up { "answers" } else { "does not answer" };
            lines.push(("cluster", format!("{cluster}; {ready} of {} nodes Ready", status.nodes.len())));
            lines.extend(status.disk_free_bytes.map(|free| ("disk", format!("{} free", human_bytes(free)))));
            lines.extend(status.refusals.iter().map(|(code, count)| {
                let title = Code::find(code).map_or("unknown code", Code::title);
                ("refused", format!("{code} {title}, {count} so far"))
            }));
        }
    }
    lines.extend(detail.chains.iter().map(|chain| {
        let gap = chain.gap.map(|(first, last)| format!(", {first}-{last} missing")).unwrap_or_default();
        let fork = chain.fork.map(|at| format!(", forked at {at}")).unwrap_or_default();
        ("receipts", format!("{} complete to {}{gap}{fork}", chain.chain_id, chain.head))
    }));
    lines
}

/// What the site says of one app, and what the hub wants of it.
fn app_page(detail: &SiteDetail, app: &SiteApp, coloured: bool) -> String {
    let site = &detail.site;
    let says = detail.status.as_ref().and_then(|status| Some((status, status.apps.get(&app.app)?)));
    let mut text = match says {
        Some((status, says)) => {
            let way = match (site.connected, site.contact) {
                (true, _) => Way::Connected,
                (false, ContactClass::Mqtt) => Way::Away,
                (false, ContactClass::Media) => Way::Media,
            };
            let old = site.freshness != Freshness::Fresh;
            tell(&app.app, says, &Moment { time: status.known_time, old, way }).page(coloured)
        }
        None => format!("{}: unknown; the site has said nothing of it yet\n", app.app),
    };
    let desired = app.desired.as_ref().map_or_else(
        || "nothing".into(),
        |desired| format!("{} (seq {}), release {}", desired.version, desired.seq, desired.release),
    );
    let retiring = if app.retiring { "; told to leave" } else { "" };
    text.push_str(&labelled("desired", &format!("{desired}{retiring}")));
    for (name, value) in app.desired.iter().flat_map(|desired| &desired.parameters) {
        text.push_str(&labelled("", &format!("{name}={value}")));
    }
    text
}

#[cfg(test)]
mod tests;
