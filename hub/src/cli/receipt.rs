//! `airlift receipt`: what sites signed, listed from the hub, and verified here against their keys.
//!
//! Verifying trusts the hub for nothing but delivery: signatures and the chain's hashes are checked on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use airlift_bundles::document::receipt::Receipt;
use airlift_bundles::document::status::StatusBatch;
use airlift_bundles::envelope::{Document as _, Envelope, EnvelopeError, open};
use airlift_bundles::ids::{AppName, RandomId, Sha256Digest, SiteId};
use airlift_bundles::keys::PublicKey;
use airlift_bundles::limits::Limits;
use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Client, encode};
use super::context::ContextName;
use super::failure::{Failure, Kind};
use super::output::{OutputArgs, Table, printable};
use super::site::word;
use crate::api::types::{ReceiptInfo, SiteDetail, route};
use crate::keyfile;

/// Receipts of one site that are verified in one run: a chain of years.
const RECEIPT_FILE_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// List receipts, newest first
    #[command(after_help = "Examples:
  airlift receipt list --app shop
  airlift receipt list --site mast-17 -o wide")]
    List(List),
    /// Verify receipts and their chain against the site's key
    #[command(after_help = "Examples:
  airlift receipt verify --site mast-17                        # fetched from the hub, verified here
  airlift receipt verify receipts/*.json --site-key mast-17.pub # from a stick, with no hub

Exit code 7 where a signature or a link is wrong, 1 where receipts are missing in between.")]
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this site's
    #[arg(long)]
    site: Option<SiteId>,
    /// Only this app's
    #[arg(long)]
    app: Option<AppName>,
    /// At most this many
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Files of receipts: envelopes, alone, line by line or in lists
    #[arg(required_unless_present = "site", requires = "site_keys")]
    files: Vec<PathBuf>,
    /// Public key file of the site; repeat where it was enrolled again
    #[arg(long = "site-key", value_name = "FILE")]
    site_keys: Vec<PathBuf>,
    /// Fetch this site's receipts from the hub, and its keys unless --site-key names them
    #[arg(long, conflicts_with = "files")]
    site: Option<SiteId>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(command: &ReceiptCommand, context: &ContextName) -> Result<(), Failure> {
    match command {
        ReceiptCommand::List(arguments) => list(&context.client()?, arguments),
        ReceiptCommand::Verify(arguments) => verify(arguments, context),
    }
}

fn list(client: &Client, arguments: &List) -> Result<(), Failure> {
    let mut path = format!("{}?limit={}", route::RECEIPTS, arguments.limit.clamp(1, 1000));
    for (name, value) in [
        ("site", arguments.site.as_ref().map(SiteId::as_str)),
        ("app", arguments.app.as_ref().map(AppName::as_str)),
    ] {
        path.extend(value.map(|value| format!("&{name}={}", encode(value))));
    }
    let page: crate::api::types::Page<ReceiptInfo> = client.get(&path)?;
    let columns = ["SITE", "SEQ", "OUTCOME", "APP", "VERSION", "REASON", "RECEIVED"];
    let mut table = Table::new("ReceiptList", &columns, &["BY", "LINK", "CHAIN", "DIGEST", "KEY"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    for receipt in &page.items {
        let cells = vec![
            receipt.site.to_string(),
            receipt.receipt_seq.to_string(),
            word(&receipt.outcome),
            or_dash(receipt.app.as_ref().map(ToString::to_string)),
            or_dash(receipt.version.as_ref().map(ToString::to_string)),
            or_dash(receipt.reason.map(|code| format!("{code} {}", code.title()))),
            receipt.received_at.to_string(),
            receipt.carrier.clone(),
            word(&receipt.link),
            receipt.chain_id.to_string(),
            receipt.sha256.to_string(),
            receipt.keyid.to_string(),
        ];
        table.row(receipt, receipt.sha256, cells);
    }
    Ok(table.print(arguments.output.format)?)
}

fn verify(arguments: &Verify, context: &ContextName) -> Result<(), Failure> {
    let given: Vec<PublicKey> =
        arguments.site_keys.iter().map(|path| keyfile::read_public(path)).collect::<Result<_, _>>()?;
    let (envelopes, keys) = match &arguments.site {
        Some(site) => fetch(&context.client()?, site, given)?,
        None => {
            let mut envelopes = Vec::new();
            for file in &arguments.files {
                envelopes.extend(read_file(file)?);
            }
            (envelopes, given)
        }
    };
    let mut chains: BTreeMap<RandomId, Chain> = BTreeMap::new();
    for bytes in &envelopes {
        let receipt = open::<Receipt>(bytes, &keys, 1, &Limits::DEFAULT).map_err(|error| {
            let failure = Failure::from(error).during("a receipt is not signed by this site's key");
            failure.next("Check that the key is this site's: `airlift site show SITE`.")
        })?;
        let chain = chains.entry(receipt.document().chain_id.clone()).or_default();
        chain.add(receipt.digest(), receipt.document().clone());
    }
    report(&chains, arguments)
}

/// Fetches a site's receipts with their envelopes, and its keys.
fn fetch(
    client: &Client,
    site: &SiteId,
    given: Vec<PublicKey>,
) -> Result<(Vec<Vec<u8>>, Vec<PublicKey>), Failure> {
    let path = format!("{}?envelopes=true&site={}", route::RECEIPTS, encode(site.as_str()));
    let receipts: Vec<ReceiptInfo> = client.pages(&path)?;
    let envelopes =
        receipts.into_iter().filter_map(|receipt| receipt.envelope.map(|raw| raw.get().as_bytes().to_vec()));
    let keys = match given.is_empty() {
        false => given,
        true => {
            let detail: SiteDetail = client.get(&route::fill(route::SITE, &[site.as_str()]))?;
            detail.keys.into_iter().map(|key| key.key).collect()
        }
    };
    Ok((envelopes.collect(), keys))
}

/// Reads every envelope in a file, whichever way they are listed.
fn read_file(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let refuse = |detail: String| {
        let error = EnvelopeError::Invalid(detail.into());
        Failure::from(error).during(format!("{} holds no receipts", path.display()))
    };
    let bytes = super::envelope_file::read_up_to(path, RECEIPT_FILE_BYTES_MAX)?;
    let mut envelopes = Vec::new();
    for value in serde_json::Deserializer::from_slice(&bytes).into_iter::<Box<RawValue>>() {
        let value = value.map_err(|error| refuse(error.to_string()))?;
        match serde_json::from_str::<Vec<Box<RawValue>>>(value.get()) {
            Ok(list) => list.iter().try_for_each(|raw| collect(raw, &mut envelopes))?,
            Err(_) => collect(&value, &mut envelopes)?,
        }
    }
    if envelopes.is_empty() { Err(refuse("it is empty".into())) } else { Ok(envelopes) }
}

/// Takes an envelope, or the receipts that a status batch carries, each of which has its own signature.
fn collect(raw: &RawValue, envelopes: &mut Vec<Vec<u8>>) -> Result<(), Failure> {
    let bytes = raw.get().as_bytes();
    let envelope = Envelope::parse(bytes, &Limits::DEFAULT)?;
    if envelope.payload_type() != StatusBatch::PAYLOAD_TYPE {
        envelopes.push(bytes.to_vec());
        return Ok(());
    }
    let batch: StatusBatch = envelope.read_unverified(&Limits::DEFAULT)?;
    let receipts = batch.rows.into_iter().filter_map(|row| row.receipt);
    envelopes.extend(receipts.map(|receipt| receipt.get().as_bytes().to_vec()));
    Ok(())
}

/// One chain: receipts by number, and what is wrong with it.
#[derive(Default)]
struct Chain {
    receipts: BTreeMap<u64, (Sha256Digest, Receipt)>,
    forks: Vec<u64>,
}

impl Chain {
    fn add(&mut self, digest: Sha256Digest, receipt: Receipt) {
        let seq = receipt.receipt_seq;
        match self.receipts.get(&seq) {
            Some((held, _)) if *held != digest => self.forks.push(seq),
            Some(_) => {}
            None => drop(self.receipts.insert(seq, (digest, receipt))),
        }
    }

    /// Numbers that name another predecessor than the one that is here.
    fn broken_links(&self) -> Vec<u64> {
        let broken = |(seq, (_, receipt)): (&u64, &(Sha256Digest, Receipt))| {
            let before = self.receipts.get(&(seq - 1)).map(|(digest, _)| *digest);
            before.is_some_and(|before| receipt.prev_sha256 != Some(before)).then_some(*seq)
        };
        self.receipts.iter().filter_map(broken).collect()
    }

    /// Ranges that are missing between the first and the last that are here.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let seqs: Vec<u64> = self.receipts.keys().copied().collect();
        seqs.windows(2).filter(|pair| pair[1] > pair[0] + 1).map(|pair| (pair[0] + 1, pair[1] - 1)).collect()
    }
}

fn report(chains: &BTreeMap<RandomId, Chain>, arguments: &Verify) -> Result<(), Failure> {
    let mut table =
        Table::new("VerifiedChainList", &["SITE", "CHAIN", "RECEIPTS", "FROM", "TO", "VERDICT"], &["LAST"]);
    let (mut wrong, mut missing) = (false, false);
    for (id, chain) in chains {
        let (Some((first, (_, receipt))), Some((last, (_, newest)))) =
            (chain.receipts.first_key_value(), chain.receipts.last_key_value())
        else {
            continue;
        };
        let (broken, gaps) = (chain.broken_links(), chain.gaps());
        wrong |= !broken.is_empty() || !chain.forks.is_empty();
        missing |= !gaps.is_empty();
        let verdict = match (chain.forks.first().or(broken.first()), gaps.first()) {
            (Some(at), _) => format!("forked at {at}"),
            (None, Some((from, to))) => format!("{from}-{to} missing"),
            (None, None) => "good".to_owned(),
        };
        let count = chain.receipts.len();
        let shape: Value = json!({ "site": receipt.site, "chain_id": id, "receipts": count, "from": first,
            "to": last, "gaps": gaps, "forks": chain.forks, "broken_links": broken, "good": verdict == "good" });
        let newest = format!("{} {}", word(&newest.outcome), newest.known_time);
        let cells = vec![
            printable(receipt.site.as_str()),
            id.to_string(),
            count.to_string(),
            first.to_string(),
            last.to_string(),
            verdict,
            newest,
        ];
        table.row(&shape, id, cells);
    }
    table.print(arguments.output.format)?;
    match (wrong, missing) {
        (true, _) => {
            let failure = Failure::new(Kind::Refused, "the chain forks: two receipts claim one place");
            Err(failure.code(airlift_bundles::code::Code::ChainForked))
        }
        (false, true) => {
            let failure = Failure::new(Kind::No, "receipts are missing in between");
            Err(failure
                .next("They may still be on a stick or at the site; `airlift site show` says what is held."))
        }
        (false, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use airlift_bundles::document::receipt::{ClockQuality, Counts, Outcome, RootMark};
    use airlift_bundles::ids::{FleetId, Timestamp};

    fn chain(links: &[(u64, Option<u64>)]) -> Chain {
        let mut chain = Chain::default();
        let digest = |seq: u64| Sha256Digest::of(&seq.to_be_bytes());
        for (seq, before) in links {
            let receipt = Receipt {
                fleet_id: FleetId::new("lab").unwrap(),
                site: SiteId::new("a").unwrap(),
                incarnation: 1,
                chain_id: RandomId::from_bytes([1; 16]),
                receipt_seq: *seq,
                prev_sha256: before.map(digest),
                root: RootMark { version: 1, sha256: digest(0) },
                assignment: None,
                app: None,
                release: None,
                generation: None,
                outcome: Outcome::Healthy,
                reason: None,
                counts: Counts::default(),
                evidence: Vec::new(),
                known_time: Timestamp::from_unix_s(0),
                clock_quality: ClockQuality::Floor,
                crit: Vec::new(),
            };
            chain.add(digest(*seq), receipt);
        }
        chain
    }

    #[test]
    fn a_chain_without_gap_and_with_right_links_is_good() {
        let good = chain(&[(2, Some(1)), (1, None), (3, Some(2))]);
        assert!(good.gaps().is_empty() && good.broken_links().is_empty());
    }

    #[test]
    fn gaps_and_wrong_links_are_seen() {
        assert_eq!(chain(&[(1, None), (5, Some(4))]).gaps(), [(2, 4)]);
        assert_eq!(chain(&[(1, None), (2, Some(9))]).broken_links(), [2]);
        let mut forked = chain(&[(1, None)]);
        let (_, receipt) = forked.receipts[&1].clone();
        forked.add(Sha256Digest::of(b"other"), receipt);
        assert_eq!(forked.forks, [1]);
    }
}
