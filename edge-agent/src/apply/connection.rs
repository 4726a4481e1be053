//! One connection to the API server, made from a kubeconfig file and made again when that file changes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use airlift_bundles::ids::Blake3Digest;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::{Instant, timeout};

use super::refusal::{classify, unavailable, unusable};
use crate::core::api::ApiError;

/// An admission webhook may take 30 seconds by itself; what takes longer is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// A kubeconfig has certificates and a few names: far less than this.
const KUBECONFIG_BYTES_MAX: u64 = 1 << 20;
/// How long a kubeconfig is trusted before a look at whether it changed; K3s rotates certificates at its start.
const KUBECONFIG_LOOK: Duration = Duration::from_secs(10);
/// Bytes of an error's body that are read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Above the length of a watch, so that only a dead connection meets it.
const READ_TIMEOUT: Duration = Duration::from_secs(330);

/// Metadata only; whole objects from servers that cannot reduce them.
pub(super) const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
/// The same for lists.
pub(super) const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// Whole objects.
pub(crate) const WHOLE: &str = "application/json";

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) accept: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    /// Bytes of a reply that are read.
    pub(crate) reply_bytes_max: usize,
}

impl Ask {
    pub(crate) fn get(path: String, accept: &'static str) -> Self {
        let (method, content_type, body) = (Method::GET, "", Bytes::new());
        Self { method, path, accept, content_type, body, reply_bytes_max: 16 << 20 }
    }

    pub(crate) fn with_body(method: Method, path: String, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { method, content_type, body: body.into(), ..Self::get(path, METADATA) }
    }

    fn request(&self) -> Result<Request<Body>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(self.accept));
        if !self.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        let built = Request::builder()
            .method(self.method.clone())
            .uri(self.path.as_str())
            .body(Body::from(self.body.clone()));
        let mut request = built.map_err(|error| unusable(&format!("request cannot be made: {error}")))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// The API server as the kubeconfig names it.
#[derive(Debug)]
pub(super) struct Connection {
    kubeconfig: PathBuf,
    loaded: Mutex<Option<Loaded>>,
}

#[derive(Clone)]
struct Loaded {
    client: Client,
    sha: Blake3Digest,
    looked: Instant,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("looked", &self.looked).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), loaded: Mutex::new(None) }
    }

    /// Sends a request and reads the reply as a whole.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Bytes, ApiError> {
        let work = async {
            let response = self.open(ask).await?;
            let body = Limited::new(response.into_body(), ask.reply_bytes_max).collect().await;
            Ok(body.map_err(|error| unavailable(&format!("reply broke off: {error}")))?.to_bytes())
        };
        timeout(REQUEST_TIMEOUT, work)
            .await
            .unwrap_or_else(|_| Err(unavailable(&format!("no reply within {} s", REQUEST_TIMEOUT.as_secs()))))
    }

    /// Sends a request and answers when the reply begins. Credentials that are refused are read again, and where
    /// the file had new ones the request is sent once more.
    pub(super) async fn open(&self, ask: &Ask) -> Result<Response<Body>, ApiError> {
        let (client, sha) = self.client(false).await?;
        let response = exchange(&client, ask).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return accept(response).await;
        }
        let (client, fresh) = self.client(true).await?;
        if fresh == sha {
            return accept(response).await;
        }
        accept(exchange(&client, ask).await?).await
    }

    async fn client(&self, force: bool) -> Result<(Client, Blake3Digest), ApiError> {
        let known = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.as_ref().filter(|known| !force && known.looked.elapsed() < KUBECONFIG_LOOK)
        {
            return Ok((known.client.clone(), known.sha));
        }
        let text = read_bounded(&self.kubeconfig)?;
        let sha = Blake3Digest::of(text.as_bytes());
        // The file may name others (client-certificate) whose change it does not show: a refusal reads all again.
        let client = match known.filter(|known| known.sha == sha && !force) {
            Some(known) => known.client,
            None => connect(&text).await.map_err(|error| self.unreadable(&error))?,
        };
        let loaded = Loaded { client: client.clone(), sha, looked: Instant::now() };
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok((client, sha))
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> ApiError {
        unavailable(&format!("kubeconfig {} cannot be used: {error}", self.kubeconfig.display()))
    }
}

fn read_bounded(path: &Path) -> Result<String, ApiError> {
    let fail = |reason: &dyn std::fmt::Display| {
        unavailable(&format!("kubeconfig {} cannot be read: {reason}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
    if size > KUBECONFIG_BYTES_MAX {
        return Err(fail(&format!("{size} bytes are too many")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(&error))
}

async fn connect(kubeconfig: &str) -> Result<Client, kube::Error> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Client::try_from(config)
}

async fn exchange(client: &Client, ask: &Ask) -> Result<Response<Body>, ApiError> {
    client.send(ask.request()?).await.map_err(|error| {
        // The cause at the end of the chain is what a person can act on: "connection refused".
        let mut words = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            let inner_words = inner.to_string();
            if !words.contains(&inner_words) {
                words.push_str(": ");
                words.push_str(&inner_words);
            }
            cause = inner.source();
        }
        unavailable(&words)
    })
}

async fn accept(response: Response<Body>) -> Result<Response<Body>, ApiError> {
    let code = response.status();
    if code.is_success() {
        return Ok(response);
    }
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Err(classify(code, after, &body))
}
