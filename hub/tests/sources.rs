//! Bundles from images at a registry: with the real program, against a registry on loopback.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use airlift_bundles::ids::Sha256Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use desk::Desk;
use registry::{Manners, Registry};

#[expect(dead_code, reason = "nothing is signed here")]
mod desk;
#[path = "sources/registry.rs"]
mod registry;

const POD: &str = "apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - {name: web, image: 'registry.example/web:1', imagePullPolicy: IfNotPresent}
";

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A desk with an OCI layout of an image for two platforms, and that image's digest.
fn desk_with_image() -> (Desk, Sha256Digest) {
    let desk = Desk::new();
    let layout = desk.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).expect("the desk is writable");
    let put = |media_type: &str, bytes: &[u8]| -> Value {
        let digest = Sha256Digest::of(bytes);
        fs::write(layout.join("blobs/sha256").join(digest.to_hex()), bytes).expect("the desk is writable");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let manifests: Vec<Value> = ["amd64", "arm64"]
        .into_iter()
        .map(|architecture| {
            let (diff_id, layer) = layer();
            let config = json!({"os": "linux", "architecture": architecture,
                "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
            let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
            let layer = put("application/vnd.oci.image.layer.v1.tar+gzip", &layer);
            let manifest =
                json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]});
            let mut manifest = put(MANIFEST_TYPE, manifest.to_string().as_bytes());
            manifest["platform"] = json!({"os": "linux", "architecture": architecture});
            manifest
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests});
    let target = put(INDEX_TYPE, index.to_string().as_bytes());
    let digest = target["digest"].as_str().expect("a descriptor").parse().expect("a descriptor");
    let top = json!({"schemaVersion": 2, "manifests": [target]});
    fs::write(layout.join("index.json"), top.to_string()).expect("the desk is writable");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("the desk is writable");
    fs::create_dir_all(desk.path().join("shop/manifests")).expect("the desk is writable");
    fs::write(desk.path().join("shop/manifests/web.yaml"), POD).expect("the desk is writable");
    (desk, digest)
}

/// A gzip layer that no compressor shrinks, and its diff id.
fn layer() -> (Sha256Digest, Vec<u8>) {
    let mut content = vec![0; 300_000];
    getrandom::fill(&mut content).expect("the system gives random bytes");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", content.as_slice()).expect("memory takes all");
    let raw = tar.into_inner().expect("memory takes all");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&raw).expect("memory takes all");
    (Sha256Digest::of(&raw), gzip.finish().expect("memory takes all"))
}

fn write_app(desk: &Desk, from: &str) {
    let app = format!(
        "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: shop\nversion: 1.0.0\nimages:\n  - name: registry.example/web:1\n    from: {from}\n"
    );
    fs::write(desk.path().join("shop/airlift.yaml"), app).expect("the desk is writable");
}

const BUILD: &str = "bundle build shop --fleet lab --seq 1 --issued-at 2026-11-21T12:00:00Z";

/// The digests that a bundle's `index.json` lists.
fn images_of(bundle: &Path) -> String {
    fs::read_to_string(bundle.join("index.json")).expect("a bundle has an index")
}

#[test]
fn an_image_from_a_registry_is_packed_with_the_digest_that_skopeo_gives() {
    let (desk, digest) = desk_with_image();
    let trouble = Manners { busy: 2, breaks_at: Some(100_000), ..Manners::default() };
    let registry = Registry::start(&desk.path().join("layout"), trouble);
    let host = registry.host();
    write_app(&desk, &format!("docker://{host}/team/app:1@{digest}"));
    desk.good(&format!("{BUILD} --plain-http {host} -o afar"));
    assert!(images_of(&desk.path().join("afar")).contains(&digest.to_string()));
    write_app(&desk, "oci:../layout");
    desk.good(&format!("{BUILD} -o here"));
    assert_eq!(images_of(&desk.path().join("afar")), images_of(&desk.path().join("here")));

    let inspected = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--raw", &format!("docker://{host}/team/app:1")])
        .output();
    match inspected {
        Ok(output) => {
            assert!(output.status.success(), "{}", desk::text(&output.stderr));
            assert_eq!(Sha256Digest::of(&output.stdout), digest);
        }
        Err(error) => println!("SKIPPED the comparison with skopeo: {error}"),
    }
}

#[test]
fn a_registry_without_ranges_gives_all_again_and_platforms_that_nobody_wants_stay_there() {
    let (desk, digest) = desk_with_image();
    let trouble = Manners { breaks_at: Some(200_000), no_ranges: true, ..Manners::default() };
    let registry = Registry::start(&desk.path().join("layout"), trouble);
    let host = registry.host();
    write_app(&desk, &format!("docker://{host}/team/app:1@{digest}\nplatforms: [linux/arm64]"));
    let said = desk.good(&format!("{BUILD} --plain-http {host} -o afar"));
    assert!(said.contains("linux/arm64") && !said.contains("amd64"), "{said}");
    let asked = registry.seen();
    let blobs = asked.iter().filter(|path| path.contains("/blobs/"));
    assert_eq!(blobs.count(), 3, "a configuration, and a layer that broke off once: {asked:?}");
}

#[test]
fn a_registry_with_its_own_authority_and_a_login_gives_images_to_those_who_have_both() {
    let (desk, digest) = desk_with_image();
    let authority = Some(desk.path().join("ca.pem"));
    let login = Some(("anna", "se:cret"));
    let guarded = Manners { authority, login, has_storage: true, ..Manners::default() };
    let registry = Registry::start(&desk.path().join("layout"), guarded);
    let host = registry.host();
    write_app(&desk, &format!("docker://{host}/team/app:1@{digest}"));

    let told = desk.bad(10, &format!("{BUILD} -o shop-1"));
    assert!(told.contains("error[AL1006]") && told.contains("certificate"), "{told}");
    assert!(registry.seen().is_empty(), "nothing is said to a stranger");

    let told = desk.bad(4, &format!("{BUILD} --registry-ca ca.pem -o shop-1"));
    assert!(told.contains("error[AL1006]") && told.contains(&format!("docker login {host}")), "{told}");

    fs::create_dir(desk.path().join("docker")).expect("the desk is writable");
    let auth = STANDARD.encode("anna:se:cret");
    let config = json!({"auths": {&host: {"auth": auth}}});
    fs::write(desk.path().join("docker/config.json"), config.to_string()).expect("the desk is writable");
    desk.good(&format!("{BUILD} --registry-ca ca.pem -o shop-1"));
    assert!(images_of(&desk.path().join("shop-1")).contains(&digest.to_string()));
}

#[test]
fn what_is_not_there_not_pinned_or_not_what_it_says_is_refused_with_what_to_do() {
    let (desk, digest) = desk_with_image();
    let registry = Registry::start(&desk.path().join("layout"), Manners::default());
    let host = registry.host();
    let bad = |exit, from: String, parts: &[&str]| {
        write_app(&desk, &from);
        let told = desk.bad(exit, &format!("{BUILD} --plain-http {host} -o shop-1"));
        for part in parts {
            assert!(told.contains(part), "{from}: {told}");
        }
        assert!(!desk.path().join("shop-1").exists());
    };
    let pinned = format!("docker://{host}/team/app:1@{digest}");
    bad(2, format!("docker://{host}/team/app:1"), &["error[AL1007]", &format!("`from: {pinned}`")]);
    bad(5, format!("docker://{host}/team/app:2"), &["error[AL1006]", &format!("{host}/team/app:2")]);
    let other = Sha256Digest::of(b"another");
    bad(5, format!("docker://{host}/team/app:1@{other}"), &["error[AL1006]", "does not have manifest"]);
    bad(2, "docker://".to_owned(), &["error[AL1001]", "does not name an image"]);

    let swaps =
        Registry::start(&desk.path().join("layout"), Manners { swaps_layers: true, ..Manners::default() });
    write_app(&desk, &format!("docker://{}/team/app:1@{digest}", swaps.host()));
    let told = desk.bad(2, &format!("{BUILD} --plain-http {} -o shop-1", swaps.host()));
    assert!(told.contains("does not match its bytes") && told.contains("airlift.yaml:6"), "{told}");
}

#[test]
fn a_registry_that_does_not_answer_is_tried_again_and_then_named() {
    let (desk, digest) = desk_with_image();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let host = nobody.local_addr().expect("it is bound").to_string();
    drop(nobody);
    write_app(&desk, &format!("docker://{host}/team/app:1@{digest}"));
    let told = desk.bad(10, &format!("{BUILD} --plain-http {host} -o shop-1"));
    assert!(
        told.contains("error[AL1006]") && told.contains(&host) && told.contains("Nothing was written"),
        "{told}"
    );

    write_app(&desk, "containerd:team/app:1");
    let told =
        desk.bad(10, &format!("{BUILD} --containerd {} -o shop-1", desk.path().join("no.sock").display()));
    assert!(told.contains("error[AL1006]") && told.contains("no.sock"), "{told}");
}
