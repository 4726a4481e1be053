//! Images from a registry: asked for by digest, tried again, continued where a connection broke off.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::rc::Rc;

use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::descriptor::{
    DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE, Descriptor, INDEX_TYPE, Index, MANIFEST_TYPE,
};
use airlift_bundles::layout::reference::ImageReference;
use airlift_bundles::limits::Limits;
use airlift_bundles::pack::RemoteImage;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;

use super::challenge::Access;
use super::credentials;
use super::http::{Asking, Http, HttpError, next_chunk};
use super::{PAUSE, Shared, SourceError, TRIES};

/// Where Docker's own registry listens.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// Finds the image and makes sure that airlift.yaml says which one it is.
pub(super) fn open(
    shared: &Rc<Shared>,
    from: &str,
    name: &ImageReference,
) -> Result<Box<dyn RemoteImage>, SourceError> {
    let known = shared.http.borrow().clone();
    let http = match known {
        Some(http) => http,
        None => {
            let http = Rc::new(Http::new(&shared.settings.registry_ca, &shared.settings.plain_http)?);
            shared.http.borrow_mut().insert(http).clone()
        }
    };
    let unnamed = || SourceError::Name { from: from.to_owned() };
    let (host, repository) = name.repository().split_once('/').ok_or_else(unnamed)?;
    let address = http.base(if host == "docker.io" { DOCKER_HUB } else { host });
    let asked = Asked {
        shared: Rc::clone(shared),
        http,
        access: Access::new(credentials::find(host)?, repository, address.starts_with("https://")),
        address: format!("{address}/v2/{repository}"),
        host: host.to_owned(),
        name: name.to_string(),
    };
    let digest = name.digest().map(ToString::to_string);
    let named = digest.as_deref().or_else(|| name.tag()).ok_or_else(unnamed)?;
    let bytes = asked.manifest(named)?;
    let now = Sha256Digest::of(&bytes);
    match name.digest() {
        Some(digest) if *digest == now => {}
        Some(digest) => return Err(asked.failed(format!("asked for {digest}, it sent {now}"))),
        None => {
            let now = format!("docker://{}", name.pin(now));
            return Err(SourceError::Unpinned { from: from.to_owned(), now });
        }
    }
    let target = Descriptor::new(&media_type(&bytes), now, bytes.len() as u64);
    let image = RegistryImage { asked, target, documents: RefCell::default() };
    image.learn(&now, &bytes);
    Ok(Box::new(image))
}

/// An image's registry, and how it is spoken to.
struct Asked {
    shared: Rc<Shared>,
    http: Rc<Http>,
    access: Access,
    /// Of the repository.
    address: String,
    host: String,
    name: String,
}

impl Asked {
    /// Fetches a manifest or index by tag or digest.
    fn manifest(&self, named: &str) -> Result<Bytes, SourceError> {
        let address = format!("{}/manifests/{named}", self.address);
        let accept = [INDEX_TYPE, MANIFEST_TYPE, DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE].join(", ");
        self.shared.runtime.block_on(async {
            let mut tries = 0;
            loop {
                let asking = Asking { accept: &accept, ..Asking::default() };
                let whole = self.access.with(&self.http, &asking, async |asking: Asking<'_>| {
                    self.http.get_whole(&address, &asking, Limits::DEFAULT.manifest_bytes).await
                });
                match whole.await {
                    Ok(bytes) => return Ok(bytes),
                    Err(error) => self.pause(&mut tries, &format!("manifest {named}"), error).await?,
                }
            }
        })
    }

    /// Opens a blob behind the bytes that are here; answers also with the bytes that come once more.
    async fn blob(&self, digest: &str, from: u64) -> Result<(Incoming, u64), HttpError> {
        let address = format!("{}/blobs/{digest}", self.address);
        let asking = Asking { from, ..Asking::default() };
        let answer = self
            .access
            .with(&self.http, &asking, async |asking: Asking<'_>| self.http.get(&address, &asking).await);
        let answer = answer.await?;
        let again = if answer.status() == StatusCode::PARTIAL_CONTENT { 0 } else { from };
        if from == 0 {
            let length = hyper::body::Body::size_hint(answer.body()).exact();
            self.shared.begins(&self.name, length.unwrap_or_default());
        }
        Ok((answer.into_body(), again))
    }

    /// Waits before the next try; an error where there is no sense in one.
    async fn pause(&self, tries: &mut u32, what: &str, error: HttpError) -> Result<(), SourceError> {
        *tries += 1;
        if *tries >= TRIES || !may_pass(&error) {
            return Err(self.explain(what, &error));
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(*tries - 1)).await;
        Ok(())
    }

    fn explain(&self, what: &str, error: &HttpError) -> SourceError {
        let (image, host) = (self.name.clone(), self.host.clone());
        match error {
            HttpError::Refused {
                status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, words, ..
            } => SourceError::Denied { image, host, reason: words.clone() },
            HttpError::Refused { status: StatusCode::NOT_FOUND, .. } => {
                SourceError::NotFound { image, host, what: what.to_owned() }
            }
            _ => self.failed(error.to_string()),
        }
    }

    fn failed(&self, reason: String) -> SourceError {
        SourceError::Registry { image: self.name.clone(), host: self.host.clone(), reason }
    }
}

/// Whether another try may end better: a broken connection, too many questions, trouble at the registry.
fn may_pass(error: &HttpError) -> bool {
    match error {
        HttpError::Broken(_) => true,
        HttpError::Refused { status, .. } => matches!(status.as_u16(), 408 | 429 | 500..),
        HttpError::Certificate { .. } | HttpError::Odd(_) => false,
    }
}

/// What a document says that it is, or what its fields say.
fn media_type(bytes: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outline {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    // What is no document at all is refused when it is read.
    let outline: Outline = serde_json::from_slice(bytes).unwrap_or_default();
    let inferred = if outline.manifests.is_some() { INDEX_TYPE } else { MANIFEST_TYPE };
    outline.media_type.unwrap_or_else(|| inferred.to_owned())
}

/// An image at a registry.
struct RegistryImage {
    asked: Asked,
    target: Descriptor,
    /// Indexes and manifests, which registries serve under another path than blobs; with bytes once fetched.
    documents: RefCell<BTreeMap<Sha256Digest, Option<Bytes>>>,
}

impl std::fmt::Debug for RegistryImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryImage").field("name", &self.asked.name).finish_non_exhaustive()
    }
}

impl RegistryImage {
    /// Remembers a document, and that what it lists are documents.
    fn learn(&self, digest: &Sha256Digest, bytes: &Bytes) {
        let mut documents = self.documents.borrow_mut();
        documents.insert(*digest, Some(bytes.clone()));
        if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
            for entry in index.manifests {
                documents.entry(entry.digest).or_default();
            }
        }
    }
}

impl RemoteImage for RegistryImage {
    fn target(&self) -> Descriptor {
        self.target.clone()
    }

    fn open(&self, digest: &Sha256Digest) -> io::Result<Box<dyn Read + '_>> {
        let known = self.documents.borrow().get(digest).cloned();
        let bytes = match known {
            None => return Ok(Box::new(BlobReader::new(&self.asked, digest))),
            Some(Some(bytes)) => bytes,
            Some(None) => {
                let bytes = self.asked.manifest(&digest.to_string());
                let bytes = bytes.map_err(|error| self.asked.shared.failed_io(error))?;
                self.learn(digest, &bytes);
                bytes
            }
        };
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

/// A blob on its way.
struct BlobReader<'a> {
    asked: &'a Asked,
    digest: String,
    body: Option<Incoming>,
    chunk: Bytes,
    at: u64,
    /// Bytes that come once more, because the registry knows no ranges.
    again: u64,
}

impl<'a> BlobReader<'a> {
    fn new(asked: &'a Asked, digest: &Sha256Digest) -> Self {
        Self { asked, digest: digest.to_string(), body: None, chunk: Bytes::new(), at: 0, again: 0 }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        let mut tries = 0;
        loop {
            match self.try_next().await {
                Ok(next) => return Ok(next),
                Err(error) => {
                    self.body = None;
                    self.asked.pause(&mut tries, &format!("blob {}", self.digest), error).await?;
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<Bytes>, HttpError> {
        if self.body.is_none() {
            let (body, again) = self.asked.blob(&self.digest, self.at).await?;
            (self.body, self.again) = (Some(body), again);
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        while let Some(chunk) = next_chunk(body).await? {
            let known = usize::try_from(self.again).unwrap_or(usize::MAX).min(chunk.len());
            self.again -= known as u64;
            let chunk = chunk.slice(known..);
            if !chunk.is_empty() {
                self.at += chunk.len() as u64;
                self.asked.shared.fetched(chunk.len() as u64);
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let shared = Rc::clone(&self.asked.shared);
        while self.chunk.is_empty() {
            match shared.runtime.block_on(self.next()).map_err(|error| shared.failed_io(error))? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.chunk.len());
        into[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}
