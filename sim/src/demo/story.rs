//! The demo as a list: what is done, what every site must then show, and how long that may take.

use super::app::{BAD, FIRST, SECOND, SampleApp};
use super::seen::Seen;

/// One stage of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// What happens, for the person who watches.
    pub title: &'static str,
    /// What to look for.
    pub note: &'static str,
    /// What is done.
    pub act: Act,
    /// What every site shows in the end.
    pub expect: Expect,
    /// How long the sites may take on a slow machine: seconds.
    pub within_s: u64,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Keys are made, the root is signed by two of its three holders, the hub starts.
    Found,
    /// Sites are enrolled: those with a network by token, the island by stick.
    Enrol,
    /// A version is built, signed by two of three, published, assigned to all, and carried to the island.
    Release(SampleApp),
    /// The hub and every site's agent and cluster are killed; only the sites start again.
    Blackout,
    /// The hub starts again, and the stick makes its round.
    Return,
}

/// What a site shows when a stage is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Its agent runs; where it has a network, it is connected.
    Enrolled,
    /// This version is healthy, and its pods are ready.
    Healthy(SampleApp),
    /// It was assigned `bad`, and runs `good` again.
    RolledBack {
        /// The version that failed.
        bad: SampleApp,
        /// The version that it went back to.
        good: SampleApp,
    },
    /// As [`Expect::RolledBack`], with no hub to be reached.
    Alone {
        /// The version that it keeps.
        good: SampleApp,
    },
    /// As [`Expect::RolledBack`], and the hub has acknowledged the receipts.
    Reported {
        /// The version that it keeps.
        good: SampleApp,
    },
}

/// How far a site is from what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is as expected.
    Met,
    /// It may still come.
    Pending,
    /// It will not come, because of this.
    Broken(String),
}

/// The demo, from the first key to the last receipt.
pub const STORY: [Stage; 7] = [
    Stage {
        title: "Three people make a root of trust, and a hub starts",
        note: "two of three signatures are enough, for the root as for every release",
        act: Act::Found,
        expect: Expect::Enrolled,
        within_s: 1,
    },
    Stage {
        title: "Sites are enrolled",
        note: "over the network with one-time tokens; the island with a stick and a fingerprint",
        act: Act::Enrol,
        expect: Expect::Enrolled,
        within_s: 30,
    },
    Stage {
        title: "Version 1.0.0 goes to every site",
        note: "each verifies, stores, imports the image, applies, and waits until its pods are ready",
        act: Act::Release(FIRST),
        expect: Expect::Healthy(FIRST),
        within_s: 60,
    },
    Stage {
        title: "Version 2.0.0 follows",
        note: "an object that it leaves out is pruned once it is healthy",
        act: Act::Release(SECOND),
        expect: Expect::Healthy(SECOND),
        within_s: 60,
    },
    Stage {
        title: "Version 3.0.0 is bad: its pods never become ready",
        note: "each site waits its eight seconds, and goes back to 2.0.0 by itself",
        act: Act::Release(BAD),
        expect: Expect::RolledBack { bad: BAD, good: SECOND },
        within_s: 90,
    },
    Stage {
        title: "The hub is killed, and every site loses power",
        note: "agents and clusters come back empty; each agent restores its site from its own disk",
        act: Act::Blackout,
        expect: Expect::Alone { good: SECOND },
        within_s: 60,
    },
    Stage {
        title: "The hub returns",
        note: "signed receipts arrive, over MQTT and on the stick, and are acknowledged",
        act: Act::Return,
        expect: Expect::Reported { good: SECOND },
        within_s: 60,
    },
];

impl Act {
    /// Whether sites are looked at once it is done.
    #[must_use]
    pub fn concerns_sites(self) -> bool {
        self != Self::Found
    }
}

impl Expect {
    /// Compares a site with it; `online` says whether the site has a network.
    #[must_use]
    pub fn judge(self, seen: &Seen, online: bool) -> Progress {
        if !seen.answers {
            return Progress::Pending;
        }
        if matches!(seen.state.as_str(), "failed" | "degraded" | "refused") {
            return Progress::Broken(format!("{} is {}: {}", seen.version, seen.state, seen.reason));
        }
        let runs = |app: SampleApp| {
            seen.state == "healthy" && seen.version == app.version && seen.pods_ready(app.version)
        };
        let went_back = |bad: SampleApp, good| runs(good) && seen.target == bad.version;
        let met = match self {
            Self::Enrolled => seen.connected || !online,
            Self::Healthy(app) => runs(app),
            Self::RolledBack { bad, good } => went_back(bad, good) && seen.failed,
            Self::Alone { good } => went_back(BAD, good) && !seen.connected,
            // Taking the assignment that brings the acknowledgement is itself receipted: on a stick that one receipt
            // waits for the next round.
            Self::Reported { good } => {
                let acknowledged = if online {
                    seen.connected && seen.receipts_waiting == 0
                } else {
                    seen.receipts_waiting <= 1
                };
                went_back(BAD, good) && acknowledged
            }
        };
        if met { Progress::Met } else { Progress::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(app: SampleApp) -> Seen {
        Seen {
            answers: true,
            connected: true,
            state: "healthy".into(),
            version: app.version.into(),
            target: app.version.into(),
            pods: Some((app.version.into(), 2, 2)),
            ..Seen::default()
        }
    }

    #[test]
    fn a_site_that_runs_the_version_before_is_not_there_yet() {
        assert_eq!(Expect::Healthy(SECOND).judge(&running(SECOND), true), Progress::Met);
        assert_eq!(Expect::Healthy(SECOND).judge(&running(FIRST), true), Progress::Pending);
    }

    #[test]
    fn an_agent_that_says_healthy_over_an_empty_cluster_is_not_believed() {
        let seen = Seen { pods: Some((String::new(), 0, 0)), ..running(SECOND) };
        assert_eq!(Expect::Healthy(SECOND).judge(&seen, true), Progress::Pending);
    }

    #[test]
    fn running_the_version_before_is_a_rollback_only_once_the_bad_one_failed() {
        let expect = Expect::RolledBack { bad: BAD, good: SECOND };
        assert_eq!(expect.judge(&running(SECOND), true), Progress::Pending, "not assigned yet");
        let assigned = Seen { target: BAD.version.into(), ..running(SECOND) };
        assert_eq!(expect.judge(&assigned, true), Progress::Pending, "not tried yet");
        let failed = Seen { failed: true, ..assigned };
        assert_eq!(expect.judge(&failed, true), Progress::Met);
    }

    #[test]
    fn alone_means_without_the_hub_and_reported_means_acknowledged() {
        let connected = Seen { target: BAD.version.into(), ..running(SECOND) };
        let alone = Seen { connected: false, receipts_waiting: 3, ..connected.clone() };
        assert_eq!(Expect::Alone { good: SECOND }.judge(&connected, true), Progress::Pending);
        assert_eq!(Expect::Alone { good: SECOND }.judge(&alone, true), Progress::Met);
        let reported = Expect::Reported { good: SECOND };
        assert_eq!(reported.judge(&alone, false), Progress::Pending);
        assert_eq!(reported.judge(&Seen { receipts_waiting: 1, ..alone.clone() }, false), Progress::Met);
        assert_eq!(
            reported.judge(&Seen { receipts_waiting: 1, ..connected.clone() }, true),
            Progress::Pending
        );
        assert_eq!(reported.judge(&Seen { receipts_waiting: 0, ..alone }, true), Progress::Pending);
        assert_eq!(reported.judge(&connected, true), Progress::Met);
    }

    #[test]
    fn a_refusal_ends_the_waiting_with_its_reason() {
        let seen = Seen { state: "refused".into(), reason: "AL0301".into(), ..running(SECOND) };
        let Progress::Broken(why) = Expect::Healthy(SECOND).judge(&seen, true) else { panic!("{seen:?}") };
        assert!(why.contains("AL0301"), "{why}");
    }

    #[test]
    fn versions_are_released_in_order_and_the_bad_one_after_a_good_one() {
        let released: Vec<SampleApp> = STORY
            .iter()
            .filter_map(|stage| match stage.act {
                Act::Release(app) => Some(app),
                _ => None,
            })
            .collect();
        assert!(released.windows(2).all(|pair| pair[0].seq < pair[1].seq && pair[0].works));
        assert!(released.iter().all(|app| STORY.iter().any(|stage| stage.title.contains(app.version))));
    }
}
