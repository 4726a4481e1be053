//! One API server without controllers and nodes, shared by all tests that only ask what an API server does.

use std::sync::LazyLock;

use crate::cluster::Cluster;
use crate::site::next_number;

/// Started at first use. What is in a static is never dropped: the run's reaper ends it.
static SHARED: LazyLock<Cluster> = LazyLock::new(|| Cluster::start_lenient_api(next_number()));

/// The shared API server. Tests keep apart by the names of what they make.
#[must_use]
pub fn api_server() -> &'static Cluster {
    &SHARED
}
