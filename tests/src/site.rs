//! Running clusters, lent to one test at a time: starting one takes half a minute, cleaning one a few seconds.

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::clock::wait_until;
use crate::cluster::Cluster;

/// Clusters that no test uses now. What is in a static is never dropped: the run's reaper ends them.
static IDLE: Mutex<Vec<Cluster>> = Mutex::new(Vec::new());

/// The number of the next cluster.
static NEXT: AtomicU8 = AtomicU8::new(1);

/// The number of a cluster that no other has.
pub(crate) fn next_number() -> u8 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A site's cluster for one test: nothing of an earlier test is on it, and nobody else uses it.
#[derive(Debug)]
pub struct Site {
    cluster: Option<Cluster>,
    spoilt: bool,
}

impl Site {
    /// Lends a cluster: an idle one, cleaned, or a new one.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn borrow() -> Self {
        let idle = IDLE.lock().expect("nothing panics while it holds the list").pop();
        let cluster = match idle {
            Some(cluster) => {
                clean(&cluster);
                cluster
            }
            None => Cluster::start(next_number()),
        };
        Self { cluster: Some(cluster), spoilt: false }
    }

    /// Lends two, started at the same time.
    ///
    /// # Panics
    /// When one does not come up.
    #[must_use]
    pub fn borrow_two() -> (Self, Self) {
        let other = thread::spawn(Self::borrow);
        let one = Self::borrow();
        (one, other.join().expect("the other site comes up too"))
    }

    /// Marks it as broken on purpose: no later test gets it.
    pub fn spoil(&mut self) {
        self.spoilt = true;
    }
}

impl Deref for Site {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.cluster.as_ref().expect("taken only when dropped")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let cluster = self.cluster.take().expect("taken only here");
        // A failed test's cluster is stopped instead, with its logs kept: it is what failed.
        if !self.spoilt && !thread::panicking() {
            IDLE.lock().expect("nothing panics while it holds the list").push(cluster);
        }
    }
}

/// Removes all that a test may have made: objects of every kind that the product applies, and images.
fn clean(cluster: &Cluster) {
    let own = |object: &Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let given = name.starts_with("system:") || name.starts_with("system-") || name.starts_with("kube-");
        !given && object["metadata"]["labels"]["kubernetes.io/bootstrapping"].is_null() && name != "default"
    };
    let kinds = [
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
        "namespaces",
        "customresourcedefinitions",
        "clusterrolebindings",
        "clusterroles",
        "priorityclasses",
        "storageclasses",
        "persistentvolumes",
    ];
    for kind in kinds {
        let list = cluster.get(&[kind]).expect("a list is always found");
        let names: Vec<String> = list["items"]
            .as_array()
            .expect("a list has items")
            .iter()
            .filter(|object| own(object))
            .map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        if !names.is_empty() {
            let mut arguments = vec!["delete", kind, "--ignore-not-found", "--timeout=60s"];
            arguments.extend(names.iter().map(String::as_str));
            wait_until(&format!("{kind} to go"), Duration::from_secs(90), || {
                let output = cluster.try_kubectl(&arguments);
                if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
            });
        }
    }
    cluster.remove_images();
}
