//! Where a receipt stands in its chain: new, known, after a gap, or contradicting another.

use airlift_bundles::ids::{RandomId, Sha256Digest};

use crate::db::rows::receipts::ChainRow;

/// A receipt as far as its chain is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub seq: u64,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// Digest of the one before it.
    pub prev_sha256: Option<Sha256Digest>,
}

/// What a receipt is to those that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// Held already: stored once.
    Known,
    /// New; the chain may now reach further.
    New,
    /// Another receipt has its number: somebody else holds the site's key, or the site was restored.
    Forked,
}

impl ChainRow {
    /// A chain of which nothing is held.
    #[must_use]
    pub fn start(chain_id: RandomId) -> Self {
        Self { chain_id, head: 0, head_sha256: None, highest: 0, fork: None }
    }

    fn mark_fork(&mut self, seq: u64) {
        self.fork = Some(self.fork.map_or(seq, |fork| fork.min(seq)));
    }

    /// Places a receipt among those held at its number, which `held` lists.
    pub fn place(&mut self, link: &Link, held: &[Link]) -> Placed {
        if held.iter().any(|other| other.sha256 == link.sha256) {
            return Placed::Known;
        }
        self.highest = self.highest.max(link.seq);
        if held.is_empty() {
            Placed::New
        } else {
            self.mark_fork(link.seq);
            Placed::Forked
        }
    }

    /// Moves the head over every receipt that hangs on the one before; `held` lists what is held at a number.
    ///
    /// Returns whether a receipt was found that names another predecessor than the one that is held: a fork too.
    ///
    /// # Errors
    /// Those of `held`.
    pub fn advance<E>(&mut self, mut held: impl FnMut(u64) -> Result<Vec<Link>, E>) -> Result<bool, E> {
        loop {
            let next = held(self.head + 1)?;
            if let Some(link) = next.iter().find(|link| link.prev_sha256 == self.head_sha256) {
                self.head = link.seq;
                self.head_sha256 = Some(link.sha256);
            } else if next.is_empty() {
                return Ok(false);
            } else {
                self.mark_fork(self.head + 1);
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    fn link(seq: u64, text: &str, prev: Option<&str>) -> Link {
        let digest = |text: &str| Sha256Digest::of(text.as_bytes());
        Link { seq, sha256: digest(text), prev_sha256: prev.map(digest) }
    }

    /// A hub that holds what it was given, in whatever order.
    #[derive(Default)]
    struct Held(BTreeMap<u64, Vec<Link>>);

    impl Held {
        fn take(&mut self, chain: &mut ChainRow, link: Link) -> Placed {
            let placed = chain.place(&link, self.0.get(&link.seq).map_or(&[], Vec::as_slice));
            if placed != Placed::Known {
                self.0.entry(link.seq).or_default().push(link);
            }
            let held = |seq| Ok::<_, Infallible>(self.0.get(&seq).cloned().unwrap_or_default());
            let Ok(_) = chain.advance(held);
            placed
        }
    }

    fn chain() -> ChainRow {
        ChainRow::start(RandomId::from_bytes([1; 16]))
    }

    #[test]
    fn receipts_out_of_order_and_twice_make_one_chain() {
        let (mut held, mut chain) = (Held::default(), chain());
        let links = [link(1, "a", None), link(2, "b", Some("a")), link(3, "c", Some("b"))];
        assert_eq!(held.take(&mut chain, links[2]), Placed::New);
        assert_eq!((chain.head, chain.highest, chain.mark()), (0, 3, None), "a gap is seen");
        assert_eq!(held.take(&mut chain, links[0]), Placed::New);
        assert_eq!((chain.head, chain.highest), (1, 3));
        assert_eq!(held.take(&mut chain, links[1]), Placed::New);
        let mark = chain.mark().unwrap();
        assert_eq!((chain.head, mark.upto, mark.sha256), (3, 3, links[2].sha256));
        for link in links {
            assert_eq!(held.take(&mut chain, link), Placed::Known);
        }
        assert_eq!((chain.head, chain.fork), (3, None));
    }

    #[test]
    fn another_receipt_with_a_number_forks_the_chain_there() {
        let (mut held, mut chain) = (Held::default(), chain());
        for good in [link(1, "a", None), link(2, "b", Some("a")), link(3, "c", Some("b"))] {
            held.take(&mut chain, good);
        }
        assert_eq!(held.take(&mut chain, link(2, "other", Some("a"))), Placed::Forked);
        assert_eq!((chain.fork, chain.head), (Some(2), 3), "what was acknowledged stays");
        assert_eq!(held.take(&mut chain, link(3, "third", Some("other"))), Placed::Forked);
        assert_eq!(chain.fork, Some(2), "the first place is kept");
    }

    #[test]
    fn a_receipt_that_names_another_predecessor_forks_the_chain() {
        let (mut held, mut chain) = (Held::default(), chain());
        held.take(&mut chain, link(1, "a", None));
        assert_eq!(held.take(&mut chain, link(2, "b", Some("x"))), Placed::New);
        assert_eq!((chain.head, chain.fork), (1, Some(2)));
    }
}
