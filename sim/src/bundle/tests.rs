use std::ffi::OsString;
use std::process::ExitCode;

use super::*;
use crate::demo::image::write_image;
use crate::scenario::Scenario;
use crate::world::World;

/// A fleet's keys and root, and versions of one app, all made by the product's own command line.
struct Fleet(tempfile::TempDir);

impl Fleet {
    fn new() -> Self {
        let fleet = Self(tempfile::tempdir().unwrap());
        for holder in ["anna", "dora", "hub"] {
            fleet.airlift(&["key", "generate", &fleet.path(&format!("{holder}.key")), "--plain"]);
        }
        let (root, keys) = (
            fleet.path("root.json"),
            ["hub", "anna", "dora"].map(|holder| fleet.path(&format!("{holder}.pub"))),
        );
        fleet.airlift(&[
            "root",
            "init",
            "--fleet",
            "harbour",
            "--director-key",
            &keys[0],
            "--root-key",
            &keys[1],
            "--release-key",
            &keys[2],
            &root,
        ]);
        fleet.airlift(&["root", "sign", "--key", &fleet.path("anna.key"), &root]);
        fleet.airlift(&["root", "finalize", &root]);
        fleet
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn airlift(&self, arguments: &[&str]) {
        let words = ["airlift"].iter().chain(arguments).map(OsString::from);
        assert_eq!(airlift_hub::main_from(words), ExitCode::SUCCESS, "{arguments:?}");
    }

    /// Builds a version with an image, and a custom object whose kind nobody knows.
    fn build(&self, seq: u64, more: &str) -> PathBuf {
        let folder = self.0.path().join(format!("shop-{seq}"));
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        std::fs::create_dir_all(folder.join("manifests")).unwrap();
        write_image(&folder.join("image"), "shop.example/shop:1", &seq.to_string(), &platform).unwrap();
        std::fs::write(
            folder.join("airlift.yaml"),
            format!(
                "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: shop\nversion: 1.{seq}.0\ntimeout: 60s\nsoak: 5s\n\
                 images:\n  - name: shop.example/shop:1\n    from: oci:image\n"
            ),
        )
        .unwrap();
        let manifest = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n---\napiVersion: apps/v1\nkind: Deployment\n\
             metadata:\n  name: shop\n  namespace: shop\nspec:\n  replicas: 1\n  selector:\n    matchLabels: {{app: shop}}\n\
             \x20 template:\n    metadata:\n      labels: {{app: shop}}\n      annotations: {{seq: \"{seq}\"}}\n    spec:\n\
             \x20     containers:\n        - name: shop\n          image: shop.example/shop:1\n          imagePullPolicy: IfNotPresent\n{more}"
        );
        std::fs::write(folder.join("manifests/shop.yaml"), manifest).unwrap();
        let bundle = self.path(&format!("shop-{seq}.tar"));
        self.airlift(&[
            "bundle",
            "build",
            &folder.display().to_string(),
            "--fleet",
            "harbour",
            "--seq",
            &seq.to_string(),
            "--out",
            &bundle,
        ]);
        bundle.into()
    }

    fn sign(&self, bundle: &Path) {
        self.airlift(&["bundle", "sign", "--key", &self.path("dora.key"), &bundle.display().to_string()]);
    }
}

#[test]
fn two_own_versions_take_the_places_of_the_last_two_and_their_bytes_travel() {
    let fleet = Fleet::new();
    let paths = [fleet.build(7, ""), fleet.build(8, "")];
    let bundles = [OwnBundle::open(&paths[1]).unwrap(), OwnBundle::open(&paths[0]).unwrap()];
    let statements =
        vec![(paths[1].clone(), bundles[0].statement()), (paths[0].clone(), bundles[1].statement())];
    let scenario = Scenario::find("bad-release").unwrap().with_sites(2).with_bundles(statements).unwrap();
    let assigned: Vec<String> =
        scenario.action.iter().filter_map(|action| Some(action.version.as_ref()?.to_string())).collect();
    assert_eq!(assigned, ["1.7.0", "1.8.0"], "by their numbers, whatever order they are named in");
    assert_eq!(Scenario::parse(&scenario.to_toml()).unwrap(), scenario);
    let outcome = World::new(scenario, 1).unwrap().run();
    assert_eq!(outcome.violations, []);
    // A mebibyte of content is in each image.
    assert!(outcome.moved_bytes >= 4 << 20, "{}", outcome.moved_bytes);
    assert!(outcome.measures.orders.iter().all(|order| order.app.as_str() == "shop"));
}

#[test]
fn signatures_are_checked_with_the_fleets_root_or_said_not_to_be() {
    let fleet = Fleet::new();
    let path = fleet.build(1, "");
    let root = newest_root(&[fleet.path("1.json").into()]).unwrap();
    let draft = OwnBundle::open(&path).unwrap();
    assert!(draft.check(&root).unwrap_err().to_string().contains("AL"), "nobody has signed it yet");
    assert!(draft.notes(None).unwrap()[0].contains("NOT CHECKED"));
    fleet.sign(&path);
    let signed = OwnBundle::open(&path).unwrap();
    signed.check(&root).unwrap();
    assert!(signed.notes(Some(root.version)).unwrap()[0].contains("good under root 1"));
    let stranger = Fleet::new();
    let other = newest_root(&[stranger.path("1.json").into()]).unwrap();
    assert!(signed.check(&other).is_err());
}

#[test]
fn what_the_model_cannot_say_is_said() {
    let fleet = Fleet::new();
    let path = fleet
        .build(1, "---\napiVersion: example.com/v1\nkind: Oven\nmetadata:\n  name: hot\n  namespace: shop\n");
    let notes = OwnBundle::open(&path).unwrap().notes(None).unwrap();
    assert!(notes.iter().any(|note| note.contains("no controller for 1 Oven (example.com/v1)")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("whether its programs run is not known")), "{notes:?}");
}

#[test]
fn a_bundle_that_is_damaged_missing_or_without_a_release_is_refused() {
    let fleet = Fleet::new();
    let path = fleet.build(1, "");
    let refused = |path: &Path| OwnBundle::open(path).map(|_| ()).unwrap_err().to_string();
    assert!(refused(&fleet.0.path().join("none.tar")).contains("cannot read"));
    let lonely = fleet.0.path().join("lonely.tar");
    std::fs::copy(&path, &lonely).unwrap();
    assert!(refused(&lonely).contains("0 releases"));
    let mut bytes = std::fs::read(&path).unwrap();
    let place =
        bytes.windows(4).position(|window| window == [0x28, 0xb5, 0x2f, 0xfd]).expect("objects are zstd");
    bytes[place + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = OwnBundle::open(&path).unwrap();
    assert!(damaged.notes(None).is_err(), "its objects are not those of the release");
    assert!(damaged.unpack(fleet.0.path()).is_err());
}
