//! A site whose agent is the product's and whose cluster is the simulator's model, beside a hub: real processes on a
//! disk of the test's choice, without the minutes that a real Kubernetes takes.
//!
//! The model lives in the agent's process and dies with it, as a whole site does without power: what runs again
//! comes from the agent's own disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

use crate::components::product;
use crate::hub::Hub;
use crate::namespace::HUB;
use crate::process::Process;

/// An agent's files, and its process while it runs.
#[derive(Debug)]
pub struct ModelSite {
    name: String,
    dir: PathBuf,
    process: Option<Process>,
}

impl ModelSite {
    /// Writes the configuration of a new agent, which pins the hub's root; it does not run yet.
    ///
    /// # Panics
    /// When the hub's directory is not writable, as do the other functions.
    #[must_use]
    pub fn install(hub: &Hub, name: &str) -> Self {
        let dir = hub.dir().join(name);
        fs::create_dir_all(&dir).expect("the hub's directory is writable");
        // The simulator's program is the agent where it is called so.
        symlink(product("airlift-sim"), dir.join("airlift-agent")).expect("the directory is new");
        let (d, root_sha256) = (dir.display(), hub.root_sha256());
        let config = format!(
            "state_dir = \"{d}/state\"\ncontrol_socket = \"{d}/control.sock\"\nroot_sha256 = \"{root_sha256}\"\n\
             media_dirs = []\n[kubernetes]\nkubeconfig = \"{d}/cluster.json\"\n[containerd]\nsocket = \"{d}/none\"\n"
        );
        fs::write(dir.join("agent.toml"), config).expect("the directory is writable");
        Self { name: name.to_owned(), dir, process: None }
    }

    /// Its database, keys and blobs.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Enrols it over HTTPS with a token.
    pub fn enrol(&self, hub: &Hub) {
        let token = hub.airlift(&["site", "token", "create", "--site", &self.name]);
        let file = self.dir.join("token");
        fs::write(&file, token).expect("the directory is writable");
        let (address, file) = (format!("https://{HUB}:8443"), file.display().to_string());
        let output = self.try_command(hub, &["enrol", "--hub", &address, "--token-file", &file]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts it, and does not wait for it.
    pub fn run(&mut self, hub: &Hub) {
        let arguments = ["run".to_owned(), "--config".to_owned(), self.config()];
        self.process = Some(hub.start_beside(&self.name, &self.dir.join("airlift-agent"), &arguments));
    }

    /// Its process, which runs.
    #[must_use]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// Runs an `airlift-agent` command, and gives whatever came of it.
    #[must_use]
    pub fn try_command(&self, hub: &Hub, arguments: &[&str]) -> Output {
        let mut command = hub.command_beside(&self.dir.join("airlift-agent"));
        command.args(arguments).args(["--config", &self.config()]).current_dir(&self.dir);
        command.output().expect("nsenter is installed")
    }

    /// Runs an `airlift-agent` command with `-o json`, and reads what it printed.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn try_read(&self, hub: &Hub, arguments: &[&str]) -> Result<Value, String> {
        let output = self.try_command(hub, &[arguments, &["-o", "json"]].concat());
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    fn config(&self) -> String {
        self.dir.join("agent.toml").display().to_string()
    }
}
