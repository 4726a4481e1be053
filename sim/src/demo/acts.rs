//! Does what the story says, with the product's own commands.

use std::fs;
use std::net::TcpListener;

use airlift_agent::config::host_platform;
use airlift_bundles::ids::Sha256Digest;
use serde_json::Value;
use tokio::task::JoinSet;

use super::app::{APP, SECOND, SampleApp};
use super::failure::DemoError;
use super::process::Process;
use super::screen::Screen;
use super::sites::{ISLAND, Site};
use super::tools::{Tools, spell};

/// The fleet's name.
pub const FLEET: &str = "demo";
/// Where everything listens.
const HOST: &str = "127.0.0.1";
/// What is carried to the island and back.
pub const STICK: &str = "stick";
/// Ports that the system gives to nobody by itself: an agent that tries again and again to reach a dead hub on one of
/// those that it does give away would one day be connected to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What the demo has made and runs.
#[derive(Debug)]
pub struct Cast {
    /// The commands.
    pub tools: Tools,
    /// What the person sees.
    pub screen: Screen,
    /// The sites.
    pub sites: Vec<Site>,
    /// Port of the hub's HTTPS.
    pub https_port: u16,
    /// Port of the hub's MQTT.
    pub mqtt_port: u16,
    /// The story has been told.
    pub is_over: bool,
    hub: Option<Process>,
}

impl Cast {
    /// Chooses ports; starts nothing.
    ///
    /// # Errors
    /// [`DemoError::Io`] where no port is free.
    pub fn gather(tools: Tools, sites: Vec<Site>) -> Result<Self, DemoError> {
        let [https_port, mqtt_port] = free_ports()?;
        Ok(Self { tools, screen: Screen::open(), sites, https_port, mqtt_port, is_over: false, hub: None })
    }

    /// The hub's address for people and agents.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{HOST}:{}", self.https_port)
    }

    /// Makes keys, the root and the hub, and starts it.
    ///
    /// # Errors
    /// [`DemoError`], as for all acts.
    pub async fn found(&mut self) -> Result<(), DemoError> {
        for folder in ["keys", "roots", "apps", "bundles", "tokens", STICK] {
            let path = self.tools.dir().join(folder);
            fs::create_dir_all(&path).map_err(DemoError::io(path))?;
        }
        let (https, mqtt) = (self.https_port.to_string(), self.mqtt_port.to_string());
        let init = ["hub", "init", "--data", "hub", "--fleet", FLEET, "--host", HOST];
        self.airlift(&[&init[..], &["--https-port", &https, "--mqtt-port", &mqtt]].concat()).await?;
        self.bind_to_loopback()?;
        for role in ["root", "release"] {
            for holder in ["a", "b", "c"] {
                self.airlift(&["key", "generate", &format!("keys/{role}-{holder}.key"), "--plain"]).await?;
            }
        }
        self.airlift(&[
            "root",
            "init",
            "root.json",
            "--fleet",
            FLEET,
            "--root-key",
            "keys/root-a.pub",
            "--root-key",
            "keys/root-b.pub",
            "--root-key",
            "keys/root-c.pub",
            "--root-threshold",
            "2",
            "--director-key",
            "hub/director.pub.json",
            "--release-key",
            "keys/release-a.pub",
            "--release-key",
            "keys/release-b.pub",
            "--release-key",
            "keys/release-c.pub",
            "--release-threshold",
            "2",
        ])
        .await?;
        for holder in ["a", "c"] {
            self.airlift(&["root", "sign", "root.json", "--key", &format!("keys/root-{holder}.key")]).await?;
        }
        self.airlift(&["root", "finalize", "root.json", "--out", "roots/1.json"]).await?;
        self.start_hub().await?;
        self.airlift(&["login", "--data", "hub"]).await?;
        self.airlift(&["root", "publish", "roots"]).await?;
        Ok(())
    }

    /// Enrols every site, and starts its agent.
    ///
    /// # Errors
    /// [`DemoError`].
    pub async fn enrol(&mut self) -> Result<(), DemoError> {
        let root = self.root_sha256().await?;
        for site in &self.sites {
            site.install(&self.tools, root)?;
        }
        let url = self.url();
        let mut joining = JoinSet::new();
        for (number, site) in self.sites.iter().filter(|site| site.online).enumerate() {
            let (token, label) = (format!("tokens/{}", site.name), format!("region={}", site.region));
            let create =
                ["site", "token", "create", "--site", &site.name, "--label", &label, "--out", &token];
            let config = site.config();
            let enrol = ["enrol", "--hub", &url, "--token-file", &token, "--config", &config];
            if number == 0 {
                self.screen.command(&spell("airlift", &create));
                self.screen.command(&spell("airlift-agent", &enrol));
            }
            self.tools.run("airlift", &create).await?;
            let (tools, enrol) = (self.tools.clone(), enrol.map(str::to_owned));
            joining.spawn(async move {
                let enrol: Vec<&str> = enrol.iter().map(String::as_str).collect();
                tools.run("airlift-agent", &enrol).await
            });
        }
        let others = joining.len().saturating_sub(1);
        self.screen.say(&format!("      … and {others} more in the same way"));
        while let Some(joined) = joining.join_next().await {
            match joined {
                Ok(outcome) => outcome?,
                // It neither panics nor is cancelled while the demo goes on.
                Err(_) => return Err(DemoError::Interrupted),
            };
        }
        self.enrol_island(&root).await?;
        for site in &mut self.sites {
            site.start(&self.tools)?;
        }
        Ok(())
    }

    /// The island's request goes out on the stick, and its grant comes back on it.
    async fn enrol_island(&mut self, root: &Sha256Digest) -> Result<(), DemoError> {
        let (config, root) = (island_config(), root.to_string());
        let enrol = ["enrol", "--media", STICK, "--fleet", FLEET, "--site", ISLAND, "--root-sha256", &root];
        let said = self.agent(&[&enrol[..], &["--config", &config]].concat()).await?;
        let shown = said.lines().find_map(|line| line.trim().strip_prefix("fingerprint:"));
        let fingerprint = shown
            .map(|text| text.trim().to_owned())
            .ok_or_else(|| DemoError::Answer { line: spell("airlift-agent", &enrol), said: said.clone() })?;
        self.airlift(&["media", "load", STICK]).await?;
        let label = ["--label", "region=sea"];
        let approve = ["site", "approve", "--fingerprint", &fingerprint, "--site", ISLAND];
        self.airlift(&[&approve[..], &label].concat()).await?;
        self.airlift(&["media", "save", STICK, "--site", ISLAND]).await?;
        self.agent(&["media", "load", STICK, "--config", &config]).await?;
        Ok(())
    }

    /// Writes, builds, signs, publishes and assigns a version, and carries it to the island.
    ///
    /// # Errors
    /// [`DemoError`].
    pub async fn release(&mut self, app: SampleApp) -> Result<(), DemoError> {
        let (folder, bundle) = (format!("apps/{}", app.version), format!("bundles/{APP}-{}", app.version));
        let path = self.tools.dir().join(&folder);
        app.write(&path, &host_platform()).map_err(DemoError::io(path))?;
        let seq = app.seq.to_string();
        self.airlift(&["bundle", "build", &folder, "--fleet", FLEET, "--seq", &seq, "-o", &bundle]).await?;
        for holder in ["b", "c"] {
            self.airlift(&["bundle", "sign", &bundle, "--key", &format!("keys/release-{holder}.key")])
                .await?;
        }
        self.airlift(&["publish", &bundle]).await?;
        let release = format!("{APP}@{}", app.version);
        let assign = ["assign", APP, "--release", &release, "-l", "*"];
        // A value of one version goes back with it.
        let set: &[&str] = if app == SECOND { &["--set", "welcome=Good day"] } else { &[] };
        self.airlift(&[&assign[..], set].concat()).await?;
        self.carry_out().await
    }

    /// Kills the hub and every site, and starts the sites alone.
    ///
    /// # Errors
    /// [`DemoError`].
    pub async fn black_out(&mut self) -> Result<(), DemoError> {
        if let Some(hub) = self.hub.take() {
            hub.kill().await;
        }
        for site in &mut self.sites {
            site.kill(&self.tools).await;
        }
        let count = self.sites.len();
        self.screen.say(&format!(
            "      kill -9: the hub and {count} agents with their clusters; then the agents start"
        ));
        for site in &mut self.sites {
            site.start(&self.tools)?;
        }
        Ok(())
    }

    /// Starts the hub again, and carries the stick round.
    ///
    /// # Errors
    /// [`DemoError`].
    pub async fn come_back(&mut self) -> Result<(), DemoError> {
        self.start_hub().await?;
        self.carry_back().await?;
        self.carry_out().await
    }

    /// Takes the stick from the hub to the island.
    async fn carry_out(&mut self) -> Result<(), DemoError> {
        self.airlift(&["media", "save", STICK, "--site", ISLAND]).await?;
        self.agent(&["media", "load", STICK, "--config", &island_config()]).await?;
        Ok(())
    }

    /// Takes the stick from the island to the hub.
    ///
    /// # Errors
    /// [`DemoError`].
    pub async fn carry_back(&mut self) -> Result<(), DemoError> {
        self.agent(&["media", "save", STICK, "--config", &island_config()]).await?;
        self.airlift(&["media", "load", STICK]).await?;
        Ok(())
    }

    /// Says whether the hub still runs, where it should.
    ///
    /// # Errors
    /// [`DemoError::Ended`].
    pub fn check_hub(&mut self) -> Result<(), DemoError> {
        self.hub.as_mut().map_or(Ok(()), Process::check)
    }

    /// Verifies every site's chain of receipts against its key, and counts what the hub holds.
    ///
    /// # Errors
    /// [`DemoError`].
    pub async fn count_receipts(&mut self) -> Result<Vec<usize>, DemoError> {
        let mut counts = Vec::new();
        for (number, site) in self.sites.iter().enumerate() {
            let verify = ["receipt", "verify", "--site", &site.name];
            if number == 0 {
                self.screen.command(&format!("{}   # and so for each site", spell("airlift", &verify)));
            }
            self.tools.run("airlift", &verify).await?;
            let list = ["receipt", "list", "--site", &site.name, "--limit", "1000"];
            let list = self.tools.ask("airlift", &list).await?;
            counts.push(list["items"].as_array().map_or(0, Vec::len));
        }
        Ok(counts)
    }

    /// Ends every process of the demo in good order.
    pub async fn stop(&mut self) {
        for site in &mut self.sites {
            site.stop().await;
        }
        if let Some(hub) = self.hub.take() {
            hub.stop().await;
        }
    }

    async fn start_hub(&mut self) -> Result<(), DemoError> {
        let serve = ["hub", "serve", "--data", "hub"];
        self.screen.command(&format!("{} &", spell("airlift", &serve)));
        let log = self.tools.dir().join("logs/hub.log");
        let mut hub = Process::start("the hub", self.tools.service("airlift", &serve), &log)?;
        for _ in 0..200 {
            hub.check()?;
            if self.tools.ask("airlift", &["hub", "check", "--data", "hub"]).await.is_ok() {
                self.hub = Some(hub);
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        self.tools.run("airlift", &["hub", "check", "--data", "hub"]).await?;
        self.hub = Some(hub);
        Ok(())
    }

    /// The demo's hub is nobody's business but this machine's.
    fn bind_to_loopback(&self) -> Result<(), DemoError> {
        let path = self.tools.dir().join("hub/hub.toml");
        let text = fs::read_to_string(&path).map_err(DemoError::io(&path))?;
        let bound = text.replace("bind = \"::\"", &format!("bind = \"{HOST}\""));
        if bound == text {
            return Err(DemoError::Answer { line: path.display().to_string(), said: text });
        }
        fs::write(&path, bound).map_err(DemoError::io(path))
    }

    async fn root_sha256(&self) -> Result<Sha256Digest, DemoError> {
        let line = ["root", "verify", "roots"];
        let verified: Value = self.tools.ask("airlift", &line).await?;
        let digest =
            verified.pointer("/items/0/sha256").and_then(Value::as_str).and_then(|text| text.parse().ok());
        digest.ok_or_else(|| DemoError::Answer { line: spell("airlift", &line), said: verified.to_string() })
    }

    async fn airlift(&mut self, arguments: &[&str]) -> Result<String, DemoError> {
        self.screen.command(&spell("airlift", arguments));
        self.tools.run("airlift", arguments).await
    }

    async fn agent(&mut self, arguments: &[&str]) -> Result<String, DemoError> {
        self.screen.command(&spell("airlift-agent", arguments));
        self.tools.run("airlift-agent", arguments).await
    }
}

fn island_config() -> String {
    format!("sites/{ISLAND}/agent.toml")
}

/// Two ports that nobody listens on now.
pub(crate) fn free_ports() -> Result<[u16; 2], DemoError> {
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(|error| DemoError::Options(format!("no randomness: {error}")))?;
    let from = u16::from_le_bytes(random) % (PORTS.end - PORTS.start);
    let free = (0..PORTS.end - PORTS.start)
        .map(|step| PORTS.start + (from + step) % (PORTS.end - PORTS.start))
        .filter(|port| TcpListener::bind((HOST, *port)).is_ok());
    match free.take(2).collect::<Vec<u16>>()[..] {
        [https, mqtt] => Ok([https, mqtt]),
        _ => Err(DemoError::Options(format!("no two ports of {HOST} are free between {PORTS:?}"))),
    }
}
