//! Bundles from images that are in the containerd of the machine that builds.

use std::process::Command;

use airlift_tests::app::Greeter;
use airlift_tests::components::product;
use airlift_tests::image::{TestImage, digest};
use airlift_tests::site::Site;

#[test]
fn a_bundle_from_containerd_has_the_digest_that_skopeo_gives() {
    let site = Site::borrow();
    let scratch = site.bed().dir().join("sources");
    std::fs::create_dir_all(&scratch).unwrap();
    let image = TestImage::make(&scratch.join("image"), "airlift.test/greeter:7", 3 << 20);
    site.import(&image);
    let build = |from: String, out: &str, namespace: &str| {
        let greeter = Greeter { from, ..Greeter::new("7.0.0", &image) };
        let folder = greeter.write(&scratch.join(format!("folder-{out}")));
        Command::new(product("airlift"))
            .args(["bundle", "build", "--fleet", "lab", "--seq", "7", "--containerd-namespace", namespace])
            .arg("--containerd")
            .arg(site.containerd_socket())
            .arg(folder)
            .arg("--out")
            .arg(scratch.join(out))
            .output()
            .unwrap()
    };
    let raw = Command::new("skopeo")
        .args(["inspect", "--raw", &format!("oci:{}", image.layout.display())])
        .output()
        .expect("skopeo is installed");
    let signed = digest(&raw.stdout);
    assert_eq!(signed, image.digest);
    for (from, out) in [
        ("containerd:airlift.test/greeter:7".to_owned(), "by-tag"),
        (format!("containerd:airlift.test/greeter:7@{signed}"), "pinned"),
    ] {
        let output = build(from, out, "k8s.io");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let index = std::fs::read_to_string(scratch.join(out).join("index.json")).unwrap();
        assert!(index.contains(&signed), "{index}");
    }
    let refused = |from: &str, namespace: &str, exit: i32, words: &[&str]| {
        let output = build(from.to_owned(), "refused", namespace);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{told}");
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    };
    refused("containerd:airlift.test/greeter:7", "default", 5, &["AL1006", "namespace default"]);
    refused("containerd:airlift.test/other:7", "k8s.io", 5, &["AL1006", "airlift.test/other:7"]);
    let other = format!("containerd:airlift.test/greeter:7@{}", digest(b"other"));
    refused(&other, "k8s.io", 2, &["AL1007", &signed]);
    std::fs::remove_dir_all(&scratch).unwrap();
}
