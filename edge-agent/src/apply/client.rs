//! HTTPS to one API server: connections that are kept while requests follow each other, and closed soon after.
//!
//! HTTP/1.1, one request at a time on a connection: a server answers many connections at once on all its cores, and a
//! watch that hangs holds up nothing but itself.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::kubeconfig::{Access, KubeconfigError};

/// A server that takes longer to greet is as good as none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that nobody needed for so long are closed: each costs some 50 KB here and a goroutine or two there.
/// The looks at the nodes, each 5 s, keep one.
const IDLE: Duration = Duration::from_secs(15);
const AGENT: &str = concat!("airlift-agent/", env!("CARGO_PKG_VERSION"));

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// No connection.
    #[error("cannot connect to {host}:{port}")]
    Connect {
        /// Whom.
        host: String,
        /// Where.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It broke, or was no HTTP.
    #[error("no answer")]
    Exchange(#[from] hyper::Error),
    /// The path is none.
    #[error("request cannot be made")]
    Request(#[from] hyper::http::Error),
}

/// One API server, and the connections to it.
pub(super) struct Client {
    host: String,
    port: u16,
    prefix: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    headers: HeaderMap,
    idle: Mutex<Vec<Idle>>,
}

type Sender = SendRequest<Full<Bytes>>;

struct Idle {
    sender: Sender,
    since: Instant,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(access: Access) -> Result<Self, KubeconfigError> {
        let Access { host, port, prefix, name, tls, token } = access;
        let mut headers = HeaderMap::new();
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let place = HeaderValue::try_from(place).map_err(|_| KubeconfigError::Malformed("server"))?;
        headers.insert(HOST, place);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| KubeconfigError::Malformed("token"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let (tls, idle) = (TlsConnector::from(Arc::new(tls)), Mutex::default());
        Ok(Self { host, port, prefix, name, tls, headers, idle })
    }

    /// Sends a request, whose path begins with a slash, and answers when the reply begins.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Reply, ClientError> {
        if !self.prefix.is_empty() {
            let path = format!("{}{}", self.prefix, request.uri());
            *request.uri_mut() = Uri::try_from(path).map_err(hyper::http::Error::from)?;
        }
        request.headers_mut().extend(self.headers.clone());
        while let Some(mut sender) = self.take() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.reply(response, sender)),
                Err(mut error) => match error.take_message() {
                    // The server closed the connection while nobody used it: nothing was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await?;
        Ok(self.reply(response, sender))
    }

    fn reply(self: &Arc<Self>, response: hyper::Response<Incoming>, sender: Sender) -> Reply {
        let (head, body) = response.into_parts();
        let home = Some((Arc::clone(self), sender));
        Reply { status: head.status, headers: head.headers, body, home }
    }

    async fn connect(&self) -> Result<Sender, ClientError> {
        let dial = async {
            let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
            tcp.set_nodelay(true)?;
            self.tls.connect(self.name.clone(), tcp).await
        };
        let stream = timeout(CONNECT_TIMEOUT, dial)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 10 s")))
            .map_err(|source| ClientError::Connect { host: self.host.clone(), port: self.port, source })?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async {
            // How it ends is told to whoever has a request on it; otherwise it is no loss.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last.
    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle();
        idle.retain(Idle::is_good);
        idle.pop().map(|idle| idle.sender)
    }

    fn put(&self, sender: Sender) {
        let mut idle = self.idle();
        idle.retain(Idle::is_good);
        idle.push(Idle { sender, since: Instant::now() });
    }
}

impl Idle {
    fn is_good(&self) -> bool {
        !self.sender.is_closed() && self.since.elapsed() < IDLE
    }
}

/// A reply whose body is still to be read. Read to its end, it sets its connection free for another request; dropped
/// before, it closes it.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
    home: Option<(Arc<Client>, Sender)>,
}

impl Reply {
    /// The next bytes of the body; `None` at its end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    // Trailers say nothing here.
                    if let Ok(bytes) = frame.into_data() {
                        return Some(Ok(bytes));
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    if let Some((client, sender)) = self.home.take() {
                        client.put(sender);
                    }
                    return None;
                }
            }
        }
    }

    /// The whole body, where it has no more than so many bytes.
    pub(super) async fn read(mut self, bytes_max: usize) -> Result<Bytes, String> {
        let mut whole = Vec::new();
        let mut first = Bytes::new();
        while let Some(bytes) = self.next().await {
            let bytes = bytes.map_err(|error| error.to_string())?;
            if first.len() + whole.len() + bytes.len() > bytes_max {
                return Err(format!("it is longer than {bytes_max} bytes"));
            }
            if first.is_empty() && whole.is_empty() {
                first = bytes;
            } else {
                whole.extend_from_slice(&std::mem::take(&mut first));
                whole.extend_from_slice(&bytes);
            }
        }
        Ok(if whole.is_empty() { first } else { whole.into() })
    }
}

#[cfg(test)]
mod tests;
