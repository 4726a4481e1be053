//! mosquitto between hub and sites, with the settings and rights that Airlift ships.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::sleep;

use super::LiveError;
use crate::demo::process::Process;
use crate::demo::tools::Tools;

const SETTINGS: &str = include_str!("../../../deploy/broker/mosquitto.conf");
const RIGHTS: &str = include_str!("../../../deploy/broker/rights");
/// Where the settings expect the files.
const PLACE: &str = "/etc/mosquitto/airlift";

/// A broker, and its process while it runs. It keeps nothing on disk, so that a kill takes all of its state.
pub(super) struct Broker {
    program: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Broker {
    pub(super) fn new(program: &Path, port: u16) -> Self {
        Self { program: program.to_owned(), port, process: None }
    }

    /// Writes its settings; the hub is there, and need not run.
    pub(super) async fn install(&self, tools: &Tools) -> Result<(), LiveError> {
        let make = ["hub", "broker", "--data", "hub", "--host", "127.0.0.1", "--out", "broker"];
        tools.run("airlift", &make).await?;
        let dir = tools.dir().join("broker");
        // As it is shipped, but for the place, the port, and a user who may read its key.
        let settings = SETTINGS
            .replace(PLACE, &dir.display().to_string())
            .replace("listener 8883", &format!("listener {} 127.0.0.1", self.port));
        let settings = format!("user root\n{settings}");
        for (name, text) in [("mosquitto.conf", settings.as_str()), ("rights", RIGHTS)] {
            let path = dir.join(name);
            fs::write(&path, text).map_err(LiveError::io(path))?;
        }
        Ok(())
    }

    /// Starts it, where it does not run, and waits until it listens.
    pub(super) async fn start(&mut self, tools: &Tools) -> Result<(), LiveError> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(tools.dir().join("broker/mosquitto.conf")).process_group(0);
        let mut process = Process::start("the broker", command, &tools.dir().join("logs/broker.log"))?;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            process.check()?;
            sleep(Duration::from_millis(20)).await;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Ends it as a power cut would.
    pub(super) async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }
}
