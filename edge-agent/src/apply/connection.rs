//! One connection to the API server, made from a kubeconfig file and made again when that file changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlift_bundles::ids::Blake3Digest;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use tokio::time::{Instant, timeout};

use super::client::{Client, ClientError, Reply};
use super::kubeconfig::{self, KubeconfigError, read_small};
use super::refusal::{classify, unavailable, unusable};
use crate::core::api::ApiError;

/// An admission webhook may take 30 seconds by itself; what takes longer is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// How long a kubeconfig is trusted before a look at whether it changed; K3s rotates certificates at its start.
const KUBECONFIG_LOOK: Duration = Duration::from_secs(10);
/// Bytes of an error's body that are read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

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

    fn request(&self) -> Result<Request<Full<Bytes>>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(self.accept));
        if !self.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        let built = Request::builder()
            .method(self.method.clone())
            .uri(self.path.as_str())
            .body(Full::new(self.body.clone()));
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
    client: Arc<Client>,
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
            let body = self.open(ask).await?.read(ask.reply_bytes_max).await;
            body.map_err(|reason| unavailable(&format!("reply broke off: {reason}")))
        };
        timeout(REQUEST_TIMEOUT, work)
            .await
            .unwrap_or_else(|_| Err(unavailable(&format!("no reply within {} s", REQUEST_TIMEOUT.as_secs()))))
    }

    /// Sends a request and answers when the reply begins. Credentials that are refused are read again, and where
    /// the file had new ones the request is sent once more.
    pub(super) async fn open(&self, ask: &Ask) -> Result<Reply, ApiError> {
        let (client, sha) = self.client(false)?;
        let reply = exchange(&client, ask).await?;
        if reply.status != StatusCode::UNAUTHORIZED {
            return accept(reply).await;
        }
        let (client, fresh) = self.client(true)?;
        if fresh == sha {
            return accept(reply).await;
        }
        accept(exchange(&client, ask).await?).await
    }

    fn client(&self, force: bool) -> Result<(Arc<Client>, Blake3Digest), ApiError> {
        let known = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.as_ref().filter(|known| !force && known.looked.elapsed() < KUBECONFIG_LOOK)
        {
            return Ok((Arc::clone(&known.client), known.sha));
        }
        let unusable = |error: KubeconfigError| {
            unavailable(&format!("kubeconfig {} cannot be used: {error}", self.kubeconfig.display()))
        };
        let text = read_small(&self.kubeconfig).map_err(unusable)?;
        let sha = Blake3Digest::of(&text);
        // The file may name others (client-certificate) whose change it does not show: a refusal reads all again.
        let client = match known.filter(|known| known.sha == sha && !force) {
            Some(known) => known.client,
            None => Arc::new(self.read(&text).map_err(unusable)?),
        };
        let loaded = Loaded { client: Arc::clone(&client), sha, looked: Instant::now() };
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok((client, sha))
    }

    fn read(&self, text: &[u8]) -> Result<Client, KubeconfigError> {
        let text = str::from_utf8(text).map_err(|error| KubeconfigError::Yaml(error.to_string()))?;
        let dir = self.kubeconfig.parent().unwrap_or(Path::new("/"));
        Client::new(kubeconfig::read(text, dir)?)
    }
}

async fn exchange(client: &Arc<Client>, ask: &Ask) -> Result<Reply, ApiError> {
    client.send(ask.request()?).await.map_err(|error| unavailable(&in_words(&error)))
}

/// With the causes: the one at the end of the chain is what a person can act on, "connection refused".
fn in_words(error: &ClientError) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_words = inner.to_string();
        if !words.contains(&inner_words) {
            words.push_str(": ");
            words.push_str(&inner_words);
        }
        cause = inner.source();
    }
    words
}

async fn accept(reply: Reply) -> Result<Reply, ApiError> {
    let code = reply.status;
    if code.is_success() {
        return Ok(reply);
    }
    let after = reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    // A refusal whose words are too long, or break off, is one by its status.
    let body = reply.read(REFUSAL_BYTES_MAX).await.unwrap_or_default();
    Err(classify(code, after, &body))
}
