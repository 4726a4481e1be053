//! HTTP as far as registries need it: GET, over TLS or not, redirects followed, every wait and size bounded.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::SourceError;

/// Time for a connection to stand, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Without a byte for so long, a connection counts as broken.
const SILENCE: Duration = Duration::from_secs(60);
/// Registries send readers to a storage, which may send them to its next one.
const REDIRECTS_MAX: usize = 5;
/// A page of words about a refusal is cut here.
const REFUSAL_BYTES_MAX: usize = 16 << 10;
/// A file of certificate authorities larger than this is a wrong file.
const AUTHORITY_BYTES_MAX: u64 = 4 << 20;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No connection, or one that broke off: another may do better.
    #[error("{0}")]
    Broken(String),
    /// The certificate is not one to trust.
    #[error("certificate of {host}: {reason}")]
    Certificate { host: String, reason: String },
    /// The server refused.
    #[error("it answered {status}: {words}")]
    Refused { status: StatusCode, challenge: Option<String>, words: String },
    /// The answer is not one of HTTP, or larger than allowed.
    #[error("{0}")]
    Odd(String),
}

/// What is asked beside the address.
#[derive(Debug, Clone, Default)]
pub(super) struct Asking<'a> {
    pub(super) accept: &'a str,
    /// Sent to the first server, and to no other that it names.
    pub(super) authorization: Option<HeaderValue>,
    /// Bytes that are here already.
    pub(super) from: u64,
}

/// Speaks to servers; remembers nothing.
pub(super) struct Http {
    tls: TlsConnector,
    plain: Vec<String>,
}

impl Http {
    /// Trusts the system's authorities and these; hosts in `plain` are spoken to without TLS.
    pub(super) fn new(authorities: &[PathBuf], plain: &[String]) -> Result<Self, SourceError> {
        let mut roots = RootCertStore::empty();
        // What the system has and cannot be read is missed only where it is needed, and told there.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for path in authorities {
            let unreadable = |reason: String| SourceError::Authority { path: path.clone(), reason };
            for certificate in read_authorities(path).map_err(unreadable)? {
                roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), plain: plain.to_vec() })
    }

    /// `https://HOST`, or `http://HOST` where that was said.
    pub(super) fn base(&self, host: &str) -> String {
        let scheme = if self.plain.iter().any(|plain| plain == host) { "http" } else { "https" };
        format!("{scheme}://{host}")
    }

    /// Asks, follows redirects, and answers with what is to be read.
    pub(super) async fn get(
        &self,
        address: &str,
        asking: &Asking<'_>,
    ) -> Result<Response<Incoming>, HttpError> {
        let odd = |_| HttpError::Odd(format!("{address:?} is no address"));
        let mut uri: Uri = address.parse().map_err(odd)?;
        let first = uri.clone();
        for _ in 0..=REDIRECTS_MAX {
            let same = uri.authority() == first.authority() && uri.scheme() == first.scheme();
            let authorization = asking.authorization.as_ref().filter(|_| same);
            let answer = self.ask(&uri, asking, authorization).await?;
            if !answer.status().is_redirection() {
                return judge(answer).await;
            }
            let next = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            uri = resolve(&uri, next.unwrap_or_default())?;
        }
        Err(HttpError::Odd(format!("{address} leads from one server to the next without end")))
    }

    /// Asks for a document of bounded size.
    pub(super) async fn get_whole(
        &self,
        address: &str,
        asking: &Asking<'_>,
        limit: usize,
    ) -> Result<Bytes, HttpError> {
        let body = Limited::new(self.get(address, asking).await?.into_body(), limit);
        let whole = within(SILENCE, body.collect()).await?;
        whole.map(|whole| whole.to_bytes()).map_err(|error| {
            match error.is::<http_body_util::LengthLimitError>() {
                true => HttpError::Odd(format!("{address} is larger than {limit} bytes")),
                false => HttpError::Broken(error.to_string()),
            }
        })
    }

    async fn ask(
        &self,
        uri: &Uri,
        asking: &Asking<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, HttpError> {
        let odd = |error: &dyn std::error::Error| HttpError::Odd(error.to_string());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let mut request = Request::get(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("airlift/", env!("CARGO_PKG_VERSION")));
        if !asking.accept.is_empty() {
            request = request.header(ACCEPT, asking.accept);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if asking.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", asking.from));
        }
        let request = request.body(Empty::new()).map_err(|error| odd(&error))?;
        let mut sender = within(CONNECT_TIMEOUT, self.connect(uri)).await??;
        let answer = within(SILENCE, sender.send_request(request)).await?;
        answer.map_err(|error| HttpError::Broken(in_words(&error)))
    }

    async fn connect(&self, uri: &Uri) -> Result<SendRequest<Empty<Bytes>>, HttpError> {
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let broken = |error: io::Error| HttpError::Broken(format!("{host}:{port}: {error}"));
        let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(broken)?;
        if !tls {
            return open(tcp).await;
        }
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|_| HttpError::Odd(format!("{host:?} is no name of a server")))?;
        let stream = self.tls.connect(name, tcp).await.map_err(|error| {
            match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
                Some(cause) => HttpError::Certificate { host: host.clone(), reason: cause.to_string() },
                None => broken(error),
            }
        })?;
        open(stream).await
    }
}

async fn open(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Empty<Bytes>>, HttpError> {
    let opened = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(|error| HttpError::Broken(error.to_string()))?;
    // Its error is that of the request which is under way, and is told there.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// A refusal with the beginning of its words, or the answer as it is.
async fn judge(answer: Response<Incoming>) -> Result<Response<Incoming>, HttpError> {
    let status = answer.status();
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Ok(answer);
    }
    let challenge = answer.headers().get(hyper::header::WWW_AUTHENTICATE);
    let challenge = challenge.and_then(|challenge| challenge.to_str().ok()).map(str::to_owned);
    let body = within(SILENCE, Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect()).await?;
    // Without words the status has to do.
    let words = body.map(|body| body.to_bytes()).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ");
    Err(HttpError::Refused { status, challenge, words: words.chars().take(300).collect() })
}

/// Where a redirect leads; never from TLS to plain HTTP.
fn resolve(from: &Uri, location: &str) -> Result<Uri, HttpError> {
    let odd = || HttpError::Odd(format!("{from} leads to {location:?}, which is no address to follow"));
    let absolute = match location.strip_prefix('/') {
        Some(rest) if !rest.starts_with('/') => {
            let (scheme, authority) = (from.scheme_str().ok_or_else(odd)?, from.authority().ok_or_else(odd)?);
            format!("{scheme}://{authority}{location}")
        }
        _ => location.to_owned(),
    };
    let to: Uri = absolute.parse().map_err(|_| odd())?;
    match (from.scheme_str(), to.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => Ok(to),
        _ => Err(odd()),
    }
}

/// The next bytes of an answer; `None` at its end.
pub(super) async fn next_chunk(body: &mut Incoming) -> Result<Option<Bytes>, HttpError> {
    loop {
        match within(SILENCE, body.frame()).await? {
            None => return Ok(None),
            Some(Err(error)) => return Err(HttpError::Broken(in_words(&error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, HttpError> {
    let late = |_| HttpError::Broken(format!("no answer within {} s", limit.as_secs()));
    tokio::time::timeout(limit, work).await.map_err(late)
}

/// An error of hyper with its cause, which says what happened.
fn in_words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut pem = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(AUTHORITY_BYTES_MAX).read_to_end(&mut pem).map_err(|error| error.to_string())?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("holds no certificate in PEM".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_their_server_or_name_another_but_never_leave_tls() {
        let to = |from: &str, location: &str| {
            resolve(&from.parse().expect("an address"), location).map(|uri| uri.to_string()).ok()
        };
        let secure = "https://r.example:5000/v2/a/blobs/1";
        assert_eq!(to(secure, "/b?x=1").as_deref(), Some("https://r.example:5000/b?x=1"));
        assert_eq!(to(secure, "https://cdn.example/b").as_deref(), Some("https://cdn.example/b"));
        assert_eq!(
            to("http://127.0.0.1:1/a", "http://127.0.0.1:2/b").as_deref(),
            Some("http://127.0.0.1:2/b")
        );
        for location in ["http://cdn.example/b", "//cdn.example/b", "b", "", "file:///etc/passwd"] {
            assert_eq!(to(secure, location), None, "{location}");
        }
    }
}
