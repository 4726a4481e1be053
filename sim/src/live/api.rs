//! Orders to the hub over its API: one connection that stays open.

use std::sync::Arc;

use airlift_bundles::ids::Sha256Digest;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::LiveError;

/// What the hub says of ten thousand sites fits many times.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const HOST: &str = "127.0.0.1";

/// Where the hub is and how it knows the operator.
#[derive(Clone)]
pub(super) struct Api {
    port: u16,
    tls: Arc<ClientConfig>,
    token: String,
}

/// A connection of the operator's.
pub(super) struct Session {
    sender: SendRequest<Full<Bytes>>,
    api: Api,
}

impl Api {
    pub(super) fn new(port: u16, hub_key_sha256: Sha256Digest, token: String) -> Result<Self, LiveError> {
        let tls = airlift_agent::tls::pinned(hub_key_sha256).map_err(LiveError::failed)?;
        Ok(Self { port, tls: Arc::new(tls), token })
    }

    pub(super) async fn connect(&self) -> Result<Session, LiveError> {
        let tcp = TcpStream::connect((HOST, self.port)).await.map_err(LiveError::io("the hub's API"))?;
        tcp.set_nodelay(true).map_err(LiveError::io("the hub's API"))?;
        let name = HOST.try_into().expect("an address is a server's name");
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await;
        let stream = stream.map_err(LiveError::io("the hub's API"))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(LiveError::failed)?;
        tokio::spawn(connection); // its end is seen by the next request
        Ok(Session { sender, api: self.clone() })
    }
}

impl Session {
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, LiveError> {
        self.exchange(Method::GET, path, Vec::new()).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, LiveError> {
        let body = serde_json::to_vec(body).map_err(LiveError::failed)?;
        self.exchange(Method::POST, path, body).await
    }

    async fn exchange<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, LiveError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", HOST)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.api.token))
            .body(Full::new(Bytes::from(body)))
            .map_err(LiveError::failed)?;
        self.sender.ready().await.map_err(LiveError::failed)?;
        let response = self.sender.send_request(request).await.map_err(LiveError::failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| LiveError::Failed(error.to_string()))?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            return Err(LiveError::Failed(format!("{path}: {status} {text}")));
        }
        serde_json::from_slice(&body).map_err(LiveError::failed)
    }
}
