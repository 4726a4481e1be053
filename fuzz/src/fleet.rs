//! A small fleet with fixed keys, and valid samples of everything that travels: what mutants are made of.

use std::collections::BTreeMap;

use airlift_bundles::document::assignment::{Assignment, DesiredApp};
use airlift_bundles::document::release::{Release, RollbackRule, Sizes, Statement};
use airlift_bundles::document::root::{
    DirectorRole, Pattern, Policy, ReleaseRole, Revoked, Role, Roles, Root, Scope, TrustedRoot,
};
use airlift_bundles::envelope::{Document, Envelope};
use airlift_bundles::ids::{
    AppName, FleetId, KeyId, Name, RandomId, Sha256Digest, SiteId, Timestamp, Version,
};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::layout::objects::write_objects;
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{MediaArchiveWriter, MediaName, MediaSink as _};
use serde_json::{Value, json};

/// The site that receives.
pub const SITE: &str = "ship";
const FLEET: &str = "fleet";
const ISSUED_S: i64 = 1_800_000_000;
/// Keys 1 to 3 hold root (2 of 3), 11 to 13 release (2 of 3), 21 directs.
const ROOT_KEYS: [u8; 3] = [1, 2, 3];
const RELEASE_KEYS: [u8; 3] = [11, 12, 13];
const DIRECTOR: u8 = 21;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn ids(seeds: &[u8]) -> Vec<KeyId> {
    let mut ids: Vec<KeyId> = seeds.iter().map(|seed| key(*seed).public().key_id()).collect();
    ids.sort();
    ids
}

fn named<T, E: std::fmt::Debug>(made: Result<T, E>) -> T {
    made.expect("names and numbers of the samples are good")
}

/// Signs a document as the product does.
pub fn sign<D: Document>(document: &D, seeds: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::draft(document);
    seeds.iter().for_each(|seed| envelope.sign(&key(*seed)));
    envelope.to_json()
}

fn digest_of<D: Document>(document: &D) -> Sha256Digest {
    Envelope::draft(document).digest()
}

/// The first root.
#[must_use]
pub fn root_1() -> Root {
    root_of(ROOT_KEYS, RELEASE_KEYS, DIRECTOR)
}

/// The first root of the same fleet, but with keys that sign nothing here.
#[must_use]
pub fn root_of_strangers() -> Root {
    root_of([101, 102, 103], [111, 112, 113], 121)
}

fn root_of(root_keys: [u8; 3], release_keys: [u8; 3], director: u8) -> Root {
    let all = [root_keys.as_slice(), &release_keys, &[director]].concat();
    Root {
        fleet_id: named(FleetId::new(FLEET)),
        version: 1,
        prev_sha256: None,
        keys: all.iter().map(|seed| (key(*seed).public().key_id(), key(*seed).public())).collect(),
        roles: Roles {
            root: Role { keyids: ids(&root_keys), threshold: 2 },
            director: DirectorRole { keyids: ids(&[director]), threshold: 1, epoch: 0 },
            releases: vec![ReleaseRole {
                name: named(Name::new("apps")),
                keyids: ids(&release_keys),
                threshold: 2,
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

/// A first root that signs itself, pinned by its digest.
#[must_use]
pub fn pinned(root: &Root, seeds: &[u8]) -> TrustedRoot {
    named(TrustedRoot::pin(&sign(root, seeds), &digest_of(root), &Limits::DEFAULT))
}

/// Digest of the first root, which the site was installed with.
#[must_use]
pub fn root_sha256() -> Sha256Digest {
    digest_of(&root_1())
}

/// One tar of media that a site accepts whole, and what is in it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its files in the order in which they stand there: name and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// Digests of the payloads of its documents.
    pub payloads: Vec<Sha256Digest>,
    /// Digests of its blobs.
    pub blobs: Vec<Sha256Digest>,
}

impl Sample {
    /// The first two versions of an app: the second has another content and a greater number.
    #[must_use]
    pub fn of(version: u64) -> Self {
        let root = root_1();
        let next = Root { version: 2, prev_sha256: Some(digest_of(&root)), ..root.clone() };
        let (index, blobs) = bundle(version);
        let statement = Statement::new(&index, release(version));
        let order = assignment(version, &statement);
        let mut documents = vec![
            (MediaName::Root(1), sign(&root, &[1, 2])),
            (MediaName::Root(2), sign(&next, &[1, 3])),
            (MediaName::Release(digest_of(&statement)), sign(&statement, &[11, 13])),
        ];
        documents.push((MediaName::Assignment(named(SiteId::new(SITE))), sign(&order, &[DIRECTOR])));
        let payloads = vec![digest_of(&root), digest_of(&next), digest_of(&statement), digest_of(&order)];
        let digests = blobs.keys().copied().collect();
        let carried = blobs.into_iter().map(|(digest, bytes)| (MediaName::Blob(digest), bytes));
        let files = documents.into_iter().chain(carried).map(|(name, bytes)| (name.to_string(), bytes));
        Self { files: files.collect(), payloads, blobs: digests }
    }

    /// The sample as the product writes it.
    #[must_use]
    pub fn to_tar(&self) -> Vec<u8> {
        let mut writer = MediaArchiveWriter::new(Vec::new());
        for (name, bytes) in &self.files {
            match named(name.parse::<MediaName>()) {
                MediaName::Blob(digest) => {
                    let put = writer.put_blob(&digest, bytes.len() as u64, &mut bytes.as_slice());
                    named(put.map(drop));
                }
                name => named(writer.put_document(&name, bytes)),
            }
        }
        named(writer.finish())
    }
}

fn release(seq: u64) -> Release {
    Release {
        fleet_id: named(FleetId::new(FLEET)),
        app: named(AppName::new("shop")),
        epoch: 0,
        seq,
        floor: 0,
        version: named(Version::new(&format!("{seq}.0.0"))),
        prev: None,
        platforms: vec![],
        requires: vec![],
        sizes: Sizes::default(),
        rollback: RollbackRule::Allowed,
        parameters: BTreeMap::new(),
        overlays: vec![],
        secret_slots: vec![],
        prune: Default::default(),
        retire: Default::default(),
        issued_at: Timestamp::from_unix_s(ISSUED_S),
        crit: vec![],
    }
}

fn assignment(assignment_seq: u64, statement: &Statement) -> Assignment {
    let desired = DesiredApp {
        app: statement.predicate.app.clone(),
        release: digest_of(statement),
        epoch: 0,
        seq: statement.predicate.seq,
        parameters: BTreeMap::new(),
        overlays: vec![],
        secrets: BTreeMap::new(),
        retry: 0,
    };
    Assignment {
        fleet_id: named(FleetId::new(FLEET)),
        site: named(SiteId::new(SITE)),
        incarnation: 1,
        epoch: 0,
        assignment_seq,
        hub_incarnation: RandomId::from_bytes([9; 16]),
        desired: vec![desired],
        retire: vec![],
        receipts_acked: None,
        offers: vec![],
        issued_at: Timestamp::from_unix_s(ISSUED_S),
        stale_after_s: None,
        crit: vec![],
    }
}

/// A bundle of a few objects and one image whose layer has a piece list: digest of its index, and its blobs.
fn bundle(version: u64) -> (Sha256Digest, BTreeMap<Sha256Digest, Vec<u8>>) {
    const OCI: &str = "application/vnd.oci.image";
    let mut blobs = BTreeMap::new();
    let mut put = |media_type: &str, bytes: Vec<u8>| {
        let (digest, size) = (Sha256Digest::of(&bytes), bytes.len());
        blobs.insert(digest, bytes);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    };
    let map = |number: u64| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{number}"),
            "namespace": "shop"}, "data": {"version": version.to_string()}})
    };
    let (objects, raw) = named(write_objects(&(0..20).map(map).collect::<Vec<Value>>()));
    let mut objects = put("application/vnd.airlift.objects.v1+zstd", objects);
    objects["annotations"] = json!({"dev.airlift.raw-size": raw.len().to_string(),
        "dev.airlift.diff-id": Sha256Digest::of(&raw)});
    let descriptor = json!({"app": "shop", "version": format!("{version}.0.0"), "timeout_s": 60, "soak_s": 3,
        "objects": 20, "platforms": [{"os": "linux", "architecture": "amd64"}]});
    let config = put("application/vnd.airlift.app.config.v1+json", descriptor.to_string().into_bytes());
    // 70,000 bytes that do not compress: two pieces.
    let noise: Vec<u8> = (0..2188_u64)
        .flat_map(|line| *Sha256Digest::of(&(version << 32 | line).to_be_bytes()).as_bytes())
        .collect();
    let mut list = airlift_bundles::pieces::PieceHasher::default();
    list.update(&noise);
    let list = list.finish().to_blobs().concat();
    let (layer_sha256, layer_size) = (Sha256Digest::of(&noise), noise.len());
    let layer = put(&format!("{OCI}.layer.v1.tar"), noise);
    let mut list = put("application/vnd.airlift.pieces.v1", list);
    list["annotations"] =
        json!({"dev.airlift.blob": layer_sha256, "dev.airlift.size": layer_size.to_string()});
    let image_config = json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [layer_sha256]}});
    let image_config = put(&format!("{OCI}.config.v1+json"), image_config.to_string().into_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"),
        "config": image_config, "layers": [layer]});
    let mut image = put(&format!("{OCI}.manifest.v1+json"), manifest.to_string().into_bytes());
    let name = "registry.example/web:1";
    image["annotations"] =
        json!({"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name});
    let artifact = json!({"schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"),
        "artifactType": "application/vnd.airlift.app.v1", "config": config, "layers": [objects, list]});
    let mut artifact = put(&format!("{OCI}.manifest.v1+json"), artifact.to_string().into_bytes());
    artifact["artifactType"] = json!("application/vnd.airlift.app.v1");
    artifact["annotations"] = json!({"org.opencontainers.image.ref.name": "airlift.app"});
    let index = json!({"schemaVersion": 2, "mediaType": format!("{OCI}.index.v1+json"),
        "manifests": [artifact, image]});
    let index = index.to_string().into_bytes();
    let digest = Sha256Digest::of(&index);
    blobs.insert(digest, index);
    (digest, blobs)
}
