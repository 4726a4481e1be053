//! Reads a kubeconfig: where the API server is, whom to believe, and who we are.
//!
//! What a cluster writes for its own programs is read: certificates and tokens, as data or as files. Programs and plug-ins
//! that fetch credentials are for people's workstations; where a file asks for one, or for no verification at all, that is
//! said rather than done.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use airlift_bundles::pack::read_yaml_value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::Uri;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

use crate::tls::{self, TlsError};

/// A kubeconfig has certificates and a few names, and so have the files that it names: far less than this.
const BYTES_MAX: u64 = 1 << 20;
/// A kubeconfig is three deep, with extensions a little more.
const DEPTH_MAX: usize = 32;
/// Ways of a cluster entry that are refused.
const CLUSTER_REFUSED: [&str; 2] = ["insecure-skip-tls-verify", "proxy-url"];
/// Ways of a user entry that are refused.
const USER_REFUSED: [&str; 6] = ["exec", "auth-provider", "username", "as", "as-groups", "as-uid"];

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KubeconfigError {
    /// It, or a file that it names, cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no YAML.
    #[error("it is not YAML: {0}")]
    Yaml(String),
    /// Something is not there that must be.
    #[error("it has no {0}")]
    Missing(String),
    /// It asks for what is not done here.
    #[error("`{0}` is not supported: give a certificate authority, and a client certificate or a token")]
    Refused(&'static str),
    /// The address is not one.
    #[error("server {0:?} is not an https address")]
    Server(String),
    /// Base64 or PEM that is none.
    #[error("its {0} cannot be read")]
    Malformed(&'static str),
    /// TLS cannot be set up from it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How to reach one API server.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Host name or address.
    pub(super) host: String,
    pub(super) port: u16,
    /// What every path begins with; empty but behind a proxy for many clusters.
    pub(super) prefix: String,
    /// The name that its certificate must have.
    pub(super) name: ServerName<'static>,
    pub(super) tls: ClientConfig,
    pub(super) token: Option<String>,
}

/// Reads a file whole, where it is small enough.
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>, KubeconfigError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(io::Error::other(format!("it is longer than {BYTES_MAX} bytes")));
        }
        Ok(bytes)
    };
    read().map_err(|source| KubeconfigError::File { path: path.to_owned(), source })
}

/// Reads the current context; files that it names lie relative to `dir`.
pub(super) fn read(text: &str, dir: &Path) -> Result<Access, KubeconfigError> {
    let config = read_yaml_value(text, DEPTH_MAX).map_err(KubeconfigError::Yaml)?;
    let context = word(&config, "current-context")
        .ok_or_else(|| KubeconfigError::Missing("current-context".to_owned()))?;
    let context = entry(&config, "contexts", context, "context")?;
    let named = |part: &str| {
        word(context, part).ok_or_else(|| KubeconfigError::Missing(format!("{part} in its context")))
    };
    let cluster = entry(&config, "clusters", named("cluster")?, "cluster")?;
    let user = entry(&config, "users", named("user")?, "user")?;
    for (part, refused) in [(cluster, &CLUSTER_REFUSED[..]), (user, &USER_REFUSED[..])] {
        if let Some(refused) = refused.iter().find(|way| asks_for(part, way)) {
            return Err(KubeconfigError::Refused(refused));
        }
    }

    let server = word(cluster, "server").ok_or_else(|| KubeconfigError::Missing("server".to_owned()))?;
    let (host, port, prefix) =
        read_server(server).ok_or_else(|| KubeconfigError::Server(server.to_owned()))?;
    let name = word(cluster, "tls-server-name").unwrap_or(&host).to_owned();
    let name = ServerName::try_from(name).map_err(|_| KubeconfigError::Malformed("tls-server-name"))?;

    let authorities = pem(cluster, dir, "certificate-authority")?
        .ok_or_else(|| KubeconfigError::Missing("certificate-authority".to_owned()))?;
    let authorities = certificates(&authorities, "certificate-authority")?;
    let identity = match (pem(user, dir, "client-certificate")?, pem(user, dir, "client-key")?) {
        (Some(chain), Some(key)) => {
            let key =
                PrivateKeyDer::from_pem_slice(&key).map_err(|_| KubeconfigError::Malformed("client-key"))?;
            Some((certificates(&chain, "client-certificate")?, key))
        }
        (None, None) => None,
        (Some(_), None) => return Err(KubeconfigError::Missing("client-key".to_owned())),
        (None, Some(_)) => return Err(KubeconfigError::Missing("client-certificate".to_owned())),
    };
    let token = match (word(user, "token"), word(user, "tokenFile")) {
        (Some(token), _) => Some(token.to_owned()),
        (None, Some(file)) => {
            let token = String::from_utf8(read_small(&dir.join(file))?);
            Some(token.map_err(|_| KubeconfigError::Malformed("tokenFile"))?.trim().to_owned())
        }
        (None, None) => None,
    };
    let tls = tls::cluster(&authorities, identity)?;
    Ok(Access { host, port, prefix, name, tls, token })
}

/// A text that is there and not empty: kubectl writes empty ones for what is not set.
fn word<'a>(part: &'a Value, field: &str) -> Option<&'a str> {
    part.get(field)?.as_str().filter(|text| !text.is_empty())
}

fn asks_for(part: &Value, way: &str) -> bool {
    !matches!(part.get(way), None | Some(Value::Null | Value::Bool(false)))
}

/// The part of the entry of that name in one of the lists.
fn entry<'a>(config: &'a Value, list: &str, name: &str, part: &str) -> Result<&'a Value, KubeconfigError> {
    let entries = config.get(list).and_then(Value::as_array).into_iter().flatten();
    let mut named = entries.filter(|entry| word(entry, "name") == Some(name));
    named
        .find_map(|entry| entry.get(part))
        .ok_or_else(|| KubeconfigError::Missing(format!("{part} {name:?}")))
}

/// Host, port and what paths begin with.
fn read_server(server: &str) -> Option<(String, u16, String)> {
    let uri: Uri = server.parse().ok()?;
    let host = uri.host().filter(|host| !host.is_empty() && uri.scheme_str() == Some("https"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(443);
    Some((host, port, uri.path().trim_end_matches('/').to_owned()))
}

/// What stands in the field `<name>-data`, else in the file that the field `<name>` says.
fn pem(part: &Value, dir: &Path, name: &'static str) -> Result<Option<Vec<u8>>, KubeconfigError> {
    if let Some(data) = word(part, &format!("{name}-data")) {
        return BASE64.decode(data).map(Some).map_err(|_| KubeconfigError::Malformed(name));
    }
    word(part, name).map(|file| read_small(&dir.join(file))).transpose()
}

fn certificates(pem: &[u8], name: &'static str) -> Result<Vec<CertificateDer<'static>>, KubeconfigError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|read| !read.is_empty()).ok_or(KubeconfigError::Malformed(name))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A kubeconfig as K3s writes it, with these lines in the cluster's and in the user's part.
    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n{cluster}  name: default\ncontexts:\n- context:\n    cluster: default\n    \
             user: default\n  name: default\ncurrent-context: default\nkind: Config\npreferences: {{}}\nusers:\n- name: \
             default\n  user:\n{user}"
        )
    }

    fn encoded(pem: &str) -> String {
        BASE64.encode(pem)
    }

    fn keys() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["kubernetes".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn certificates_may_stand_in_the_file_or_beside_it() {
        let (certificate, key) = keys();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), &certificate).unwrap();
        let cluster = "    certificate-authority: ca.crt\n    server: https://127.0.0.1:6443\n";
        let user = format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            encoded(&certificate),
            encoded(&key)
        );
        let access = read(&kubeconfig(cluster, &user), dir.path()).unwrap();
        assert_eq!((access.host.as_str(), access.port, access.prefix.as_str()), ("127.0.0.1", 6443, ""));
        assert!(access.tls.client_auth_cert_resolver.has_certs() && access.token.is_none());
    }

    #[test]
    fn a_token_may_come_from_a_file_and_paths_begin_with_the_servers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "abc\n").unwrap();
        let cluster = format!(
            "    certificate-authority-data: {}\n    server: https://[fd00::1]/k8s/clusters/c1/\n    tls-server-name: kubernetes\n",
            encoded(&keys().0)
        );
        let access = read(&kubeconfig(&cluster, "    tokenFile: token\n"), dir.path()).unwrap();
        assert_eq!(access.token.as_deref(), Some("abc"));
        assert_eq!((access.host.as_str(), access.port), ("fd00::1", 443));
        assert_eq!(access.prefix, "/k8s/clusters/c1");
        assert_eq!(access.name, ServerName::try_from("kubernetes").unwrap());
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let authority = format!("    certificate-authority-data: {}\n", encoded(&keys().0));
        let server = "    server: https://127.0.0.1:6443\n";
        let good = format!("{authority}{server}");
        let rows = [
            (server.to_owned(), "    token: abc\n", "it has no certificate-authority"),
            (authority.clone(), "    token: abc\n", "it has no server"),
            (
                format!("{authority}    server: http://127.0.0.1\n"),
                "    token: abc\n",
                "is not an https address",
            ),
            (format!("{good}    insecure-skip-tls-verify: true\n"), "    token: abc\n", "is not supported"),
            (good.clone(), "    exec:\n      command: aws\n", "`exec` is not supported"),
            (good.clone(), "    client-certificate-data: YWJj\n", "it has no client-key"),
            (good.clone(), "    tokenFile: nowhere\n", "nowhere cannot be read"),
            (good.clone(), "    token: [\n", "it is not YAML"),
            (
                format!("    certificate-authority-data: '%'\n{server}"),
                "    token: a\n",
                "its certificate-authority",
            ),
        ];
        for (cluster, user, words) in rows {
            let error = read(&kubeconfig(&cluster, user), Path::new("/nonexistent")).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let other =
            kubeconfig(&good, "    token: a\n").replace("current-context: default", "current-context: x");
        assert_eq!(read(&other, Path::new("/")).unwrap_err().to_string(), "it has no context \"x\"");
    }
}
