//! A fleet in the test's hands: it signs what a hub would, and writes it onto sticks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use airlift_bundles::document::assignment::{Assignment, DesiredApp};
use airlift_bundles::document::enrolment::{ContactClass, EnrolmentRequest, Grant};
use airlift_bundles::document::receipt::Receipt;
use airlift_bundles::document::root::{
    DirectorRole, Pattern, Policy, ReleaseRole, Revoked, Role, Roles, Root, Scope,
};
use airlift_bundles::document::status::StatusBatch;
use airlift_bundles::envelope::{Document, Envelope, open_self_signed};
use airlift_bundles::ids::{Counter, FleetId, Name, RandomId, Sha256Digest, SiteId, Timestamp};
use airlift_bundles::keys::{PublicKey, SecretKey};
use airlift_bundles::layout::Blobs as _;
use airlift_bundles::layout::{Bundle, LayoutDir};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{
    MediaDirectory, MediaDirectoryWriter, MediaKind, MediaName, MediaSink as _, MediaSource as _,
};
use airlift_bundles::pack::{ReleaseFacts, pack};

const ISSUED_S: i64 = 1_800_000_000;
const LIMITS: &Limits = &Limits::DEFAULT;
pub(crate) const SITE: &str = "berta";

/// Key 1 holds root, 2 releases, 3 directs.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn sign<D: Document>(document: &D, seed: u8) -> Vec<u8> {
    let mut envelope = Envelope::draft(document);
    envelope.sign(&key(seed));
    envelope.to_json()
}

fn fleet_id() -> FleetId {
    FleetId::new("fleet").unwrap()
}

fn root() -> Root {
    let ids = |seed: u8| vec![key(seed).public().key_id()];
    Root {
        fleet_id: fleet_id(),
        version: 1,
        prev_sha256: None,
        keys: [1, 2, 3].map(|seed| key(seed).public()).into_iter().map(|key| (key.key_id(), key)).collect(),
        roles: Roles {
            root: Role { keyids: ids(1), threshold: 1 },
            director: DirectorRole { keyids: ids(3), threshold: 1, epoch: 0 },
            releases: vec![ReleaseRole {
                name: Name::new("apps").unwrap(),
                keyids: ids(2),
                threshold: 1,
                apps: vec![Pattern("*".into())],
                scope: Scope::all(),
            }],
        },
        apps: BTreeMap::new(),
        revoked: Revoked::default(),
        policy: Policy::default(),
        issued_at: Timestamp::from_unix_s(ISSUED_S),
        crit: vec![],
    }
}

/// Digest of the fleet's first root.
pub(crate) fn root_sha256() -> Sha256Digest {
    Envelope::draft(&root()).digest()
}

/// A packed app, signed.
pub(crate) struct Released {
    layout: PathBuf,
    index: Sha256Digest,
    envelope: Vec<u8>,
    sha256: Sha256Digest,
    pub(crate) desired: DesiredApp,
}

/// Packs an app of one ConfigMap that does not compress, and signs its release.
pub(crate) fn release(dir: &Path, name: &str, requires: &str) -> Released {
    let folder = dir.join(format!("{name}-source"));
    fs::create_dir_all(folder.join("manifests")).unwrap();
    let descriptor = format!(
        "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: {name}\nversion: 1.0.0\nsoak: 1s\ntimeout: 20s\n{requires}"
    );
    fs::write(folder.join("airlift.yaml"), descriptor).unwrap();
    let mut noise = vec![0; 200 << 10];
    getrandom::fill(&mut noise).unwrap();
    let data = airlift_bundles::ids::encode_hex(&noise);
    let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"}, "data": {"noise": data}});
    fs::write(folder.join("manifests/noise.json"), object.to_string()).unwrap();
    let layout = dir.join(format!("{name}-bundle"));
    let packed = pack(&folder, &layout, LIMITS).unwrap();
    let facts = ReleaseFacts {
        fleet_id: fleet_id(),
        counter: Counter { epoch: 0, seq: 1 },
        floor: 0,
        prev: None,
        issued_at: Timestamp::from_unix_s(ISSUED_S),
    };
    let statement = packed.draft(&facts);
    let sha256 = Envelope::draft(&statement).digest();
    let desired = DesiredApp {
        app: statement.predicate.app.clone(),
        release: sha256,
        epoch: 0,
        seq: 1,
        parameters: BTreeMap::new(),
        overlays: vec![],
        secrets: BTreeMap::new(),
        retry: 0,
    };
    Released { layout, index: packed.index, envelope: sign(&statement, 2), sha256, desired }
}

/// Grants every request that a stick holds, as the operator would after comparing the fingerprint.
pub(crate) fn grant_requests(stick: &Path, fingerprint: &str) -> PublicKey {
    let media = MediaDirectory::open(stick, LIMITS).unwrap();
    let names = media.list(MediaKind::Requests).unwrap();
    let [MediaName::Request(found)] = names.as_slice() else { panic!("{names:?}") };
    assert_eq!(found.as_str(), fingerprint);
    let bytes = media.read_document(&names[0]).unwrap().unwrap();
    let opened =
        open_self_signed(&bytes, |request: &EnrolmentRequest| request.site_key.clone(), LIMITS).unwrap();
    let request = opened.document();
    let grant = Grant {
        fleet_id: fleet_id(),
        site: request.site.clone().unwrap(),
        incarnation: 1,
        site_keyid: request.site_key.key_id(),
        nonce: request.nonce.clone(),
        minimum: Counter { epoch: 0, seq: 0 },
        hubs: vec![],
        hub_ca: String::new(),
        certificate: String::new(),
        topic_prefix: Name::new("airlift").unwrap(),
        contact: ContactClass::Media,
        issued_at: Timestamp::from_unix_s(ISSUED_S),
        crit: vec![],
    };
    let mut writer = MediaDirectoryWriter::open(stick).unwrap();
    writer.put_document(&MediaName::Root(1), &sign(&root(), 1)).unwrap();
    writer.put_document(&MediaName::Grant(found.clone()), &sign(&grant, 3)).unwrap();
    request.site_key.clone()
}

/// Writes an assignment of these apps, signed by `signer`, with their releases and blobs.
pub(crate) fn write_assignment(stick: &Path, seq: u64, signer: u8, apps: &[&Released]) {
    let mut desired: Vec<DesiredApp> = apps.iter().map(|app| app.desired.clone()).collect();
    desired.sort_by(|one, other| one.app.cmp(&other.app));
    let site = SiteId::new(SITE).unwrap();
    let assignment = Assignment {
        fleet_id: fleet_id(),
        site: site.clone(),
        incarnation: 1,
        epoch: 0,
        assignment_seq: seq,
        hub_incarnation: RandomId::from_bytes([9; 16]),
        desired,
        retire: vec![],
        receipts_acked: None,
        offers: vec![],
        issued_at: Timestamp::from_unix_s(ISSUED_S),
        stale_after_s: None,
        crit: vec![],
    };
    let mut writer = MediaDirectoryWriter::open(stick).unwrap();
    for app in apps {
        writer.put_document(&MediaName::Release(app.sha256), &app.envelope).unwrap();
    }
    writer.put_document(&MediaName::Assignment(site), &sign(&assignment, signer)).unwrap();
    for app in apps {
        for digest in blobs(app) {
            let bytes = blob(app, &digest);
            writer.put_blob(&digest, bytes.len() as u64, &mut bytes.as_slice()).unwrap();
        }
    }
}

/// Every blob of an app's bundle, the index too.
pub(crate) fn blobs(app: &Released) -> Vec<Sha256Digest> {
    let layout = LayoutBlobs(app);
    let bundle = Bundle::read(&app.index, &layout, LIMITS).unwrap();
    let lists = bundle.items().values().flat_map(|item| item.lists.iter().map(|list| list.digest));
    let mut all: Vec<Sha256Digest> = bundle.items().keys().copied().chain(lists).chain([app.index]).collect();
    all.sort();
    all.dedup();
    all
}

struct LayoutBlobs<'a>(&'a Released);

impl airlift_bundles::layout::Blobs for LayoutBlobs<'_> {
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
        if *digest == self.0.index {
            return fs::read(self.0.layout.join("index.json")).map(Some);
        }
        LayoutDir(self.0.layout.clone()).read_blob(digest, limit)
    }
}

fn blob(app: &Released, digest: &Sha256Digest) -> Vec<u8> {
    LayoutBlobs(app).read_blob(digest, u64::MAX >> 1).unwrap().unwrap()
}

/// The receipts on a stick, each verified against the site's key, in the order of their chain.
pub(crate) fn receipts(stick: &Path, site_key: &PublicKey) -> Vec<Receipt> {
    let media = MediaDirectory::open(stick, LIMITS).unwrap();
    let mut found = Vec::new();
    for name in media.list(MediaKind::Receipts).unwrap() {
        let bytes = media.read_document(&name).unwrap().unwrap();
        let batch = open_self_signed(&bytes, |_: &StatusBatch| site_key.clone(), LIMITS).unwrap();
        for row in &batch.document().rows {
            let Some(receipt) = &row.receipt else { continue };
            let opened =
                open_self_signed(receipt.get().as_bytes(), |_: &Receipt| site_key.clone(), LIMITS).unwrap();
            found.push(opened.document().clone());
        }
    }
    found.sort_by_key(|receipt| receipt.receipt_seq);
    found
}
