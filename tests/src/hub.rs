//! A scratch hub, and the operator beside it with keys, a fleet and the `airlift` command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use airlift_bundles::envelope::Envelope;
use airlift_bundles::limits::Limits;
use serde_json::Value;

use crate::bed::Bed;
use crate::clock::wait_until;
use crate::cluster::Cluster;
use crate::components::product;
use crate::namespace::{Cable, HUB, Namespace};
use crate::process::Process;
use crate::relay::Relay;

/// The number of the next hub of this run.
static NEXT: AtomicU8 = AtomicU8::new(1);

/// A hub in a namespace of its own, and all that its operator has.
#[derive(Debug)]
pub struct Hub {
    relay: Relay,
    process: Option<Process>,
    namespace: Namespace,
    bed: Bed,
}

impl Hub {
    /// Makes keys, a 2-of-3 root and a hub, starts it, and logs the operator in.
    ///
    /// # Panics
    /// When one of the commands fails, as do the other functions.
    #[must_use]
    pub fn start() -> Self {
        let bed = Bed::make(&format!("hub{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let namespace = Namespace::make(bed.name());
        namespace.add_hub_address();
        let relay = Relay::start(&namespace);
        let mut hub = Self { relay, process: None, namespace, bed };
        hub.make_fleet();
        hub.run();
        let _ = hub.airlift(&["login", "--data", "hub"]);
        let _ = hub.airlift(&["root", "publish", "roots/1.json"]);
        hub
    }

    /// The operator's directory: keys, roots, folders and bundles; commands run in it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.bed.dir()
    }

    /// Counts and closes the sites' ways to it.
    #[must_use]
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// The file of root 1.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir().join("roots/1.json")
    }

    /// The digest of root 1's payload, which sites are installed with.
    #[must_use]
    pub fn root_sha256(&self) -> String {
        let text = fs::read(self.root()).expect("the fleet has a root");
        let root = Envelope::parse(&text, &Limits::DEFAULT).expect("a root is an envelope");
        root.digest().to_string()
    }

    /// Where it lives; it listens on loopback there.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Lays a cable to a site.
    #[must_use]
    pub fn connect(&self, site: &Cluster) -> Cable {
        site.namespace().connect(&self.namespace, site.number())
    }

    /// Prepares an `airlift` command of the operator.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_beside(&product("airlift"));
        command
            .args(arguments)
            .current_dir(self.dir())
            .env("HOME", self.dir())
            .env("XDG_CONFIG_HOME", self.dir().join("config"));
        command
    }

    /// Runs an `airlift` command as the operator, and gives whatever came of it.
    #[must_use]
    pub fn try_airlift(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("nsenter is installed")
    }

    /// Runs an `airlift` command, and gives what it printed.
    #[must_use]
    pub fn airlift(&self, arguments: &[&str]) -> String {
        said(arguments, self.try_airlift(arguments))
    }

    /// Runs an `airlift` command with `-o json`, and reads what it printed.
    #[must_use]
    pub fn read(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let text = self.airlift(&all);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", all.join(" ")))
    }

    /// Builds a bundle from a folder and signs it with two of the three release keys; gives the bundle's directory.
    #[must_use]
    pub fn build(&self, folder: &Path, bundle: &str, seq: u32) -> String {
        let (folder, seq) = (folder.display().to_string(), seq.to_string());
        let _ = self.airlift(&["bundle", "build", &folder, "--fleet", "lab", "--seq", &seq, "--out", bundle]);
        for holder in ["r1.key", "r2.key"] {
            let _ = self.airlift(&["bundle", "sign", bundle, "--key", holder]);
        }
        bundle.to_owned()
    }

    /// Starts the hub, which is not running.
    pub fn run(&mut self) {
        let arguments = ["hub", "serve", "--data"].map(str::to_owned).to_vec();
        let arguments = [arguments, vec![self.dir().join("hub").display().to_string()]].concat();
        let log = [("AIRLIFT_LOG", "debug")];
        let process =
            Process::start(&self.bed, &self.namespace, "hub", &product("airlift"), &arguments, &log);
        self.process = Some(process);
        wait_until("the hub", Duration::from_secs(60), || {
            self.process.as_mut().expect("started above").check_alive()?;
            let output = self.try_airlift(&["hub", "check", "--data", "hub"]);
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
        });
    }

    /// Its process, which runs.
    #[must_use]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// Prepares a command in the hub's namespace.
    pub(crate) fn command_beside(&self, program: &Path) -> Command {
        self.namespace.command(&program.display().to_string())
    }

    /// Starts another process in the hub's bed and namespace.
    pub(crate) fn start_beside(&self, name: &str, program: &Path, arguments: &[String]) -> Process {
        Process::start(&self.bed, &self.namespace, name, program, arguments, &[])
    }

    /// Ends the hub as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Makes the keys and the root, two of three for both roles, with the hub's director key.
    fn make_fleet(&self) {
        let _ = self.airlift(&["hub", "init", "--data", "hub", "--fleet", "lab", "--host", &HUB.to_string()]);
        let config = self.dir().join("hub/hub.toml");
        let text = fs::read_to_string(&config).expect("hub init writes its settings");
        // The relay has the hub's address; the hub itself is on loopback behind it.
        fs::write(&config, text.replace("bind = \"::\"", "bind = \"127.0.0.1\"")).expect("it is writable");
        let mut init = vec!["root", "init", "--fleet", "lab", "--director-key", "hub/director.pub.json"];
        for (role, holders) in [("root", ["a", "b", "c"]), ("release", ["r1", "r2", "r3"])] {
            for holder in holders {
                let _ = self.airlift(&["key", "generate", &format!("{holder}.key"), "--plain"]);
            }
            init.extend(match role {
                "root" => ["--root-key", "a.pub", "--root-key", "b.pub", "--root-key", "c.pub"],
                _ => ["--release-key", "r1.pub", "--release-key", "r2.pub", "--release-key", "r3.pub"],
            });
        }
        init.extend(["--root-threshold", "2", "--release-threshold", "2", "root.json"]);
        let _ = self.airlift(&init);
        let _ = self.airlift(&["root", "set-policy", "root.json", "--retire-delay", "2"]);
        for holder in ["a.key", "b.key"] {
            let _ = self.airlift(&["root", "sign", "root.json", "--key", holder]);
        }
        let _ = self.airlift(&["root", "finalize", "root.json", "--out", "roots/1.json"]);
    }
}

fn said(arguments: &[&str], output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "airlift {}: {}\n{error}", arguments.join(" "), output.status);
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}
