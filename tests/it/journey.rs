//! The steps that the tests' stories share: enrol, build and sign, publish, assign, and waiting for what comes of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::app::{Greeter, PODS};
use airlift_tests::clock::wait_until;
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::sample::Sample;
use airlift_tests::site::Site;
use serde_json::Value;

/// What a rollout may take on two busy cores.
pub(crate) const ROLLOUT: Duration = Duration::from_secs(240);

/// Makes an image that no containerd has seen, with so many random bytes.
pub(crate) fn image(hub: &Hub, version: &str, random_bytes: usize) -> TestImage {
    let layout = hub.dir().join(format!("image-{version}"));
    TestImage::make(&layout, &format!("airlift.test/greeter:{version}"), random_bytes)
}

/// Builds the greeter's bundle, signed; gives the bundle's directory.
pub(crate) fn build(hub: &Hub, greeter: &Greeter<'_>, seq: u32) -> String {
    let folder = greeter.write(&hub.dir().join(format!("folder-{seq}")));
    sign(hub, &folder, seq)
}

/// Builds a bundle of a small app, signed, and publishes it.
pub(crate) fn publish(hub: &Hub, sample: &Sample, seq: u32) {
    let folder = sample.write(&hub.dir().join(format!("folder-{}-{seq}", sample.name)));
    let bundle = hub.build(&folder, &format!("bundle-{}-{seq}", sample.name), seq);
    let _ = hub.airlift(&["publish", &bundle]);
}

/// Builds a bundle from a folder and signs it; gives the bundle's directory.
pub(crate) fn sign(hub: &Hub, folder: &Path, seq: u32) -> String {
    hub.build(folder, &format!("bundle-{seq}"), seq)
}

/// Enrols an agent over HTTPS with a token, and starts it.
pub(crate) fn enrol_online(hub: &Hub, agent: &mut Agent<'_>, site: &str) {
    agent.enrol(hub, site);
    agent.run();
}

/// Publishes a bundle and assigns it to a site.
pub(crate) fn roll_out(hub: &Hub, bundle: &str, site: &str, more: &[&str]) {
    let _ = hub.airlift(&["publish", bundle]);
    assign(hub, site, more);
}

/// Assigns the newest release of the greeter to a site.
pub(crate) fn assign(hub: &Hub, site: &str, more: &[&str]) {
    let mut arguments = vec!["assign", "greeter", "--release", "newest", "--site", site];
    arguments.extend(more);
    let _ = hub.airlift(&arguments);
}

/// Assigns this release, by its number, of each of these apps to a site.
pub(crate) fn assign_all(hub: &Hub, apps: &[&str], seq: u32, site: &str) {
    let seq = seq.to_string();
    for app in apps {
        let _ = hub.airlift(&["assign", app, "--release", &seq, "--site", site]);
    }
}

/// Waits for a receipt of this outcome about this version, and gives its row.
pub(crate) fn receipt(hub: &Hub, site: &str, outcome: &str, version: &str) -> Value {
    wait_until(&format!("{site}'s receipt {outcome} of {version}"), ROLLOUT, || {
        let rows = receipts(hub, site);
        let found = rows.iter().find(|row| row["outcome"] == outcome && row["version"] == version);
        found.cloned().ok_or_else(|| Value::Array(rows).to_string())
    })
}

/// The receipts that the hub has of a site.
pub(crate) fn receipts(hub: &Hub, site: &str) -> Vec<Value> {
    let list = hub.read(&["receipt", "list", "--site", site, "--limit", "1000"]);
    list["items"].as_array().cloned().unwrap_or_default()
}

/// How many receipts of this outcome about this app the hub has of a site.
pub(crate) fn count_receipts(hub: &Hub, site: &str, outcome: &str, app: &str) -> usize {
    receipts(hub, site).iter().filter(|row| row["outcome"] == outcome && row["app"] == app).count()
}

/// What the agent says of the greeter.
pub(crate) fn state(agent: &Agent<'_>) -> Result<Value, String> {
    state_of(agent, "greeter")
}

/// What the agent says of an app.
pub(crate) fn state_of(agent: &Agent<'_>, app: &str) -> Result<Value, String> {
    states(agent)?.remove(app).ok_or_else(|| format!("the agent does not know {app}"))
}

/// What the agent says of each app.
pub(crate) fn states(agent: &Agent<'_>) -> Result<BTreeMap<String, Value>, String> {
    let status = agent.try_read(&["status"])?;
    let apps = status["apps"].as_array().cloned().unwrap_or_default();
    Ok(apps.into_iter().map(|row| (row["app"].as_str().unwrap_or_default().to_owned(), row)).collect())
}

/// Waits until the agent says of each of these apps that this version of it is healthy.
pub(crate) fn wait_for_all(agent: &Agent<'_>, apps: &[&str], version: &str) {
    wait_until(&format!("{apps:?} to be healthy at {version}"), ROLLOUT, || {
        let states = states(agent)?;
        let well = |row: &Value| row["state"] == "healthy" && row["version"] == version;
        match apps.iter().find(|app| !states.get(**app).is_some_and(well)) {
            Some(app) => Err(format!("{app}: {:?}", states.get(*app))),
            None => Ok(()),
        }
    });
}

/// Waits until the agent says this state of this version.
pub(crate) fn wait_for_state(agent: &Agent<'_>, word: &str, version: &str) {
    wait_until(&format!("greeter {version} to be {word}"), ROLLOUT, || {
        let app = state(agent)?;
        if app["state"] == word && app["version"] == version { Ok(()) } else { Err(app.to_string()) }
    });
}

/// Waits for two Ready pods of this image that answer with this greeting.
pub(crate) fn wait_for_pods(site: &Site, image: &TestImage, greeting: &str) {
    wait_until(&format!("two Ready pods of {}", image.name), ROLLOUT, || {
        for pod in site.wait_for_ready_pods("greeter", PODS, 2) {
            let address = pod["status"]["podIP"].as_str().ok_or("no address")?.to_owned();
            let answer = site.ask(&address, 8080, "/")?;
            if answer != format!("{greeting}\n{}\n", image.content) {
                return Err(answer);
            }
        }
        Ok(())
    });
}

/// Says that containerd at the site has nothing of the image.
pub(crate) fn assert_absent(site: &Site, image: &TestImage) {
    assert!(!site.ctr(&["images", "list", "--quiet"]).lines().any(|name| name.starts_with(&image.name)));
    assert!(!site.ctr(&["content", "list", "--quiet"]).contains(&image.digest));
}
