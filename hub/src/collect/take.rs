//! Stores what a site sent, in one transaction: receipts once, the newest status, and how far its outbox is held.

use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::ReceiptMark;
use airlift_bundles::document::status::SiteStatus;
use airlift_bundles::ids::{Counter, RandomId, SiteId};
use rusqlite::Connection;

use super::chain::{Link, Placed};
use super::verify::{VerifiedBatch, VerifiedReceipt};
use crate::api::types::Standing;
use crate::clock::Now;
use crate::db::DbError;
use crate::db::rows::assignments::{ReturnedRow, put_returned};
use crate::db::rows::audit;
use crate::db::rows::receipts::{self, Arrival, ChainRow};
use crate::db::rows::sites::{self, SiteRow};
use crate::db::rows::status::{self, StatusHead, StatusRow};
use crate::server::newest_root;

/// How many boots of a site are remembered.
const BOOTS_KEPT: usize = 8;

/// What storing came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// Receipts and statuses that were new.
    pub new: u64,
    /// Those that were held already.
    pub known: u64,
    /// Why the site was quarantined just now.
    pub quarantined: Option<Code>,
    /// The site has a newer assignment in force than this hub ever signed.
    pub hub_restored: bool,
}

/// Stores a verified batch of the site in `row`.
///
/// # Errors
/// [`DbError`].
pub fn take_batch(
    connection: &Connection,
    row: &SiteRow,
    batch: &VerifiedBatch,
    carrier: &str,
    now: &Now,
) -> Result<Taken, DbError> {
    let mut taken = Taken::default();
    for receipt in batch.receipts() {
        #[cfg(feature = "mutations")]
        if crate::mutation::is(crate::mutation::Mutation::LosesReceipts)
            && receipt.receipt().receipt_seq.is_multiple_of(5)
        {
            continue;
        }
        take_one(connection, row, receipt, carrier, now, &mut taken)?;
    }
    if let Some((seq, document)) = batch.status() {
        let before = status::head(connection, &row.site)?;
        if is_news(connection, row, before.as_ref(), batch.outbox_epoch(), *seq)? {
            take_status(connection, row, before, (batch.outbox_epoch(), *seq), document, now, &mut taken)?;
        } else {
            taken.known += 1;
        }
    }
    status::set_upto(connection, &row.site, batch.outbox_epoch(), batch.upto())?;
    sites::set_seen(connection, &row.site, now)?;
    Ok(taken)
}

/// Stores verified receipts that came outside a batch.
///
/// # Errors
/// [`DbError`].
pub fn take_receipts(
    connection: &Connection,
    row: &SiteRow,
    receipts: &[VerifiedReceipt],
    carrier: &str,
    now: &Now,
) -> Result<Taken, DbError> {
    let mut taken = Taken::default();
    for receipt in receipts {
        take_one(connection, row, receipt, carrier, now, &mut taken)?;
    }
    if taken.new > 0 {
        sites::set_seen(connection, &row.site, now)?;
    }
    Ok(taken)
}

fn take_one(
    connection: &Connection,
    row: &SiteRow,
    verified: &VerifiedReceipt,
    carrier: &str,
    now: &Now,
    taken: &mut Taken,
) -> Result<(), DbError> {
    let receipt = verified.receipt();
    let (site, chain_id) = (&row.site, &receipt.chain_id);
    let held = |seq| -> Result<Vec<Link>, DbError> {
        let rows = receipts::at(connection, site, chain_id, seq)?;
        Ok(rows.into_iter().map(|(sha256, prev_sha256)| Link { seq, sha256, prev_sha256 }).collect())
    };
    let link =
        Link { seq: receipt.receipt_seq, sha256: *verified.sha256(), prev_sha256: receipt.prev_sha256 };
    let stored = receipts::chain(connection, site, chain_id)?;
    let mut chain = stored.clone().unwrap_or_else(|| ChainRow::start(chain_id.clone()));
    let placed = chain.place(&link, &held(link.seq)?);
    if placed == Placed::Known {
        taken.known += 1;
        return Ok(());
    }
    let arrival = Arrival { keyid: verified.keyid(), carrier, at: now.time() };
    receipts::add(connection, receipt, verified.sha256(), verified.envelope(), arrival)?;
    let contradicts = chain.advance(held)?;
    receipts::put_chain(connection, site, &chain)?;
    taken.new += 1;
    if placed == Placed::Forked || (contradicts && stored.is_none_or(|stored| stored.fork.is_none())) {
        let detail = format!("receipts of chain {chain_id} contradict each other at {}", link.seq);
        quarantine(connection, row, Code::ChainForked, &detail, now, taken)?;
    }
    if let Some(counter) = receipt.assignment {
        check_counter(connection, row, receipt.incarnation, counter, now, taken)?;
    }
    Ok(())
}

/// Whether a status is newer than the one that is held. Receipts with greater numbers may have come before it, so how
/// far the outbox is held says nothing about it.
fn is_news(
    connection: &Connection,
    row: &SiteRow,
    held: Option<&StatusHead>,
    outbox_epoch: &RandomId,
    seq: u64,
) -> Result<bool, DbError> {
    Ok(match held {
        None => true,
        Some(held) if held.outbox_epoch == *outbox_epoch => seq > held.seq,
        Some(_) => seq > status::upto(connection, &row.site, outbox_epoch)?,
    })
}

fn take_status(
    connection: &Connection,
    row: &SiteRow,
    before: Option<StatusHead>,
    (outbox_epoch, seq): (&RandomId, u64),
    document: &SiteStatus,
    now: &Now,
    taken: &mut Taken,
) -> Result<(), DbError> {
    let mut boots = before.as_ref().map(|before| before.boots.clone()).unwrap_or_default();
    if let Some(before) = before.filter(|before| before.boot != document.boot) {
        // A boot that comes back belongs to a second living copy; a new outbox belongs to a new database.
        if before.outbox_epoch == *outbox_epoch && boots.contains(&document.boot) {
            let detail = format!("boots {} and {} alternate", before.boot, document.boot);
            quarantine(connection, row, Code::ChainForked, &detail, now, taken)?;
        }
        boots.retain(|boot| *boot != document.boot);
        boots.insert(0, before.boot);
        boots.truncate(BOOTS_KEPT);
    }
    let stored = StatusRow {
        outbox_epoch: outbox_epoch.clone(),
        seq,
        boots,
        document: document.clone(),
        received_at: now.time(),
    };
    status::put(connection, &row.site, &stored)?;
    taken.new += 1;
    if let Some(counter) = document.assignment {
        check_counter(connection, row, row.incarnation, counter, now, taken)?;
    }
    Ok(())
}

/// A signed word of the site about an assignment that this hub never signed: the hub was restored from a backup, or
/// somebody else holds the director key. Either way it must stop publishing.
fn check_counter(
    connection: &Connection,
    row: &SiteRow,
    incarnation: u64,
    counter: Counter,
    now: &Now,
    taken: &mut Taken,
) -> Result<(), DbError> {
    if incarnation != row.incarnation || counter <= row.last {
        return Ok(());
    }
    // What a root has left behind is nothing to adopt: the key may have been stolen for that very reason.
    if newest_root(connection)?.is_some_and(|root| counter.epoch < root.roles.director.epoch) {
        return Ok(());
    }
    let returned = ReturnedRow { site: row.site.clone(), counter, envelope: None };
    taken.hub_restored = true;
    if !put_returned(connection, &returned)? {
        return Ok(());
    }
    let detail = format!("site has assignment {counter}, the hub knows {}", row.last);
    audit::append(connection, now.time(), "hub", "hub.restored", row.site.as_str(), &detail)?;
    Ok(())
}

fn quarantine(
    connection: &Connection,
    row: &SiteRow,
    code: Code,
    detail: &str,
    now: &Now,
    taken: &mut Taken,
) -> Result<(), DbError> {
    if row.standing == Standing::Enrolled && taken.quarantined.is_none() {
        sites::set_standing(connection, &row.site, Standing::Quarantined)?;
        audit::append(connection, now.time(), "hub", "site.quarantine", row.site.as_str(), detail)?;
        taken.quarantined = Some(code);
    }
    Ok(())
}

/// How far the newest chain of a site is held: the one of its newest key.
///
/// # Errors
/// [`DbError`].
pub fn receipt_mark(connection: &Connection, site: &SiteId) -> Result<Option<ReceiptMark>, DbError> {
    let keys = sites::keys(connection, site)?;
    let Some(key) = keys.iter().find(|key| !key.revoked) else { return Ok(None) };
    let chain = receipts::chain(connection, site, &key.chain_id)?;
    Ok(chain.and_then(|chain| chain.mark()))
}
