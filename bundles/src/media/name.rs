//! The names that media may hold; nothing else on it is ever opened.

use std::fmt;
use std::str::FromStr;

use crate::ids::{Blake3Digest, IdError, RandomId, Sha256Digest, SiteId};

/// What a person compares on both screens: eight groups of four hex digits of the site key's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Checks the form of `text`.
    ///
    /// # Errors
    /// [`IdError`] with the required form.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let group = |group: &str| group.len() == 4 && group.bytes().all(digit);
        if text.len() == 39 && text.split('-').all(group) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(text, "a fingerprint (eight groups of four hex digits)"))
        }
    }

    /// The fingerprint as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A file of media; the order of the kinds is the order in which they are written and read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaName {
    /// `roots/<version>.json`.
    Root(u64),
    /// `releases/<sha256 of the payload>.json`.
    Release(Sha256Digest),
    /// `assignments/<site>.json`.
    Assignment(SiteId),
    /// `requests/<fingerprint>.json`.
    Request(Fingerprint),
    /// `grants/<fingerprint>.json`.
    Grant(Fingerprint),
    /// `secrets/<sha256>`.
    Secret(Sha256Digest),
    /// `blobs/sha256/<hex>`.
    Blob(Sha256Digest),
    /// `encodings/<blake3>`.
    Encoding(Blake3Digest),
    /// `receipts/<site>/<chain_id>-<from>-<upto>.json`.
    Receipts {
        /// The site.
        site: SiteId,
        /// The chain.
        chain_id: RandomId,
        /// First receipt.
        from: u64,
        /// Last receipt.
        upto: u64,
    },
}

/// A class of names: one directory of the media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaKind {
    /// `roots/`.
    Roots,
    /// `releases/`.
    Releases,
    /// `assignments/`.
    Assignments,
    /// `requests/`.
    Requests,
    /// `grants/`.
    Grants,
    /// `secrets/`.
    Secrets,
    /// `blobs/sha256/`.
    Blobs,
    /// `encodings/`.
    Encodings,
    /// `receipts/`, one directory a site.
    Receipts,
}

impl MediaKind {
    /// The kinds whose files are documents of at most 1 MiB.
    pub const DOCUMENTS: [Self; 7] = [
        Self::Roots,
        Self::Releases,
        Self::Assignments,
        Self::Requests,
        Self::Grants,
        Self::Secrets,
        Self::Receipts,
    ];

    /// Its directory.
    #[must_use]
    pub fn directory(self) -> &'static str {
        match self {
            Self::Roots => "roots",
            Self::Releases => "releases",
            Self::Assignments => "assignments",
            Self::Requests => "requests",
            Self::Grants => "grants",
            Self::Secrets => "secrets",
            Self::Blobs => "blobs/sha256",
            Self::Encodings => "encodings",
            Self::Receipts => "receipts",
        }
    }
}

impl MediaName {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        match self {
            Self::Root(_) => MediaKind::Roots,
            Self::Release(_) => MediaKind::Releases,
            Self::Assignment(_) => MediaKind::Assignments,
            Self::Request(_) => MediaKind::Requests,
            Self::Grant(_) => MediaKind::Grants,
            Self::Secret(_) => MediaKind::Secrets,
            Self::Blob(_) => MediaKind::Blobs,
            Self::Encoding(_) => MediaKind::Encodings,
            Self::Receipts { .. } => MediaKind::Receipts,
        }
    }
}

impl fmt::Display for MediaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.kind().directory();
        match self {
            Self::Root(version) => write!(f, "{dir}/{version}.json"),
            Self::Release(sha256) => write!(f, "{dir}/{}.json", sha256.to_hex()),
            Self::Assignment(site) => write!(f, "{dir}/{site}.json"),
            Self::Request(fingerprint) | Self::Grant(fingerprint) => write!(f, "{dir}/{fingerprint}.json"),
            Self::Secret(sha256) | Self::Blob(sha256) => write!(f, "{dir}/{}", sha256.to_hex()),
            Self::Encoding(blake3) => write!(f, "{dir}/{}", blake3.to_hex()),
            Self::Receipts { site, chain_id, from, upto } => {
                write!(f, "{dir}/{site}/{chain_id}-{from}-{upto}.json")
            }
        }
    }
}

impl FromStr for MediaName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let other = || refuse(text, "a name of the media's list");
        let (dir, file) = match text.split_once('/') {
            Some(("blobs", rest)) => ("blobs/sha256", rest.strip_prefix("sha256/").ok_or_else(other)?),
            Some((dir, file)) => (dir, file),
            None => return Err(other()),
        };
        let stem = || file.strip_suffix(".json").ok_or_else(other);
        match dir {
            "roots" => Ok(Self::Root(parse_number(stem()?).ok_or_else(other)?)),
            "releases" => Sha256Digest::from_hex(stem()?).map(Self::Release),
            "assignments" => SiteId::new(stem()?).map(Self::Assignment),
            "requests" => Fingerprint::new(stem()?).map(Self::Request),
            "grants" => Fingerprint::new(stem()?).map(Self::Grant),
            "secrets" => Sha256Digest::from_hex(file).map(Self::Secret),
            "blobs/sha256" => Sha256Digest::from_hex(file).map(Self::Blob),
            "encodings" => Blake3Digest::from_hex(file).map(Self::Encoding),
            "receipts" => {
                let (site, range) = stem()?.split_once('/').ok_or_else(other)?;
                let parts: Vec<&str> = range.split('-').collect();
                let [chain_id, from, upto] = parts.as_slice() else { return Err(other()) };
                let (from, upto) = parse_number(from)
                    .zip(parse_number(upto))
                    .filter(|(from, upto)| from <= upto)
                    .ok_or_else(other)?;
                Ok(Self::Receipts {
                    site: SiteId::new(site)?,
                    chain_id: RandomId::new(chain_id)?,
                    from,
                    upto,
                })
            }
            _ => Err(other()),
        }
    }
}

/// A name and, where its file is split, the number of the part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaEntry {
    /// The file.
    pub name: MediaName,
    /// The part, counted from 0; `None` for a whole file.
    pub part: Option<u32>,
}

impl fmt::Display for MediaEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name, f)?;
        self.part.map_or(Ok(()), |part| write!(f, ".part-{part:04}"))
    }
}

impl FromStr for MediaEntry {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (name, part) = match text.rsplit_once(".part-") {
            Some((name, part)) => (name, Some(part)),
            None => (text, None),
        };
        let name: MediaName = name.parse()?;
        let fits = matches!(name, MediaName::Blob(_) | MediaName::Encoding(_));
        let Some(part) = part else { return Ok(Self { name, part: None }) };
        let digits = part.len() == 4 && part.bytes().all(|byte| byte.is_ascii_digit());
        let part = part.parse().ok().filter(|&part| fits && digits && part < super::PARTS_MAX);
        let part = Some(part.ok_or_else(|| refuse(text, "a name of the media's list"))?);
        Ok(Self { name, part })
    }
}

/// A decimal number in its one spelling.
fn parse_number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn refuse(text: &str, expected: &'static str) -> IdError {
    IdError { expected, found: text.chars().take(80).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_list_has_one_spelling() {
        let hex = "ab".repeat(32);
        let fingerprint = ["0a1b"; 8].join("-");
        let chain = "0f".repeat(16);
        for text in [
            "roots/1.json".to_owned(),
            format!("releases/{hex}.json"),
            "assignments/site-7.json".to_owned(),
            format!("requests/{fingerprint}.json"),
            format!("grants/{fingerprint}.json"),
            format!("secrets/{hex}"),
            format!("blobs/sha256/{hex}"),
            format!("encodings/{hex}"),
            format!("receipts/site-7/{chain}-1-20.json"),
        ] {
            assert_eq!(text.parse::<MediaName>().map(|name| name.to_string()), Ok(text.clone()));
            assert!(text.len() < 100 || text.starts_with("receipts/"), "{text} fits a tar header");
        }
        let part = format!("blobs/sha256/{hex}.part-0003");
        assert_eq!(part.parse::<MediaEntry>().unwrap().to_string(), part);
    }

    #[test]
    fn whatever_is_not_on_the_list_is_refused() {
        let hex = "ab".repeat(32);
        let chain = "0f".repeat(16);
        for text in [
            "".to_owned(),
            "index.json".to_owned(),
            "roots/01.json".to_owned(),
            "roots/+1.json".to_owned(),
            "roots/1".to_owned(),
            "Roots/1.json".to_owned(),
            "roots/1.JSON".to_owned(),
            "./roots/1.json".to_owned(),
            "/roots/1.json".to_owned(),
            "roots//1.json".to_owned(),
            "roots/../roots/1.json".to_owned(),
            "assignments/../x.json".to_owned(),
            "assignments/.json".to_owned(),
            format!("blobs/sha256/{}", hex.to_uppercase()),
            format!("blobs/sha512/{hex}"),
            format!("blobs/sha256/{hex}/"),
            format!("blobs/sha256/{hex}\0"),
            format!("blobs/{hex}"),
            format!("receipts/a/b/{chain}-1-2.json"),
            format!("receipts/site/{chain}-2-1.json"),
            format!("receipts/../{chain}-1-2.json"),
            "requests/0a1b.json".to_owned(),
        ] {
            assert!(text.parse::<MediaEntry>().is_err(), "{text:?}");
        }
        for part in ["part-1", "part-00001", "part-9999", "part-+001"] {
            let text = format!("blobs/sha256/{hex}.{part}");
            assert!(text.parse::<MediaEntry>().is_err(), "{text}");
        }
        assert!("roots/1.json.part-0000".parse::<MediaEntry>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_name_that_parses_prints_as_it_was(text in "[a-z]{5,11}/[a-f0-9./-]{0,70}(json)?") {
            if let Ok(name) = text.parse::<MediaName>() {
                proptest::prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
