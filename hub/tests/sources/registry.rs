//! A registry on loopback: the images of OCI layouts over the distribution protocol, with the faults of real ones.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// How a registry behaves.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    /// Speaks TLS with a certificate of an authority of its own, written here.
    pub(crate) authority: Option<PathBuf>,
    /// Gives a token only to this user with this password.
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// So many requests are answered with 503 first.
    pub(crate) busy: u32,
    /// The first answer with more bytes than these breaks off there.
    pub(crate) breaks_at: Option<usize>,
    /// Ranges are not known: all comes again.
    pub(crate) no_ranges: bool,
    /// Blobs are in a storage, to which readers are sent.
    pub(crate) has_storage: bool,
    /// Another blob comes for every layer.
    pub(crate) swaps_layers: bool,
}

/// A running registry; its threads end with the test's process.
pub(crate) struct Registry {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

/// A request, without its body: registries are only read here.
struct Request {
    path: String,
    headers: BTreeMap<String, String>,
}

/// What is answered.
struct Answer {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl Registry {
    /// Serves the layout's image as `team/app:1`.
    pub(crate) fn start(layout: &Path, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shelf = Arc::new(Shelf {
            layout: layout.to_owned(),
            address,
            tls: manners.authority.as_deref().map(authority),
            manners: Mutex::new(manners),
            seen: Arc::clone(&seen),
        });
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shelf = Arc::clone(&shelf);
                // A client that goes away early is no matter of the registry's.
                thread::spawn(move || _ = shelf.serve(connection));
            }
        });
        Self { address, seen }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The paths that were asked for.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("nobody panics").clone()
    }
}

struct Shelf {
    layout: PathBuf,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    manners: Mutex<Manners>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Shelf {
    fn serve(&self, connection: TcpStream) -> io::Result<()> {
        match &self.tls {
            None => self.speak(connection),
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                self.speak(StreamOwned::new(session, connection))
            }
        }
    }

    fn speak(&self, mut stream: impl Read + Write) -> io::Result<()> {
        let request = read_request(&mut stream)?;
        self.seen.lock().expect("nobody panics").push(request.path.clone());
        let answer = self.answer(&request);
        let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", answer.body.len()));
        stream.write_all(head.as_bytes())?;
        let mut manners = self.manners.lock().expect("nobody panics");
        if let Some(at) = manners.breaks_at.filter(|at| answer.body.len() > *at) {
            manners.breaks_at = None;
            drop(manners);
            stream.write_all(&answer.body[..at])?;
            return stream.flush();
        }
        drop(manners);
        stream.write_all(&answer.body)?;
        stream.flush()
    }

    fn answer(&self, request: &Request) -> Answer {
        let mut manners = self.manners.lock().expect("nobody panics");
        if manners.busy > 0 {
            manners.busy -= 1;
            return Answer::new("503 Service Unavailable", "later");
        }
        let manners = manners.clone();
        let authorization = request.headers.get("authorization").map(String::as_str);
        if let Some((user, password)) = manners.login {
            let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            if request.path.starts_with("/token?") {
                return match authorization == Some(basic.as_str()) {
                    true => Answer::new("200 OK", r#"{"token": "let-me-in", "expires_in": 300}"#),
                    false => Answer::new("401 Unauthorized", "wrong user or password"),
                };
            }
            if authorization != Some("Bearer let-me-in") {
                let scheme = if self.tls.is_some() { "https" } else { "http" };
                let realm = format!("Bearer realm=\"{scheme}://{}/token\",service=\"test\"", self.address);
                let body = r#"{"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}"#;
                return Answer::new("401 Unauthorized", body).with("WWW-Authenticate", realm);
            }
        }
        if request.path == "/v2/" {
            return Answer::new("200 OK", "{}");
        }
        if let Some(name) = request.path.strip_prefix("/v2/team/app/manifests/") {
            return self.manifest(name);
        }
        if let Some(digest) = request.path.strip_prefix("/storage/") {
            return self.blob(digest, request, &manners);
        }
        match request.path.strip_prefix("/v2/team/app/blobs/") {
            Some(digest) if manners.has_storage => {
                Answer::new("307 Temporary Redirect", "").with("Location", format!("/storage/{digest}"))
            }
            Some(digest) => self.blob(digest, request, &manners),
            None => unknown("NAME_UNKNOWN"),
        }
    }

    fn manifest(&self, name: &str) -> Answer {
        let index = std::fs::read(self.layout.join("index.json")).expect("a layout");
        let index: serde_json::Value = serde_json::from_slice(&index).expect("a layout");
        let digest = match name {
            "1" => index["manifests"][0]["digest"].as_str().expect("a layout"),
            digest => digest,
        };
        let Some(bytes) = self.read(digest) else { return unknown("MANIFEST_UNKNOWN") };
        let document: serde_json::Value = serde_json::from_slice(&bytes).expect("manifests are JSON");
        let media_type = document["mediaType"].as_str().expect("the test's manifests say what they are");
        Answer::new("200 OK", bytes).with("Content-Type", media_type).with("Docker-Content-Digest", digest)
    }

    fn blob(&self, digest: &str, request: &Request, manners: &Manners) -> Answer {
        let Some(mut bytes) = self.read(digest) else { return unknown("BLOB_UNKNOWN") };
        if manners.swaps_layers && bytes.starts_with(&[0x1f, 0x8b]) {
            bytes[20] ^= 1;
        }
        let from = request.headers.get("range").filter(|_| !manners.no_ranges);
        let from = from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match from {
            Some(from) if from > 0 => {
                let whole = bytes.len();
                let range = format!("bytes {from}-{}/{whole}", whole - 1);
                Answer::new("206 Partial Content", bytes.split_off(from)).with("Content-Range", range)
            }
            _ => Answer::new("200 OK", bytes),
        }
    }

    fn read(&self, digest: &str) -> Option<Vec<u8>> {
        std::fs::read(self.layout.join("blobs/sha256").join(digest.strip_prefix("sha256:")?)).ok()
    }
}

fn unknown(code: &str) -> Answer {
    let body = format!(r#"{{"errors": [{{"code": "{code}", "message": "not here"}}]}}"#);
    Answer::new("404 Not Found", body).with("Content-Type", "application/json")
}

fn read_request(stream: &mut impl Read) -> io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let mut next = || lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    let path = next()?.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let line = next()?;
        let Some((name, value)) = line.split_once(':') else { return Ok(Request { path, headers }) };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// Makes an authority, writes its certificate, and issues one for loopback.
fn authority(path: &Path) -> Arc<ServerConfig> {
    let key = KeyPair::generate().expect("the system gives random bytes");
    let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key).expect("a key of its own");
    std::fs::write(path, certificate.pem()).expect("the desk is writable");
    let issuer = Issuer::new(parameters, key);
    let leaf_key = KeyPair::generate().expect("the system gives random bytes");
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address is a name");
    let leaf = leaf.signed_by(&leaf_key, &issuer).expect("the authority signs");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks them")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key);
    Arc::new(config.expect("key and certificate fit"))
}
