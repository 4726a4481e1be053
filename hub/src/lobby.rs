//! Where new connections wait for their turn, so that strangers at one address cannot keep out the others.
//!
//! Until a peer has shown who it is, its address is all that is known of it. So turns go round by address, an address
//! has a share of the places and no more, and where the lobby overflows it is at the cost of the fullest address. A
//! fleet behind one address still gets its share; what it does not get at once waits.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// An address as far as one party has it to itself: all of IPv4, the network half of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// How many may be where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// Who waits for a turn; each is a descriptor and nothing more.
    pub(crate) waiting_max: usize,
    /// Who has a turn.
    pub(crate) turns_max: usize,
    /// Who has a turn, of one address.
    pub(crate) turns_per_origin_max: usize,
}

/// The lobby as a value: who waits, by address, and how many turns each address has.
#[derive(Debug)]
struct Lobby<T> {
    places: Places,
    waiting: BTreeMap<Origin, VecDeque<T>>,
    waiting_count: usize,
    turns: BTreeMap<Origin, usize>,
    turns_count: usize,
    last: Option<Origin>,
}

impl<T> Lobby<T> {
    fn new(places: Places) -> Self {
        let (waiting, turns) = (BTreeMap::new(), BTreeMap::new());
        Self { places, waiting, waiting_count: 0, turns, turns_count: 0, last: None }
    }

    /// Lets somebody in; where that is one too many, returns the newest of the address that has the most.
    fn enter(&mut self, origin: Origin, visitor: T) -> Option<T> {
        self.waiting.entry(origin).or_default().push_back(visitor);
        self.waiting_count += 1;
        if self.waiting_count <= self.places.waiting_max {
            return None;
        }
        let fullest = *self.waiting.iter().max_by_key(|(_, queue)| queue.len())?.0;
        self.take(fullest, VecDeque::pop_back)
    }

    /// Gives the next address its turn, if there is a place and anybody may have it.
    fn next(&mut self) -> Option<(Origin, T)> {
        if self.turns_count >= self.places.turns_max {
            return None;
        }
        let may = |origin: &Origin| self.turns.get(origin).copied() < Some(self.places.turns_per_origin_max);
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.waiting.range((after, Bound::Unbounded)).chain(&self.waiting);
        let origin = rest.find_map(|(origin, _)| may(origin).then_some(*origin))?;
        let visitor = self.take(origin, VecDeque::pop_front)?;
        self.last = Some(origin);
        *self.turns.entry(origin).or_default() += 1;
        self.turns_count += 1;
        Some((origin, visitor))
    }

    /// Ends a turn.
    fn leave(&mut self, origin: Origin) {
        self.turns_count -= 1;
        if let Some(turns) = self.turns.get_mut(&origin) {
            *turns -= 1;
            if *turns == 0 {
                self.turns.remove(&origin);
            }
        }
    }

    fn take(&mut self, origin: Origin, end: impl Fn(&mut VecDeque<T>) -> Option<T>) -> Option<T> {
        let queue = self.waiting.get_mut(&origin)?;
        let visitor = end(queue);
        if queue.is_empty() {
            self.waiting.remove(&origin);
        }
        self.waiting_count -= usize::from(visitor.is_some());
        visitor
    }
}

/// The lobby of one listener.
#[derive(Debug)]
pub(crate) struct Door<T> {
    lobby: Mutex<Lobby<T>>,
    moved: Notify,
}

/// Somebody's turn; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Turn<T> {
    door: Arc<Door<T>>,
    origin: Origin,
}

impl<T> Door<T> {
    pub(crate) fn new(places: Places) -> Arc<Self> {
        Arc::new(Self { lobby: Mutex::new(Lobby::new(places)), moved: Notify::new() })
    }

    /// Lets somebody in, and returns who has to go for that.
    pub(crate) fn enter(&self, origin: Origin, visitor: T) -> Option<T> {
        let turned_away = self.lobby().enter(origin, visitor);
        self.moved.notify_one();
        turned_away
    }

    /// Waits for the next turn. Cancel-safe; there is one caller.
    pub(crate) async fn next(self: &Arc<Self>) -> (T, Turn<T>) {
        loop {
            let next = self.lobby().next();
            if let Some((origin, visitor)) = next {
                return (visitor, Turn { door: Arc::clone(self), origin });
            }
            self.moved.notified().await;
        }
    }

    fn lobby(&self) -> MutexGuard<'_, Lobby<T>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.lobby.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        self.door.lobby().leave(self.origin);
        self.door.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(last: u8) -> Origin {
        Origin::of(IpAddr::from([192, 0, 2, last]))
    }

    fn lobby(waiting_max: usize, turns_max: usize, turns_per_origin_max: usize) -> Lobby<u32> {
        Lobby::new(Places { waiting_max, turns_max, turns_per_origin_max })
    }

    #[test]
    fn turns_go_round_by_address_and_in_order_within_one() {
        let mut lobby = lobby(10, 10, 10);
        for (from, visitor) in [(1, 10), (1, 11), (1, 12), (2, 20), (3, 30)] {
            assert_eq!(lobby.enter(origin(from), visitor), None);
        }
        let order: Vec<u32> = std::iter::from_fn(|| lobby.next()).map(|(_, visitor)| visitor).collect();
        assert_eq!(order, [10, 20, 30, 11, 12]);
    }

    #[test]
    fn an_address_that_has_its_share_waits_and_others_do_not() {
        let mut lobby = lobby(10, 3, 2);
        for visitor in 0..4 {
            lobby.enter(origin(1), visitor);
        }
        assert_eq!([lobby.next(), lobby.next()], [Some((origin(1), 0)), Some((origin(1), 1))]);
        assert_eq!(lobby.next(), None, "its share");
        lobby.enter(origin(2), 20);
        lobby.enter(origin(2), 21);
        assert_eq!(lobby.next(), Some((origin(2), 20)));
        assert_eq!(lobby.next(), None, "no place for anybody");
        lobby.leave(origin(1));
        assert_eq!(lobby.next(), Some((origin(1), 2)), "its turn again, after the other's");
    }

    #[test]
    fn what_is_too_much_goes_at_the_cost_of_the_fullest_address() {
        let mut lobby = lobby(3, 1, 1);
        for visitor in 0..3 {
            assert_eq!(lobby.enter(origin(1), visitor), None);
        }
        assert_eq!(lobby.enter(origin(2), 20), Some(2), "the newest of the fullest");
        assert_eq!(lobby.enter(origin(1), 3), Some(3), "or whoever has just come");
        assert_eq!(lobby.waiting_count, 3);
        assert_eq!(lobby.next(), Some((origin(1), 0)));
    }

    #[test]
    fn nothing_is_left_of_those_who_went() {
        let mut lobby = lobby(100, 100, 100);
        for from in 0..50 {
            lobby.enter(origin(from), 0);
        }
        while let Some((origin, _)) = lobby.next() {
            lobby.leave(origin);
        }
        assert_eq!((lobby.waiting.len(), lobby.turns.len()), (0, 0));
        assert_eq!((lobby.waiting_count, lobby.turns_count), (0, 0));
    }

    #[test]
    fn a_party_with_a_network_of_its_own_is_one_address() {
        let of = |text: &str| Origin::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[tokio::test]
    async fn a_turn_that_ends_is_the_next_ones() {
        let door = Door::new(Places { waiting_max: 9, turns_max: 1, turns_per_origin_max: 1 });
        door.enter(origin(1), 1);
        door.enter(origin(2), 2);
        let (first, turn) = door.next().await;
        let waiting = tokio::spawn({
            let door = Arc::clone(&door);
            async move { door.next().await.0 }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(turn);
        assert_eq!((first, waiting.await.expect("it does not panic")), (1, 2));
    }
}
