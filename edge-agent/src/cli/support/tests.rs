use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::release::Scalar;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, Counter, Name, Sha256Digest, Version};
use airlift_bundles::limits::Limits;
use airlift_bundles::pack::pack;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter as _;

use super::*;
use crate::control::tests::serve;
use crate::core::object::Generation;
use crate::core::state::GenerationVerdict;
use crate::core::write::{AppRow, GenerationRow, Write};
use crate::enrol::Identity;
use crate::ports::Store as _;
use crate::receive::media::tests::site_meta;
use crate::store::SqliteStore;

const SECRET_VALUE: &str = "correct horse battery";
const PARAMETER: &str = "the-operators-own-word";
const KUBE_TOKEN: &str = "K10aa55aa55aa55::server:77aa77aa";
const TOKEN: &str = "airlift1.eyJmbGVldF9pZCI6ImhhcmJvdXIifQ";
const FOREIGN_KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBkg4LVWM9nuwNSk3yByxZpYRTBnVJk5oiT2R7xJ\n-----END EC PRIVATE KEY-----";

/// A site with a secret in every place that has one.
async fn site(dir: &Path) -> (Config, Vec<String>) {
    let folder = dir.join("app");
    fs::create_dir_all(folder.join("manifests")).unwrap();
    let descriptor = "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: shop\nversion: 1.0.0\n\
                      allow_secret_data: [shop/db]\n";
    fs::write(folder.join("airlift.yaml"), descriptor).unwrap();
    let secret = serde_json::json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "db", "namespace": "shop"}, "data": {"password": BASE64.encode(SECRET_VALUE)}});
    fs::write(folder.join("manifests/db.json"), secret.to_string()).unwrap();
    let layout = dir.join("bundle");
    let index = pack(&folder, &layout, &Limits::DEFAULT).unwrap().index;

    let config = Config {
        state_dir: dir.join("state"),
        control_socket: dir.join("nobody.sock"),
        kubernetes: crate::config::Kubernetes { kubeconfig: dir.join("kubeconfig") },
        containerd: crate::config::Containerd {
            socket: dir.join("no.sock"),
            snapshotter: "overlayfs".into(),
        },
        ..Config::default()
    };
    let blobs = config.state_dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap().map(Result::unwrap) {
        fs::copy(blob.path(), blobs.join(blob.file_name())).unwrap();
    }
    fs::copy(layout.join("index.json"), blobs.join(index.to_hex())).unwrap();
    fs::write(&config.kubernetes.kubeconfig, format!("users:\n- user:\n    token: {KUBE_TOKEN}\n")).unwrap();
    let identity = Identity::load_or_make(&config.keys_dir()).unwrap();
    let key: Value = serde_json::from_str(&identity.site_key.to_json()).unwrap();
    let tls: String = identity.tls_key_pem.lines().filter(|line| !line.starts_with('-')).collect();

    let id = Sha256Digest::of(b"generation");
    let generation = Generation {
        id,
        app: AppName::new("shop").unwrap(),
        release: Sha256Digest::of(b"release"),
        bundle: index,
        counter: Counter { epoch: 0, seq: 1 },
        version: Version::new("1.0.0").unwrap(),
        parameters: BTreeMap::from([(Name::new("word").unwrap(), Scalar::String(PARAMETER.into()))]),
        overlays: vec![],
        secrets: Default::default(),
        stopped: false,
    };
    let generation = GenerationRow {
        generation: Arc::new(generation),
        verdict: GenerationVerdict::Failed,
        retry: 0,
        prepared: None,
    };
    let log_line = Evidence {
        object: "Pod shop/web".into(),
        reason: "log".into(),
        message: format!("cannot log in with {SECRET_VALUE}; DB_PASSWORD=hunter2hunter2 for {PARAMETER}"),
    };
    let app = AppRow {
        state: AppState::Failed,
        target: Some(id),
        reason: format!("webhook said: {FOREIGN_KEY}"),
        evidence: vec![log_line],
        ..AppRow::new(AppName::new("shop").unwrap())
    };
    let store = SqliteStore::open(&config.state_dir).unwrap();
    let writes =
        vec![Write::PutMeta(site_meta()), Write::PutGeneration(generation), Write::PutApp(app.into())];
    store.commit(writes).await.unwrap();
    let planted = vec![
        key["keyval"]["private"].as_str().unwrap().to_owned(),
        tls[..40].to_owned(),
        SECRET_VALUE.to_owned(),
        BASE64.encode(SECRET_VALUE),
        PARAMETER.to_owned(),
        KUBE_TOKEN.to_owned(),
        "hunter2hunter2".to_owned(),
        "MHcCAQEEIBkg4LVWM9nuwNSk3yByxZpYRTBnVJk5oiT2R7xJ".to_owned(),
        TOKEN.to_owned(),
    ];
    (config, planted)
}

async fn bundle(config: &Config, to: &Path) -> BTreeMap<String, String> {
    fs::create_dir(to).unwrap();
    let output = OutputArgs { format: Format::Json };
    support_bundle(config, &SupportArgs { to: to.to_owned(), output }).await.unwrap();
    let written: Vec<_> = fs::read_dir(to).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(written.len(), 1, "one whole file and no leftover: {written:?}");
    let name = written[0].file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("airlift-support-berta-") && name.ends_with("Z.tar.gz"), "{name}");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&written[0]).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), text);
    }
    files
}

fn nothing_planted(files: &BTreeMap<String, String>, planted: &[String]) {
    for (name, text) in files {
        for secret in planted {
            assert!(!text.contains(secret.as_str()), "{name} shows {secret}: {text}");
        }
    }
}

#[tokio::test]
async fn without_an_agent_everything_on_disk_is_told_and_no_secret_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (config, planted) = site(dir.path()).await;
    let files = bundle(&config, &dir.path().join("stick")).await;
    nothing_planted(&files, &planted);
    let json = |name: &str| -> Value { serde_json::from_str(&files[name]).unwrap() };
    let known = &json("status.json")["last_known"]["apps"][0];
    assert_eq!(known["status"]["state"], "failed");
    let told = known["status"]["evidence"][0]["message"].as_str().unwrap();
    assert_eq!(told, "cannot log in with [redacted]; DB_PASSWORD=[redacted] for [redacted]");
    let database = json("database.json");
    assert_eq!((&database["integrity"][0], &database["rows"]["app"]), (&"ok".into(), &1.into()));
    assert!(files.contains_key("machine.json") && files.contains_key("config.json"));
    let manifest = json("MANIFEST.json");
    let missed = manifest["not_had"].to_string();
    assert!(missed.contains("nodes.json") && missed.contains("agent.log"), "{missed}");
    assert!(manifest["left_out"].as_array().unwrap().len() >= 5);
    for note in manifest["files"].as_array().unwrap() {
        let text = &files[note["name"].as_str().unwrap()];
        assert_eq!(note["sha256"], Sha256Digest::of(text.as_bytes()).to_string());
    }
}

#[tokio::test]
async fn the_log_of_a_running_agent_is_cleaned_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, planted) = site(dir.path()).await;
    let served = serve().await;
    config.control_socket.clone_from(&served.path);
    for line in [
        FOREIGN_KEY.replace('\n', "\\n"),
        format!("token {TOKEN} used"),
        SECRET_VALUE.into(),
        planted[0].clone(),
    ] {
        served.log.make_writer().write_all(format!("INFO said {line}\n").as_bytes()).unwrap();
    }
    let files = bundle(&config, &dir.path().join("stick")).await;
    nothing_planted(&files, &planted);
    assert_eq!(files["agent.log"].matches("INFO said").count(), 4, "the lines themselves stay");
    assert!(files["status.json"].contains("\"site\": \"berta\""), "{}", files["status.json"]);
}
