//! What a crowd and the one who drives it say to each other: lines over pipes, a moment in each that needs one.
//!
//! Moments are nanoseconds of the machine's monotonic clock, which all processes share.

use std::fmt;
use std::str::FromStr;

use airlift_bundles::ids::Sha256Digest;
use rustix::time::{ClockId, clock_gettime};

/// This moment.
#[must_use]
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// What a crowd tells. Sites are named by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// Every agent is loaded and waits for its start.
    Ready,
    /// A connection was committed: the site's so many-th.
    Linked {
        /// Which site.
        site: u32,
        /// Counts its connections.
        conn_seq: u64,
        /// When.
        at_ns: u64,
    },
    /// A generation was committed as healthy.
    Healthy {
        /// Which site.
        site: u32,
        /// Which generation.
        generation: Sha256Digest,
        /// When.
        at_ns: u64,
    },
    /// The hub's acknowledgement of a status was committed.
    StatusAcked {
        /// Which site.
        site: u32,
        /// When.
        at_ns: u64,
    },
    /// How a site's chain of receipts stands.
    Chain(Chain),
    /// All chains are told.
    Told,
}

/// A chain of receipts as its site has it on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// Which site.
    pub site: u32,
    /// The last receipt's number; 0 before the first.
    pub last: u64,
    /// The last one that the hub has acknowledged.
    pub acked: u64,
    /// Digest of the last.
    pub head: Option<Sha256Digest>,
}

/// What a crowd is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Let every agent live.
    Go,
    /// Change something at every site that its status shows.
    Burst,
    /// Write receipts at every site until its chain has so many.
    Write(u64),
    /// Tell every chain.
    Tell,
}

/// A line that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a word of a crowd")]
pub(super) struct NoWord(String);

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Linked { site, conn_seq, at_ns } => write!(f, "linked {site} {conn_seq} {at_ns}"),
            Self::Healthy { site, generation, at_ns } => write!(f, "healthy {site} {generation} {at_ns}"),
            Self::StatusAcked { site, at_ns } => write!(f, "status {site} {at_ns}"),
            Self::Chain(Chain { site, last, acked, head }) => {
                let head = head.map_or_else(|| "-".to_owned(), |head| head.to_string());
                write!(f, "chain {site} {last} {acked} {head}")
            }
            Self::Told => f.write_str("told"),
        }
    }
}

impl FromStr for Word {
    type Err = NoWord;

    fn from_str(line: &str) -> Result<Self, NoWord> {
        let parts: Vec<&str> = line.split(' ').collect();
        let read = || -> Option<Self> {
            Some(match parts[..] {
                ["ready"] => Self::Ready,
                ["linked", site, conn_seq, at_ns] => Self::Linked {
                    site: site.parse().ok()?,
                    conn_seq: conn_seq.parse().ok()?,
                    at_ns: at_ns.parse().ok()?,
                },
                ["healthy", site, generation, at_ns] => Self::Healthy {
                    site: site.parse().ok()?,
                    generation: generation.parse().ok()?,
                    at_ns: at_ns.parse().ok()?,
                },
                ["status", site, at_ns] => {
                    Self::StatusAcked { site: site.parse().ok()?, at_ns: at_ns.parse().ok()? }
                }
                ["chain", site, last, acked, head] => Self::Chain(Chain {
                    site: site.parse().ok()?,
                    last: last.parse().ok()?,
                    acked: acked.parse().ok()?,
                    head: if head == "-" { None } else { Some(head.parse().ok()?) },
                }),
                ["told"] => Self::Told,
                _ => return None,
            })
        };
        read().ok_or_else(|| NoWord(line.to_owned()))
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Go => f.write_str("go"),
            Self::Burst => f.write_str("burst"),
            Self::Write(upto) => write!(f, "write {upto}"),
            Self::Tell => f.write_str("tell"),
        }
    }
}

impl FromStr for Order {
    type Err = NoWord;

    fn from_str(line: &str) -> Result<Self, NoWord> {
        let no_word = || NoWord(line.to_owned());
        match line.split_once(' ') {
            None if line == "go" => Ok(Self::Go),
            None if line == "burst" => Ok(Self::Burst),
            None if line == "tell" => Ok(Self::Tell),
            Some(("write", upto)) => upto.parse().map(Self::Write).map_err(|_| no_word()),
            _ => Err(no_word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_as_it_was_written() {
        let digest = Sha256Digest::of(b"x");
        let words = [
            Word::Ready,
            Word::Linked { site: 3, conn_seq: 2, at_ns: 9 },
            Word::Healthy { site: 1, generation: digest, at_ns: u64::MAX },
            Word::StatusAcked { site: 7, at_ns: 1 },
            Word::Chain(Chain { site: 1, last: 4, acked: 3, head: Some(digest) }),
            Word::Chain(Chain { site: 1, last: 0, acked: 0, head: None }),
            Word::Told,
        ];
        for word in words {
            assert_eq!(word.to_string().parse(), Ok(word));
        }
        assert!("healthy 1".parse::<Word>().is_err());
        for order in [Order::Go, Order::Burst, Order::Write(12), Order::Tell] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        assert!("write all".parse::<Order>().is_err());
    }
}
