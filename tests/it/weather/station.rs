//! A site under observation: one agent with a small app, through whose versions a story leads.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::gate::Gate;
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::namespace::{Cable, HUB};
use airlift_tests::say;
use airlift_tests::site::Site;
use serde_json::Value;

use crate::journey::{ROLLOUT, enrol_online, image};

/// What no fault of the surroundings may make of a good release.
const BLAME: [&str; 4] = ["failed", "degraded", "rolling-back", "refused"];
/// Objects of a healthy app are missing or unwell: told, and no judgement of the release.
const UNWELL_LATER: &str = "AL0715";
/// Bytes of the file system that the agent's state lives on.
const STATE_BYTES: u64 = 48 << 20;

/// One version of the app.
pub(super) struct Version<'a> {
    pub(super) seq: u32,
    pub(super) image: &'a TestImage,
    /// How long it may settle; far less than the fault that it meets lasts.
    pub(super) timeout: &'a str,
    /// It settles until the ConfigMap `door` is opened by hand.
    pub(super) waits_at_the_door: bool,
    /// It holds the ConfigMap `extra`.
    pub(super) extra: bool,
}

impl<'a> Version<'a> {
    pub(super) fn new(seq: u32, image: &'a TestImage) -> Self {
        Self { seq, image, timeout: "120s", waits_at_the_door: false, extra: true }
    }

    fn name(&self) -> String {
        format!("{}.0.0", self.seq)
    }

    fn write(&self, folder: PathBuf) -> String {
        let rule = "health:
- {apiVersion: v1, kind: ConfigMap, namespace: station, name: door, pointer: /data/open, op: exists}
";
        let app = format!(
            "apiVersion: airlift.dev/v1alpha1
kind: App
name: station
version: {}
images:
- {{name: {}, from: 'oci:{}'}}
timeout: {}
soak: 2s
{}",
            self.name(),
            self.image.name,
            self.image.layout.display(),
            self.timeout,
            if self.waits_at_the_door { rule } else { "" }
        );
        let objects = format!(
            "apiVersion: v1
kind: Namespace
metadata: {{name: station}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: version, namespace: station}}
data: {{version: '{}'}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: door, namespace: station}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: station, namespace: station}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: station}}}}
  template:
    metadata: {{labels: {{app: station}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: station
        image: {}
        imagePullPolicy: IfNotPresent
        args: [--port, '8080']
",
            self.name(),
            self.image.name
        );
        let extra = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: extra, namespace: station}
data: {made: by us}
";
        write_folder(folder, &app, &format!("{objects}{}", if self.extra { extra } else { "" }))
    }
}

fn write_folder(folder: PathBuf, app: &str, objects: &str) -> String {
    fs::create_dir_all(folder.join("manifests")).unwrap();
    fs::write(folder.join("airlift.yaml"), app).unwrap();
    fs::write(folder.join("manifests/objects.yaml"), objects).unwrap();
    folder.display().to_string()
}

/// A second app, of configuration alone.
const LAMP: [&str; 2] = [
    "apiVersion: airlift.dev/v1alpha1
kind: App
name: lamp
version: 1.0.0
timeout: 60s
soak: 1s
",
    "apiVersion: v1
kind: Namespace
metadata: {name: lamp}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: light, namespace: lamp}
data: {colour: red}
",
];

/// The site with its hub, its gate and its agent, whose state lives on a small file system.
pub(super) struct Station<'a> {
    pub(super) hub: &'a Hub,
    pub(super) site: &'a Site,
    pub(super) gate: Gate,
    pub(super) agent: Agent<'a>,
    // Unmounted after the agent has ended.
    pub(super) state: SmallDisk,
    _cable: Cable,
}

impl<'a> Station<'a> {
    pub(super) fn start(hub: &'a Hub, site: &'a Site) -> Self {
        let cable = hub.connect(site);
        let gate = Gate::start(site);
        let mut agent = Agent::install(site, &hub.root_sha256(), Some(HUB));
        let config = agent.dir().join("agent.toml");
        let text = fs::read_to_string(&config).unwrap();
        let (direct, through) = (site.kubeconfig().display(), gate.kubeconfig().display());
        fs::write(&config, text.replace(&direct.to_string(), &through.to_string())).unwrap();
        let state = SmallDisk::mount(agent.dir().join("state"), STATE_BYTES);
        enrol_online(hub, &mut agent, "anna");
        Self { hub, site, gate, agent, state, _cable: cable }
    }

    pub(super) fn image(&self, seq: u32, random_bytes: usize) -> TestImage {
        image(self.hub, &format!("{seq}.0.0"), random_bytes)
    }

    /// Builds, signs, publishes and assigns a version.
    pub(super) fn roll_out(&self, version: &Version<'_>) {
        let folder = version.write(self.hub.dir().join(format!("station-{}", version.seq)));
        self.release("station", version.seq, &folder);
    }

    /// The same with the second app, until it is healthy.
    pub(super) fn install_lamp(&self) {
        let [app, objects] = LAMP;
        let folder = write_folder(self.hub.dir().join("lamp-1"), app, objects);
        self.release("lamp", 1, &folder);
        wait_until("the lamp to be healthy", ROLLOUT, || self.lamp_receipt("healthy"));
    }

    /// Whether the second app has a receipt of this outcome.
    pub(super) fn lamp_receipt(&self, outcome: &str) -> Result<(), String> {
        let receipts = self.receipts();
        let found = receipts.iter().any(|row| row["app"] == "lamp" && row["outcome"] == outcome);
        if found { Ok(()) } else { Err(format!("{receipts:?}")) }
    }

    fn release(&self, app: &str, seq: u32, folder: &str) {
        let (bundle, seq) = (format!("bundle-{app}-{seq}"), seq.to_string());
        let _ =
            self.hub.airlift(&["bundle", "build", folder, "--fleet", "lab", "--seq", &seq, "--out", &bundle]);
        for holder in ["r1.key", "r2.key"] {
            let _ = self.hub.airlift(&["bundle", "sign", &bundle, "--key", holder]);
        }
        let _ = self.hub.airlift(&["publish", &bundle]);
        let _ = self.hub.airlift(&["assign", app, "--release", "newest", "--site", "anna"]);
    }

    /// What the agent says of the app.
    pub(super) fn app(&self) -> Result<Value, String> {
        let status = self.agent.try_read(&["status"])?;
        let apps = status["apps"].as_array().cloned().unwrap_or_default();
        apps.into_iter().find(|app| app["app"] == "station").ok_or_else(|| status.to_string())
    }

    pub(super) fn wait_for(&self, state: &str, seq: u32) {
        wait_until(&format!("version {seq} to be {state}"), ROLLOUT, || {
            let app = self.app()?;
            assert!(!is_blamed(&app), "{app}");
            let there = app["state"] == state && app["version"] == format!("{seq}.0.0");
            if there { Ok(()) } else { Err(app.to_string()) }
        });
    }

    /// Waits until a version is well, with nothing more to tell, in the cluster as in the status.
    pub(super) fn converges(&self, seq: u32) {
        self.wait_for("healthy", seq);
        wait_until("nothing more to tell", Duration::from_secs(60), || {
            let app = self.app()?;
            if app["code"].is_null() && app["reason"] == "" { Ok(()) } else { Err(app.to_string()) }
        });
        let version = self.site.get(&["-n", "station", "configmap/version"]).unwrap();
        assert_eq!(version["data"]["version"], format!("{seq}.0.0"));
        let _ = self.site.wait_for_ready_pods("station", "app=station", 1);
    }

    /// Watches the agent for so long: it says what it waits for, and never that the release is bad.
    pub(super) fn waits_out(&self, lasting: Duration, codes: &[&str], words: &str) {
        let start = now();
        let mut told = None;
        while start.elapsed() < lasting || told.is_none() {
            let app = self.app();
            match &app {
                Ok(app) => {
                    assert!(!is_blamed(app), "{app}");
                    let reason = app["reason"].as_str().unwrap_or_default();
                    let code = codes.iter().any(|code| app["code"] == *code);
                    if code && reason.contains(words) && told.is_none() {
                        told = Some(start.elapsed());
                    }
                }
                Err(silence) => panic!("the agent answers through every fault: {silence}"),
            }
            assert!(
                start.elapsed() < lasting + Duration::from_secs(30),
                "{codes:?} {words} is not told: {app:?}"
            );
            std::thread::sleep(Duration::from_millis(500));
        }
        say(&format!("{codes:?} told after {told:?}"));
    }

    /// Every receipt that the site wrote.
    pub(super) fn receipts(&self) -> Vec<Value> {
        let history = self.agent.try_read(&["history", "--limit", "1000"]).unwrap();
        history["items"].as_array().unwrap().clone()
    }

    /// No receipt says that a release was bad.
    pub(super) fn assert_no_release_was_blamed(&self) {
        let receipts = self.receipts();
        assert!(receipts.iter().any(|receipt| receipt["outcome"] == "healthy"), "{receipts:?}");
        let blamed = |receipt: &&Value| {
            let verdict = ["rolled-back", "failed", "degraded", "refused"];
            verdict.iter().any(|bad| receipt["outcome"] == *bad) && receipt["code"] != UNWELL_LATER
        };
        assert_eq!(receipts.iter().find(blamed), None);
    }
}

fn is_blamed(app: &Value) -> bool {
    BLAME.iter().any(|bad| app["state"] == *bad) && app["code"] != UNWELL_LATER
}

/// A file system in memory, so small that it can be filled.
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: PathBuf, bytes: u64) -> Self {
        fs::create_dir_all(&place).unwrap();
        let size = format!("size={bytes},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&place).status();
        assert!(mounted.unwrap().success(), "{} cannot be mounted", place.display());
        Self(place)
    }

    /// Fills it until so many bytes are free.
    pub(super) fn fill(&self, leaving_bytes: u64) {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        let bytes = (disk.f_bavail * disk.f_frsize).saturating_sub(leaving_bytes);
        let zeros = vec![0; usize::try_from(bytes).unwrap()];
        fs::write(self.0.join("ballast"), zeros).unwrap();
    }

    /// Gives the room back.
    pub(super) fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever ends the bed unmounts what is left of it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
