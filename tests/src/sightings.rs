//! Everything that one kind of object was seen as, also what came and went between two looks: a running watch.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::Cluster;
use crate::components::built;
use crate::process::Process;

/// What begins each line: whose value it is.
const NAME: &str = r#"{.object.metadata.namespace}{" "}{.object.metadata.name}"#;

/// A watch on one kind in all namespaces; it ends when this is dropped.
#[derive(Debug)]
pub struct Sightings {
    process: Process,
}

impl Sightings {
    /// Starts watching; of every event the value at `path` (JSONPath in the object, such as `.metadata.uid`) is kept.
    ///
    /// # Panics
    /// When kubectl cannot be started.
    #[must_use]
    pub fn start(cluster: &Cluster, kind: &str, path: &str) -> Self {
        let name = format!("watch-{kind}");
        // The log of the same watch of an earlier test at this cluster.
        let _ = std::fs::remove_file(cluster.bed().dir().join("logs").join(format!("{name}.log")));
        let arguments = [
            "get".to_owned(),
            kind.to_owned(),
            "--all-namespaces".to_owned(),
            format!("--kubeconfig={}", cluster.kubeconfig().display()),
            "--watch".to_owned(),
            "--output-watch-events".to_owned(),
            format!("--output=jsonpath={NAME}{{\" \"}}{{.object{path}}}{{\"\\n\"}}"),
        ];
        let process =
            Process::start(cluster.bed(), cluster.namespace(), &name, &built("kubectl"), &arguments, &[]);
        Self { process }
    }

    /// Each value that was seen of the objects of this namespace, by the object's name.
    ///
    /// # Panics
    /// When the watch has ended: then something may have passed unseen.
    #[must_use]
    pub fn of(&mut self, namespace: &str) -> BTreeMap<String, BTreeSet<String>> {
        self.process.check_alive().unwrap_or_else(|ended| panic!("{ended}"));
        let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in self.process.log().lines() {
            let mut words = line.split(' ');
            if words.next() == Some(namespace)
                && let (Some(name), Some(value)) = (words.next(), words.next())
            {
                seen.entry(name.to_owned()).or_default().insert(value.to_owned());
            }
        }
        seen
    }
}
