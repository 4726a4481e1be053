//! `agent.toml`: where things are at this site. Every key has a default that suits a K3s node.

use std::path::{Path, PathBuf};

use airlift_bundles::document::enrolment::HubAddress;
use airlift_bundles::document::release::Platform;
use airlift_bundles::ids::{FleetId, Sha256Digest};
use serde::Deserialize;

use crate::store::DATABASE;

/// Where the configuration is looked for unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/airlift/agent.toml";

/// The agent's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Database, blobs and keys; one process may use it at a time.
    pub state_dir: PathBuf,
    /// Where local commands reach the running agent.
    pub control_socket: PathBuf,
    /// Digest of the first root, from the package or the installer; a token carries it too.
    pub root_sha256: Option<Sha256Digest>,
    /// The fleet that this site was installed for; needed for a request on a stick that has no root yet.
    pub fleet: Option<FleetId>,
    /// Addresses that take the place of the grant's.
    pub hubs: Vec<HubEntry>,
    /// Whether to speak to a hub at all; `false` at a site that only sticks reach.
    pub online: bool,
    /// Directories that are watched for `airlift-media`.
    pub media_dirs: Vec<PathBuf>,
    /// How to reach the cluster.
    pub kubernetes: Kubernetes,
    /// How to reach the container runtime.
    pub containerd: Containerd,
}

/// How to reach the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kubernetes {
    /// Kubeconfig with the right to manage every kind that apps hold.
    pub kubeconfig: PathBuf,
}

/// How to reach the container runtime.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containerd {
    /// Its socket.
    pub socket: PathBuf,
    /// The snapshotter that its CRI plugin uses.
    pub snapshotter: String,
}

/// One hub address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubEntry {
    /// Host name or address.
    pub host: String,
    /// Port of HTTPS.
    #[serde(default = "https_port")]
    pub https_port: u16,
    /// Port of MQTT over TLS.
    #[serde(default = "mqtt_port")]
    pub mqtt_port: u16,
    /// Where MQTT is spoken, if elsewhere: a broker stands between.
    #[serde(default)]
    pub mqtt_host: Option<String>,
}

fn https_port() -> u16 {
    8443
}

fn mqtt_port() -> u16 {
    8883
}

impl From<HubEntry> for HubAddress {
    fn from(entry: HubEntry) -> Self {
        let HubEntry { host, https_port, mqtt_port, mqtt_host } = entry;
        Self { host, https_port, mqtt_port, mqtt_host }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/airlift-agent".into(),
            control_socket: "/run/airlift-agent/control.sock".into(),
            root_sha256: None,
            fleet: None,
            hubs: Vec::new(),
            online: true,
            media_dirs: Vec::new(),
            kubernetes: Kubernetes::default(),
            containerd: Containerd::default(),
        }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self { kubeconfig: "/etc/rancher/k3s/k3s.yaml".into() }
    }
}

impl Default for Containerd {
    fn default() -> Self {
        Self { socket: "/run/k3s/containerd/containerd.sock".into(), snapshotter: "overlayfs".into() }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file has an unknown or malformed setting.
    #[error("{path} is not valid: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// The parser's words, with line and column.
        message: String,
    },
}

impl Config {
    /// Reads `path`; without one the default place, where a missing file means the defaults.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(ConfigError::Read { path: file.to_owned(), source }),
        };
        toml::from_str(&text)
            .map_err(|error| ConfigError::Invalid { path: file.to_owned(), message: error.to_string() })
    }

    /// Directory of the site's keys, readable by root alone.
    #[must_use]
    pub fn keys_dir(&self) -> PathBuf {
        self.state_dir.join("keys")
    }

    /// The one file of rows.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state_dir.join(DATABASE)
    }
}

/// What this binary runs on, as OCI names it.
#[must_use]
pub fn host_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "arm" => ("arm", Some("v7".to_owned())),
        other => (other, None),
    };
    Platform { os: std::env::consts::OS.to_owned(), architecture: architecture.to_owned(), variant }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, "online = false\nstat_dir = \"/x\"\n").unwrap();
        let error = Config::load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("stat_dir"), "{error}");
    }

    #[test]
    fn a_short_file_keeps_the_other_defaults() {
        let config: Config =
            toml::from_str("[[hubs]]\nhost = \"hub\"\n[containerd]\nsnapshotter = \"native\"").unwrap();
        assert_eq!((config.hubs[0].https_port, config.hubs[0].mqtt_port), (8443, 8883));
        assert_eq!(config.containerd.socket, Containerd::default().socket);
        assert!(config.online);
    }

    #[test]
    fn an_absent_named_file_is_an_error() {
        assert!(Config::load(Some(Path::new("/nonexistent/agent.toml"))).is_err());
    }
}
