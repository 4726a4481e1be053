//! `status`: how the site and its apps are, what they wait for, what is safe, and what to do.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use airlift_bundles::document::status::{AppState, AppStatus};
use airlift_bundles::ids::{AppName, SiteId, Timestamp};
use airlift_bundles::telling::words::span;
use airlift_bundles::telling::{Moment, Way, labelled, tell};
use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::local::{absent, answered, unexpected};
use super::output::{self, Colour, Format, OutputArgs, human_bytes, json_line_of, json_of};
use crate::config::Config;
use crate::control::client::{self, ClientError};
use crate::control::message::{Action, Answer, MissingView, StatusView};
use crate::core::report::stored_status;
use crate::store::{DATABASE, Peek};

/// Between two looks of `--watch`.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Missing items that are named; all that are known are in the JSON.
const MISSING_SHOWN: usize = 3;
/// Refusals that are named.
const REFUSALS_SHOWN: usize = 3;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) output: OutputArgs,
    /// Look again every two seconds until interrupted; JSON comes as one line a look
    #[arg(short = 'w', long)]
    watch: bool,
    /// When to use colours
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
}

/// Shows how the site is.
pub(super) async fn status(config: &Config, args: &StatusArgs) -> Result<(), Failure> {
    let coloured = args.color.on_stdout();
    loop {
        let status = ask(config, args.output.format).await?;
        let page = match args.output.format {
            Format::Json if args.watch => json_line_of("SiteStatus", &status),
            Format::Json => json_of("SiteStatus", &status),
            Format::Table if args.watch => {
                format!("{}{}\n", output::from_the_top(), describe(&status, coloured))
            }
            Format::Table => describe(&status, coloured),
        };
        output::show(&page);
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Asks the running agent. Where none runs, what is on disk is shown, and the command still fails.
async fn ask(config: &Config, format: Format) -> Result<StatusView, Failure> {
    let exchange = async {
        let stream = client::connect(&config.control_socket).await?;
        client::ask(stream, Action::Status, |_| {}).await
    };
    match exchange.await {
        Ok(answer) => match answered(answer)? {
            Answer::Status(status) => Ok(*status),
            _ => Err(unexpected()),
        },
        Err(error) => {
            if matches!(error, ClientError::Absent { .. })
                && let Some(known) = LastKnown::read(&config.state_dir)
            {
                output::show(&match format {
                    Format::Json => json_of("LastKnownStatus", &known),
                    Format::Table => known.describe(),
                });
            }
            Err(absent(config, error))
        }
    }
}

fn way(status: &StatusView) -> Way {
    match (status.has_hub, status.connected) {
        (_, true) => Way::Connected,
        (true, false) => Way::Away,
        (false, false) => Way::Media,
    }
}

fn describe(status: &StatusView, coloured: bool) -> String {
    let healthy = status.apps.iter().filter(|app| app.state == AppState::Healthy).count();
    let apps = match (status.apps.len(), healthy) {
        (0, _) => "no app is assigned yet".to_owned(),
        (all, healthy) if all == healthy => format!("{all} of {all} apps healthy"),
        (all, healthy) => format!("only {healthy} of {all} apps healthy"),
    };
    let mut text = format!("site {}, as of {}: {apps}\n", status.site, status.time);
    for (label, sentence) in surroundings(status) {
        text.push_str(&labelled(label, &sentence));
    }
    let moment = Moment { time: status.time, old: false, way: way(status) };
    for app in &status.apps {
        text.push('\n');
        text.push_str(&tell(&app.app, &app.status, &moment).page(coloured));
    }
    text
}

/// Everything around the apps, one line each.
fn surroundings(status: &StatusView) -> Vec<(&'static str, String)> {
    let heard = match status.hub_heard {
        Some(heard) => {
            let silent_s = u64::try_from(status.time.unix_s() - heard.unix_s()).unwrap_or(0);
            format!("its last word is {} old ({heard})", span(silent_s * 1000))
        }
        None => "it has not spoken yet".to_owned(),
    };
    let hub = match way(status) {
        Way::Connected => "connected".to_owned(),
        Way::Away => format!("not connected, {heard}; everything goes on from this site's disk"),
        Way::Media => format!("none, sticks alone serve this site; {heard}"),
    };
    let ready = status.nodes.iter().filter(|node| node.ready).count();
    let cluster = match (status.cluster_up, status.nodes.len()) {
        (false, _) => "does not answer; what runs in it goes on as far as it can".to_owned(),
        (true, all) if ready == 0 => format!("answers, but none of its {all} nodes is Ready"),
        (true, all) => format!("answers; {ready} of {all} nodes Ready"),
    };
    let assigned = match (status.assignment_seq, status.assignment_parked) {
        (0, false) => "nothing yet".to_owned(),
        (0, true) => "the first assignment waits for its documents".to_owned(),
        (seq, true) => format!("assignment {seq}; a newer one waits for its documents"),
        (seq, false) => format!("assignment {seq}"),
    };
    let receipts = match status.receipts_waiting {
        0 => "the hub has all".to_owned(),
        waiting => format!("{waiting} wait for the hub or a stick"),
    };
    let mut lines = vec![
        ("hub", hub),
        ("cluster", cluster),
        ("assigned", format!("{assigned}, under root {}", status.root_version)),
        ("receipts", receipts),
    ];
    if let Some(after_s) = status.stale_after_s.filter(|_| status.stale) {
        let after = span(after_s * 1000);
        let stale = format!(
            "the hub is silent for more than {after}: it may want something newer by now. Nothing stops for that."
        );
        lines.insert(1, ("stale", stale));
    }
    lines.extend(status.media.iter().map(|media| ("media", format!("{media} is in"))));
    let named = status.missing.iter().take(MISSING_SHOWN).map(|item| ("missing", missing(item)));
    lines.extend(named);
    if let Some(more) = status.missing.len().checked_sub(MISSING_SHOWN).filter(|more| *more > 0) {
        lines.push(("missing", format!("and {more} more items")));
    }
    let newest = status.refusals.iter().rev().take(REFUSALS_SHOWN);
    lines.extend(newest.map(|refusal| {
        let (code, count, carrier) = (refusal.code, refusal.count, &refusal.carrier);
        ("refused", format!("{code} {} ({count} so far, by {carrier}): {}", code.title(), refusal.last))
    }));
    lines
}

fn missing(item: &MissingView) -> String {
    match item.bytes {
        Some(bytes) => {
            format!("{}, {} of {} here", item.sha256, human_bytes(item.bytes_here), human_bytes(bytes))
        }
        None => item.sha256.to_string(),
    }
}

/// What the database of a stopped agent says: old by nature, and never shown as present.
#[derive(Debug, Serialize)]
pub(super) struct LastKnown {
    site: SiteId,
    /// When the database was last written, by this machine's clock.
    written_at: Option<Timestamp>,
    apps: Vec<KnownApp>,
}

#[derive(Debug, Serialize)]
struct KnownApp {
    app: AppName,
    status: AppStatus,
}

impl LastKnown {
    /// `None` where there is nothing to show: no database, none that can be read, or no enrolment.
    pub(super) fn read(state_dir: &Path) -> Option<Self> {
        let rows = Peek::open(state_dir).and_then(|peek| peek.rows()).ok()?;
        let meta = rows.meta.as_ref()?;
        let known = rows
            .apps
            .values()
            .map(|row| KnownApp { app: row.app.clone(), status: stored_status(&rows, row, meta.time_floor) });
        Some(Self { site: meta.site.clone(), written_at: written_at(state_dir), apps: known.collect() })
    }

    fn describe(&self) -> String {
        let written =
            self.written_at.map_or_else(|| "at an unknown time".to_owned(), |time| time.to_string());
        let head = format!(
            "LAST KNOWN of site {}, not how it is now: no agent runs; its database was last written {written}.",
            self.site
        );
        let mut text = airlift_bundles::telling::words::wrap(&head, 80).join("\n");
        text.push('\n');
        let moment = Moment { time: Timestamp::from_unix_s(0), old: true, way: Way::Away };
        for known in &self.apps {
            text.push('\n');
            text.push_str(&tell(&known.app, &known.status, &moment).page(false));
        }
        text.push('\n');
        text
    }
}

/// The newer of the moments at which the database and its log were written.
fn written_at(state_dir: &Path) -> Option<Timestamp> {
    let times = [DATABASE.to_owned(), format!("{DATABASE}-wal")].into_iter().filter_map(|name| {
        let written = std::fs::metadata(state_dir.join(name)).and_then(|file| file.modified()).ok()?;
        i64::try_from(written.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
    });
    times.max().map(Timestamp::from_unix_s)
}

#[cfg(test)]
mod tests;
