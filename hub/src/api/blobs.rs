//! Blobs: uploaded in one go or in several, verified before anybody can see them, streamed both ways.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::limits::Limits;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use tokio::fs::OpenOptions;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::problem::ApiError;
use crate::db::rows::releases;
use crate::server::Hub;

/// Bytes of one chunk on the way out, and chunks that wait for a slow reader.
const CHUNK: usize = 64 << 10;
const CHUNKS_WAITING: usize = 8;

fn paths(hub: &Hub, digest: &Sha256Digest) -> (PathBuf, PathBuf) {
    (hub.data.blobs().join(digest.to_hex()), hub.data.uploads().join(digest.to_hex()))
}

async fn whole_size(hub: &Hub, digest: Sha256Digest) -> Result<Option<u64>, ApiError> {
    hub.db.read(move |connection| Ok::<_, ApiError>(releases::blob_size(connection, &digest)?)).await
}

/// Bytes that are held of an unfinished upload.
async fn held(partial: &std::path::Path) -> io::Result<u64> {
    match tokio::fs::metadata(partial).await {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

pub(super) async fn look(State(hub): State<Arc<Hub>>, Path(hex): Path<String>) -> Result<Response, ApiError> {
    let digest = Sha256Digest::from_hex(&hex)?;
    if let Some(size) = whole_size(&hub, digest).await? {
        let mut response = StatusCode::OK.into_response();
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
        return Ok(response);
    }
    let offset = held(&paths(&hub, &digest).1).await?;
    Err(ApiError::new(Code::NotFound, format!("blob {digest} is not whole")).upload_offset(offset))
}

#[derive(Debug, Deserialize)]
pub(super) struct UploadQuery {
    #[serde(default)]
    offset: u64,
    size: u64,
}

pub(super) async fn upload(
    State(hub): State<Arc<Hub>>,
    Path(hex): Path<String>,
    Query(query): Query<UploadQuery>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let digest = Sha256Digest::from_hex(&hex)?;
    if query.size > Limits::DEFAULT.blob_bytes {
        return Err(ApiError::new(Code::TooLarge, format!("a blob of {} bytes", query.size)));
    }
    if whole_size(&hub, digest).await?.is_some() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let _turn = hub.uploads.begin(digest).ok_or_else(|| {
        ApiError::new(Code::Conflict, format!("blob {digest} is being uploaded by somebody else"))
    })?;
    let (whole, partial) = paths(&hub, &digest);
    let offset = held(&partial).await?;
    if query.offset != offset && query.offset != 0 {
        let detail = format!("{offset} bytes of {digest} are held, the upload begins at {}", query.offset);
        return Err(ApiError::new(Code::Conflict, detail).upload_offset(offset));
    }
    receive(&partial, &query, body).await?;
    let (checked, final_path) = (partial.clone(), whole);
    let verified = tokio::task::spawn_blocking(move || finish(&checked, &final_path, &digest));
    if !verified.await.unwrap_or_else(|error| Err(io::Error::other(error)))? {
        let detail = format!("the bytes are not those of {digest}; they were thrown away");
        return Err(ApiError::new(Code::BlobDigest, detail));
    }
    let size = query.size;
    hub.db.write(move |connection| Ok::<_, ApiError>(releases::add_blob(connection, &digest, size)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Appends the body to the partial file; what arrived is kept where the connection breaks.
async fn receive(partial: &std::path::Path, query: &UploadQuery, mut body: Body) -> Result<(), ApiError> {
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(partial).await?;
    file.set_len(query.offset).await?;
    file.seek(SeekFrom::Start(query.offset)).await?;
    let mut held = query.offset;
    let outcome = loop {
        let frame = match body.frame().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => break Err(ApiError::invalid(format!("the upload broke off: {error}"))),
            None => break Ok(()),
        };
        let Ok(data) = frame.into_data() else { continue };
        held += data.len() as u64;
        if held > query.size {
            break Err(ApiError::new(
                Code::TooLarge,
                format!("more than the announced {} bytes", query.size),
            ));
        }
        file.write_all(&data).await?;
    };
    file.flush().await?;
    file.sync_data().await?;
    match outcome {
        Ok(()) if held < query.size => {
            let detail = format!("{held} of {} bytes arrived; go on from there", query.size);
            Err(ApiError::new(Code::ContentMissing, detail).upload_offset(held))
        }
        Ok(()) => Ok(()),
        Err(error) => Err(error.upload_offset(held.min(query.size))),
    }
}

/// Hashes the partial file and moves it among the whole ones; false, and gone, where the digest is another.
fn finish(partial: &std::path::Path, whole: &std::path::Path, digest: &Sha256Digest) -> io::Result<bool> {
    let mut file = File::open(partial)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    if Sha256Digest::from_bytes(hasher.finalize().into()) != *digest {
        std::fs::remove_file(partial)?;
        return Ok(false);
    }
    file.sync_all()?;
    std::fs::rename(partial, whole)?;
    if let Some(directory) = whole.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(true)
}

#[derive(Debug, Deserialize)]
pub(super) struct DownloadQuery {
    #[serde(default)]
    offset: u64,
}

pub(super) async fn download(
    State(hub): State<Arc<Hub>>,
    Path(hex): Path<String>,
    Query(query): Query<DownloadQuery>,
) -> Result<Response, ApiError> {
    let digest = Sha256Digest::from_hex(&hex)?;
    let size = whole_size(&hub, digest).await?;
    let size = size.ok_or_else(|| ApiError::new(Code::NotFound, format!("blob {digest}")))?;
    let left = size.checked_sub(query.offset);
    let left = left.ok_or_else(|| ApiError::invalid(format!("offset is beyond the {size} bytes")))?;
    let path = paths(&hub, &digest).0;
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read_chunks(&path, query.offset, &sender) {
            tracing::error!(%digest, %error, "blob could not be read");
            // The receiver sees the error as a broken answer, and the client goes on from there.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Ok(Body::new(FileBody { chunks, left }).into_response())
}

fn read_chunks(
    path: &std::path::Path,
    offset: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    loop {
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk)?;
        chunk.truncate(read);
        if read == 0 || sender.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
}

/// A file on its way out, of a size that is known.
struct FileBody {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.chunks.poll_recv(cx).map(|chunk| {
            chunk.map(|chunk| {
                chunk.map(|bytes| {
                    self.left = self.left.saturating_sub(bytes.len() as u64);
                    Frame::data(bytes)
                })
            })
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
