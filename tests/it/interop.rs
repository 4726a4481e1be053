//! Tools that know nothing of Airlift verify its signed documents.

use std::fs;
use std::path::Path;
use std::process::Command;

use airlift_tests::hub::Hub;
use serde_json::Value;

const VERIFY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/it/verify.py");

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {error}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn openssl_and_securesystemslib_verify_a_root_that_its_holders_signed() {
    let hub = Hub::start();
    let root = hub.root();
    let out = hub.dir().join("parts");
    fs::create_dir_all(&out).unwrap();
    // The script verifies with securesystemslib, and writes what OpenSSL needs beside it.
    let verified =
        run("/usr/bin/python3", &[VERIFY, &root.display().to_string(), &out.display().to_string()]);
    assert_eq!(verified.trim(), "2 signatures verified");
    for number in ["0", "1"] {
        let part = |name: &str| out.join(format!("{name}-{number}")).display().to_string();
        let message = out.join("message").display().to_string();
        let (key, signature) = (part("key.pem"), part("signature"));
        let said = run(
            "openssl",
            &[
                "pkeyutl", "-verify", "-pubin", "-inkey", &key, "-rawin", "-in", &message, "-sigfile",
                &signature,
            ],
        );
        assert!(said.contains("Signature Verified Successfully"), "{said}");
    }

    let mut envelope = json(&root);
    let payload = envelope["payload"].as_str().unwrap().replacen('A', "B", 1);
    envelope["payload"] = payload.into();
    let forged = hub.dir().join("forged.json");
    fs::write(&forged, envelope.to_string()).unwrap();
    let output = Command::new("/usr/bin/python3").arg(VERIFY).arg(&forged).arg(&out).output().unwrap();
    assert!(!output.status.success(), "a changed payload is not verified");
}
