//! A site that only sees sticks: enrolled, served and heard through the program and its control socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "media/fleet.rs"]
mod fleet;
#[path = "media/world.rs"]
mod world;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use airlift_bundles::document::receipt::Outcome;
use fleet::{SITE, blobs, grant_requests, receipts, release, root_sha256, write_assignment};
use serde_json::Value;

/// A site's directory and the program in it.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        let config = format!(
            "state_dir = \"{d}/state\"\ncontrol_socket = \"{d}/control/agent.sock\"\nroot_sha256 = \"{}\"\n\
             fleet = \"fleet\"\nonline = false\nmedia_dirs = [\"{d}/port\"]\n\
             [kubernetes]\nkubeconfig = \"{d}/none.yaml\"\n[containerd]\nsocket = \"{d}/none.sock\"\n",
            root_sha256()
        );
        fs::write(dir.path().join("agent.toml"), config).unwrap();
        fs::create_dir(dir.path().join("port")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn stick(&self, name: &str) -> PathBuf {
        let stick = self.path(name);
        fs::create_dir_all(&stick).unwrap();
        stick
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<OsString> {
        let mut all: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        all.extend(["--config".into(), self.path("agent.toml").into()]);
        all
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_airlift-agent");
        Command::new(program).args(self.arguments(arguments)).output().unwrap()
    }

    /// Runs a command that must end with this code; gives both of its outputs.
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {all}");
        all
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let output = self.command(&all);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts the agent inside this process, on a cluster in memory; it ends with the process.
    fn run(&self) -> std::sync::Arc<world::Objects> {
        let (world, objects) = world::world();
        let mut arguments = vec![OsString::from("airlift-agent")];
        arguments.extend(self.arguments(&["run"]));
        std::thread::spawn(move || airlift_agent::main_with(arguments, world));
        wait_for("the control socket", || self.command(&["status"]).status.success());
        objects
    }

    /// Enrols by a stick, and gives the site's public key.
    fn enrol(&self, stick: &Path) -> airlift_bundles::keys::PublicKey {
        let path = stick.display().to_string();
        let shown = self.ends(0, &["enrol", "--media", &path, "--site", SITE]);
        let fingerprint =
            shown.lines().find_map(|line| line.strip_prefix("fingerprint: ")).unwrap().to_owned();
        let refused = self.ends(1, &["media", "load", &path]);
        assert!(refused.contains("AL0903"), "{refused}");
        let key = grant_requests(stick, &fingerprint);
        assert!(self.ends(0, &["media", "load", &path]).contains("enrolled as site berta"));
        key
    }
}

fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..400 {
        if check() {
            return;
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    panic!("waited too long for {what}");
}

fn state_of<'v>(status: &'v Value, app: &str) -> &'v str {
    let apps = status["apps"].as_array().map(Vec::as_slice).unwrap_or_default();
    apps.iter()
        .find(|found| found["app"] == app)
        .and_then(|found| found["state"].as_str())
        .unwrap_or("absent")
}

#[test]
fn a_site_without_network_lives_on_sticks_alone() {
    let site = Site::new();
    let stick = site.stick("stick");
    let path = stick.display().to_string();
    let key = site.enrol(&stick);
    assert!(site.ends(1, &["enrol", "--media", &path]).contains("enrolled already"));

    // The desk needs the shop healthy first, and yet its content comes with the same visit of the stick.
    let shop = release(site.dir.path(), "shop", "");
    let desk = release(site.dir.path(), "desk", "requires:\n  - {app: shop, min_seq: 1}\n");
    write_assignment(&stick, 1, 3, &[&shop, &desk]);
    let loaded = site.json(&["media", "load", &path]);
    assert_eq!((&loaded["assignment_seq"], &loaded["missing"]), (&1.into(), &0.into()), "{loaded}");
    let complete = |app: &Value| app["complete"] == true;
    assert!(loaded["apps"].as_array().unwrap().iter().filter(|app| complete(app)).count() == 2, "{loaded}");
    for digest in blobs(&shop).iter().chain(&blobs(&desk)) {
        let stored = walk(&site.path("state")).into_iter().any(|file| file.ends_with(digest.to_hex()));
        assert!(stored, "{digest}");
    }
    let again = site.json(&["media", "load", &path]);
    assert_eq!(again["bytes"], 0, "nothing is read twice: {again}");
    fs::remove_dir_all(&stick).unwrap();

    let objects = site.run();
    wait_for("both apps to be healthy", || {
        let status = site.json(&["status"]);
        ["shop", "desk"].iter().all(|app| state_of(&status, app) == "healthy")
    });
    assert_eq!(objects.names(), ["desk", "shop"]);

    let out = site.stick("out");
    let saved = site.ends(0, &["media", "save", &out.display().to_string()]);
    assert!(saved.contains(" in 1 files"), "{saved}");
    let told = receipts(&out, &key);
    let outcomes: Vec<Outcome> = told.iter().map(|receipt| receipt.outcome).collect();
    assert_eq!(outcomes, [Outcome::Enrolled, Outcome::Accepted, Outcome::Healthy, Outcome::Healthy]);

    // Orders, and what the site shows of itself.
    assert!(site.ends(0, &["hold", "shop"]).contains("held"));
    assert_eq!(state_of(&site.json(&["status"]), "shop"), "held");
    site.ends(0, &["unhold", "shop"]);
    assert!(site.ends(1, &["rollback", "shop"]).contains("AL0803"), "there is nothing to go back to");
    assert!(site.ends(1, &["hold", "nothing"]).contains("no app nothing"));
    let history = site.json(&["history", "-n", "3"]);
    let newest: Vec<&str> =
        history["items"].as_array().unwrap().iter().map(|item| item["outcome"].as_str().unwrap()).collect();
    assert_eq!(newest, ["local-act", "local-act", "healthy"]);
    assert_eq!(site.json(&["trust", "show"])["first_root_sha256"], root_sha256().to_string());

    // A stick in a watched place is loaded by itself, and takes the receipts home.
    let more = release(site.dir.path(), "more", "");
    let prepared = site.stick("prepared");
    write_assignment(&prepared, 2, 3, &[&shop, &desk, &more]);
    fs::rename(&prepared, site.path("port/stick")).unwrap();
    wait_for("the app from the watched stick", || state_of(&site.json(&["status"]), "more") == "healthy");
    wait_for("its receipt on the stick", || {
        receipts(&site.path("port/stick"), &key).iter().any(|receipt| {
            receipt.outcome == Outcome::Healthy
                && receipt.app.as_ref().is_some_and(|app| app.as_str() == "more")
        })
    });

    // What the director did not sign changes nothing, and says so.
    let forged = site.stick("forged");
    write_assignment(&forged, 3, 2, &[&shop]);
    let refused = site.ends(7, &["media", "load", &forged.display().to_string()]);
    assert!(refused.contains("AL0102") && refused.contains("unchanged"), "{refused}");
    assert_eq!(site.json(&["status"])["assignment_seq"], 2);
}

#[test]
fn a_half_copied_stick_keeps_what_it_has_and_the_next_one_completes_it() {
    let site = Site::new();
    let stick = site.stick("stick");
    let path = stick.display().to_string();
    site.enrol(&stick);
    let shop = release(site.dir.path(), "shop", "");
    write_assignment(&stick, 1, 3, &[&shop]);
    let blob = |digest: &airlift_bundles::ids::Sha256Digest| {
        stick.join("airlift-media/blobs/sha256").join(digest.to_hex())
    };
    let largest =
        blobs(&shop).into_iter().max_by_key(|digest| fs::metadata(blob(digest)).unwrap().len()).unwrap();
    let whole = fs::read(blob(&largest)).unwrap();

    fs::write(blob(&largest), &whole[..whole.len() / 2]).unwrap();
    let cut = site.ends(1, &["media", "load", &path]);
    assert!(cut.contains("AL0604") && cut.contains("AL0602"), "{cut}");

    let mut wrong = whole.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    fs::write(blob(&largest), &wrong).unwrap();
    assert!(site.ends(1, &["media", "load", &path]).contains("AL0601"));

    fs::remove_file(blob(&largest)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", blob(&largest)).unwrap();
    assert!(site.ends(1, &["media", "load", &path]).contains("AL0603"));

    fs::remove_file(blob(&largest)).unwrap();
    fs::write(blob(&largest), &whole).unwrap();
    let loaded = site.json(&["media", "load", &path]);
    assert_eq!(loaded["apps"][0]["complete"], true);
    let taken = loaded["bytes"].as_u64().unwrap();
    assert!(taken < whole.len() as u64, "{taken}: pieces before the wrong one were kept");
}

#[test]
fn without_an_agent_the_commands_say_so_and_how_to_go_on() {
    let site = Site::new();
    let absent = site.ends(10, &["status"]);
    assert!(absent.contains("no agent answers") && absent.contains("airlift-agent run"), "{absent}");
    assert!(site.ends(1, &["trust", "show"]).contains("AL0903"));
    let sick = site.ends(1, &["doctor"]);
    assert!(sick.contains("FAIL") && sick.contains("none.sock"), "{sick}");
    assert!(site.ends(2, &["enrol", "--hub", "hub"]).contains("--token-file"));
    fs::write(site.path("agent.toml"), "no_such_setting = 1").unwrap();
    assert!(site.ends(2, &["status"]).contains("AL0904"));
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
