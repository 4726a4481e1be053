//! Bundles and sticks are read by tools that know nothing of Airlift.

use std::path::Path;
use std::process::Command;

use airlift_bundles::layout::{Blobs as _, Bundle, LayoutDir};
use airlift_bundles::limits::Limits;
use airlift_bundles::pack::{pack, write_archive};
use airlift_tests::image::{TestImage, digest};
use serde_json::Value;

fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("skopeo").args(arguments).output().expect("skopeo is installed");
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Makes a folder with one pod for each image, taken from each kind of source.
fn make_folder(folder: &Path) {
    let image = |name: &str, own: &str| TestImage::make(&folder.join(own), name, 200_000);
    let web = image("registry.example:5000/team/web:1.0", "web");
    let short = image("short:2", "short");
    let saved = image("docker.io/team/saved:3", "saved");
    let from = [
        (&web.name, "oci:web".to_owned()),
        (&short.name, format!("oci-archive:{}", short.oci_archive().display())),
        (&saved.name, format!("docker-archive:{}", saved.docker_archive().display())),
    ];
    let mut app =
        "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: shop\nversion: '1'\nimages:\n".to_owned();
    let mut pods = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned();
    for (at, (name, from)) in from.iter().enumerate() {
        app += &format!("- {{name: '{name}', from: '{from}'}}\n");
        pods += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{at}, namespace: shop}}\nspec: {{containers: [{{name: a, image: '{name}'}}]}}\n"
        );
    }
    std::fs::write(folder.join("airlift.yaml"), app).expect("the folder is writable");
    std::fs::create_dir(folder.join("manifests")).expect("the folder is writable");
    std::fs::write(folder.join("manifests/pods.yaml"), pods).expect("the folder is writable");
}

#[test]
fn skopeo_inspects_and_copies_each_image_of_a_bundle_with_the_signed_digest() {
    let scratch = std::env::temp_dir().join(format!("airlift-skopeo-{}", std::process::id()));
    let folder = scratch.join("folder");
    std::fs::create_dir_all(&folder).unwrap();
    make_folder(&folder);
    let layout = scratch.join("bundle");
    let packed = pack(&folder, &layout, &Limits::DEFAULT).unwrap();
    let blobs = LayoutDir(layout.clone());
    let bundle = Bundle::read(&packed.index, &blobs, &Limits::DEFAULT).unwrap();
    let archive = scratch.join("bundle.tar");
    write_archive(&layout, &mut std::fs::File::create(&archive).unwrap()).unwrap();
    assert_eq!(bundle.images().len(), 3);
    for (at, image) in bundle.images().iter().enumerate() {
        let signed = image.target.digest;
        assert!(blobs.read_blob(&signed, 1 << 20).unwrap().is_some());
        for name in &image.names {
            for source in [
                format!("oci:{}:{name}", layout.display()),
                format!("oci-archive:{}:{name}", archive.display()),
            ] {
                let raw = skopeo(&["inspect", "--raw", &source]);
                assert_eq!(digest(&raw), signed.to_string(), "{source}");
                let shown: Value = serde_json::from_slice(&skopeo(&["inspect", &source])).unwrap();
                assert_eq!(shown["Digest"], signed.to_string(), "{source}");
                let copy = scratch.join(format!("copy-{at}"));
                let target = format!("oci:{}:copy", copy.display());
                skopeo(&["copy", "--preserve-digests", "--insecure-policy", &source, &target]);
                let raw = skopeo(&["inspect", "--raw", &target]);
                assert_eq!(digest(&raw), signed.to_string(), "copy of {source}");
            }
        }
    }
    std::fs::remove_dir_all(&scratch).unwrap();
}
