//! The hub's settings (`hub.toml` in its data directory) and the places of its files.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use airlift_bundles::document::enrolment::HubAddress;
use airlift_bundles::ids::Name;
use serde::{Deserialize, Serialize};

/// Where everything of one hub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Names the directory; nothing is looked at yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("hub.toml")
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.0.join("hub.db")
    }

    /// Whole blobs, named by digest.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// Unfinished uploads.
    #[must_use]
    pub fn uploads(&self) -> PathBuf {
        self.0.join("uploads")
    }

    /// Secret keys; root-only.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// The director key.
    #[must_use]
    pub fn director_key(&self) -> PathBuf {
        self.keys().join("director.json")
    }

    /// The public half of the director key, for `airlift root add-key`.
    #[must_use]
    pub fn director_public(&self) -> PathBuf {
        self.0.join("director.pub.json")
    }

    /// The administrator's API token, root-only, which `airlift login` reads.
    #[must_use]
    pub fn admin_token(&self) -> PathBuf {
        self.keys().join("admin-token")
    }

    /// The hub CA's certificate, by which clients know the hub.
    #[must_use]
    pub fn hub_ca(&self) -> PathBuf {
        self.0.join("hub-ca.pem")
    }

    /// The file that a running hub holds locked.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
}

/// The settings of a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names and addresses under which sites and operators reach the hub.
    pub hosts: Vec<String>,
    /// The HTTPS listener.
    #[serde(default = "Listen::https")]
    pub https: Listen,
    /// The MQTT listener.
    #[serde(default = "Listen::mqtt")]
    pub mqtt: Listen,
    /// The broker that stands between hub and sites; without one the hub's own endpoint listens.
    #[serde(default)]
    pub broker: Option<BrokerPlace>,
    /// First level of the MQTT topics.
    #[serde(default = "default_prefix")]
    pub topic_prefix: Name,
    /// Bytes a second of content that the hub sends over MQTT, to all sites together.
    #[serde(default = "default_rate")]
    pub content_bytes_per_s: u64,
}

/// Where a broker is, for the hub and for sites alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerPlace {
    /// Host name or address, which its certificate names.
    pub host: String,
    /// Port of MQTT over TLS.
    #[serde(default = "mqtt_port")]
    pub port: u16,
}

impl fmt::Display for BrokerPlace {
    /// `HOST:PORT`; an IPv6 address stands in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for BrokerPlace {
    type Err = NoBrokerPlace;

    /// Reads `mqtts://HOST[:PORT]`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, NoBrokerPlace> {
        let refuse = || NoBrokerPlace(text.chars().take(200).collect());
        let rest = text.strip_prefix("mqtts://").ok_or_else(refuse)?;
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| refuse())?),
            _ => (rest, mqtt_port()),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_host = !host.is_empty()
            && !host.contains(|letter: char| "/?#@".contains(letter) || letter.is_whitespace());
        if is_host { Ok(Self { host: host.to_owned(), port }) } else { Err(refuse()) }
    }
}

/// Not the address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address of a broker: write mqtts://HOST:PORT")]
pub struct NoBrokerPlace(String);

fn mqtt_port() -> u16 {
    8883
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The address.
    #[serde(default = "any_address")]
    pub bind: IpAddr,
    /// The port; 0 lets the system choose, which is for tests and the demo.
    pub port: u16,
}

impl Listen {
    fn https() -> Self {
        Self { bind: any_address(), port: 8443 }
    }

    fn mqtt() -> Self {
        Self { bind: any_address(), port: mqtt_port() }
    }
}

fn any_address() -> IpAddr {
    IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

fn default_prefix() -> Name {
    Name::new("airlift").expect("the literal is a name")
}

fn default_rate() -> u64 {
    32 << 20
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read; the hub was perhaps never initialised here.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not TOML, or a setting that does not exist.
    #[error("{path} is not valid")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// No host, so that nobody could reach the hub.
    #[error("setting `hosts` is empty")]
    Hosts,
}

impl Config {
    /// The settings of a new hub.
    #[must_use]
    pub fn new(hosts: Vec<String>) -> Self {
        Self {
            hosts,
            https: Listen::https(),
            mqtt: Listen::mqtt(),
            broker: None,
            topic_prefix: default_prefix(),
            content_bytes_per_s: default_rate(),
        }
    }

    /// Reads `hub.toml`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(data: &DataDir) -> Result<Self, ConfigError> {
        let path = data.config();
        let text =
            fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let config: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse { path, source })?;
        if config.hosts.is_empty() { Err(ConfigError::Hosts) } else { Ok(config) }
    }

    /// The settings as the text of `hub.toml`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(|host| format!("{host:?}")).collect();
        let broker = self.broker.as_ref().map(|BrokerPlace { host, port }| {
            format!("\n# The broker between this hub and its sites; [mqtt] is not listened on.\n[broker]\nhost = {host:?}\nport = {port}\n")
        });
        let text = format!(
            "# Names and addresses under which sites and operators reach this hub.\nhosts = [{}]\n\
             # First level of the MQTT topics.\ntopic_prefix = \"{}\"\n\
             # Bytes a second of content over MQTT, to all sites together.\ncontent_bytes_per_s = {}\n\n\
             [https]\nbind = \"{}\"\nport = {}\n\n[mqtt]\nbind = \"{}\"\nport = {}\n",
            hosts.join(", "),
            self.topic_prefix,
            self.content_bytes_per_s,
            self.https.bind,
            self.https.port,
            self.mqtt.bind,
            self.mqtt.port,
        );
        text + &broker.unwrap_or_default()
    }

    /// The addresses that a grant carries, with the ports that are really listened on.
    #[must_use]
    pub fn addresses(&self, https_port: u16, mqtt_port: u16) -> Vec<HubAddress> {
        let mqtt_host = self.broker.as_ref().map(|broker| broker.host.clone());
        let address = |host: &String| HubAddress {
            host: host.clone(),
            https_port,
            mqtt_port,
            mqtt_host: mqtt_host.clone(),
        };
        self.hosts.iter().take(8).map(address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_is_what_serve_reads() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        let config = Config::new(vec!["hub.example".into(), "10.0.0.1".into()]);
        fs::write(data.config(), config.to_toml()).unwrap();
        assert_eq!(Config::load(&data).unwrap(), config);
    }

    #[test]
    fn sites_are_sent_to_the_broker_and_what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        let mut config = Config::new(vec!["hub.example".into()]);
        config.broker = Some("mqtts://[2001:db8::1]:1883".parse().unwrap());
        fs::write(data.config(), config.to_toml()).unwrap();
        let read = Config::load(&data).unwrap();
        assert_eq!(read, config);
        let [address] = &read.addresses(8443, 1883)[..] else { panic!() };
        assert_eq!((address.host.as_str(), address.mqtt_host()), ("hub.example", "2001:db8::1"));
    }

    #[test]
    fn only_an_address_with_tls_is_a_brokers() {
        let broker = |text: &str| text.parse::<BrokerPlace>();
        assert_eq!(
            broker("mqtts://b.example").unwrap(),
            BrokerPlace { host: "b.example".into(), port: 8883 }
        );
        for wrong in
            ["mqtt://b.example", "b.example", "mqtts://", "mqtts://b:x", "mqtts://u@b", "mqtts://a b"]
        {
            assert!(broker(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_setting_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        fs::write(data.config(), "hosts = [\"a\"]\nhttps_prot = 1\n").unwrap();
        assert!(matches!(Config::load(&data), Err(ConfigError::Parse { .. })));
        fs::write(data.config(), "hosts = []\n").unwrap();
        assert!(matches!(Config::load(&data), Err(ConfigError::Hosts)));
    }
}
