//! One gRPC channel over containerd's unix socket, with the headers and bounds that every call needs.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::ports::images::ImportError;

/// The namespace in which Kubernetes' side of containerd looks.
pub(super) const NAMESPACE: &str = "k8s.io";

/// Time for a call that only touches metadata; a Pi with a busy SD card needs seconds.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for a call that moves or syncs a whole layer: 8 GiB at 5 MB/s.
pub(super) const LAYER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Answers are metadata: a node with thousands of image records stays below this.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Characters of the runtime's own words that go into an error.
const REASON_CHARS_MAX: usize = 400;

/// A channel to containerd. Cheap to clone; connects when first used and again after containerd restarts.
#[derive(Debug, Clone)]
pub(super) struct Socket {
    channel: Channel,
    path: String,
}

impl Socket {
    /// Names the socket; nothing is opened yet.
    pub(super) fn new(path: &Path) -> Result<Self, ImportError> {
        let path = path.display().to_string();
        let unreachable = |reason: tonic::transport::Error| ImportError::Unreachable {
            socket: path.clone(),
            reason: reason.to_string(),
        };
        let endpoint = Endpoint::from_shared(format!("unix://{path}")).map_err(unreachable)?;
        let channel = endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy();
        Ok(Self { channel, path })
    }

    /// One question, one answer.
    pub(super) async fn call<Q, A>(
        &self,
        method: &'static str,
        lease: Option<&str>,
        timeout: Duration,
        question: Q,
    ) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut request = addressed(question, lease)?;
        request.set_timeout(timeout);
        let mut client = self.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        Ok(client.unary(request, PathAndQuery::from_static(method), codec).await?.into_inner())
    }

    /// One question, answers without end.
    pub(super) async fn subscribe<Q, A>(
        &self,
        method: &'static str,
        question: Q,
    ) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let request = addressed(question, None)?;
        let mut client = self.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        Ok(client.server_streaming(request, PathAndQuery::from_static(method), codec).await?.into_inner())
    }

    /// Questions and answers in turn, the first question being `opening`.
    pub(super) async fn converse<Q, A>(
        &self,
        method: &'static str,
        lease: &str,
        opening: Q,
    ) -> Result<Conversation<Q, A>, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        // One message in flight: each is answered before the next is read from disk.
        let (questions, queue) = mpsc::channel(1);
        questions
            .try_send(opening)
            .map_err(|_| Status::internal("the queue of a new conversation is full"))?;
        let request = addressed(ReceiverStream::new(queue), Some(lease))?;
        let mut client = self.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let streaming = client.streaming(request, PathAndQuery::from_static(method), codec);
        let answers = within(CALL_TIMEOUT, streaming).await?.into_inner();
        Ok(Conversation { questions, answers })
    }

    /// Sorts a runtime's refusal into the errors of an import.
    pub(super) fn failed(&self, step: &'static str, status: &Status) -> ImportError {
        let reason: String = status.message().chars().take(REASON_CHARS_MAX).collect();
        if reason.contains("no space left") || reason.contains("disk quota exceeded") {
            return ImportError::DiskFull { step, reason };
        }
        match status.code() {
            Code::Unavailable => ImportError::Unreachable { socket: self.path.clone(), reason },
            code => ImportError::Runtime { step, reason: format!("{reason} ({code:?})") },
        }
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(client)
    }
}

/// A stream in both directions, used as question and answer.
pub(super) struct Conversation<Q, A> {
    questions: mpsc::Sender<Q>,
    answers: Streaming<A>,
}

impl<Q, A> Conversation<Q, A> {
    /// Waits for the answer to the last question.
    pub(super) async fn answer(&mut self, timeout: Duration) -> Result<A, Status> {
        let answer = within(timeout, self.answers.message()).await?;
        answer.ok_or_else(|| Status::unavailable("containerd ended the stream"))
    }

    /// Asks and waits.
    pub(super) async fn ask(&mut self, timeout: Duration, question: Q) -> Result<A, Status> {
        // A closed queue means that the other side ended the stream: its reason is in the answers.
        let _ended = self.questions.send(question).await;
        self.answer(timeout).await
    }
}

/// Bounds a call that has no deadline of its own.
pub(super) async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded(format!("no answer within {} s", timeout.as_secs()));
    tokio::time::timeout(timeout, work).await.map_err(late)?
}

fn addressed<T>(message: T, lease: Option<&str>) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    if let Some(lease) = lease {
        let value = lease.parse().map_err(|_| Status::internal("a lease id is not printable"))?;
        request.metadata_mut().insert("containerd-lease", value);
    }
    Ok(request)
}
