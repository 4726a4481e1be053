//! Serves `u/get`: documents and small blobs in parts to the site that asks, pieces of blobs once for all who ask.
//!
//! Each site's parts and each blob's pieces have a task of their own while there is something to send, so that a
//! thin link delays nobody else (invariant 10). All share one rate.

mod load;
mod pace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airlift_bundles::ids::{Sha256Digest, SiteId};
use airlift_bundles::wire::{Get, Part, Topic, Wanted, WantedItem};
use bytes::Bytes;

use super::endpoint::Qos;
use crate::server::Hub;
use load::Source;
use pace::Pace;

/// How long askers of one blob are gathered, so that each piece goes out once.
const GATHER: Duration = Duration::from_millis(100);
/// Parts or pieces of one request; a site asks again for more.
const COUNT_MAX: u64 = 256;
/// Parts that may wait for one site: four full requests.
const PARTS_WAITING_MAX: usize = 1024;
/// Blobs whose pieces are being sent at once, over all sites.
const BLOBS_MAX: usize = 4096;
/// Wait before a full connection is tried again.
const FULL: Duration = Duration::from_millis(20);
/// Tries before a site that does not read is left alone; it asks again.
const TRIES: u32 = 500;

/// What is wanted and not sent yet.
pub struct Content {
    pace: Pace,
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    /// Per site, parts in the order in which they were wanted. A key that stands here has a task.
    parts: BTreeMap<SiteId, VecDeque<(WantedItem, u64)>>,
    /// Per blob, the pieces that somebody who may have them wants. A key that stands here has a task.
    pieces: BTreeMap<Sha256Digest, BTreeSet<u64>>,
}

/// The numbers that a request names, at most [`COUNT_MAX`] of them.
fn wanted_numbers(wanted: &Wanted) -> Vec<u64> {
    let bitmap =
        wanted.bitmap.as_deref().map(|hex| airlift_bundles::ids::decode_hex(hex).unwrap_or_default());
    let is_wanted = |offset: u64| {
        bitmap.as_ref().is_none_or(|bitmap| {
            let byte = usize::try_from(offset / 8).ok().and_then(|at| bitmap.get(at));
            byte.is_some_and(|byte| byte >> (offset % 8) & 1 == 1)
        })
    };
    let offsets = (0..wanted.count.min(COUNT_MAX)).filter(|offset| is_wanted(*offset));
    offsets.filter_map(|offset| wanted.from.checked_add(offset)).collect()
}

impl Content {
    /// Starts with nothing wanted.
    #[must_use]
    pub fn new(bytes_per_s: u64) -> Self {
        Self { pace: Pace::new(bytes_per_s), queues: Mutex::default() }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a site's wants, as far as its assignment needs them; the rest is not answered.
    pub async fn want(self: &Arc<Self>, hub: &Arc<Hub>, site: &SiteId, get: Get) {
        for wanted in get.want {
            match &wanted.item {
                WantedItem::Blob(digest) if wanted.pieces => {
                    match load::size_for_site(hub, site, digest).await {
                        Ok(Some(size)) => {
                            let pieces = size.div_ceil(Part::BYTES as u64);
                            let mut numbers = wanted_numbers(&wanted);
                            numbers.retain(|piece| *piece < pieces);
                            self.gather(hub, *digest, numbers);
                        }
                        Ok(None) => {
                            tracing::warn!(%site, item = %wanted.item, "site wants what it is not assigned");
                        }
                        Err(error) => tracing::error!(%site, %error, "want could not be looked up"),
                    }
                }
                item => self.queue_parts(hub, site, item, &wanted),
            }
        }
    }

    fn queue_parts(self: &Arc<Self>, hub: &Arc<Hub>, site: &SiteId, item: &WantedItem, wanted: &Wanted) {
        let mut queues = self.queues();
        let start = !queues.parts.contains_key(site);
        let waiting = queues.parts.entry(site.clone()).or_default();
        for part in wanted_numbers(wanted) {
            let entry = (item.clone(), part);
            if waiting.len() < PARTS_WAITING_MAX && !waiting.contains(&entry) {
                waiting.push_back(entry);
            }
        }
        drop(queues);
        if start {
            tokio::spawn(Arc::clone(self).send_parts(Arc::clone(hub), site.clone()));
        }
    }

    fn gather(self: &Arc<Self>, hub: &Arc<Hub>, digest: Sha256Digest, pieces: Vec<u64>) {
        let mut queues = self.queues();
        let start = !queues.pieces.contains_key(&digest);
        if start && queues.pieces.len() >= BLOBS_MAX {
            return;
        }
        queues.pieces.entry(digest).or_default().extend(pieces);
        drop(queues);
        if start {
            tokio::spawn(Arc::clone(self).send_pieces(Arc::clone(hub), digest));
        }
    }

    /// Sends one site's parts until none is wanted.
    async fn send_parts(self: Arc<Self>, hub: Arc<Hub>, site: SiteId) {
        let topic = Topic::Content(site.clone());
        let mut open: Option<(WantedItem, Source)> = None;
        loop {
            let next = {
                let mut queues = self.queues();
                let next = queues.parts.get_mut(&site).and_then(VecDeque::pop_front);
                if next.is_none() {
                    queues.parts.remove(&site);
                }
                next
            };
            let Some((item, part)) = next else { return };
            if open.as_ref().is_none_or(|(held, _)| *held != item) {
                open = match Source::open(&hub, &site, &item).await {
                    Ok(Some(source)) => Some((item.clone(), source)),
                    Ok(None) => {
                        tracing::warn!(%site, %item, "site wants what it is not assigned, or the hub lacks");
                        None
                    }
                    Err(error) => {
                        tracing::error!(%site, %item, %error, "item could not be opened");
                        None
                    }
                };
            }
            let Some((_, source)) = &open else {
                self.drop_parts(&site, &item);
                continue;
            };
            let parts = source.size().div_ceil(Part::BYTES as u64).max(1);
            if part >= parts {
                continue;
            }
            match source.read(part).await {
                Ok(bytes) => {
                    let payload = Part { item: item.clone(), part, parts, bytes }.encode();
                    if !self.send(&hub, &topic, Bytes::from(payload)).await {
                        self.queues().parts.remove(&site);
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(%site, %item, %error, "item could not be read");
                    self.drop_parts(&site, &item);
                }
            }
        }
    }

    fn drop_parts(&self, site: &SiteId, item: &WantedItem) {
        if let Some(waiting) = self.queues().parts.get_mut(site) {
            waiting.retain(|(other, _)| other != item);
        }
    }

    /// Sends one blob's pieces to all who listen, until none is wanted.
    async fn send_pieces(self: Arc<Self>, hub: Arc<Hub>, digest: Sha256Digest) {
        let source = match Source::blob(&hub, &digest).await {
            Ok(Some(source)) => source,
            Ok(None) => {
                self.queues().pieces.remove(&digest);
                return;
            }
            Err(error) => {
                tracing::error!(%digest, %error, "blob could not be opened");
                self.queues().pieces.remove(&digest);
                return;
            }
        };
        loop {
            tokio::time::sleep(GATHER).await;
            let round = {
                let mut queues = self.queues();
                let wanted = queues.pieces.get_mut(&digest).map(std::mem::take).unwrap_or_default();
                if wanted.is_empty() {
                    queues.pieces.remove(&digest);
                }
                wanted
            };
            if round.is_empty() {
                return;
            }
            for piece in round {
                let topic = Topic::BlobPiece(digest, piece);
                let bytes = match source.read(piece).await {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        tracing::error!(%digest, %error, "blob could not be read");
                        break;
                    }
                };
                if !self.send(&hub, &topic, Bytes::from(bytes)).await {
                    // Nobody listens any more; whoever still wants the rest asks again.
                    break;
                }
            }
        }
    }

    /// Sends once; where the only listener's connection is full, waits for it. False where nobody listens.
    async fn send(&self, hub: &Hub, topic: &Topic, payload: Bytes) -> bool {
        let Some(line) = hub.line() else { return false };
        self.pace.take(payload.len()).await;
        for _ in 0..TRIES {
            match line.publisher.publish(topic, payload.clone(), Qos::AtMostOnce, false).await {
                Ok(fanout) if fanout.sent > 0 => return true,
                Ok(fanout) if fanout.dropped > 0 => tokio::time::sleep(FULL).await,
                Ok(_) => return false,
                Err(error) => {
                    tracing::warn!(%error, "content was not published");
                    return false;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(from: u64, count: u64, bitmap: Option<&str>) -> Wanted {
        let item = WantedItem::Root(1);
        Wanted { item, pieces: true, from, count, bitmap: bitmap.map(str::to_owned) }
    }

    #[test]
    fn a_bitmap_names_single_pieces() {
        assert_eq!(wanted_numbers(&wanted(10, 3, None)), [10, 11, 12]);
        assert_eq!(wanted_numbers(&wanted(10, 12, Some("0502"))), [10, 12, 19]);
        assert_eq!(
            wanted_numbers(&wanted(0, 16, Some("01"))),
            [0],
            "what the bitmap does not reach is not wanted"
        );
    }

    #[test]
    fn no_request_is_larger_than_allowed() {
        assert_eq!(wanted_numbers(&wanted(0, u64::MAX, None)).len(), 256);
        assert_eq!(wanted_numbers(&wanted(u64::MAX, 5, None)), [u64::MAX]);
        assert!(wanted_numbers(&wanted(0, 8, Some("not hex"))).is_empty());
    }
}
