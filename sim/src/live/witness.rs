//! A store that tells what became durable: the agent's own, with a look at every commit that succeeded.

use std::sync::{Arc, Mutex, PoisonError};

use airlift_agent::core::outbox::STATUS;
use airlift_agent::core::write::{MetaRow, OutboxRow, ReceiptRow, Rows, Write};
use airlift_agent::ports::Boxed;
use airlift_agent::ports::store::{HeldContent, Store, StoreError};
use airlift_agent::store::SqliteStore;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{RandomId, Sha256Digest};
use tokio::sync::mpsc;

use super::word::{Chain, Word, now_ns};

/// The store of one site, watched.
pub(super) struct Witness {
    store: SqliteStore,
    seen: Arc<Seen>,
}

/// What was seen of a site's commits.
#[derive(Debug)]
pub(super) struct Seen {
    site: u32,
    words: mpsc::UnboundedSender<Word>,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    conn_seq: u64,
    healthy: Option<Sha256Digest>,
    chain: Option<(u64, u64, Option<Sha256Digest>)>,
}

impl Seen {
    pub(super) fn new(site: u32, meta: &MetaRow, words: mpsc::UnboundedSender<Word>) -> Arc<Self> {
        let last = Last { conn_seq: meta.conn_seq, healthy: None, chain: Some(chain(meta)) };
        Arc::new(Self { site, words, last: Mutex::new(last) })
    }

    /// How the chain stands on disk.
    pub(super) fn chain(&self) -> Chain {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, acked, head) = last.chain.unwrap_or_default();
        Chain { site: self.site, last, acked, head }
    }

    /// Tells what a commit that succeeded has changed.
    fn tell(&self, news: News) {
        let (site, at_ns) = (self.site, now_ns());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut words = Vec::new();
        if let Some(meta) = news.meta {
            if meta.conn_seq > last.conn_seq {
                words.push(Word::Linked { site, conn_seq: meta.conn_seq, at_ns });
                last.conn_seq = meta.conn_seq;
            }
            last.chain = Some(chain(&meta));
        }
        if let Some(generation) = news.healthy
            && last.healthy != Some(generation)
        {
            words.push(Word::Healthy { site, generation, at_ns });
            last.healthy = Some(generation);
        }
        if news.status_acked {
            words.push(Word::StatusAcked { site, at_ns });
        }
        for word in words {
            let _ = self.words.send(word); // nobody listens any more: the process is ending
        }
    }
}

/// Last receipt, last acknowledged one, digest of the last.
fn chain(meta: &MetaRow) -> (u64, u64, Option<Sha256Digest>) {
    (meta.receipt_next.saturating_sub(1), meta.receipt_acked_next.saturating_sub(1), meta.receipt_head)
}

/// What a step's writes say that is worth telling.
#[derive(Debug, Default)]
struct News {
    meta: Option<MetaRow>,
    healthy: Option<Sha256Digest>,
    status_acked: bool,
}

impl News {
    fn of(writes: &[Write]) -> Self {
        let mut news = Self::default();
        for write in writes {
            match write {
                Write::PutMeta(meta) => news.meta = Some(meta.clone()),
                Write::PutApp(app) if app.state == AppState::Healthy && app.current == app.target => {
                    news.healthy = app.current;
                }
                Write::DropOutbox(key) if key == STATUS => news.status_acked = true,
                _ => {}
            }
        }
        news
    }

    fn is_none(&self) -> bool {
        self.meta.is_none() && self.healthy.is_none() && !self.status_acked
    }
}

impl Witness {
    pub(super) fn new(store: SqliteStore, seen: Arc<Seen>) -> Self {
        Self { store, seen }
    }
}

impl Store for Witness {
    fn commit(&self, writes: Vec<Write>) -> Boxed<'static, Result<(), StoreError>> {
        let news = News::of(&writes);
        let commit = self.store.commit(writes);
        if news.is_none() {
            return commit;
        }
        let seen = Arc::clone(&self.seen);
        Box::pin(async move {
            commit.await?;
            seen.tell(news);
            Ok(())
        })
    }

    fn load(&self) -> Boxed<'_, Result<Rows, StoreError>> {
        self.store.load()
    }

    fn content(&self) -> Boxed<'_, Result<HeldContent, StoreError>> {
        self.store.content()
    }

    fn receipts(
        &self,
        chain_id: RandomId,
        from: u64,
        upto: u64,
        bytes_max: usize,
    ) -> Boxed<'_, Result<Vec<ReceiptRow>, StoreError>> {
        self.store.receipts(chain_id, from, upto, bytes_max)
    }

    fn outbox(&self, key: &str) -> Boxed<'_, Result<Option<OutboxRow>, StoreError>> {
        self.store.outbox(key)
    }

    fn document(&self, sha256: Sha256Digest) -> Boxed<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.store.document(sha256)
    }
}
