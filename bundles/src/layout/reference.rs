//! Names of images: what a pod writes, what the container runtime stores, and what a bundle carries.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{IdError, Sha256Digest};

/// A full image name: registry host, repository, and a tag, a digest or both.
///
/// Short names become full ones as the container runtime does it: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    repository: String,
    tag: Option<String>,
    digest: Option<Sha256Digest>,
}

impl ImageReference {
    /// Registry host and repository: `docker.io/library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; a name without tag and digest has `latest`.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where the name is pinned.
    #[must_use]
    pub fn digest(&self) -> Option<&Sha256Digest> {
        self.digest.as_ref()
    }

    /// The same name pinned to `digest`.
    #[must_use]
    pub fn pin(&self, digest: Sha256Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same name with its tag only, or `None` where it has none.
    #[must_use]
    pub fn without_digest(&self) -> Option<Self> {
        self.tag.is_some().then(|| Self { digest: None, ..self.clone() })
    }

    /// The same name with its digest only (`repository@sha256:…`), under which the container runtime looks a
    /// pinned name up, or `None` where it has no digest.
    #[must_use]
    pub fn without_tag(&self) -> Option<Self> {
        self.digest.is_some().then(|| Self { tag: None, ..self.clone() })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl FromStr for ImageReference {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse(text).ok_or_else(|| IdError {
            expected: "an image name such as registry.example/app:1.2",
            found: text.chars().take(80).collect(),
        })
    }
}

impl Serialize for ImageReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn parse(text: &str) -> Option<ImageReference> {
    if text.len() > 512 {
        return None;
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest.parse().ok()?)),
        None => (text, None),
    };
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path.to_owned()),
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let fits = is_host_name(host)
        && host.len() + path.len() < 255
        && path.split('/').all(is_path_part)
        && tag.is_none_or(is_tag);
    let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
    fits.then(|| ImageReference { repository: format!("{host}/{path}"), tag: tag.map(str::to_owned), digest })
}

fn is_host_name(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "1"));
    let port_fits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port_fits && host.split('.').all(label)
}

/// Lower-case letters and digits, with single `.`, one or two `_`, or any number of `-` between them.
fn is_path_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<u8>| byte.is_some_and(inner);
    let separators = text.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    ends(text.bytes().next())
        && ends(text.bytes().last())
        && separators
            .into_iter()
            .all(|run| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_become_the_names_of_the_container_runtime() {
        let digest = Sha256Digest::of(b"x");
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.25", "docker.io/library/nginx:1.25".to_owned()),
            ("team/app", "docker.io/team/app:latest".to_owned()),
            ("localhost/app:1", "localhost/app:1".to_owned()),
            ("registry:5000/app", "registry:5000/app:latest".to_owned()),
            ("index.docker.io/a/b:1", "docker.io/a/b:1".to_owned()),
            ("r.example/a__b/c-d.e:V1_2", "r.example/a__b/c-d.e:V1_2".to_owned()),
            (&format!("nginx:1@{digest}"), format!("docker.io/library/nginx:1@{digest}")),
            (&format!("nginx@{digest}"), format!("docker.io/library/nginx@{digest}")),
        ] {
            assert_eq!(text.parse::<ImageReference>().map(|name| name.to_string()), Ok(full), "{text}");
        }
    }

    #[test]
    fn what_is_no_image_name_is_refused() {
        for text in [
            "",
            ":1",
            "UPPER",
            "a..b",
            "a/",
            "/a",
            "a//b",
            "-a",
            "a:",
            "a:-1",
            "a@sha256:12",
            "a b",
            "a:b:c",
            "../a",
            "r.example:/a",
            "r.example:x/a",
            "http://a/b",
            "a___b",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pinned_name_gives_both_of_its_halves() {
        let digest = Sha256Digest::of(b"x");
        let name: ImageReference = "app:1".parse().unwrap();
        let pinned = name.pin(digest);
        assert_eq!(pinned.without_digest().as_ref(), Some(&name));
        assert_eq!(pinned.without_tag().unwrap().to_string(), format!("docker.io/library/app@{digest}"));
        assert_eq!(name.without_tag(), None);
    }
}
