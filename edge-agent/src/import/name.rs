//! Image names, expanded as Kubernetes' side of containerd expands them.
//!
//! The rules are those of the distribution reference grammar: a pod's `app:1` is looked up as
//! `docker.io/library/app:1`, and a name with a digest is looked up without its tag. A record under any other
//! spelling would be there and never be found.

use airlift_bundles::ids::Sha256Digest;

use crate::ports::images::ImportError;

/// A name longer than this is refused by every registry and by containerd.
const REPOSITORY_CHARS_MAX: usize = 255;
const TAG_CHARS_MAX: usize = 128;

/// An image name in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// Registry host, `docker.io` when none was written.
    pub host: String,
    /// Repository at the host, with `library/` where docker.io implies it.
    pub path: String,
    /// Tag, if one was written.
    pub tag: Option<String>,
    /// Digest, if one was written.
    pub digest: Option<Sha256Digest>,
    /// Whether the host was written, and so is a source to be named in labels.
    pub host_written: bool,
}

impl ImageName {
    /// Reads a name as pods write it.
    ///
    /// # Errors
    /// [`ImportError::NameInvalid`] when the runtime would not accept it.
    pub fn parse(reference: &str) -> Result<Self, ImportError> {
        let invalid =
            |reason| ImportError::NameInvalid { reference: reference.chars().take(300).collect(), reason };
        let (rest, digest) = match reference.split_once('@') {
            None => (reference, None),
            Some((rest, digest)) => (
                rest,
                Some(digest.parse().map_err(|_| invalid("its digest is not sha256 and 64 hex digits"))?),
            ),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("its tag is not 1 to 128 letters, digits, `_`, `.` or `-`"));
        }
        if repository.len() == 64 && repository.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid("64 hex digits are an image id, not a name"));
        }
        let (host, path, host_written) = match repository.split_once('/') {
            Some((first, path)) if is_host_like(first) => (first, path.to_owned(), true),
            _ => ("docker.io", repository.to_owned(), false),
        };
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        if !is_host(host) {
            return Err(invalid("its registry host is not a host name"));
        }
        let implied = host == "docker.io" && !path.contains('/');
        let path = if implied { format!("library/{path}") } else { path };
        if !path.split('/').all(is_path_component) {
            return Err(invalid(
                "its repository is not lower-case letters and digits with single separators",
            ));
        }
        if host.len() + 1 + path.len() > REPOSITORY_CHARS_MAX {
            return Err(invalid("its repository is longer than 255 characters"));
        }
        Ok(Self { host: host.to_owned(), path, tag: tag.map(str::to_owned), digest, host_written })
    }

    /// `host/path`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// The record under which Kubernetes' side looks for this name.
    #[must_use]
    pub fn lookup(&self) -> String {
        self.digest.map_or_else(|| self.tagged(), |digest| self.digested(digest))
    }

    /// All records that a pull of this name would leave for this content: by tag, if it has one or nothing at all
    /// was written, and by digest.
    #[must_use]
    pub fn records(&self, top: Sha256Digest) -> Vec<String> {
        let tagged = (self.tag.is_some() || self.digest.is_none()).then(|| self.tagged());
        tagged.into_iter().chain([self.digested(top)]).collect()
    }

    fn tagged(&self) -> String {
        format!("{}:{}", self.repository(), self.tag.as_deref().unwrap_or("latest"))
    }

    fn digested(&self, digest: Sha256Digest) -> String {
        format!("{}@{digest}", self.repository())
    }
}

/// Whether the part before the first slash is a host by its looks, and not docker.io's first folder.
fn is_host_like(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_address = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let port_fits =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    port_fits && (is_address || name.split('.').all(is_label))
}

/// Lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = component.bytes().next().is_some_and(word) && component.bytes().last().is_some_and(word);
    let separators = component.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    edges
        && separators.filter(|separator| !separator.is_empty()).all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_CHARS_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(reference: &str) -> String {
        ImageName::parse(reference).expect("a valid name").lookup()
    }

    #[test]
    fn names_expand_as_the_runtime_expands_them() {
        let digest = Sha256Digest::of(b"top");
        assert_eq!(lookup("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(lookup("busybox:1.36"), "docker.io/library/busybox:1.36");
        assert_eq!(lookup("rancher/mirrored-pause:3.6"), "docker.io/rancher/mirrored-pause:3.6");
        assert_eq!(lookup("docker.io/busybox"), "docker.io/library/busybox:latest");
        assert_eq!(lookup("index.docker.io/library/busybox"), "docker.io/library/busybox:latest");
        assert_eq!(lookup("localhost/app"), "localhost/app:latest");
        assert_eq!(lookup("localhost:5000/app"), "localhost:5000/app:latest");
        assert_eq!(lookup("Registry/app:1"), "Registry/app:1");
        assert_eq!(lookup("[::1]:5000/app:1"), "[::1]:5000/app:1");
        assert_eq!(lookup(&format!("ghcr.io/a/b:2@{digest}")), format!("ghcr.io/a/b@{digest}"));
    }

    #[test]
    fn records_are_those_that_a_pull_would_leave() {
        let top = Sha256Digest::of(b"top");
        let records = |reference: &str| ImageName::parse(reference).expect("a valid name").records(top);
        let by_digest = format!("docker.io/library/app@{top}");
        assert_eq!(records("app:1"), ["docker.io/library/app:1".to_owned(), by_digest.clone()]);
        assert_eq!(
            records(&format!("app:1@{top}")),
            ["docker.io/library/app:1".to_owned(), by_digest.clone()]
        );
        assert_eq!(records(&format!("app@{top}")), std::slice::from_ref(&by_digest));
        assert_eq!(records("app"), ["docker.io/library/app:latest".to_owned(), by_digest]);
    }

    #[test]
    fn only_a_written_host_counts_as_a_source() {
        assert!(!ImageName::parse("busybox").expect("valid").host_written);
        assert!(!ImageName::parse("team/app").expect("valid").host_written);
        assert!(ImageName::parse("docker.io/team/app").expect("valid").host_written);
    }

    #[test]
    fn names_that_the_runtime_refuses_are_refused_here() {
        let long = "a".repeat(256);
        let hex = "a".repeat(64);
        let tag = format!("app:{}", "t".repeat(129));
        for bad in [
            "",
            "App",
            "a//b",
            "a/",
            "/a",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "app:",
            "app:-x",
            "app:a b",
            "app@sha256:12",
            "app@sha512:00",
            "-h.io/app",
            "h.io:x/app",
            "reg.io/App",
            "app\n",
            "a/b@",
            &long,
            &hex,
            &tag,
        ] {
            let error = ImageName::parse(bad);
            assert!(matches!(error, Err(ImportError::NameInvalid { .. })), "{bad:?} gave {error:?}");
        }
    }
}
