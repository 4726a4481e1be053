//! An operator's way with the real program and a real hub: from a root to receipts that came on a stick.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use airlift_bundles::document::enrolment::{EnrolmentRequest, Grant};
use airlift_bundles::document::receipt::{ClockQuality, Counts, Outcome, Receipt, RootMark};
use airlift_bundles::document::root::TrustedRoot;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{FleetId, RandomId, SiteId, Timestamp};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use desk::Desk;

mod desk;

/// A hub that runs beside the desk; ends with the test.
struct RunningHub(Child);

impl Drop for RunningHub {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_hub(desk: &Desk) -> RunningHub {
    let mut command = Command::new(env!("CARGO_BIN_EXE_airlift"));
    command.current_dir(desk.path()).args(["hub", "serve", "--data", "hub"]);
    let log = fs::File::create(desk.path().join("hub.log")).expect("the desk is writable");
    let hub = RunningHub(command.stdin(Stdio::null()).stderr(log).spawn().expect("the program was built"));
    for _ in 0..200 {
        if desk.airlift("hub check --data hub").status.success() {
            return hub;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no hub: {}", fs::read_to_string(desk.path().join("hub.log")).unwrap_or_default());
}

/// Makes hub, keys and root; the hub runs and holds the root, and the operator is logged in.
fn desk_with_hub() -> (Desk, RunningHub) {
    let desk = Desk::new();
    desk.good("hub init --data hub --fleet lab --host 127.0.0.1 --https-port 0 --mqtt-port 0");
    let settings = desk.path().join("hub/hub.toml");
    let text = fs::read_to_string(&settings).expect("hub init writes its settings");
    fs::write(&settings, text.replace("\"::\"", "\"127.0.0.1\"")).expect("the desk is writable");
    desk.two_of_three("hub/director.pub.json");
    desk.good("root sign root.json --key a.key");
    desk.good("root sign root.json --key c.key");
    desk.good("root finalize root.json --out roots/1.json");
    let hub = start_hub(&desk);
    desk.good("login --data hub");
    desk.good("root publish roots");
    (desk, hub)
}

/// What a site makes on its own machine.
struct Site {
    key: SecretKey,
    request: EnrolmentRequest,
}

impl Site {
    fn new(desk: &Desk) -> Self {
        let root = fs::read(desk.path().join("roots/1.json")).expect("the root is finalized");
        let root = TrustedRoot::stored(&root, &Limits::DEFAULT).expect("the root is good");
        let key = SecretKey::generate().expect("randomness");
        let tls = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let request = EnrolmentRequest {
            fleet_id: FleetId::new("lab").expect("a good name"),
            root_sha256: root.digest(),
            site_key: key.public(),
            chain_id: RandomId::from_bytes([7; 16]),
            age_recipient: None,
            tls_key: BASE64.encode(rcgen::PublicKeyData::subject_public_key_info(&tls)),
            nonce: RandomId::from_bytes([9; 16]),
            site: Some(SiteId::new("mast-17").expect("a good name")),
            machine: Vec::new(),
            token: None,
            issued_at: Timestamp::from_unix_s(1_800_000_000),
            crit: Vec::new(),
        };
        Self { key, request }
    }

    fn request_envelope(&self) -> Vec<u8> {
        let mut envelope = Envelope::draft(&self.request);
        envelope.sign(&self.key);
        envelope.to_json()
    }

    /// The first receipt of its chain.
    fn receipt(&self, grant: &Grant) -> Vec<u8> {
        let mut envelope = Envelope::draft(&Receipt {
            fleet_id: self.request.fleet_id.clone(),
            site: grant.site.clone(),
            incarnation: grant.incarnation,
            chain_id: self.request.chain_id.clone(),
            receipt_seq: 1,
            prev_sha256: None,
            root: RootMark { version: 1, sha256: self.request.root_sha256 },
            assignment: None,
            app: None,
            release: None,
            generation: None,
            outcome: Outcome::Enrolled,
            reason: None,
            counts: Counts::default(),
            evidence: Vec::new(),
            known_time: Timestamp::from_unix_s(1_800_000_000),
            clock_quality: ClockQuality::Floor,
            crit: Vec::new(),
        });
        envelope.sign(&self.key);
        envelope.to_json()
    }
}

#[test]
fn a_site_that_only_sticks_reach_is_enrolled_assigned_and_heard() {
    let (desk, _hub) = desk_with_hub();
    let site = Site::new(&desk);
    let fingerprint = site.request.fingerprint();
    fs::write(desk.path().join("request.json"), site.request_envelope()).unwrap();
    let wrong = fingerprint.chars().rev().collect::<String>();
    desk.bad(2, &format!("site approve --request request.json --fingerprint {wrong}"));
    desk.good(&format!(
        "site approve --request request.json --fingerprint {fingerprint} --label region=north"
    ));
    assert_eq!(desk.good("site list -l region=north -o name"), "mast-17\n");
    assert_eq!(desk.good("site list -l region=south -o name"), "");

    desk.good("bundle init shop");
    desk.good("bundle build shop --fleet lab --seq 1 -o shop-1.tar");
    desk.good("bundle sign shop-1.tar --key r1.key");
    assert!(desk.bad(7, "publish shop-1.tar").contains("error[AL0102]"));
    desk.good("bundle sign shop-1.tar --key r2.key");
    assert!(desk.good("publish shop-1.tar").contains("published shop@0.1.0 as number 1"));
    assert!(desk.good("publish shop-1.tar").contains("(0 B sent)"));
    desk.bad(5, "assign shop --release 2 --site mast-17");
    let planned = desk.good("assign shop --release shop@0.1.0 -l region=north --dry-run");
    assert!(planned.contains("WOULD CHANGE"), "{planned}");
    desk.good("assign shop --release shop@0.1.0 -l region=north");
    assert!(desk.bad(2, "retire shop --site mast-17").contains("--yes"));

    desk.good("media save stick --site mast-17");
    let said = desk.good("media verify stick");
    assert!(said.contains("assignments/mast-17.json") && !said.contains("refused"), "{said}");
    desk.good("media save all.tar --site mast-17");
    desk.good("media verify all.tar");
    let grant = fs::read(desk.path().join(format!("stick/airlift-media/grants/{fingerprint}.json"))).unwrap();
    let grant: Grant = Envelope::parse(&grant, &Limits::DEFAULT)
        .and_then(|envelope| envelope.read_unverified(&Limits::DEFAULT))
        .unwrap();

    let chain = &site.request.chain_id;
    let receipts = desk.path().join("stick/airlift-media/receipts/mast-17");
    fs::create_dir_all(&receipts).unwrap();
    let file = receipts.join(format!("{chain}-1-1.json"));
    fs::write(&file, site.receipt(&grant)).unwrap();
    desk.good("media load stick");
    desk.good("media load stick");
    let listed: serde_json::Value = serde_json::from_str(&desk.good("receipt list -o json")).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed["items"][0]["outcome"], "enrolled");
    assert!(desk.good("receipt verify --site mast-17").contains("good"));

    let name = file.strip_prefix(desk.path()).unwrap().display().to_string();
    let public = serde_json::to_string(&site.key.public()).unwrap();
    fs::write(desk.path().join("mast-17.pub"), public).unwrap();
    desk.good(&format!("receipt verify {name} --site-key mast-17.pub"));
    let told = desk.bad(7, &format!("receipt verify {name} --site-key a.pub"));
    assert!(told.contains("error[AL0102]"), "{told}");
}

#[test]
fn a_hub_with_another_key_is_not_spoken_to_and_one_that_is_gone_is_unreachable() {
    let (desk, hub) = desk_with_hub();
    let ports = fs::read_to_string(desk.path().join("hub/ports")).unwrap();
    let port = ports.lines().find_map(|line| line.strip_prefix("https = ")).unwrap();
    let login = format!("login https://127.0.0.1:{port} --token-file hub/keys/admin-token --hub-key");
    let told = desk.bad(7, &format!("{login} sha256:{}", "0".repeat(64)));
    assert!(told.contains("not the pinned hub"), "{told}");
    let key = desk.good("hub check --data hub -o json");
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    desk.good(&format!("{login} {}", key["hub_key_sha256"].as_str().unwrap()));
    fs::write(desk.path().join("guess"), "airlift-api.0000").unwrap();
    let told = desk.bad(4, "login --data hub --token-file guess");
    assert!(told.contains("error[AL0802]"), "{told}");
    desk.good("doctor");
    drop(hub);
    let told = desk.bad(10, "site list");
    assert!(told.contains("error[AL0801]"), "{told}");
    assert!(desk.airlift("doctor").status.code() == Some(1));
}

/// Overwrites the last half of a file with zeros.
fn damage(path: &std::path::Path) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0);
    fs::write(path, bytes).expect("the desk is writable");
}

#[test]
fn a_hub_whose_database_is_damaged_says_so_and_goes_back_to_a_backup() {
    let (desk, hub) = desk_with_hub();
    desk.good("hub backup --data hub --to kept.db");
    assert!(desk.bad(6, "hub restore --data hub --from kept.db --yes").contains("another hub serves"));
    drop(hub);
    damage(&desk.path().join("hub/hub.db"));
    let serve = Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_airlift"), "hub", "serve", "--data", "hub"])
        .current_dir(desk.path())
        .output()
        .expect("coreutils are everywhere");
    let told = desk::text(&serve.stderr);
    assert!(told.contains("error[AL0906]") && told.contains("airlift hub restore"), "{told}");

    assert!(desk.bad(2, "hub restore --data hub --from kept.db").contains("--yes"));
    desk.bad(3, "hub restore --data hub --yes");
    desk.good("hub restore --data hub --from kept.db --yes");
    assert!(desk.path().join("hub/hub.db.damaged-1").is_file());
    let _hub = start_hub(&desk);
    desk.good("login --data hub");
    let check = || desk::text(&desk.airlift("hub check").stderr);
    assert!(check().contains("publishes nothing"), "{}", check());
    desk.good("hub reconcile --adopt --yes");
    assert!(!check().contains("publishes nothing"), "{}", check());
}
