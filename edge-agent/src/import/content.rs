//! Writes blobs into containerd's content store: in chunks, continued where the last try ended, checked at the end.

use std::io::SeekFrom;
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tonic::{Code, Status};

use super::labels;
use super::manifest::PlannedBlob;
use super::messages::{
    AbortRequest, ContentInfo, Empty, FieldMask, InfoRequest, InfoResponse, Labels, UpdateContentRequest,
    WriteAction, WriteContentRequest, WriteContentResponse,
};
use super::socket::{CALL_TIMEOUT, LAYER_TIMEOUT, Socket};
use crate::ports::cancel::CancelFlag;
use crate::ports::images::ImportError;

/// Bytes in one message: large enough that the disk decides, small enough for a Pi with ten imports queued.
const CHUNK_BYTES: usize = 256 << 10;

/// How long a ref may stay locked by a connection that died: containerd notices within a second.
const LOCKED_TRIES: u32 = 40;
const LOCKED_PAUSE: Duration = Duration::from_millis(250);

/// Counts bytes over all blobs of one import and tells the caller.
pub(super) struct Progress<'a> {
    /// Bytes of the blobs that are complete.
    pub(super) done: u64,
    pub(super) report: &'a mut (dyn FnMut(u64) + Send),
}

/// How one attempt to write a blob ended, where it is no error.
enum Sent {
    Committed,
    AlreadyThere,
    Locked,
    /// What lies there, from this try or an earlier one, does not have the digest.
    Mismatch,
}

/// Makes sure that a blob is there with its labels, and held by the lease.
pub(super) async fn write_blob(
    socket: &Socket,
    lease: &str,
    blob: &PlannedBlob,
    progress: &mut Progress<'_>,
    cancel: &CancelFlag,
) -> Result<(), ImportError> {
    let mut locked = 0;
    let mut mismatched = false;
    loop {
        match send(socket, lease, blob, progress, cancel).await? {
            Sent::Committed => break,
            Sent::AlreadyThere => {
                add_labels(socket, blob.digest.to_string(), &blob.labels).await?;
                break;
            }
            Sent::Locked if locked < LOCKED_TRIES => {
                locked += 1;
                tokio::time::sleep(LOCKED_PAUSE).await;
            }
            Sent::Locked => {
                let reason = format!("blob {} stays locked by another writer", blob.digest);
                return Err(ImportError::Runtime { step: "writing a blob", reason });
            }
            Sent::Mismatch => {
                abort(socket, lease, blob).await?;
                // The rest of an interrupted write may be torn; a write from the start is the file's own fault.
                if mismatched {
                    return Err(ImportError::BlobDamaged { digest: blob.digest });
                }
                mismatched = true;
            }
        }
    }
    progress.done = progress.done.saturating_add(blob.size);
    (progress.report)(progress.done);
    Ok(())
}

async fn send(
    socket: &Socket,
    lease: &str,
    blob: &PlannedBlob,
    progress: &mut Progress<'_>,
    cancel: &CancelFlag,
) -> Result<Sent, ImportError> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ImportError::BlobMissing { digest: blob.digest },
        _ => ImportError::BlobUnreadable { digest: blob.digest, reason: error.to_string() },
    };
    let failed = |status: &Status| socket.failed("writing a blob", status);
    let mut file = File::open(&blob.path).await.map_err(unreadable)?;
    file.set_max_buf_size(CHUNK_BYTES);
    let found = file.metadata().await.map_err(unreadable)?.len();
    if found != blob.size {
        return Err(ImportError::BlobDamaged { digest: blob.digest });
    }
    let total = to_wire(blob.size, blob)?;
    let question = |action: WriteAction, offset: i64, data: Bytes, labels: Labels| WriteContentRequest {
        action: action.into(),
        reference: write_ref(blob),
        total,
        expected: blob.digest.to_string(),
        offset,
        data,
        labels,
    };

    let opening = question(WriteAction::Stat, 0, Bytes::new(), Labels::new());
    let method = "/containerd.services.content.v1.Content/Write";
    let opened = socket.converse::<_, WriteContentResponse>(method, lease, opening).await;
    let opened = match opened {
        // An interrupted write is hashed again from its start before the answer comes.
        Ok(mut conversation) => conversation.answer(LAYER_TIMEOUT).await.map(|answer| (conversation, answer)),
        Err(status) => Err(status),
    };
    let (mut conversation, answer) = match opened {
        Ok(opened) => opened,
        Err(status) => return outcome(&status).ok_or_else(|| failed(&status)),
    };
    let mut at = match u64::try_from(answer.offset) {
        Ok(offset) if offset <= blob.size => offset,
        _ => return Ok(Sent::Mismatch),
    };
    file.seek(SeekFrom::Start(at)).await.map_err(unreadable)?;
    while at < blob.size {
        if cancel.is_raised() {
            return Err(ImportError::Cancelled);
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let room = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX).min(blob.size - at);
        (&mut file).take(room).read_to_end(&mut chunk).await.map_err(unreadable)?;
        if chunk.is_empty() {
            return Err(ImportError::BlobDamaged { digest: blob.digest });
        }
        let next = at.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        let write = question(WriteAction::Write, to_wire(at, blob)?, Bytes::from(chunk), Labels::new());
        match conversation.ask(CALL_TIMEOUT, write).await {
            Ok(answer) if answer.offset == to_wire(next, blob)? => at = next,
            Ok(_) => return Ok(Sent::Mismatch),
            Err(status) => return outcome(&status).ok_or_else(|| failed(&status)),
        }
        (progress.report)(progress.done.saturating_add(at));
    }
    let commit = question(WriteAction::Commit, total, Bytes::new(), blob.labels.clone());
    match conversation.ask(LAYER_TIMEOUT, commit).await {
        Ok(_) => Ok(Sent::Committed),
        Err(status) => outcome(&status).ok_or_else(|| failed(&status)),
    }
}

/// The refusals that have their own way on.
fn outcome(status: &Status) -> Option<Sent> {
    match status.code() {
        Code::AlreadyExists => Some(Sent::AlreadyThere),
        Code::Unavailable if status.message().contains("locked") => Some(Sent::Locked),
        Code::FailedPrecondition | Code::OutOfRange => Some(Sent::Mismatch),
        _ => None,
    }
}

/// Adds labels to a blob that is there; writes nothing when they already stand.
pub(super) async fn add_labels(socket: &Socket, digest: String, wanted: &Labels) -> Result<(), ImportError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let failed = |status: Status| socket.failed("labelling a blob", &status);
    let question = InfoRequest { digest: digest.clone() };
    let method = "/containerd.services.content.v1.Content/Info";
    let answer: InfoResponse = socket.call(method, None, CALL_TIMEOUT, question).await.map_err(failed)?;
    let labels = labels::missing(&answer.info.unwrap_or_default().labels, wanted);
    if labels.is_empty() {
        return Ok(());
    }
    let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
    let question = UpdateContentRequest {
        info: Some(ContentInfo { digest, labels }),
        update_mask: Some(FieldMask { paths }),
    };
    let method = "/containerd.services.content.v1.Content/Update";
    let _updated: InfoResponse = socket.call(method, None, CALL_TIMEOUT, question).await.map_err(failed)?;
    Ok(())
}

async fn abort(socket: &Socket, lease: &str, blob: &PlannedBlob) -> Result<(), ImportError> {
    let method = "/containerd.services.content.v1.Content/Abort";
    let question = AbortRequest { reference: write_ref(blob) };
    match socket.call::<_, Empty>(method, Some(lease), CALL_TIMEOUT, question).await {
        Ok(_) => Ok(()),
        // Nothing lies there any more: that is what was wanted.
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(socket.failed("dropping a torn blob", &status)),
    }
}

/// The name of the write: our own, so that a pull of the same blob neither blocks nor joins it.
fn write_ref(blob: &PlannedBlob) -> String {
    format!("airlift-{}", blob.digest)
}

fn to_wire(bytes: u64, blob: &PlannedBlob) -> Result<i64, ImportError> {
    let reason = || ImportError::Malformed { digest: blob.digest, reason: "larger than any disk".to_owned() };
    i64::try_from(bytes).map_err(|_| reason())
}
