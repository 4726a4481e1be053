//! Makes a fleet: keys, a root, a hub, and sites that are enrolled, all by the product's own functions.
//!
//! Sites are enrolled in bulk, without the network: each makes its keys and its signed request, the hub's own code
//! grants it with a certificate of its authority, and the site's own code admits the grant and stores its first rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airlift_agent::core::write::Rows;
use airlift_agent::enrol::Identity;
use airlift_agent::enrol::grant::admit;
use airlift_agent::enrol::identity::Ask;
use airlift_agent::ports::Store as _;
use airlift_agent::store::SqliteStore;
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{FleetId, Sha256Digest, SiteId, Timestamp};
use airlift_bundles::join::JoinReply;
use airlift_bundles::limits::Limits;
use airlift_hub::config::{Config, DataDir};
use airlift_hub::enrol::{EnrolError, Terms, approve, receive, reply};
use airlift_hub::init::install_roots;
use airlift_hub::server::Hub;

use super::LiveError;
use crate::demo::tools::Tools;

/// The fleet's name.
const FLEET: &str = "live";
/// Sites that enrol side by side: they mostly wait for the disk, and share its flushes.
const AT_ONCE: u32 = 16;
/// The app that is assigned, and its one parameter.
pub(super) const APP: &str = "beat";
pub(super) const PARAMETER: &str = "beat";

/// The smallest app that can change: whatever else an app has costs its cluster, and not the line.
const DESCRIPTOR: &str = "apiVersion: airlift.dev/v1alpha1
kind: App
name: beat
version: 1.0.0
parameters:
  beat:
    type: string
    pattern: \"[0-9]+\"
    max_length: 10
    targets:
      - apiVersion: v1
        kind: ConfigMap
        namespace: default
        name: beat
        pointer: /data/beat
timeout: 60s
soak: 0s
";
const MANIFEST: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: beat
  namespace: default
data:
  beat: \"0\"
";

/// The name of a site.
pub(super) fn site_name(number: u32) -> SiteId {
    SiteId::new(&format!("s-{number:06}")).expect("a letter, a hyphen and digits are a site's name")
}

/// The number in a site's name.
pub(super) fn site_number(site: &SiteId) -> Option<u32> {
    site.as_str().strip_prefix("s-")?.parse().ok()
}

/// Makes keys, hub and root in the tools' directory; nothing runs.
pub(super) async fn found(
    tools: &Tools,
    https_port: u16,
    mqtt_port: u16,
    broker: bool,
) -> Result<(), LiveError> {
    let (https, mqtt) = (https_port.to_string(), mqtt_port.to_string());
    let ports = ["--https-port", &https, "--mqtt-port", &mqtt];
    let init = ["hub", "init", "--data", "hub", "--fleet", FLEET, "--host", "127.0.0.1"];
    let airlift = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            tools.run("airlift", &words).await.map_err(LiveError::from)
        }
    };
    let url = format!("mqtts://127.0.0.1:{mqtt_port}");
    let between: &[&str] = if broker { &["--broker", &url] } else { &[] };
    airlift(&[&init[..], &ports, between].concat()).await?;
    bind_to_loopback(tools)?;
    for key in ["root.key", "release.key"] {
        airlift(&["key", "generate", key, "--plain"]).await?;
    }
    let draft =
        ["root", "init", "root.json", "--fleet", FLEET, "--root-key", "root.pub", "--root-threshold", "1"];
    let roles = ["--release-key", "release.pub", "--release-threshold", "1"];
    airlift(&[&draft[..], &roles, &["--director-key", "hub/director.pub.json"]].concat()).await?;
    airlift(&["root", "sign", "root.json", "--key", "root.key"]).await?;
    airlift(&["root", "finalize", "root.json", "--out", "roots/1.json"]).await?;
    let root = fs::read(root_file(tools)).map_err(LiveError::io(root_file(tools)))?;
    install_roots(&data(tools), &[root]).map_err(LiveError::failed)?;
    Ok(())
}

/// Nobody but this machine has business with the hub of a measurement.
fn bind_to_loopback(tools: &Tools) -> Result<(), LiveError> {
    let path = data(tools).config();
    let text = fs::read_to_string(&path).map_err(LiveError::io(&path))?;
    fs::write(&path, text.replace("bind = \"::\"", "bind = \"127.0.0.1\"")).map_err(LiveError::io(path))
}

/// The hub's directory.
pub(super) fn data(tools: &Tools) -> DataDir {
    DataDir::new(&tools.dir().join("hub"))
}

fn root_file(tools: &Tools) -> PathBuf {
    tools.dir().join("roots/1.json")
}

/// Builds, signs and publishes the app to the hub, which runs.
pub(super) async fn publish(tools: &Tools) -> Result<(), LiveError> {
    let folder = tools.dir().join("app/manifests");
    fs::create_dir_all(&folder).map_err(LiveError::io(&folder))?;
    for (name, text) in [("../airlift.yaml", DESCRIPTOR), ("beat.yaml", MANIFEST)] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(LiveError::io(path))?;
    }
    for words in [
        &["login", "--data", "hub"][..],
        &["bundle", "build", "app", "--fleet", FLEET, "--seq", "1", "-o", "bundle"],
        &["bundle", "sign", "bundle", "--key", "release.key"],
        &["publish", "bundle"],
    ] {
        tools.run("airlift", words).await?;
    }
    Ok(())
}

/// Enrols so many sites, whose state directories come under `sites`; the hub must not run. Gives the digest of the
/// key by which the hub is known.
pub(super) async fn enrol(tools: &Tools, sites: &Path, count: u32) -> Result<Sha256Digest, LiveError> {
    let data = data(tools);
    let config = Config::load(&data).map_err(LiveError::failed)?;
    let hub = Hub::open(data, config).await.map_err(LiveError::failed)?;
    let root = fs::read(root_file(tools)).map_err(LiveError::io(root_file(tools)))?;
    let root = Envelope::parse(&root, &Limits::DEFAULT).map_err(LiveError::failed)?.digest();
    let share = count.div_ceil(AT_ONCE);
    let mut parties = Vec::new();
    for party in 0..AT_ONCE {
        let (hub, sites) = (Arc::clone(&hub), sites.to_owned());
        let numbers = party * share..((party + 1) * share).min(count);
        // A thread each, because what a site does here waits for the disk by blocking.
        parties.push(tokio::task::spawn_blocking(move || -> Result<(), LiveError> {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let runtime = runtime.map_err(LiveError::io("the system's event queue"))?;
            for number in numbers {
                runtime.block_on(enrol_one(&hub, &sites, number, root))?;
            }
            Ok(())
        }));
    }
    for party in parties {
        party.await.map_err(LiveError::failed)??;
    }
    hub.db.close();
    Ok(hub.hub_ca.key_sha256())
}

async fn enrol_one(
    hub: &Arc<Hub>,
    sites: &Path,
    number: u32,
    root_sha256: Sha256Digest,
) -> Result<(), LiveError> {
    let name = site_name(number);
    let state_dir = sites.join(name.as_str());
    let keys = state_dir.join("keys");
    let identity = Identity::load_or_make(&keys).map_err(LiveError::failed)?;
    let ask = Ask {
        fleet_id: FleetId::new(FLEET).expect("the literal is a fleet's name"),
        root_sha256,
        site: Some(name.clone()),
        token: None,
        now: Timestamp::from_unix_s(0),
    };
    let (_, request) = identity.request(&ask).map_err(LiveError::failed)?;
    let (granting, now) = (Arc::clone(hub), hub.clock.now());
    let terms = Terms {
        site: name,
        labels: BTreeMap::new(),
        contact: ContactClass::Mqtt,
        replace: false,
        actor: "airlift-sim live".into(),
    };
    let granted = hub.db.write(move |connection| {
        let waiting = receive(connection, &granting, &request, "https", &now)?;
        let row = approve(connection, &granting, waiting, &terms, &now)?;
        reply(connection, &row)
    });
    let granted: Result<JoinReply, EnrolError> = granted.await;
    let JoinReply::Granted { roots, grant, .. } = granted.map_err(LiveError::failed)? else {
        return Err(LiveError::Failed(format!("site {number} was not granted")));
    };
    let roots: Vec<Vec<u8>> = roots.iter().map(|root| root.get().as_bytes().to_vec()).collect();
    let admitted = admit(&identity, &Rows::default(), &root_sha256, &roots, grant.get().as_bytes());
    let rows = admitted.map_err(LiveError::failed)?.keep(&keys).map_err(LiveError::failed)?;
    let store = SqliteStore::open(&state_dir).map_err(LiveError::failed)?;
    store.commit(rows).await.map_err(LiveError::failed)
}
