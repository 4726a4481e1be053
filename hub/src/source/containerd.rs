//! Images from the containerd of the machine that builds, over its own socket.
//!
//! Three calls of its API do: what a name means, whether a part is there, and a part's bytes. Their messages are
//! written by hand from containerd's definitions (API 1.8), so that a build needs no `protoc`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::descriptor::Descriptor;
use airlift_bundles::layout::reference::ImageReference;
use airlift_bundles::pack::RemoteImage;
use bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Shared, SourceError};

/// Where containerd and K3s put the socket.
const SOCKETS: [&str; 2] = ["/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"];
/// Time for an answer, or for the next part of one.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// A part of a blob comes in messages of a few MiB at most.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Also the request for one: both hold a name under tag 1.
#[derive(Clone, PartialEq, prost::Message)]
struct NamedImage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "3")]
    target: Option<Target>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageAnswer {
    #[prost(message, optional, tag = "1")]
    image: Option<NamedImage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Target {
    #[prost(string, tag = "1")]
    media_type: String,
    #[prost(string, tag = "2")]
    digest: String,
    #[prost(int64, tag = "3")]
    size: i64,
}

/// The request to read a blob whole, and the one for what is known of it.
#[derive(Clone, PartialEq, prost::Message)]
struct BlobDigest {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BlobInfo {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InfoAnswer {
    #[prost(message, optional, tag = "1")]
    info: Option<BlobInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BlobPart {
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
}

/// Finds what the name means; where airlift.yaml says which image it is, that is the one.
pub(super) fn open(
    shared: &Rc<Shared>,
    from: &str,
    name: &ImageReference,
) -> Result<Box<dyn RemoteImage>, SourceError> {
    let socket = match &shared.settings.containerd {
        Some(socket) => socket.clone(),
        None => {
            SOCKETS.iter().map(PathBuf::from).find(|path| path.exists()).unwrap_or_else(|| SOCKETS[0].into())
        }
    };
    let node = Node {
        shared: Rc::clone(shared),
        channel: connect(shared, &socket, name)?,
        socket,
        name: name.to_string(),
    };
    // A pinned name is recorded under its tag, under its digest, or both.
    let names = [Some(name.clone()), name.without_digest(), name.without_tag()];
    let mut now = None;
    for name_there in names.into_iter().flatten() {
        let Some(target) = node.find(&name_there)? else { continue };
        if name.digest().is_none_or(|wanted| *wanted == target.digest) {
            return Ok(Box::new(NodeImage { node, target }));
        }
        now = Some(format!("containerd:{}", name_there.pin(target.digest)));
    }
    Err(match now {
        Some(now) => SourceError::Moved { from: from.to_owned(), now },
        None => {
            let namespace = shared.settings.namespace.clone();
            SourceError::NotHeld { image: name.to_string(), namespace }
        }
    })
}

fn connect(shared: &Shared, socket: &Path, name: &ImageReference) -> Result<Channel, SourceError> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
    let endpoint = endpoint.map_err(|error| SourceError::Containerd {
        image: name.to_string(),
        socket: socket.to_owned(),
        reason: error.to_string(),
    })?;
    let _inside = shared.runtime.enter();
    Ok(endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy())
}

/// containerd, asked about one image.
struct Node {
    shared: Rc<Shared>,
    channel: Channel,
    socket: PathBuf,
    name: String,
}

impl Node {
    fn find(&self, name: &ImageReference) -> Result<Option<Descriptor>, SourceError> {
        let method = "/containerd.services.images.v1.Images/Get";
        let question = NamedImage { name: name.to_string(), target: None };
        let answer: ImageAnswer = match self.ask(method, question) {
            Ok(answer) => answer,
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(self.failed(&status)),
        };
        let target = answer.image.and_then(|image| image.target).unwrap_or_default();
        let digest = target.digest.parse().map_err(|_| self.odd("its record has no digest"))?;
        let size = u64::try_from(target.size).map_err(|_| self.odd("its record has no size"))?;
        Ok(Some(Descriptor::new(&target.media_type, digest, size)))
    }

    /// A blob's size, if the blob is there.
    fn size_of(&self, digest: &Sha256Digest) -> Result<Option<u64>, SourceError> {
        let method = "/containerd.services.content.v1.Content/Info";
        match self.ask::<_, InfoAnswer>(method, BlobDigest { digest: digest.to_string() }) {
            Ok(answer) => Ok(answer.info.map(|info| u64::try_from(info.size).unwrap_or_default())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed(&status)),
        }
    }

    fn ask<Q, A>(&self, method: &'static str, question: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let request = self.addressed(question)?;
        self.shared.runtime.block_on(within(async {
            let mut client = self.client().await?;
            let codec = ProstCodec::<Q, A>::default();
            Ok(client.unary(request, PathAndQuery::from_static(method), codec).await?.into_inner())
        }))
    }

    fn read(&self, digest: &Sha256Digest) -> Result<Streaming<BlobPart>, Status> {
        let request = self.addressed(BlobDigest { digest: digest.to_string() })?;
        self.shared.runtime.block_on(within(async {
            let mut client = self.client().await?;
            let method = PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
            let codec = ProstCodec::<BlobDigest, BlobPart>::default();
            Ok(client.server_streaming(request, method, codec).await?.into_inner())
        }))
    }

    async fn client(&self) -> Result<Grpc<Channel>, Status> {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(client)
    }

    fn addressed<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        let namespace = self.shared.settings.namespace.parse();
        let namespace = namespace.map_err(|_| Status::invalid_argument("the namespace is not printable"))?;
        request.metadata_mut().insert("containerd-namespace", namespace);
        Ok(request)
    }

    fn failed(&self, status: &Status) -> SourceError {
        self.odd(status.message())
    }

    fn odd(&self, reason: &str) -> SourceError {
        let (image, socket) = (self.name.clone(), self.socket.clone());
        SourceError::Containerd { image, socket, reason: reason.chars().take(400).collect() }
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded(format!("no answer within {} s", CALL_TIMEOUT.as_secs()));
    tokio::time::timeout(CALL_TIMEOUT, work).await.map_err(late)?
}

/// An image in containerd.
struct NodeImage {
    node: Node,
    target: Descriptor,
}

impl std::fmt::Debug for NodeImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeImage").field("name", &self.node.name).finish_non_exhaustive()
    }
}

impl RemoteImage for NodeImage {
    fn target(&self) -> Descriptor {
        self.target.clone()
    }

    /// A pull takes the node's platform alone, and leaves the others in the index.
    fn holds(&self, digest: &Sha256Digest) -> io::Result<bool> {
        let size = self.node.size_of(digest);
        size.map(|size| size.is_some()).map_err(|error| self.node.shared.failed_io(error))
    }

    fn open(&self, digest: &Sha256Digest) -> io::Result<Box<dyn Read + '_>> {
        let node = &self.node;
        let fail = |error| node.shared.failed_io(error);
        let Some(size) = node.size_of(digest).map_err(fail)? else {
            return Err(fail(SourceError::Incomplete { image: node.name.clone(), digest: *digest }));
        };
        let parts = node.read(digest).map_err(|status| fail(node.failed(&status)))?;
        node.shared.begins(&node.name, size);
        Ok(Box::new(BlobReader { node, parts, part: Bytes::new() }))
    }
}

/// A blob on its way.
struct BlobReader<'a> {
    node: &'a Node,
    parts: Streaming<BlobPart>,
    part: Bytes,
}

impl Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let shared = &self.node.shared;
        while self.part.is_empty() {
            let next = shared.runtime.block_on(within(self.parts.message()));
            match next.map_err(|status| shared.failed_io(self.node.failed(&status)))? {
                Some(part) => self.part = part.data,
                None => return Ok(0),
            }
            shared.fetched(self.part.len() as u64);
        }
        let count = into.len().min(self.part.len());
        into[..count].copy_from_slice(&self.part.split_to(count));
        Ok(count)
    }
}
