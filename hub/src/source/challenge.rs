//! How a registry lets us in: it says what it wants, a token or a password, and gets it once.

use std::cell::RefCell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::credentials::Login;
use super::http::{Asking, Http, HttpError};
use crate::cli::encode;

/// A token with its answer larger than this is none.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// What one repository's registry wants to hear.
pub(super) struct Access {
    login: Option<Login>,
    repository: String,
    /// Whether it is spoken to over TLS; then whoever gives out its tokens is too.
    tls: bool,
    authorization: RefCell<Option<HeaderValue>>,
}

/// A challenge of the registry (RFC 9110, 11.6.1), as far as registries use it.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Access {
    pub(super) fn new(login: Option<Login>, repository: &str, tls: bool) -> Self {
        Self { login, repository: repository.to_owned(), tls, authorization: RefCell::default() }
    }

    /// Asks with what is known; where that does not do, once more with what the registry wants.
    pub(super) async fn with<T>(
        &self,
        http: &Http,
        asking: &Asking<'_>,
        ask: impl AsyncFn(Asking<'_>) -> Result<T, HttpError>,
    ) -> Result<T, HttpError> {
        let known =
            |access: &Self| Asking { authorization: access.authorization.borrow().clone(), ..asking.clone() };
        match ask(known(self)).await {
            Err(HttpError::Refused { status: StatusCode::UNAUTHORIZED, challenge, words }) => {
                let wanted = challenge.as_deref().and_then(Challenge::parse);
                let Some(authorization) = self.answer(http, wanted).await? else {
                    return Err(HttpError::Refused { status: StatusCode::UNAUTHORIZED, challenge, words });
                };
                self.authorization.replace(Some(authorization));
                ask(known(self)).await
            }
            other => other,
        }
    }

    async fn answer(&self, http: &Http, wanted: Option<Challenge>) -> Result<Option<HeaderValue>, HttpError> {
        match wanted {
            None => Ok(None),
            Some(Challenge::Basic) => self.login.as_ref().map(basic).transpose(),
            Some(Challenge::Bearer { realm, .. }) if self.tls && !realm.starts_with("https://") => {
                Err(HttpError::Odd(format!("it wants the login to be sent to {realm}, without TLS")))
            }
            Some(Challenge::Bearer { realm, service }) => {
                let scope = format!("repository:{}:pull", self.repository);
                let joint = if realm.contains('?') { '&' } else { '?' };
                let service =
                    service.map(|service| format!("service={}&", encode(&service))).unwrap_or_default();
                let address = format!("{realm}{joint}{service}scope={}", encode(&scope));
                let authorization = self.login.as_ref().map(basic).transpose()?;
                let asking = Asking { authorization, ..Asking::default() };
                let answer = http.get_whole(&address, &asking, TOKEN_BYTES_MAX).await?;
                let odd = || HttpError::Odd(format!("{realm} did not answer with a token"));
                let token: Token = serde_json::from_slice(&answer).map_err(|_| odd())?;
                let token = Zeroizing::new(token.token.or(token.access_token).ok_or_else(odd)?);
                secret(&format!("Bearer {}", token.as_str())).map(Some)
            }
        }
    }
}

impl Challenge {
    /// Reads `Bearer realm="…",service="…"` or `Basic …`; all else is none that can be answered.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut rest) = (None, None, rest.trim_start());
        while let Some((key, value)) = rest.split_once('=') {
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_at(value.find(',').unwrap_or(value.len())),
            };
            match key.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start_matches([',', ' ']);
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

fn basic(login: &Login) -> Result<HeaderValue, HttpError> {
    let pair = Zeroizing::new(format!("{}:{}", login.user, login.secret.as_str()));
    secret(&format!("Basic {}", STANDARD.encode(pair.as_bytes())))
}

/// A header whose value is not shown.
fn secret(text: &str) -> Result<HeaderValue, HttpError> {
    let value = HeaderValue::from_str(text);
    let mut value =
        value.map_err(|_| HttpError::Odd("the login has characters that HTTP cannot send".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_known_registries_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a,b:pull""#,
                bearer("https://ghcr.io/token", Some("ghcr.io")),
            ),
            ("bearer service=x, realm=https://r.example/t", bearer("https://r.example/t", Some("x"))),
            (r#"Basic realm="https://1.dkr.ecr.example/",service="ecr.example""#, Some(Challenge::Basic)),
            ("Negotiate", None),
            (r#"Bearer service="x""#, None),
            (r#"Bearer realm="cut"#, None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }
}
