//! One connection's bytes: reads whole frames and writes the outbox, in one task and without idle buffers.
//!
//! Reading goes through a buffer on the stack of the poll and only what arrived is kept; writing stages at
//! most 16 KiB, one TLS record. So an idle connection costs what TLS costs.

use super::frame::{Frame, Refusal, take_frame};
use super::limits::Limits;
use super::outbox::{Chunk, Outbox};
use super::reason::Reason;
use bytes::{Buf, Bytes, BytesMut};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

const READ_BYTES: usize = 8 * 1024;
const STAGED_BYTES: usize = 16 * 1024;

/// Ends a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireEnd {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    #[error("the peer sent what is refused: {0}")]
    Refused(#[from] Refusal),
    #[error("the hub ends the connection with reason {0}")]
    Asked(Reason),
    #[error("the peer has read nothing for too long")]
    Stalled,
}

pub(super) struct Wire<S> {
    stream: S,
    limits: Arc<Limits>,
    outbox: Arc<Outbox>,
    received: BytesMut,
    heard: bool,
    current: Option<Chunk>,
    staged: BytesMut,
    unflushed: bool,
    full_since: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, limits: Arc<Limits>, outbox: Arc<Outbox>) -> Self {
        Self {
            stream,
            limits,
            outbox,
            received: BytesMut::new(),
            heard: false,
            current: None,
            staged: BytesMut::new(),
            unflushed: false,
            full_since: None,
        }
    }

    /// Writes what waits and, unless `read` is false, returns the next frame.
    ///
    /// Cancel-safe: all state is in `self`.
    pub(super) async fn next(&mut self, read: bool) -> Result<Frame, WireEnd> {
        poll_fn(|cx| self.poll_next(cx, read)).await
    }

    /// Tells whether any byte came since this was last asked.
    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Since when the socket has taken nothing of what waits, if anything does.
    pub(super) fn full_since(&self) -> Option<Instant> {
        self.full_since
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<Frame, WireEnd>> {
        if let Some(reason) = self.outbox.register(cx.waker()) {
            return Poll::Ready(Err(WireEnd::Asked(reason)));
        }
        if let Poll::Ready(Err(error)) = self.poll_write_queued(cx) {
            return Poll::Ready(Err(error.into()));
        }
        if !read {
            return Poll::Pending;
        }
        loop {
            if let Some(frame) = take_frame(&mut self.received, &self.limits)? {
                return Poll::Ready(Ok(frame));
            }
            let mut bytes = [0_u8; READ_BYTES];
            let mut into = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into))?;
            if into.filled().is_empty() {
                return Poll::Ready(Err(WireEnd::Closed));
            }
            self.heard = true;
            self.received.extend_from_slice(into.filled());
        }
    }

    /// Writes until nothing waits (`Ready`) or the socket takes no more (`Pending`).
    fn poll_write_queued(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.stage();
            if self.staged.is_empty() {
                break;
            }
            let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, &self.staged) else {
                self.full_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.full_since = None;
            self.staged.advance(written);
            self.unflushed = true;
        }
        self.staged = BytesMut::new();
        if self.unflushed {
            let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx) else {
                self.full_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            };
            flushed?;
            self.unflushed = false;
        }
        self.full_since = None;
        Poll::Ready(Ok(()))
    }

    /// Fills the stage from the outbox, keeping the rest of a long packet for the next time.
    fn stage(&mut self) {
        while self.staged.len() < STAGED_BYTES {
            let Some(chunk) = self.current.as_mut() else {
                match self.outbox.pop() {
                    Some(chunk) => self.current = Some(chunk),
                    None => return,
                }
                continue;
            };
            let room = STAGED_BYTES - self.staged.len();
            let part = if chunk.head.is_empty() { &mut chunk.payload } else { &mut chunk.head };
            let taken = part.split_to(room.min(part.len()));
            self.staged.extend_from_slice(&taken);
            if chunk.head.is_empty() && chunk.payload.is_empty() {
                self.current = None;
            }
        }
    }

    /// Writes what waits, then `last`, and closes the stream. A packet begun is always finished first.
    pub(super) async fn finish(&mut self, last: Option<Bytes>) -> io::Result<()> {
        if let Some(last) = last {
            self.outbox.push_answer(last);
        }
        poll_fn(|cx| self.poll_write_queued(cx)).await?;
        poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
    }

    /// After [`Wire::finish`]: reads and forgets what the peer is still sending, up to `bytes_max`.
    ///
    /// Closing with unread bytes resets the connection, and a last word lost before that is not sent again.
    pub(super) async fn linger(&mut self, mut bytes_max: usize) {
        poll_fn(|cx| {
            loop {
                let mut bytes = [0_u8; READ_BYTES];
                let mut into = ReadBuf::new(&mut bytes);
                match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into)) {
                    Ok(()) if !into.filled().is_empty() && bytes_max > 0 => {
                        bytes_max = bytes_max.saturating_sub(into.filled().len());
                    }
                    _ => return Poll::Ready(()),
                }
            }
        })
        .await;
    }
}
