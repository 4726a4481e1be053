//! Where the agent's log goes: standard error, one line an event.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::support::ring::Ring;

/// Starts logging at the level of `AIRLIFT_LOG` (`info` by default); libraries say no more than `info`. The newest lines stay
/// in the ring, for whoever makes a support bundle.
pub(super) fn start() -> Ring {
    let ring = Ring::default();
    let level =
        std::env::var("AIRLIFT_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    let targets = Targets::new().with_target("airlift", level).with_default(level.min(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter(targets.clone());
    let kept = tracing_subscriber::fmt::layer()
        .with_writer(ring.clone())
        .with_ansi(false)
        .with_target(false)
        .with_filter(targets);
    // Where a log is set up already, as in the demo, that one is used.
    let _ = tracing_subscriber::registry().with(lines).with(kept).try_init();
    ring
}
