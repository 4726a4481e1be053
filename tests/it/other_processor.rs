//! The agent as it is packaged for another processor, run by qemu: what one build verifies or refuses, so does the other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use airlift_tests::agent::Agent;
use airlift_tests::hub::Hub;
use airlift_tests::manifests::{many, write};
use airlift_tests::site::Site;
use serde_json::Value;

/// Where `deploy/build` puts the agent for one target.
fn packaged(target: &str) -> PathBuf {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let built = Command::new(root.join("deploy/build")).arg(target).output().unwrap();
    assert!(built.status.success(), "deploy/build {target}: {}", String::from_utf8_lossy(&built.stderr));
    let said = String::from_utf8(built.stdout).unwrap();
    PathBuf::from(said.lines().last().expect("deploy/build says where the agent is"))
}

/// Everything that an agent says of a damaged stick and of a whole one, and then of whom it believes.
fn verify(hub: &Hub, site: &Site, program: &Path, name: &str) -> Vec<(Option<i32>, Value)> {
    let agent = Agent::install(site, &hub.root_sha256(), None).as_packaged(program);
    let stick = hub.dir().join(format!("stick-{name}"));
    fs::create_dir_all(&stick).unwrap();
    let path = stick.display().to_string();
    let _ = agent.command(&["enrol", "--media", &path, "--site", name]);
    let _ = hub.airlift(&["media", "load", &path]);
    let pending = hub.read(&["site", "pending"]);
    let fingerprint = pending["items"][0]["fingerprint"].as_str().unwrap();
    let _ = hub.airlift(&["site", "approve", "--fingerprint", fingerprint, "--site", name]);
    let _ = hub.airlift(&["assign", "bench", "--release", "1", "--site", name]);
    let _ = hub.airlift(&["media", "save", &path, "--site", name]);

    let heard = |arguments: &[&str]| {
        let output = agent.try_command(&[arguments, &["-o", "json"]].concat());
        let mut said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        // These are each site's own.
        for own in ["site", "assignment_found", "assignment_seq"] {
            said.as_object_mut().map(|said| said.remove(own));
        }
        (output.status.code(), said)
    };
    let largest = largest_blob(&stick);
    let whole = fs::read(&largest).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&largest, damaged).unwrap();
    let refused = heard(&["media", "load", &path]);
    fs::write(&largest, whole).unwrap();
    vec![refused, heard(&["media", "load", &path]), heard(&["trust", "show"])]
}

fn largest_blob(stick: &Path) -> PathBuf {
    let blobs = fs::read_dir(stick.join("airlift-media/blobs/sha256")).unwrap().flatten();
    blobs.max_by_key(|blob| blob.metadata().unwrap().len()).expect("the stick has blobs").path()
}

#[test]
#[ignore = "builds the agent for two processors with link-time optimisation: tests/run --long"]
fn an_agent_for_another_processor_verifies_and_refuses_the_same() {
    let hub = Hub::start();
    let folder = hub.dir().join("folder");
    let _ = write(&folder, "bench", 1, &many(4000, 0, "hello"));
    let _ = hub.airlift(&["publish", &hub.build(&folder, "bundle-1", 1)]);
    let site = Site::borrow();

    let wrapped = hub.dir().join("agent-in-qemu");
    let arm = packaged("aarch64-unknown-linux-musl");
    let script = format!("#!/bin/sh\nexec qemu-aarch64-static {} \"$@\"\n", arm.display());
    fs::write(&wrapped, script).unwrap();
    fs::set_permissions(&wrapped, fs::Permissions::from_mode(0o755)).unwrap();

    let here = verify(&hub, &site, &packaged("x86_64-unknown-linux-musl"), "here");
    let there = verify(&hub, &site, &wrapped, "there");
    assert_eq!(here, there);
    let (refused, loaded) = (&here[0], &here[1]);
    assert_ne!(refused.0, Some(0), "a damaged blob is not taken: {}", refused.1);
    assert_eq!(loaded.0, Some(0), "{}", loaded.1);
    assert_eq!(loaded.1["apps"][0]["complete"], true, "{}", loaded.1);
}
