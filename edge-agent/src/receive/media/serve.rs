//! Serves the content store's wants from a media, until it has nothing that is wanted.

use std::collections::BTreeSet;
use std::io::Read;

use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{MediaError, MediaName, OpenBlob};
use airlift_bundles::pieces::{Bitmap, PIECE_BYTES};
use tokio::sync::mpsc;

use super::Source;
use super::feed::fault;
use super::load::Fault;
use crate::ports::Content;
use crate::ports::content::{ContentError, Part, PutOutcome, WantedItem};

/// Items that are looked up at once.
const ITEMS: usize = 64;
/// Pieces that the reading thread is ahead of the store: 1 MiB.
const AHEAD: usize = 16;

/// Serves from one media for as long as it is in.
pub(super) struct Server {
    source: Source,
    /// Items that this media has not, or not rightly; it is not asked again until [`Server::forgive`].
    useless: BTreeSet<Sha256Digest>,
    /// What was wrong with those that it has.
    faults: Vec<Fault>,
}

/// What one look at the wants came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Round {
    /// Bytes that the store took.
    pub(super) bytes: u64,
    /// Items that are wanted and not on this media.
    pub(super) missing: usize,
}

impl Server {
    pub(super) fn new(source: Source) -> Self {
        Self { source, useless: BTreeSet::new(), faults: Vec::new() }
    }

    /// Tries again what was missing or wrong: a stick may still be written to.
    pub(super) fn forgive(&mut self) {
        self.useless.clear();
    }

    pub(super) fn take_faults(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.faults)
    }

    /// Looks at everything that is wanted now and brings what the media has.
    pub(super) async fn round(&mut self, content: &dyn Content) -> Result<Round, ContentError> {
        let mut round = Round::default();
        for item in content.wanted(ITEMS) {
            if self.useless.contains(&item.sha256) {
                round.missing += 1;
                continue;
            }
            let served = self.serve(content, &item).await?;
            round.bytes += served;
            if self.useless.contains(&item.sha256) {
                round.missing += 1;
            }
        }
        Ok(round)
    }

    async fn serve(&mut self, content: &dyn Content, item: &WantedItem) -> Result<u64, ContentError> {
        let (sender, mut parts) = mpsc::channel(AHEAD);
        let (source, wanted) = (Source::clone(&self.source), item.clone());
        let reading = tokio::task::spawn_blocking(move || read_item(&source, &wanted, &sender));
        let mut bytes = 0;
        let mut wrong = false;
        while let Some(part) = parts.recv().await {
            let size = size_of(&part);
            match content.put(part).await? {
                PutOutcome::Taken => bytes += size,
                PutOutcome::Unneeded => {}
                PutOutcome::Wrong => {
                    wrong = true;
                    break;
                }
            }
        }
        drop(parts); // a reader that is still at it stops
        let name = MediaName::Blob(item.sha256);
        match reading.await {
            Ok(Ok(true)) if wrong => {
                let error = MediaError::Digest { name: name.to_string() };
                self.give_up(item, Some(fault(&name, &error)));
            }
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => self.give_up(item, None),
            Ok(Err(error)) => self.give_up(item, Some(fault(&name, &error))),
            Err(_) => {
                let reason = "the reading thread ended".to_owned();
                self.give_up(item, Some(Fault { name: name.to_string(), code: Code::MediaCutShort, reason }));
            }
        }
        Ok(bytes)
    }

    fn give_up(&mut self, item: &WantedItem, fault: Option<Fault>) {
        self.useless.insert(item.sha256);
        self.faults.extend(fault);
    }
}

fn size_of(part: &Part) -> u64 {
    match part {
        Part::Whole { bytes, .. } | Part::Piece { bytes, .. } | Part::Encoded { bytes, .. } => {
            bytes.len() as u64
        }
    }
}

/// Reads one item and hands it on in parts; `false` where the media has none of this name.
fn read_item(source: &Source, item: &WantedItem, parts: &mpsc::Sender<Part>) -> Result<bool, MediaError> {
    let Some(mut blob) = source.open_blob(&item.sha256)? else { return Ok(false) };
    let name = || MediaName::Blob(item.sha256).to_string();
    if let Some(expected) = item.size
        && blob.size != expected
    {
        return Err(if blob.size < expected {
            MediaError::CutShort { name: name(), found: blob.size, expected }
        } else {
            MediaError::TooLarge { name: name(), limit: expected }
        });
    }
    if item.pieces == 0 {
        let limit = Limits::DEFAULT.whole_item_bytes;
        if blob.size > limit {
            return Err(MediaError::TooLarge { name: name(), limit });
        }
        let size = blob_len(blob.size);
        let bytes = read_exactly(&mut blob, 0, size, item)?;
        let _ = parts.blocking_send(Part::Whole { sha256: item.sha256, bytes }); // nobody waits for it any more
        return Ok(true);
    }
    let here = Bitmap::from_bytes(u64::from(item.pieces), &item.bitmap).ok();
    let mut at = 0;
    for number in 0..item.pieces {
        let size = blob_len(blob.size.saturating_sub(at).min(PIECE_BYTES as u64));
        let bytes = read_exactly(&mut blob, at, size, item)?;
        at += size as u64;
        if here.as_ref().is_some_and(|here| here.has(u64::from(number))) {
            continue;
        }
        if parts.blocking_send(Part::Piece { sha256: item.sha256, number, bytes }).is_err() {
            break;
        }
    }
    Ok(true)
}

fn blob_len(bytes: u64) -> usize {
    usize::try_from(bytes).expect("at most 1 MiB is read at once")
}

fn read_exactly(
    blob: &mut OpenBlob<'_>,
    at: u64,
    size: usize,
    item: &WantedItem,
) -> Result<Vec<u8>, MediaError> {
    let mut bytes = Vec::with_capacity(size);
    let name = || MediaName::Blob(item.sha256).to_string();
    let read = blob.reader.by_ref().take(size as u64).read_to_end(&mut bytes);
    read.map_err(|source| MediaError::Io { path: name().into(), source })?;
    if bytes.len() < size {
        let found = at + bytes.len() as u64;
        return Err(MediaError::CutShort { name: name(), found, expected: blob.size });
    }
    Ok(bytes)
}
