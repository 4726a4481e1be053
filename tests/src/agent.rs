//! The product's agent at a site of the bed, as a process that a test starts, asks and kills.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use serde_json::Value;

use crate::clock::wait_until;
use crate::cluster::Cluster;
use crate::components::product;
use crate::hub::Hub;
use crate::namespace::HUB;
use crate::process::Process;

/// An agent's files at a site, and its process while it runs.
#[derive(Debug)]
pub struct Agent<'a> {
    site: &'a Cluster,
    program: PathBuf,
    log_level: &'static str,
    dir: PathBuf,
    traced: bool,
    process: Option<Process>,
}

/// What a traced agent's system calls are: whom it speaks to, and which files it opens. The tracer is the child, so that
/// whoever ends the process ends the agent.
const TRACER: [&str; 7] =
    ["strace", "-D", "-f", "-q", "-A", "-s200", "-etrace=connect,sendto,sendmsg,sendmmsg,openat"];

impl<'a> Agent<'a> {
    /// Writes the configuration of a new agent, which pins this root; it does not run yet.
    ///
    /// # Panics
    /// When the site's directory is not writable.
    #[must_use]
    pub fn install(site: &'a Cluster, root_sha256: &str, hub: Option<Ipv4Addr>) -> Self {
        let dir = site.bed().dir().join("agent");
        if dir.exists() {
            fs::remove_dir_all(&dir).expect("an earlier test's agent has ended");
        }
        fs::create_dir_all(dir.join("media")).expect("the site's directory is writable");
        let d = dir.display();
        let config = format!(
            "state_dir = \"{d}/state\"
control_socket = \"{d}/control.sock\"
root_sha256 = \"{root_sha256}\"
fleet = \"lab\"
online = {}
media_dirs = [\"{d}/media\"]
[kubernetes]
kubeconfig = \"{}\"
[containerd]
socket = \"{}\"
",
            hub.is_some(),
            site.kubeconfig().display(),
            site.containerd_socket().display()
        );
        fs::write(dir.join("agent.toml"), config).expect("the site's directory is writable");
        let program = product("airlift-agent");
        Self { site, program, log_level: "debug", dir, traced: false, process: None }
    }

    /// Takes another build of it, which logs no more than a packaged one does.
    #[must_use]
    pub fn as_packaged(self, program: &Path) -> Self {
        Self { program: program.to_owned(), log_level: "info", ..self }
    }

    /// Has the kernel write down what it and its commands say to others, and which files they open.
    #[must_use]
    pub fn traced(self) -> Self {
        Self { traced: true, ..self }
    }

    /// What was written down so far.
    ///
    /// # Panics
    /// When it was not traced.
    #[must_use]
    pub fn trace(&self) -> String {
        fs::read_to_string(self.dir.join("trace")).expect("a traced agent has run")
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it ends at once.
    pub fn run(&mut self) {
        self.start(&[]);
        wait_until("the agent's control socket", Duration::from_secs(60), || {
            self.process.as_mut().expect("started above").check_alive()?;
            self.try_read(&["status"]).map(drop)
        });
    }

    /// Starts it with these variables, and does not wait: it may end at any moment.
    pub fn start(&mut self, variables: &[(&str, &str)]) {
        let mut words = self.words(&["run"]);
        let program = PathBuf::from(words.remove(0));
        let environment = [&[("AIRLIFT_LOG", self.log_level)][..], variables].concat();
        let (bed, namespace) = (self.site.bed(), self.site.namespace());
        let process = Process::start(bed, namespace, "agent", &program, &words, &environment);
        self.process = Some(process);
    }

    /// How its process has ended; none where it runs, or was ended by [`Agent::kill`].
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// Enrols it over HTTPS with a token, as this site.
    ///
    /// # Panics
    /// When hub or agent refuse.
    pub fn enrol(&self, hub: &Hub, site: &str) {
        let token = hub.airlift(&["site", "token", "create", "--site", site]);
        let file = self.dir.join("token");
        fs::write(&file, token).expect("the site's directory is writable");
        let address = format!("https://{HUB}:8443");
        let _ = self.command(&["enrol", "--hub", &address, "--token-file", &file.display().to_string()]);
    }

    /// Its process, which runs.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// All that it has logged so far, in all of its processes.
    #[must_use]
    pub fn log(&self) -> String {
        let log = self.site.bed().dir().join("logs/agent.log");
        String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Runs an `airlift-agent` command at the site, and gives whatever came of it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn try_command(&self, arguments: &[&str]) -> Output {
        let words = self.words(arguments);
        self.site
            .namespace()
            .command(&words[0])
            .args(&words[1..])
            .current_dir(&self.dir)
            .output()
            .expect("nsenter is installed")
    }

    /// Runs an `airlift-agent` command, and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> String {
        let output = self.try_command(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "airlift-agent {}: {error}", arguments.join(" "));
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    }

    /// Runs an `airlift-agent` command with `-o json`, and reads what it printed.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn try_read(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let output = self.try_command(&all);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    /// A command of it, with all that stands before and after.
    fn words(&self, arguments: &[&str]) -> Vec<String> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut words: Vec<String> = Vec::new();
        if self.traced {
            words.extend(TRACER.map(str::to_owned));
            words.extend(["-o".to_owned(), file("trace")]);
        }
        words.push(self.program.display().to_string());
        words.extend(arguments.iter().map(ToString::to_string));
        words.extend(["--config".to_owned(), file("agent.toml")]);
        words
    }
}
