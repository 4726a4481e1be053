//! Tools that know nothing of Airlift verify its signed documents.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use airlift_bundles::document::ack::Ack;
use airlift_bundles::envelope::{Document as _, Envelope};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;
use airlift_tests::chance::Chance;
use airlift_tests::hub::Hub;
use serde_json::{Value, json};

const VERIFY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/it/verify.py");
const VERIFY_MANY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/it/verify_many.py");

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

/// An envelope over random bytes by some of five keys, perhaps damaged, with the keys and threshold that judge it.
fn random_case(chance: &mut Chance) -> Value {
    let keys: Vec<SecretKey> = (1..=5).map(|seed| SecretKey::from_seed(&[seed; 32])).collect();
    let mut some = |least: u64| -> Vec<&SecretKey> {
        let chosen: Vec<_> = keys.iter().filter(|_| chance.below(2) == 0).collect();
        if chosen.len() as u64 >= least { chosen } else { keys.iter().take(2).collect() }
    };
    let (role, signers) = (some(1), some(0));
    let kinds =
        [Ack::PAYLOAD_TYPE, Ack::PAYLOAD_TYPE, Ack::PAYLOAD_TYPE, "application/vnd.airlift.n\u{f6}te"];
    let kind = kinds[usize::try_from(chance.below(4)).unwrap()];
    let payload: Vec<u8> = (0..chance.below(300)).map(|_| chance.below(256).to_le_bytes()[0]).collect();
    let mut envelope = Envelope::around(kind, payload);
    signers.iter().for_each(|key| envelope.sign(key));
    let mut sealed: Value = serde_json::from_slice(&envelope.to_json()).unwrap();
    let two = signers.len() > 1;
    match chance.below(8) {
        0 => sealed["payload"] = "b3RoZXI=".into(),
        1 if two => {
            let first = sealed["signatures"][0]["sig"].clone();
            sealed["signatures"][1]["sig"] = first;
        }
        2 if two => {
            let first = sealed["signatures"][0]["keyid"].clone();
            sealed["signatures"][1]["keyid"] = first;
        }
        3 => sealed["payloadType"] = Ack::PAYLOAD_TYPE.into(),
        4 if two => {
            let first = sealed["signatures"][0].clone();
            sealed["signatures"].as_array_mut().unwrap().push(first);
        }
        _ => {}
    }
    let threshold = 1 + chance.below(role.len() as u64);
    let public: Vec<_> = role.iter().map(|key| key.public()).collect();
    let read = Envelope::parse(sealed.to_string().as_bytes(), &Limits::DEFAULT).unwrap();
    let ours = read.verify_threshold::<Ack>(&public, usize::try_from(threshold).unwrap()).is_ok();
    let by_id: serde_json::Map<String, Value> =
        public.iter().map(|key| (key.key_id().to_string(), json!(key))).collect();
    json!({"envelope": sealed, "keys": by_id, "threshold": threshold, "type": Ack::PAYLOAD_TYPE, "ours": ours})
}

#[test]
fn a_thousand_random_documents_have_one_verdict_with_openssl_and_securesystemslib() {
    let seed = crate::kills::seed();
    println!("AIRLIFT_TESTS_SEED={seed} repeats these documents");
    let mut chance = Chance(seed);
    let dir = tempfile::tempdir().unwrap();
    let (file, mut lines, mut accepted) = (dir.path().join("documents"), String::new(), 0);
    for _ in 0..1000 {
        let case = random_case(&mut chance);
        accepted += u32::from(case["ours"] == true);
        writeln!(lines, "{case}").unwrap();
    }
    fs::write(&file, lines).unwrap();
    let said = run("/usr/bin/python3", &[VERIFY_MANY, &file.display().to_string()]);
    assert_eq!(said.trim(), format!("{accepted} accepted {} refused", 1000 - accepted));
    assert!((100..900).contains(&accepted), "{said}");
}
