//! The HTTPS client of `/api/v1`: one connection at a time, the hub known by its pinned CA key.
//!
//! The command line is synchronous; a current-thread runtime carries each exchange to its end.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::failure::{Failure, Kind};
use crate::api::types::{Page, Problem};

pub(crate) mod content;
pub(crate) mod pin;

/// A hub on the other side of a slow link still answers a SYN within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The hub verifies a whole bundle before it answers a release: 1 GB a second, with room.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// The largest answer: a stick's documents for a thousand sites.
const ANSWER_BYTES_MAX: usize = 256 << 20;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Where a hub is and how it is known.
#[derive(Debug, Clone)]
pub(crate) struct HubAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl HubAddress {
    /// Reads `https://HOST[:PORT]`; an IPv6 address stands in brackets.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let refuse = || {
            let failure = Failure::usage(format!("{url:?} is not an address of a hub"));
            failure.next("Write it as https://HOST:PORT, for example https://hub.example:8443.")
        };
        let rest = url.strip_prefix("https://").ok_or_else(refuse)?.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| refuse())?),
            _ => (rest, 8443),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err(refuse());
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// As `HOST:PORT`, the way HTTP writes it.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Speaks to one hub.
pub(crate) struct Client {
    runtime: Runtime,
    address: HubAddress,
    tls: TlsConnector,
    token: Zeroizing<String>,
    connection: RefCell<Option<SendRequest<Body>>>,
}

impl Client {
    /// Prepares to speak to a hub whose CA key has this digest; connects with the first request.
    pub(crate) fn new(
        address: HubAddress,
        hub_key: Sha256Digest,
        token: Zeroizing<String>,
    ) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let config = pin::client_config(hub_key).map_err(|cause| Failure::new(Kind::Runtime, cause))?;
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { runtime, address, tls, token, connection: RefCell::new(None) })
    }

    /// Fetches JSON.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.json(Method::GET, path, Bytes::new())?.map_err(refusal)
    }

    /// Fetches all pages of a list; `path` may have a query.
    pub(crate) fn pages<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let after = cursor.map(|cursor| format!("&cursor={}", encode(&cursor))).unwrap_or_default();
            let page: Page<T> = self.get(&format!("{path}{joint}limit=1000{after}"))?;
            items.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// Sends JSON and reads the answer.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).expect("requests serialise without failure");
        self.json(Method::POST, path, body.into())?.map_err(refusal)
    }

    /// Sends bytes, and gives the answer or the hub's refusal.
    pub(crate) fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Result<T, Problem>, Failure> {
        self.json(Method::POST, path, body.into())
    }

    /// Sends JSON where the answer is empty.
    pub(crate) fn tell(&self, method: Method, path: &str, body: &impl Serialize) -> Result<(), Failure> {
        let body = serde_json::to_vec(body).expect("requests serialise without failure");
        let (status, bytes) = self.exchange(method, path, body.into())?;
        if status.is_success() { Ok(()) } else { Err(refusal(problem(status, &bytes))) }
    }

    fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Result<T, Problem>, Failure> {
        let (status, bytes) = self.exchange(method, path, body)?;
        if !status.is_success() {
            return Ok(Err(problem(status, &bytes)));
        }
        let answer = serde_json::from_slice(&bytes);
        answer.map(Ok).map_err(|error| {
            let failure = Failure::new(Kind::Runtime, error).during(format!("the hub's answer to {path}"));
            failure.next("Use an airlift of the hub's version: `airlift --version`, `airlift hub check`.")
        })
    }

    /// One request with a small body. A connection that the hub closed meanwhile is made anew, once.
    fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), Failure> {
        let had_connection = self.connection.borrow().is_some();
        let request = |body: &Bytes| {
            let whole: Body = match body.is_empty() {
                true => Empty::new().map_err(|never| match never {}).boxed_unsync(),
                false => Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync(),
            };
            self.request(method.clone(), path, whole)
        };
        let response = match self.send(request(&body)?) {
            Err(failure) if had_connection && failure.kind == Kind::Unreachable => {
                self.send(request(&body)?)?
            }
            other => other?,
        };
        let status = response.status();
        let whole = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let bytes = self.within(ANSWER_TIMEOUT, whole)?.map_err(|cause| self.lost(cause))?.to_bytes();
        Ok((status, bytes))
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>, Failure> {
        let bearer = Zeroizing::new(format!("Bearer {}", self.token.as_str()));
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.authority())
            .header(AUTHORIZATION, bearer.as_str())
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|cause| Failure::new(Kind::Usage, cause))
    }

    /// Sends a request over the open connection, or over a new one.
    fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        let open = self.connection.borrow_mut().take().filter(|sender| !sender.is_closed());
        let mut sender = match open {
            Some(sender) => sender,
            None => self.within(CONNECT_TIMEOUT, self.connect())??,
        };
        let exchange = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let response = self.within(ANSWER_TIMEOUT, exchange)?.map_err(|cause| self.lost(cause))?;
        *self.connection.borrow_mut() = Some(sender);
        Ok(response)
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Failure> {
        let HubAddress { host, port } = &self.address;
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(|cause| self.lost(cause))?;
        // small requests go at once; losing this costs milliseconds only
        let _ = tcp.set_nodelay(true);
        let name = ServerName::try_from(host.clone()).map_err(|cause| Failure::new(Kind::Usage, cause))?;
        let tls = self.tls.connect(name, tcp).await.map_err(|cause| self.untrusted(cause))?;
        let (sender, connection) = handshake(TokioIo::new(tls)).await.map_err(|cause| self.lost(cause))?;
        // its error is that of the request which is under way, and is told there
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn within<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Failure> {
        let timed = self.runtime.block_on(async { tokio::time::timeout(limit, future).await });
        timed.map_err(|_| {
            let seconds = limit.as_secs();
            let message = format!("{} did not answer within {seconds} seconds", self.address.authority());
            Failure::new(Kind::Timeout, message).code(Code::HubUnreachable)
        })
    }

    fn lost(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
        let cause: Box<dyn std::error::Error> = cause.into();
        let during = format!("no connection to the hub at {}", self.address.authority());
        Failure::new(Kind::Unreachable, cause).code(Code::HubUnreachable).during(during)
    }

    fn untrusted(&self, cause: io::Error) -> Failure {
        let pinned = cause.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()).is_some();
        if !pinned {
            return self.lost(cause);
        }
        let during = format!("{} is not the pinned hub", self.address.authority());
        Failure::new(Kind::Refused, cause).during(during).next(
            "Compare `hub key` of `airlift hub check --data DIR` at the hub; then `airlift login` again.",
        )
    }
}

/// Reads the hub's refusal; whatever else answers (a proxy) becomes one too.
fn problem(status: StatusCode, bytes: &[u8]) -> Problem {
    serde_json::from_slice(bytes).unwrap_or_else(|_| {
        let code = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Code::NotAuthorised,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::CONFLICT => Code::Conflict,
            _ => Code::RequestInvalid,
        };
        Problem {
            kind: String::new(),
            title: code.title().to_owned(),
            status: status.as_u16(),
            detail: format!("the hub answered {status}"),
            code,
            next_step: code.next_step().to_owned(),
            missing: Vec::new(),
        }
    })
}

/// Turns the hub's refusal into an ending.
pub(crate) fn refusal(problem: Problem) -> Failure {
    let trust = matches!(problem.code.id().get(2..4), Some("01" | "02" | "03" | "04" | "05" | "06"));
    let kind = match problem.status {
        401 | 403 => Kind::Auth,
        404 => Kind::NotFound,
        _ if trust => Kind::Refused,
        409 | 412 => Kind::Conflict,
        400..=499 => Kind::Usage,
        _ => Kind::Runtime,
    };
    Failure::new(kind, problem.detail).code(problem.code).next(problem.next_step)
}

/// Percent-encodes text for a query (RFC 3986, unreserved characters as they are).
pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        let authority = |url: &str| HubAddress::parse(url).map(|address| address.authority()).ok();
        assert_eq!(authority("https://hub.example:9443/").as_deref(), Some("hub.example:9443"));
        assert_eq!(authority("https://hub.example").as_deref(), Some("hub.example:8443"));
        assert_eq!(authority("https://[fd00::1]:1").as_deref(), Some("[fd00::1]:1"));
        assert_eq!(authority("https://[fd00::1]").as_deref(), Some("[fd00::1]:8443"));
        for bad in ["http://hub", "hub:8443", "https://", "https://a@b", "https://a:x"] {
            assert_eq!(authority(bad), None, "{bad}");
        }
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("a in (b,ä)&c"), "a%20in%20%28b%2C%C3%A4%29%26c");
    }
}
