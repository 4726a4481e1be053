//! Watches the places where sticks appear: what comes in is loaded, and takes receipts for as long as it stays.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airlift_bundles::ids::SiteId;
use airlift_bundles::media::DIRECTORY;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::load::Loader;
use super::receipts::ReceiptWriter;
use super::serve::Server;
use super::{Source, open_source};
use crate::core::Event;
use crate::core::event::MediaId;

/// Between two looks at the places, and at a stick that is in.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Looks after which missing or wrong items are tried again, for a stick that is still being written.
const LOOKS_UNTIL_FORGIVEN: u32 = 15;
/// Sticks looked for under one place; more mounts than any node has ports.
const STICKS_MAX: usize = 64;

/// Watches `places` until the future is dropped. A place is a stick's mount point or a directory of mount points.
pub async fn watch(loader: Loader, writer: ReceiptWriter, site: SiteId, places: Vec<PathBuf>) {
    if places.is_empty() {
        return std::future::pending().await;
    }
    let mut sessions: JoinSet<PathBuf> = JoinSet::new();
    let mut known: BTreeMap<PathBuf, tokio::task::AbortHandle> = BTreeMap::new();
    loop {
        while let Some(ended) = sessions.try_join_next() {
            if let Ok(stick) = ended {
                known.remove(&stick);
            }
        }
        known.retain(|_, task| !task.is_finished());
        let looked = places.clone();
        let sticks = tokio::task::spawn_blocking(move || find_sticks(&looked)).await.unwrap_or_default();
        for stick in sticks {
            let sessions = &mut sessions;
            known.entry(stick).or_insert_with_key(|stick| {
                let session = Session {
                    media: MediaId(stick.display().to_string()),
                    loader: loader.clone(),
                    writer: writer.clone(),
                    site: site.clone(),
                    stick: stick.clone(),
                };
                sessions.spawn(session.live())
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Directories with our media in or one level under `places`.
pub(crate) fn find_sticks(places: &[PathBuf]) -> Vec<PathBuf> {
    let mut sticks = Vec::new();
    for place in places {
        let under =
            fs::read_dir(place).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        let candidates = std::iter::once(place.clone()).chain(under.take(STICKS_MAX));
        sticks.extend(candidates.filter(|stick| stick.join(DIRECTORY).is_dir()));
    }
    sticks
}

/// One stick while it is in.
struct Session {
    media: MediaId,
    loader: Loader,
    writer: ReceiptWriter,
    site: SiteId,
    stick: PathBuf,
}

impl Session {
    /// Lives until the stick is gone.
    async fn live(self) -> PathBuf {
        let media = self.media.clone();
        info!(media = %media.0, "media found");
        self.writer.enter(media.clone(), self.stick.clone(), None);
        self.serve().await;
        info!(media = %media.0, "media is gone");
        self.writer.leave(&media);
        let _ = self.loader.desk.events().send(Event::MediaOut { media }).await; // the agent is ending
        self.stick
    }

    async fn serve(&self) {
        let mut seen: Option<Stamp> = None;
        let mut server: Option<Server> = None;
        let mut receipts = (u64::MAX, u64::MAX);
        for look in 1_u32.. {
            let (stick, site) = (self.stick.clone(), self.site.clone());
            let stamp = tokio::task::spawn_blocking(move || Stamp::of(&stick, &site)).await.ok().flatten();
            let Some(stamp) = stamp else { return };
            if seen.as_ref() != Some(&stamp) {
                match self.load().await {
                    Some(source) => (server, seen) = (Some(Server::new(source)), Some(stamp)),
                    None => (server, seen) = (None, None),
                }
            } else if let Some(server) = &mut server {
                if look % LOOKS_UNTIL_FORGIVEN == 0 {
                    server.forgive();
                }
                if let Err(fault) = server.round(self.loader.content.as_ref()).await {
                    warn!(media = %self.media.0, %fault, "content of the media cannot be stored");
                }
                for fault in server.take_faults() {
                    debug!(media = %self.media.0, name = fault.name, code = %fault.code, "entry cannot be used");
                }
            }
            self.offer_receipts(&mut receipts).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn load(&self) -> Option<Source> {
        let stick = self.stick.clone();
        let source = match tokio::task::spawn_blocking(move || open_source(&stick)).await.ok()? {
            Ok(source) => source,
            Err(fault) => {
                warn!(media = %self.media.0, %fault, "media cannot be read");
                return None;
            }
        };
        match self.loader.load(&self.media, &source, &mut |_| {}).await {
            Ok(loaded) => {
                let (documents, bytes, missing) = (loaded.documents, loaded.bytes, loaded.missing);
                info!(media = %self.media.0, documents, bytes, missing, "media loaded");
                for refused in loaded.refused {
                    let (code, count, reason) = (refused.code, refused.count, refused.reason);
                    warn!(media = %self.media.0, %code, count, reason, "documents of the media were refused");
                }
                for fault in loaded.faults {
                    warn!(media = %self.media.0, name = fault.name, code = %fault.code, "entry cannot be used");
                }
                Some(source)
            }
            Err(fault) => {
                warn!(media = %self.media.0, %fault, "media was not loaded; it is tried again");
                None
            }
        }
    }

    /// Asks the core to write receipts once their count has changed and then stood still for one look, so that a
    /// rollout makes one file and not ten.
    async fn offer_receipts(&self, receipts: &mut (u64, u64)) {
        let Ok(status) = self.loader.desk.status().await else { return };
        let (seen, written) = *receipts;
        let now = status.receipts_unacked;
        if now == seen && now != written {
            let media = self.media.clone();
            let _ = self.loader.desk.events().send(Event::MediaIn { media }).await; // the agent is ending
            receipts.1 = now;
        }
        receipts.0 = now;
    }
}

/// What of a stick changes when somebody writes documents to it; our own receipts do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(Vec<Option<FileStamp>>);

/// Device, inode, both halves of the time of change, size.
type FileStamp = (u64, u64, i64, i64, u64);

impl Stamp {
    /// `None` where the stick is gone.
    fn of(stick: &Path, site: &SiteId) -> Option<Self> {
        let media = stick.join(DIRECTORY);
        let identity = fs::metadata(&media).ok()?;
        let own = format!("assignments/{site}.json");
        let parts = ["roots", "releases", "assignments", own.as_str()].into_iter().map(|part| {
            let found = fs::symlink_metadata(media.join(part)).ok()?;
            Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
        });
        let identity = Some((identity.dev(), identity.ino(), 0, 0, 0));
        Some(Self(std::iter::once(identity).chain(parts).collect()))
    }
}
