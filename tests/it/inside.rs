//! A runtime like the agent's, in a site's network.

use airlift_tests::cluster::Cluster;

/// Runs a future inside of a site.
pub(crate) fn inside<F: Future<Output = ()>>(cluster: &Cluster, act: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(act());
    };
    if let Err(panic) = cluster.namespace().enter(run).join() {
        std::panic::resume_unwind(panic);
    }
}
