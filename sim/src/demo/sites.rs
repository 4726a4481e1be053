//! The demo's sites: their files, their agents' processes, and looking at them.

use std::fs;
use std::path::{Path, PathBuf};

use airlift_bundles::ids::Sha256Digest;
use serde_json::Value;
use tokio::task::JoinSet;

use super::board::Row;
use super::failure::DemoError;
use super::process::Process;
use super::seen::Seen;
use super::story::{Expect, Progress};
use super::tools::Tools;

/// The name of the site that only a stick reaches.
pub const ISLAND: &str = "island";
/// The longest path of a unix socket on Linux, less its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A cluster that is no model.
#[derive(Debug, Clone)]
pub struct RealCluster {
    /// Kubeconfig of an administrator.
    pub kubeconfig: PathBuf,
    /// The socket of its node's containerd.
    pub containerd: PathBuf,
}

/// A site.
#[derive(Debug)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Its one label's value.
    pub region: &'static str,
    /// Whether it has a network.
    pub online: bool,
    real: Option<RealCluster>,
    process: Option<Process>,
}

/// Names sites: so many with a network, and the island; the first one gets the real cluster, where there is one.
#[must_use]
pub fn name_sites(online: usize, mut real: Option<RealCluster>) -> Vec<Site> {
    let site = |(name, region, online): (String, &'static str, bool)| Site {
        name,
        region,
        online,
        real: real.take(),
        process: None,
    };
    let north = online.div_ceil(2);
    let names = (0..online).map(|number| match number.checked_sub(north) {
        None => (format!("north-{}", number + 1), "north", true),
        Some(number) => (format!("south-{}", number + 1), "south", true),
    });
    names.chain([(ISLAND.to_owned(), "sea", false)]).map(site).collect()
}

impl Site {
    /// Its directory under the demo's.
    #[must_use]
    pub fn dir(&self) -> String {
        format!("sites/{}", self.name)
    }

    /// Its agent's configuration, under the demo's directory.
    #[must_use]
    pub fn config(&self) -> String {
        format!("{}/agent.toml", self.dir())
    }

    /// By which way it is reached.
    #[must_use]
    pub fn route(&self) -> &'static str {
        if self.online { "mqtt" } else { "stick" }
    }

    /// Writes its configuration.
    ///
    /// # Errors
    /// [`DemoError::Io`]; [`DemoError::Options`] where the directory's path is too long for a socket.
    pub fn install(&self, tools: &Tools, root_sha256: Sha256Digest) -> Result<(), DemoError> {
        let dir = tools.dir().join(self.dir());
        fs::create_dir_all(&dir).map_err(DemoError::io(&dir))?;
        let socket = dir.join("control.sock");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let text = format!("{} is too long for a socket: choose a shorter --dir", socket.display());
            return Err(DemoError::Options(text));
        }
        let model = RealCluster { kubeconfig: dir.join(CLUSTER_FILE), containerd: dir.join("no-containerd") };
        let cluster = self.real.as_ref().unwrap_or(&model);
        let config = format!(
            "# Site {}\nstate_dir = {:?}\ncontrol_socket = {socket:?}\nroot_sha256 = \"{root_sha256}\"\nonline = {}\n\n\
             [kubernetes]\nkubeconfig = {:?}\n\n[containerd]\nsocket = {:?}\n",
            self.name,
            dir.join("state"),
            self.online,
            cluster.kubeconfig,
            cluster.containerd,
        );
        let path = dir.join("agent.toml");
        fs::write(&path, config).map_err(DemoError::io(path))
    }

    /// Starts its agent.
    ///
    /// # Errors
    /// [`DemoError::Io`].
    pub fn start(&mut self, tools: &Tools) -> Result<(), DemoError> {
        let command = tools.service("airlift-agent", &["run", "--config", &self.config()]);
        let log = tools.dir().join("logs").join(format!("{}.log", self.name));
        self.process = Some(Process::start(&format!("the agent of {}", self.name), command, &log)?);
        Ok(())
    }

    /// Ends its agent as a power cut would; a model cluster goes with it.
    pub async fn kill(&mut self, tools: &Tools) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
        // What the cluster last said of itself is true no more; it was perhaps never written.
        let _ = fs::remove_file(tools.dir().join(self.dir()).join(CLUSTER_FILE));
    }

    /// Ends its agent in good order.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
    }

    fn cluster(&self, tools: &Tools) -> Option<Value> {
        if self.real.is_some() {
            return None;
        }
        let text = fs::read(tools.dir().join(self.dir()).join(CLUSTER_FILE)).unwrap_or_default();
        Some(serde_json::from_slice(&text).unwrap_or_default())
    }
}

/// What a model cluster holds, written by the agent's process that models it; its agent's configuration names it as
/// the kubeconfig, and so is known to be that of a model.
pub const CLUSTER_FILE: &str = "cluster.json";

/// Whether a kubeconfig stands for a model cluster.
#[must_use]
pub fn is_model(kubeconfig: &Path) -> bool {
    kubeconfig.file_name().is_some_and(|name| name == CLUSTER_FILE)
}

/// Looks at all sites at once.
///
/// # Errors
/// [`DemoError::Ended`] where an agent that should run does not.
pub async fn look(sites: &mut [Site], tools: &Tools, expect: Expect) -> Result<Vec<Row>, DemoError> {
    let mut asked = JoinSet::new();
    for (number, site) in sites.iter_mut().enumerate() {
        if let Some(process) = &mut site.process {
            process.check()?;
        }
        let (tools, config) = (tools.clone(), site.config());
        asked.spawn(async move {
            let status = tools.ask("airlift-agent", &["status", "--config", &config]).await;
            // An agent that does not answer yet is seen as down.
            (number, status.ok().filter(|status| status["site"].is_string()))
        });
    }
    let mut answers: Vec<Option<Value>> = sites.iter().map(|_| None).collect();
    while let Some(answer) = asked.join_next().await {
        if let Ok((number, status)) = answer {
            answers[number] = status;
        }
    }
    let row = |(site, status): (&Site, Option<Value>)| {
        let seen = Seen::read(status.as_ref(), site.cluster(tools).as_ref());
        let progress = expect.judge(&seen, site.online);
        Row { site: site.name.clone(), route: site.route(), seen, progress }
    };
    Ok(sites.iter().zip(answers).map(row).collect())
}

/// Whether every site is as expected.
#[must_use]
pub fn all_met(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.progress == Progress::Met)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_sites_have_a_network_and_the_island_has_none() {
        let sites = name_sites(10, None);
        assert_eq!(sites.iter().filter(|site| site.online).count(), 10);
        assert_eq!(sites[4].name, "north-5");
        assert_eq!((sites[5].name.as_str(), sites[5].region), ("south-1", "south"));
        assert_eq!((sites[10].name.as_str(), sites[10].route()), (ISLAND, "stick"));
    }

    #[test]
    fn the_real_cluster_is_the_first_sites_and_no_other() {
        let real =
            RealCluster { kubeconfig: "/etc/k3s.yaml".into(), containerd: "/run/containerd.sock".into() };
        let sites = name_sites(3, Some(real));
        assert_eq!(
            sites.iter().map(|site| site.real.is_some()).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        assert!(is_model(Path::new("/x/cluster.json")) && !is_model(Path::new("/etc/k3s.yaml")));
    }
}
