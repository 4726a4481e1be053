//! A scratch hub on loopback with real TLS, an operator who speaks its API, and sites that are real MQTT clients.

mod site;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use airlift_bundles::document::release::Statement;
use airlift_bundles::document::root::{
    DirectorRole, Pattern, Policy, ReleaseRole, Revoked, Role, Roles, Root, Scope,
};
use airlift_bundles::envelope::{Document, Envelope};
use airlift_bundles::ids::{AppName, Counter, FleetId, Name, Sha256Digest, SiteId, Timestamp};
use airlift_bundles::keys::{PublicKey, SecretKey};
use airlift_bundles::limits::Limits;
use airlift_bundles::pack::{ReleaseFacts, pack};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::api::types::{
    Assign, Assigned, Problem, ReleaseChoice, SiteSelection, TokenCreate, TokenCreated, route,
};
use crate::config::{Config, DataDir};
use crate::init::{InitOptions, init, install_roots};
use crate::serve::{Running, start};

pub(crate) use site::ScratchSite;

/// A key of the fleet: 1 holds root, 2 releases.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub(crate) fn signed<D: Document>(document: &D, by: &SecretKey) -> Vec<u8> {
    Envelope::signed(document, by).to_json()
}

/// Root 1 of the scratch fleet, with `director` in its role.
fn root_1(fleet: &FleetId, director: &PublicKey) -> Root {
    let keys = [key(1).public(), key(2).public(), director.clone()];
    let role = |key: &PublicKey| vec![key.key_id()];
    Root {
        fleet_id: fleet.clone(),
        version: 1,
        prev_sha256: None,
        roles: Roles {
            root: Role { keyids: role(&keys[0]), threshold: 1 },
            director: DirectorRole { keyids: role(director), threshold: 1, epoch: 0 },
            releases: vec![ReleaseRole {
                name: Name::new("apps").unwrap(),
                keyids: role(&keys[1]),
                threshold: 1,
                apps: vec![Pattern("*".into())],
                scope: Scope::all(),
            }],
        },
        keys: keys.into_iter().map(|key| (key.key_id(), key)).collect(),
        apps: BTreeMap::new(),
        revoked: Revoked::default(),
        policy: Policy::default(),
        issued_at: Timestamp::from_unix_s(1_800_000_000),
        crit: vec![],
    }
}

/// A hub that runs, and everything that an operator has.
pub(crate) struct ScratchHub {
    folder: TempDir,
    running: Option<Running>,
    token: String,
    pub(crate) root: Vec<u8>,
}

impl ScratchHub {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(&folder.path().join("hub"));
        let fleet = FleetId::new("fleet").unwrap();
        let mut config = Config::new(vec!["localhost".into()]);
        for listen in [&mut config.https, &mut config.mqtt] {
            (listen.bind, listen.port) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        }
        let options = InitOptions { data: data.clone(), fleet: fleet.clone(), config };
        let made = init(&options).unwrap();
        let root = signed(&root_1(&fleet, &made.director_key), &key(1));
        install_roots(&data, std::slice::from_ref(&root)).unwrap();
        let token = std::fs::read_to_string(data.admin_token()).unwrap().trim().to_owned();
        let mut hub = Self { folder, running: None, token, root };
        hub.serve().await;
        hub
    }

    /// Starts the hub on what its directory holds.
    pub(crate) async fn serve(&mut self) {
        let config = Config::load(&self.data()).unwrap();
        self.running = Some(start(self.data(), config).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    pub(crate) fn data(&self) -> DataDir {
        DataDir::new(&self.folder.path().join("hub"))
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// What a client trusts: the hub's CA, from the file that `init` wrote.
    pub(crate) fn trusted(&self) -> RootCertStore {
        let pem = std::fs::read_to_string(self.data().hub_ca()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(site::read_pem(&pem)).unwrap();
        roots
    }

    /// One request on a connection of its own.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.trusted())
            .with_no_client_auth();
        let port = self.running().hub().ports().https;
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let carried = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(body)));
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        carried.abort();
        (head.status, head.headers, body)
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> (StatusCode, HeaderMap, Bytes) {
        self.request(method, path, Some(&self.token), body).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, _, body) = self.call(Method::GET, path, vec![]).await;
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) async fn try_post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        let (status, _, body) = self.call(Method::POST, path, serde_json::to_vec(body).unwrap()).await;
        if status.is_success() {
            Ok(serde_json::from_slice(&body).unwrap())
        } else {
            Err(serde_json::from_slice(&body).unwrap())
        }
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> T {
        self.try_post(path, body).await.unwrap()
    }

    /// Packs an app of two objects and a large one, as the folder of the operator.
    pub(crate) fn pack(&self, app: &str, seq: u64) -> PackedApp {
        let folder = self.folder.path().join(format!("{app}-{seq}"));
        std::fs::create_dir_all(folder.join("manifests")).unwrap();
        let airlift =
            format!("apiVersion: airlift.dev/v1alpha1\nkind: App\nname: {app}\nversion: \"{seq}.0\"\n");
        std::fs::write(folder.join("airlift.yaml"), airlift).unwrap();
        // Text that does not compress, so that the objects layer has several pieces.
        let noise: String = (0..6_000_u64)
            .map(|line| {
                format!("    {}\n", Sha256Digest::of(&(line + seq * 1_000_000).to_be_bytes()).to_hex())
            })
            .collect();
        let manifest = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {app}\n---\napiVersion: v1\nkind: ConfigMap\n\
             metadata:\n  name: noise\n  namespace: {app}\ndata:\n  noise: |\n{noise}"
        );
        std::fs::write(folder.join("manifests/app.yaml"), manifest).unwrap();
        let layout = folder.join("layout");
        let packed = pack(&folder, &layout, &Limits::DEFAULT).unwrap();
        let facts = ReleaseFacts {
            fleet_id: FleetId::new("fleet").unwrap(),
            counter: Counter { epoch: 0, seq },
            floor: 0,
            prev: None,
            issued_at: Timestamp::from_unix_s(1_800_000_000),
        };
        let statement = packed.draft(&facts);
        PackedApp { layout, release: signed(&statement, &key(2)), statement }
    }

    /// Uploads what is missing, and publishes.
    pub(crate) async fn publish(&self, app: &PackedApp) {
        for entry in std::fs::read_dir(app.layout.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            let hex = entry.file_name().to_string_lossy().into_owned();
            let bytes = std::fs::read(entry.path()).unwrap();
            let path = format!("{}?size={}", route::fill(route::BLOB, &[&hex]), bytes.len());
            assert_eq!(self.call(Method::PUT, &path, bytes).await.0, StatusCode::NO_CONTENT);
        }
        let (status, _, body) = self.call(Method::POST, route::RELEASES, app.release.clone()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    }

    pub(crate) async fn token(&self, site: &str) -> String {
        let wanted = TokenCreate { site: Some(SiteId::new(site).unwrap()), ..TokenCreate::default() };
        self.post::<TokenCreated>(route::TOKENS, &wanted).await.token
    }

    pub(crate) async fn assign(&self, app: &str, site: &str) -> Assigned {
        let order = Assign {
            app: AppName::new(app).unwrap(),
            release: ReleaseChoice::Newest,
            sites: SiteSelection { names: vec![SiteId::new(site).unwrap()], selector: None },
            parameters: BTreeMap::new(),
            overlays: vec![],
            retry: false,
            dry_run: false,
        };
        self.post(route::ASSIGNMENTS, &order).await
    }
}

/// A bundle and its signed release.
pub(crate) struct PackedApp {
    pub(crate) layout: PathBuf,
    pub(crate) release: Vec<u8>,
    pub(crate) statement: Statement,
}

impl PackedApp {
    pub(crate) fn blob(&self, digest: &Sha256Digest) -> Vec<u8> {
        std::fs::read(self.layout.join("blobs/sha256").join(digest.to_hex())).unwrap()
    }

    /// The largest blob: the objects layer.
    pub(crate) fn largest(&self) -> Sha256Digest {
        let entries = std::fs::read_dir(self.layout.join("blobs/sha256")).unwrap().map(Result::unwrap);
        let largest = entries.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
        Sha256Digest::from_hex(&largest.file_name().to_string_lossy()).unwrap()
    }
}
