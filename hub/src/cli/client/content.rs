//! Content to and from the hub: a blob is sent from where the hub's copy ends, and read as a stream.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread;

use airlift_bundles::ids::Sha256Digest;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Method;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::{Client, problem, refusal};
use crate::api::types::route;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::Progress;

/// Read and sent at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that are read before they can be sent: enough to keep disk and network busy at once.
const CHUNKS_AHEAD: usize = 4;
/// How often a broken upload is taken up again before giving up.
const TRIES: u32 = 5;
/// The header in which the hub says how much it keeps of an unfinished upload.
const UPLOAD_OFFSET: &str = "upload-offset";

/// A blob whose bytes can be read again from the beginning.
pub(crate) trait BlobSource {
    /// Opens its bytes.
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>>;
}

/// What the hub has of a blob.
enum Held {
    Whole,
    Part(u64),
}

impl Client {
    /// Brings a blob to the hub, from where the hub's copy ends; returns how many bytes were sent.
    pub(crate) fn upload(
        &self,
        digest: &Sha256Digest,
        size: u64,
        source: &dyn BlobSource,
        progress: &Progress,
    ) -> Result<u64, Failure> {
        let path = route::fill(route::BLOB, &[&digest.to_hex()]);
        let before = progress.position();
        let mut attempt = 1;
        loop {
            let Held::Part(offset) = self.held(&path)? else {
                progress.move_to(before + size);
                return Ok(0);
            };
            progress.move_to(before + offset);
            match self.put(&path, offset.min(size), size, source, progress) {
                Ok(sent) => return Ok(sent),
                Err(failure) if failure.kind == Kind::Unreachable && attempt < TRIES => attempt += 1,
                Err(failure) => return Err(failure.during(format!("blob {digest} was not taken"))),
            }
        }
    }

    fn held(&self, path: &str) -> Result<Held, Failure> {
        let empty = || Empty::new().map_err(|never| match never {}).boxed_unsync();
        let response = match self.send(self.request(Method::HEAD, path, empty())?) {
            Err(failure) if failure.kind == Kind::Unreachable => {
                self.send(self.request(Method::HEAD, path, empty())?)?
            }
            other => other?,
        };
        let offset =
            response.headers().get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok()?.parse().ok());
        match response.status().as_u16() {
            200 => Ok(Held::Whole),
            404 => Ok(Held::Part(offset.unwrap_or(0))),
            _ => Err(refusal(problem(response.status(), &[]))),
        }
    }

    fn put(
        &self,
        path: &str,
        offset: u64,
        size: u64,
        source: &dyn BlobSource,
        progress: &Progress,
    ) -> Result<u64, Failure> {
        let mut reader = source.open()?;
        let (give, chunks) = sync_channel(CHUNKS_AHEAD);
        let left = size - offset;
        let body = ChunkBody { chunks, left, progress: progress.clone() };
        let path = format!("{path}?offset={offset}&size={size}");
        thread::scope(|scope| {
            scope.spawn(move || read_ahead(&mut *reader, offset, left, &give));
            let response = self.send(self.request(Method::PUT, &path, body.boxed_unsync())?)?;
            let status = response.status();
            let answer = self.within(super::ANSWER_TIMEOUT, response.into_body().collect())?;
            let bytes = answer.map_err(|cause| self.lost(cause))?.to_bytes();
            if status.is_success() { Ok(left) } else { Err(refusal(problem(status, &bytes))) }
        })
    }

    /// Opens a blob at the hub; nothing is asked before the first read.
    pub(crate) fn blob<'c>(&'c self, digest: &Sha256Digest, progress: &'c Progress) -> HubBlob<'c> {
        let path = route::fill(route::BLOB, &[&digest.to_hex()]);
        HubBlob { client: self, path, progress, body: None, chunk: Bytes::new(), lost: None }
    }
}

/// A blob at the hub, read as a stream.
pub(crate) struct HubBlob<'c> {
    client: &'c Client,
    path: String,
    progress: &'c Progress,
    body: Option<Incoming>,
    chunk: Bytes,
    lost: Option<Failure>,
}

impl HubBlob<'_> {
    /// Why reading failed, where the hub was the reason; a reader of bytes can only say that it did.
    pub(crate) fn failure(self) -> Option<Failure> {
        self.lost
    }

    fn fill(&mut self) -> Result<(), Failure> {
        let client = self.client;
        let mut body = match self.body.take() {
            Some(body) => body,
            None => {
                let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
                let response = client.send(client.request(Method::GET, &self.path, empty)?)?;
                let status = response.status();
                if !status.is_success() {
                    let answer = client.within(super::ANSWER_TIMEOUT, response.into_body().collect())?;
                    let bytes = answer.map_err(|cause| client.lost(cause))?.to_bytes();
                    return Err(refusal(problem(status, &bytes)));
                }
                response.into_body()
            }
        };
        while let Some(frame) = client.within(super::ANSWER_TIMEOUT, body.frame())? {
            if let Ok(data) = frame.map_err(|cause| client.lost(cause))?.into_data()
                && !data.is_empty()
            {
                self.chunk = data;
                break;
            }
        }
        self.body = Some(body);
        Ok(())
    }
}

impl Read for HubBlob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty()
            && let Err(failure) = self.fill()
        {
            self.lost = Some(failure);
            return Err(io::Error::other("the hub's bytes ended"));
        }
        let taken = buffer.len().min(self.chunk.len());
        buffer[..taken].copy_from_slice(&self.chunk.split_to(taken));
        self.progress.done(taken as u64);
        Ok(taken)
    }
}

/// Reads `left` bytes from `offset` on in chunks, until the request is done with them.
fn read_ahead(reader: &mut dyn Read, offset: u64, mut left: u64, give: &SyncSender<io::Result<Bytes>>) {
    let skipped = io::copy(&mut reader.take(offset), &mut io::sink());
    if let Err(error) = skipped {
        // a request that ended early needs no more bytes, and no error about them
        let _ = give.send(Err(error));
        return;
    }
    while left > 0 {
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)];
        let read = match reader.read(&mut chunk) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        let ended = read.is_err();
        let item = read.map(|read| {
            chunk.truncate(read);
            left -= read as u64;
            Bytes::from(chunk)
        });
        if give.send(item).is_err() || ended {
            return;
        }
    }
}

/// A request body of chunks that another thread reads; waiting blocks this one, which has nothing else to do.
struct ChunkBody {
    chunks: Receiver<io::Result<Bytes>>,
    left: u64,
    progress: Progress,
}

impl HttpBody for ChunkBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(chunk) = (self.left > 0).then(|| self.chunks.recv()) else { return Poll::Ready(None) };
        let chunk = chunk.unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into()));
        Poll::Ready(Some(chunk.map(|bytes| {
            self.left = self.left.saturating_sub(bytes.len() as u64);
            self.progress.done(bytes.len() as u64);
            Frame::data(bytes)
        })))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
