//! What a write means in SQL: one statement each, prepared once.

use airlift_bundles::ids::{Blake3Digest, Sha256Digest};
use rusqlite::{Params, Transaction, params};

use crate::core::object::{ObjectRef, ObjectTraits};
use crate::core::write::{AppRow, CounterKey, GenerationRow, MetaRow, ObjectRow, Slot, Write};
use crate::ports::store::StoreError;

/// Does one write.
pub(super) fn save(transaction: &Transaction<'_>, write: &Write) -> Result<(), StoreError> {
    let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| execute(transaction, sql, params);
    match write {
        Write::PutMeta(row) => put_meta(transaction, row),
        Write::PutRoot(row) => run(
            "INSERT OR REPLACE INTO root VALUES (?, ?, ?)",
            params![row.version, bytes(&row.sha256), &*row.envelope],
        ),
        Write::PutDocument(row) => {
            run("INSERT OR REPLACE INTO document VALUES (?, ?)", params![bytes(&row.sha256), &*row.envelope])
        }
        Write::DropDocument(sha256) => run("DELETE FROM document WHERE sha256 = ?", params![bytes(sha256)]),
        Write::PutAccepted(row) => run(
            "INSERT OR REPLACE INTO accepted VALUES (?, ?, ?, ?)",
            params![row.app.as_str(), row.counter.epoch, row.counter.seq, bytes(&row.release)],
        ),
        Write::PutCounter(row) => {
            let (kind, name) = counter_key(&row.key);
            run("INSERT OR REPLACE INTO counter VALUES (?, ?, ?, ?)", params![kind, name, row.epoch, row.seq])
        }
        Write::PutAssignment(row) => run(
            "INSERT OR REPLACE INTO assignment VALUES (?, ?, ?)",
            params![slot(row.slot), bytes(&row.sha256), &*row.envelope],
        ),
        Write::DropAssignment(at) => run("DELETE FROM assignment WHERE slot = ?", params![slot(*at)]),
        Write::PutApp(row) => put_app(transaction, row),
        Write::DropApp(app) => run("DELETE FROM app WHERE app = ?", params![app.as_str()]),
        Write::PutGeneration(row) => put_generation(transaction, row),
        Write::DropGeneration(id) => run("DELETE FROM generation WHERE id = ?", params![bytes(id)]),
        Write::PutObject(row) => put_object(transaction, row),
        Write::DropObject(app, object) => drop_object(transaction, app.as_str(), object),
        Write::PutImage(row) => run(
            "INSERT OR REPLACE INTO image VALUES (?, ?, ?)",
            params![bytes(&row.generation), row.image.reference, bytes(&row.image.digest)],
        ),
        Write::DropImage(generation, reference) => run(
            "DELETE FROM image WHERE generation = ? AND reference = ?",
            params![bytes(generation), reference],
        ),
        Write::AppendReceipt(row) => run(
            "INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?, ?, ?)",
            params![
                row.chain_id.as_str(),
                row.seq,
                row.outbox_seq,
                bytes(&row.sha256),
                &*row.envelope,
                row.acked
            ],
        ),
        Write::ReceiptAcked { chain_id, upto } => run(
            "UPDATE receipt SET acked = 1 WHERE chain_id = ? AND seq <= ? AND acked = 0",
            params![chain_id.as_str(), upto],
        ),
        Write::DropReceipts { chain_id, below } => {
            run("DELETE FROM receipt WHERE chain_id = ? AND seq < ?", params![chain_id.as_str(), below])
        }
        Write::PutOutbox(row) => {
            run("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?)", params![row.key, row.seq, &*row.payload])
        }
        Write::DropOutbox(key) => run("DELETE FROM outbox WHERE key = ?", params![key]),
        Write::PutRefusal(row) => run(
            "INSERT OR REPLACE INTO refusal VALUES (?, ?, ?, ?)",
            params![row.code.id(), row.carrier, row.count, row.last],
        ),
        Write::PutSecret(row) => {
            run("INSERT OR REPLACE INTO secret VALUES (?, ?)", params![bytes(&row.sha256), &*row.sealed])
        }
        Write::PutQuarantine(row) => {
            run("INSERT OR REPLACE INTO quarantine VALUES (?, ?)", params![bytes(&row.sha256), row.deaths])
        }
        Write::DropQuarantine(sha256) => {
            run("DELETE FROM quarantine WHERE sha256 = ?", params![bytes(sha256)])
        }
        Write::PutTransfer(row) => run(
            "INSERT OR REPLACE INTO transfer VALUES (?, ?, ?)",
            params![bytes(&row.sha256), row.size, &*row.bitmap],
        ),
        Write::DropTransfer(sha256) => run("DELETE FROM transfer WHERE sha256 = ?", params![bytes(sha256)]),
        Write::PutBlob(row) => {
            run("INSERT OR REPLACE INTO blob VALUES (?, ?)", params![bytes(&row.sha256), row.size])
        }
        Write::DropBlob(sha256) => run("DELETE FROM blob WHERE sha256 = ?", params![bytes(sha256)]),
    }
}

fn execute(transaction: &Transaction<'_>, sql: &str, params: impl Params) -> Result<(), StoreError> {
    transaction.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

fn bytes(sha256: &Sha256Digest) -> &[u8] {
    sha256.as_bytes()
}

fn optional(sha256: Option<&Sha256Digest>) -> Option<&[u8]> {
    sha256.map(|sha256| sha256.as_bytes().as_slice())
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))
}

/// The word of a slot.
pub(super) fn slot(slot: Slot) -> &'static str {
    match slot {
        Slot::Current => "current",
        Slot::Parked => "parked",
    }
}

fn counter_key(key: &CounterKey) -> (&'static str, &str) {
    match key {
        CounterKey::Assignment => ("assignment", ""),
        CounterKey::Floor(app) => ("floor", app.as_str()),
    }
}

fn put_meta(transaction: &Transaction<'_>, row: &MetaRow) -> Result<(), StoreError> {
    execute(
        transaction,
        "INSERT OR REPLACE INTO meta VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            row.fleet.as_str(),
            row.site.as_str(),
            row.incarnation,
            row.minimum.epoch,
            row.minimum.seq,
            row.outbox_epoch.as_str(),
            row.outbox_next,
            row.conn_seq,
            row.starts,
            row.chain_id.as_str(),
            row.receipt_next,
            optional(row.receipt_head.as_ref()),
            row.receipt_acked_next,
            row.receipt_first,
            row.time_floor.unix_s(),
            row.cluster.as_ref().map(|uid| &uid.0),
            row.hub_incarnation.as_ref().map(|id| id.as_str()),
            row.hub_heard.map(|heard| heard.unix_s()),
        ],
    )
}

fn put_app(transaction: &Transaction<'_>, row: &AppRow) -> Result<(), StoreError> {
    execute(
        transaction,
        "INSERT OR REPLACE INTO app VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            row.app.as_str(),
            optional(row.target.as_ref()),
            row.retry,
            row.state.word(),
            row.step.as_str(),
            row.purpose.as_str(),
            optional(row.working.as_ref()),
            optional(row.planned.as_ref()),
            optional(row.current.as_ref()),
            optional(row.previous.as_ref()),
            optional(row.failed.as_ref()),
            row.held,
            row.retire_ms,
            row.settle_ms,
            row.soak_ms,
            row.watch_left_ms,
            row.starts,
            row.attempts,
            row.code.map(airlift_bundles::code::Code::id),
            row.reason,
            json(&row.evidence)?,
            row.since.map(airlift_bundles::ids::Timestamp::unix_s),
        ],
    )
}

fn put_generation(transaction: &Transaction<'_>, row: &GenerationRow) -> Result<(), StoreError> {
    let generation = &row.generation;
    execute(
        transaction,
        "INSERT OR REPLACE INTO generation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            bytes(&generation.id),
            generation.app.as_str(),
            bytes(&generation.release),
            bytes(&generation.bundle),
            generation.counter.epoch,
            generation.counter.seq,
            generation.version.as_str(),
            json(&generation.parameters)?,
            json(&generation.overlays)?,
            json(&generation.secrets)?,
            row.verdict.as_str(),
            row.retry,
            row.prepared.map(|prepared| prepared.objects),
            row.prepared.map(|prepared| prepared.policy.soak_ms),
            row.prepared.map(|prepared| prepared.policy.timeout_ms),
            row.prepared.map(|prepared| prepared.policy.watch_ms),
            row.prepared.and_then(|prepared| prepared.policy.deletion_budget),
            generation.stopped,
        ],
    )
}

/// Traits as bits, lowest first: observed, gate, once, adopt, recreate.
fn traits(traits: ObjectTraits) -> u8 {
    let bits = [traits.observed, traits.gate, traits.once, traits.adopt, traits.recreate];
    bits.into_iter().enumerate().fold(0, |sum, (at, bit)| sum | (u8::from(bit) << at))
}

fn put_object(transaction: &Transaction<'_>, row: &ObjectRow) -> Result<(), StoreError> {
    let ObjectRef { gvk, namespace, name } = &row.object;
    let applied = row.applied.as_ref();
    execute(
        transaction,
        "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            row.app.as_str(),
            gvk.group,
            gvk.version,
            gvk.kind,
            namespace.as_deref().unwrap_or(""),
            name,
            applied.map(|applied| &applied.uid.0),
            applied.map(|applied| bytes(&applied.sha256)),
            applied.map(|applied| fields(&applied.fields_hash)),
            applied.map(|applied| bytes(&applied.generation)),
            row.wanted.map(|wanted| wanted.index),
            optional(row.wanted.as_ref().map(|wanted| &wanted.sha256)),
            row.wave,
            traits(row.traits),
        ],
    )
}

fn fields(hash: &Blake3Digest) -> &[u8] {
    hash.as_bytes()
}

fn drop_object(transaction: &Transaction<'_>, app: &str, object: &ObjectRef) -> Result<(), StoreError> {
    let ObjectRef { gvk, namespace, name } = object;
    execute(
        transaction,
        "DELETE FROM object WHERE app = ? AND api_group = ? AND api_version = ? AND kind = ?
         AND namespace = ? AND name = ?",
        params![app, gvk.group, gvk.version, gvk.kind, namespace.as_deref().unwrap_or(""), name],
    )
}
