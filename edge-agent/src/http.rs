//! The few HTTPS requests that an agent makes: one connection each, bounded in size and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest time for one request, connecting included.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request did not get its answer; nothing is known of its effect.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not one.
    #[error("{0:?} is not a host name or address")]
    Host(String),
    /// No connection, or it broke.
    #[error("cannot reach {host}:{port}: {reason}")]
    Unreachable {
        /// Whom.
        host: String,
        /// Where.
        port: u16,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("{host}:{port} did not answer within {} s", PATIENCE.as_secs())]
    Timeout {
        /// Whom.
        host: String,
        /// Where.
        port: u16,
    },
}

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whom to trust, and who we are.
    pub tls: Arc<ClientConfig>,
}

impl Endpoint {
    /// Sends one request and reads at most `limit_bytes` of the answer.
    ///
    /// # Errors
    /// [`HttpError`]; an answer of any status is no error.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit_bytes: usize,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let timeout = || HttpError::Timeout { host: self.host.clone(), port: self.port };
        tokio::time::timeout(PATIENCE, self.exchange(method, path, body, limit_bytes))
            .await
            .map_err(|_| timeout())?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit_bytes: usize,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let failed =
            |reason: String| HttpError::Unreachable { host: self.host.clone(), port: self.port, reason };
        let name = ServerName::try_from(self.host.clone()).map_err(|_| HttpError::Host(self.host.clone()))?;
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await;
        let tls = tls.map_err(|error| failed(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("{}:{}", self.host, self.port))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limit_bytes).collect().await;
            Ok((status, body.map_err(|error| failed(error.to_string()))?.to_bytes()))
        };
        tokio::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            ended = connection => {
                ended.map_err(|error| failed(error.to_string()))?;
                exchange.await
            }
        }
    }
}
