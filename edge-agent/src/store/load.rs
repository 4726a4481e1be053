//! Reading the rows back.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, Blake3Digest, Counter, RandomId, Sha256Digest, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

use crate::core::object::{AppPolicy, Generation, Gvk, ImageEntry, ObjectRef, ObjectTraits, Uid};
use crate::core::write::{
    AppRow, AppliedRow, AssignmentRow, BlobRow, CounterKey, CounterRow, DocumentRow, GenerationRow, ImageRow,
    MetaRow, ObjectRow, OutboxRow, PreparedRow, QuarantineRow, ReceiptRow, RefusalRow, RootRow, Rows,
    SecretRow, Slot, TransferRow, WantedRow, Write,
};
use crate::ports::store::StoreError;

/// Everything that a core is loaded from.
pub(super) fn load(connection: &Connection) -> Result<Rows, StoreError> {
    let mut rows = Rows::default();
    let mut kinds = BTreeMap::new();
    let mut take = |write: Write| rows.apply(&write);
    each(connection, "meta", |row| meta(row).map(Write::PutMeta), &mut take)?;
    each(connection, "root", |row| root(row).map(Write::PutRoot), &mut take)?;
    each(connection, "document", |row| document_row(row).map(Write::PutDocument), &mut take)?;
    each(connection, "accepted", accepted, &mut take)?;
    each(connection, "counter", |row| counter(row).map(Write::PutCounter), &mut take)?;
    each(connection, "assignment", |row| assignment(row).map(Write::PutAssignment), &mut take)?;
    each(connection, "app", |row| app(row).map(|row| Write::PutApp(row.into())), &mut take)?;
    each(connection, "generation", |row| generation(row).map(Write::PutGeneration), &mut take)?;
    each(
        connection,
        "object",
        |row| object(row, &mut kinds).map(|row| Write::PutObject(row.into())),
        &mut take,
    )?;
    each(connection, "image", |row| image(row).map(Write::PutImage), &mut take)?;
    each(connection, "outbox", |row| outbox(row).map(Write::PutOutbox), &mut take)?;
    each(connection, "refusal", |row| refusal(row).map(Write::PutRefusal), &mut take)?;
    each(connection, "secret", |row| secret(row).map(Write::PutSecret), &mut take)?;
    each(connection, "quarantine", |row| quarantine(row).map(Write::PutQuarantine), &mut take)?;
    if let Some(meta) = &rows.meta {
        rows.receipts = receipt_heads(connection, &meta.chain_id)?;
    }
    Ok(rows)
}

/// Reads a whole table.
fn each<T>(
    connection: &Connection,
    table: &'static str,
    mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    take: &mut impl FnMut(T),
) -> Result<(), StoreError> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        take(read(row).map_err(|error| match error {
            StoreError::Failed(reason) => StoreError::Damaged { table, reason },
            other => other,
        })?);
    }
    Ok(())
}

fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

fn word<T: FromStr<Err: std::fmt::Display>>(row: &Row<'_>, column: &str) -> Result<T, StoreError> {
    row.get_ref(column)?.as_str().map_err(|error| failed(&error))?.parse().map_err(|error| failed(&error))
}

fn words<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, StoreError> {
    let text = row.get_ref(column)?.as_str().map_err(|error| failed(&error))?;
    serde_json::from_str(text).map_err(|error| failed(&error))
}

fn optional_word<T: FromStr<Err: std::fmt::Display>>(
    row: &Row<'_>,
    column: &str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|error| failed(&error))).transpose()
}

fn digest(row: &Row<'_>, column: &str) -> Result<Sha256Digest, StoreError> {
    Ok(Sha256Digest::from_bytes(row.get(column)?))
}

fn optional_digest(row: &Row<'_>, column: &str) -> Result<Option<Sha256Digest>, StoreError> {
    let bytes: Option<[u8; 32]> = row.get(column)?;
    Ok(bytes.map(Sha256Digest::from_bytes))
}

fn bytes(row: &Row<'_>, column: &str) -> Result<Arc<[u8]>, StoreError> {
    Ok(row.get_ref(column)?.as_blob().map_err(|error| failed(&error))?.into())
}

fn meta(row: &Row<'_>) -> Result<MetaRow, StoreError> {
    Ok(MetaRow {
        fleet: word(row, "fleet")?,
        site: word(row, "site")?,
        incarnation: row.get("incarnation")?,
        minimum: Counter { epoch: row.get("minimum_epoch")?, seq: row.get("minimum_seq")? },
        outbox_epoch: word(row, "outbox_epoch")?,
        outbox_next: row.get("outbox_next")?,
        conn_seq: row.get("conn_seq")?,
        starts: row.get("starts")?,
        chain_id: word(row, "chain_id")?,
        receipt_next: row.get("receipt_next")?,
        receipt_head: optional_digest(row, "receipt_head")?,
        receipt_acked_next: row.get("receipt_acked_next")?,
        receipt_first: row.get("receipt_first")?,
        time_floor: Timestamp::from_unix_s(row.get("time_floor_s")?),
        cluster: row.get::<_, Option<String>>("cluster")?.map(Uid),
        hub_incarnation: optional_word(row, "hub_incarnation")?,
        hub_heard: row.get::<_, Option<i64>>("hub_heard_s")?.map(Timestamp::from_unix_s),
    })
}

fn root(row: &Row<'_>) -> Result<RootRow, StoreError> {
    Ok(RootRow {
        version: row.get("version")?,
        sha256: digest(row, "sha256")?,
        envelope: bytes(row, "envelope")?,
    })
}

fn document_row(row: &Row<'_>) -> Result<DocumentRow, StoreError> {
    Ok(DocumentRow { sha256: digest(row, "sha256")?, envelope: bytes(row, "envelope")? })
}

fn accepted(row: &Row<'_>) -> Result<Write, StoreError> {
    Ok(Write::PutAccepted(crate::core::write::AcceptedRow {
        app: word(row, "app")?,
        counter: Counter { epoch: row.get("epoch")?, seq: row.get("seq")? },
        release: digest(row, "release")?,
    }))
}

fn counter(row: &Row<'_>) -> Result<CounterRow, StoreError> {
    let kind: String = row.get("kind")?;
    let key = match kind.as_str() {
        "assignment" => CounterKey::Assignment,
        "floor" => CounterKey::Floor(word::<AppName>(row, "name")?),
        other => return Err(failed(&format!("unknown counter {other}"))),
    };
    Ok(CounterRow { key, epoch: row.get("epoch")?, seq: row.get("seq")? })
}

fn assignment(row: &Row<'_>) -> Result<AssignmentRow, StoreError> {
    let name: String = row.get("slot")?;
    let slot = [Slot::Current, Slot::Parked].into_iter().find(|slot| super::save::slot(*slot) == name);
    Ok(AssignmentRow {
        slot: slot.ok_or_else(|| failed(&format!("unknown slot {name}")))?,
        sha256: digest(row, "sha256")?,
        envelope: bytes(row, "envelope")?,
    })
}

fn app(row: &Row<'_>) -> Result<AppRow, StoreError> {
    let state: String = row.get("state")?;
    let state: AppState =
        serde_json::from_value(serde_json::Value::String(state)).map_err(|error| failed(&error))?;
    Ok(AppRow {
        app: word(row, "app")?,
        target: optional_digest(row, "target")?,
        retry: row.get("retry")?,
        state,
        step: word(row, "step")?,
        purpose: word(row, "purpose")?,
        working: optional_digest(row, "working")?,
        planned: optional_digest(row, "planned")?,
        current: optional_digest(row, "current")?,
        previous: optional_digest(row, "previous")?,
        failed: optional_digest(row, "failed")?,
        held: row.get("held")?,
        retire_ms: row.get("retire_ms")?,
        settle_ms: row.get("settle_ms")?,
        soak_ms: row.get("soak_ms")?,
        watch_left_ms: row.get("watch_left_ms")?,
        starts: row.get("starts")?,
        attempts: row.get("attempts")?,
        code: optional_word::<Code>(row, "code")?,
        reason: row.get("reason")?,
        evidence: words(row, "evidence")?,
        since: row.get::<_, Option<i64>>("since_s")?.map(Timestamp::from_unix_s),
    })
}

fn generation(row: &Row<'_>) -> Result<GenerationRow, StoreError> {
    let generation = Generation {
        id: digest(row, "id")?,
        app: word(row, "app")?,
        release: digest(row, "release")?,
        bundle: digest(row, "bundle")?,
        counter: Counter { epoch: row.get("epoch")?, seq: row.get("seq")? },
        version: word(row, "version")?,
        parameters: words(row, "parameters")?,
        overlays: words(row, "overlays")?,
        secrets: words(row, "secrets")?,
        stopped: row.get("stopped")?,
    };
    let objects: Option<u32> = row.get("objects")?;
    let prepared = match objects {
        None => None,
        Some(objects) => Some(PreparedRow {
            policy: AppPolicy {
                soak_ms: row.get("soak_ms")?,
                timeout_ms: row.get("timeout_ms")?,
                watch_ms: row.get("watch_ms")?,
                deletion_budget: row.get("deletion_budget")?,
            },
            objects,
        }),
    };
    Ok(GenerationRow {
        generation: Arc::new(generation),
        verdict: word(row, "verdict")?,
        retry: row.get("retry")?,
        prepared,
    })
}

/// Kinds are shared between rows: thousands of objects have the same few.
fn object(row: &Row<'_>, kinds: &mut BTreeMap<Gvk, Arc<Gvk>>) -> Result<ObjectRow, StoreError> {
    let gvk = Gvk { group: row.get("api_group")?, version: row.get("api_version")?, kind: row.get("kind")? };
    let gvk = kinds.entry(gvk.clone()).or_insert_with(|| Arc::new(gvk)).clone();
    let namespace: String = row.get("namespace")?;
    let namespace = (!namespace.is_empty()).then_some(namespace);
    let uid: Option<String> = row.get("uid")?;
    let applied = match uid {
        None => None,
        Some(uid) => Some(AppliedRow {
            uid: Uid(uid),
            sha256: digest(row, "applied_sha256")?,
            fields_hash: Blake3Digest::from_bytes(row.get("fields_hash")?),
            generation: digest(row, "applied_generation")?,
        }),
    };
    let index: Option<u32> = row.get("wanted_index")?;
    let wanted = match index {
        None => None,
        Some(index) => Some(WantedRow { index, sha256: digest(row, "wanted_sha256")? }),
    };
    let bits: u8 = row.get("traits")?;
    let bit = |at: u8| bits & (1 << at) != 0;
    let (observed, gate, once, adopt, recreate) = (bit(0), bit(1), bit(2), bit(3), bit(4));
    Ok(ObjectRow {
        app: word(row, "app")?,
        object: ObjectRef { gvk, namespace, name: row.get("name")? },
        applied,
        wanted,
        wave: row.get("wave")?,
        traits: ObjectTraits { observed, gate, once, adopt, recreate },
    })
}

fn image(row: &Row<'_>) -> Result<ImageRow, StoreError> {
    let image = ImageEntry { reference: row.get("reference")?, digest: digest(row, "digest")? };
    Ok(ImageRow { generation: digest(row, "generation")?, image })
}

fn outbox(row: &Row<'_>) -> Result<OutboxRow, StoreError> {
    Ok(OutboxRow { key: row.get("key")?, seq: row.get("seq")?, payload: bytes(row, "payload")? })
}

fn refusal(row: &Row<'_>) -> Result<RefusalRow, StoreError> {
    Ok(RefusalRow {
        code: word(row, "code")?,
        carrier: row.get("carrier")?,
        count: row.get("count")?,
        last: row.get("last")?,
    })
}

fn secret(row: &Row<'_>) -> Result<SecretRow, StoreError> {
    Ok(SecretRow { sha256: digest(row, "sha256")?, sealed: bytes(row, "sealed")? })
}

fn quarantine(row: &Row<'_>) -> Result<QuarantineRow, StoreError> {
    Ok(QuarantineRow { sha256: digest(row, "sha256")?, deaths: row.get("deaths")? })
}

fn receipt_heads(
    connection: &Connection,
    chain_id: &RandomId,
) -> Result<BTreeMap<u64, Sha256Digest>, StoreError> {
    let mut statement = connection.prepare("SELECT seq, sha256 FROM receipt WHERE chain_id = ?")?;
    let mut rows = statement.query([chain_id.as_str()])?;
    let mut heads = BTreeMap::new();
    while let Some(row) = rows.next()? {
        heads.insert(row.get("seq")?, digest(row, "sha256")?);
    }
    Ok(heads)
}

/// Receipts in order, within a bound of bytes, and at least one.
pub(super) fn receipts(
    connection: &Connection,
    chain_id: &RandomId,
    (from, upto): (u64, u64),
    bytes_max: usize,
) -> Result<Vec<ReceiptRow>, StoreError> {
    let sql = "SELECT * FROM receipt WHERE chain_id = ? AND seq BETWEEN ? AND ? ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![chain_id.as_str(), from, upto.min(i64::MAX.unsigned_abs())])?;
    let (mut receipts, mut size) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let receipt = ReceiptRow {
            chain_id: chain_id.clone(),
            seq: row.get("seq")?,
            outbox_seq: row.get("outbox_seq")?,
            sha256: digest(row, "sha256")?,
            envelope: bytes(row, "envelope")?,
            acked: row.get("acked")?,
        };
        size += receipt.envelope.len();
        if size > bytes_max && !receipts.is_empty() {
            break;
        }
        receipts.push(receipt);
    }
    Ok(receipts)
}

pub(super) fn outbox_row(connection: &Connection, key: &str) -> Result<Option<OutboxRow>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM outbox WHERE key = ?")?;
    let mut rows = statement.query([key])?;
    rows.next()?.map(outbox).transpose()
}

pub(super) fn document(connection: &Connection, sha256: Sha256Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT envelope FROM document WHERE sha256 = ?")?;
    Ok(statement.query_row([sha256.as_bytes().as_slice()], |row| row.get(0)).optional()?)
}

/// The content task's rows.
pub(super) fn content(connection: &Connection) -> Result<(Vec<BlobRow>, Vec<TransferRow>), StoreError> {
    let (mut blobs, mut transfers) = (Vec::new(), Vec::new());
    let blob = |row: &Row<'_>| Ok(BlobRow { sha256: digest(row, "sha256")?, size: row.get("size")? });
    each(connection, "blob", blob, &mut |row| blobs.push(row))?;
    let transfer = |row: &Row<'_>| {
        Ok(TransferRow {
            sha256: digest(row, "sha256")?,
            size: row.get("size")?,
            bitmap: bytes(row, "bitmap")?,
        })
    };
    each(connection, "transfer", transfer, &mut |row| transfers.push(row))?;
    Ok((blobs, transfers))
}
