//! `history`: the site's receipts, newest first, read beside a running agent or without one.

use airlift_bundles::document::receipt::{Evidence, Outcome, Receipt};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{AppName, Timestamp, Version};
use airlift_bundles::limits::Limits;
use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output::{self, Format, OutputArgs, json_of, table_of};
use crate::config::Config;
use crate::core::write::ReceiptRow;
use crate::store::Peek;

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only what is about this app
    #[arg(long)]
    app: Option<AppName>,
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
struct Entry {
    receipt_seq: u64,
    time: Timestamp,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<AppName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<airlift_bundles::code::Code>,
    /// The hub has acknowledged it.
    acknowledged: bool,
    evidence: Vec<Evidence>,
}

/// What happened.
#[derive(Debug, Serialize)]
pub(super) struct History {
    items: Vec<Entry>,
}

/// Shows what happened.
pub(super) fn history(config: &Config, args: &HistoryArgs) -> Result<(), Failure> {
    let history = read_newest(config, args.app.as_ref(), args.limit)?;
    match args.output.format {
        Format::Json => output::show(&json_of("History", &history)),
        Format::Table => {
            let rows: Vec<Vec<String>> = history.items.iter().map(row_of).collect();
            output::show(&table_of(
                &["NO", "TIME", "OUTCOME", "APP", "VERSION", "CODE", "HUB HAS IT"],
                &rows,
            ));
        }
    }
    Ok(())
}

/// The newest of what happened, whatever it was about.
pub(super) fn newest(config: &Config, limit: usize) -> Result<History, Failure> {
    read_newest(config, None, limit)
}

fn read_newest(config: &Config, app: Option<&AppName>, limit: usize) -> Result<History, Failure> {
    let items = Peek::open(&config.state_dir)?.newest_receipts(|row| read(row, app), limit)?;
    Ok(History { items })
}

/// A receipt of our own database, if it is asked for.
fn read(row: &ReceiptRow, app: Option<&AppName>) -> Option<Entry> {
    // It was signed here; whoever can change the database can change this program too.
    let receipt: Receipt =
        Envelope::parse(&row.envelope, &Limits::DEFAULT).ok()?.read_unverified(&Limits::DEFAULT).ok()?;
    if app.is_some() && app != receipt.app.as_ref() {
        return None;
    }
    Some(Entry {
        receipt_seq: receipt.receipt_seq,
        time: receipt.known_time,
        outcome: receipt.outcome,
        app: receipt.app,
        version: receipt.release.map(|release| release.version),
        code: receipt.reason,
        acknowledged: row.acked,
        evidence: receipt.evidence,
    })
}

fn row_of(entry: &Entry) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let outcome = serde_json::to_value(entry.outcome).ok();
    vec![
        entry.receipt_seq.to_string(),
        entry.time.to_string(),
        text(outcome.and_then(|word| word.as_str().map(str::to_owned))),
        text(entry.app.as_ref().map(ToString::to_string)),
        text(entry.version.as_ref().map(ToString::to_string)),
        text(entry.code.map(|code| code.to_string())),
        if entry.acknowledged { "yes" } else { "not yet" }.to_owned(),
    ]
}
