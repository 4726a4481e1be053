//! Asks the hub for what the content store misses: small items as parts, large ones as pieces for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlift_bundles::ids::{Sha256Digest, encode_hex};
use airlift_bundles::limits::Limits;
use airlift_bundles::pieces::Bitmap;
use airlift_bundles::wire::{self, Get, Topic, Wanted, WantedItem};
use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use tokio::time::Instant;

use super::{Kept, MqttSite};
use crate::ports::Content;
use crate::ports::content::WantedItem as Missing;

/// How often the wants are looked at while something is missing.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// And while nothing is: new wants are told, so this only wakes a processor that could sleep.
const LOOK_IDLE: Duration = Duration::from_secs(60);
/// After how long without any progress a want is repeated: its messages were QoS 0 and may be lost.
const REPEAT_AFTER: Duration = Duration::from_secs(3);
/// Pieces asked for at once: 4 MiB in flight.
const WINDOW: u64 = 64;
/// Items asked for at once.
const ITEMS: usize = 8;

/// Turns wants into `u/get`, and holds the subscriptions for pieces.
pub(super) struct WantPump {
    content: Arc<dyn Content>,
    site: MqttSite,
    client: AsyncClient,
    asked: BTreeMap<Sha256Digest, Asked>,
    /// Over this connection.
    subscribed: BTreeSet<Sha256Digest>,
    /// Over this one and those before it.
    kept: Arc<Mutex<Kept>>,
    look_at: Instant,
}

struct Asked {
    have: u64,
    until: u64,
    at: Instant,
}

impl WantPump {
    pub(super) fn new(
        content: Arc<dyn Content>,
        site: MqttSite,
        client: AsyncClient,
        kept: Arc<Mutex<Kept>>,
    ) -> Self {
        Self {
            content,
            site,
            client,
            asked: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            kept,
            look_at: Instant::now(),
        }
    }

    /// Waits for new wants or the next look, and looks. Dropped and called again, it loses nothing.
    pub(super) async fn tick(&mut self) {
        tokio::select! {
            biased;
            () = self.content.more_wanted() => {}
            () = tokio::time::sleep_until(self.look_at) => {}
        }
        let missing = self.content.wanted(ITEMS);
        self.look_at = Instant::now() + if missing.is_empty() { LOOK_IDLE } else { LOOK_EVERY };
        self.listen(&missing);
        let digests: BTreeSet<Sha256Digest> = missing.iter().map(|item| item.sha256).collect();
        self.asked.retain(|digest, _| digests.contains(digest));
        let want: Vec<Wanted> = missing.iter().filter_map(|item| self.ask(item)).collect();
        if want.is_empty() {
            return;
        }
        if let Ok(payload) = wire::encode(&Get { want }, &Limits::DEFAULT) {
            let topic = Topic::Get(self.site.site.clone()).name(&self.site.prefix);
            if self.client.try_publish(topic, QoS::AtMostOnce, false, payload).is_err() {
                self.asked.clear(); // the queue is full: ask again at the next look
            }
        }
    }

    /// Subscribes to the pieces of what is missing, and ends it for what has arrived, over whichever connection it was
    /// begun: nobody else would, and the broker keeps it for a day.
    fn listen(&mut self, missing: &[Missing]) {
        let wanted: BTreeSet<Sha256Digest> =
            missing.iter().filter(|item| item.pieces > 0).map(|item| item.sha256).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in wanted.difference(&self.subscribed.clone()) {
            if self
                .client
                .try_subscribe(Topic::pieces_filter(digest, &self.site.prefix), QoS::AtMostOnce)
                .is_ok()
            {
                self.subscribed.insert(*digest);
                kept.listens.insert(*digest);
            }
        }
        for digest in kept.listens.clone().difference(&wanted) {
            if self.client.try_unsubscribe(Topic::pieces_filter(digest, &self.site.prefix)).is_ok() {
                self.subscribed.remove(digest);
                kept.listens.remove(digest);
            }
        }
    }

    /// The next question about an item: where nothing is under way, half of what was asked has come, or it stalls.
    fn ask(&mut self, item: &Missing) -> Option<Wanted> {
        let count = u64::from(item.pieces);
        let bitmap = if item.bitmap.is_empty() {
            Bitmap::empty(count)
        } else {
            Bitmap::from_bytes(count, &item.bitmap).unwrap_or_else(|_| Bitmap::empty(count))
        };
        let have = bitmap.count_here();
        let now = Instant::now();
        if let Some(asked) = self.asked.get_mut(&item.sha256) {
            let moved = have > asked.have;
            if moved {
                (asked.have, asked.at) = (have, now);
            }
            let window_open = count > 0 && have + WINDOW / 2 >= asked.until;
            if !(moved && window_open) && now.duration_since(asked.at) < REPEAT_AFTER {
                return None;
            }
        }
        let wanted = if count == 0 { whole(item) } else { pieces(item, &bitmap)? };
        self.asked
            .insert(item.sha256, Asked { have, until: have + WINDOW.min(count - have.min(count)), at: now });
        Some(wanted)
    }
}

fn whole(item: &Missing) -> Wanted {
    Wanted { item: WantedItem::Blob(item.sha256), pieces: false, from: 0, count: 16, bitmap: None }
}

/// Asks for the first missing pieces, as many as fit the window, by a bitmap over their range.
fn pieces(item: &Missing, bitmap: &Bitmap) -> Option<Wanted> {
    let missing: Vec<u64> = bitmap.missing().flatten().take(usize::try_from(WINDOW).ok()?).collect();
    let (from, last) = (*missing.first()?, *missing.last()?);
    let range = (last - from + 1).min(256);
    let mut bits = vec![0u8; usize::try_from(range.div_ceil(8)).ok()?];
    for piece in missing.into_iter().map(|piece| piece - from).filter(|piece| *piece < range) {
        bits[usize::try_from(piece / 8).ok()?] |= 1 << (piece % 8);
    }
    Some(Wanted {
        item: WantedItem::Blob(item.sha256),
        pieces: true,
        from,
        count: range,
        bitmap: Some(encode_hex(&bits)),
    })
}
