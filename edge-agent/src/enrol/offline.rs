//! The offline way: the request goes out on a stick, a person compares fingerprints, and the grant comes back.

use airlift_bundles::document::enrolment::fingerprint;
use airlift_bundles::document::root::{RootError, TrustedRoot};
use airlift_bundles::ids::{FleetId, IdError, Sha256Digest};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{Fingerprint, MediaError, MediaName, MediaSink, MediaSource};

use super::identity::{Ask, Identity, IdentityError};
use super::online::Granted;

/// The stick is of no use for enrolment.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// It cannot be read or written.
    #[error("cannot use the media")]
    Media(#[from] MediaError),
    /// The first root on it is not the pinned one.
    #[error("root 1 on the media is not accepted")]
    Root(#[from] RootError),
    /// The keys cannot be used.
    #[error("site keys cannot be used")]
    Identity(#[from] IdentityError),
    /// The fingerprint has another form than the name of a file.
    #[error("fingerprint cannot name a file")]
    Name(#[from] IdError),
}

/// The file name that request and grant share.
///
/// # Errors
/// [`IdError`] where the two forms of a fingerprint differ, which would be a fault of this program.
pub fn file_of(identity: &Identity) -> Result<Fingerprint, IdError> {
    Fingerprint::new(&fingerprint(&identity.site_key.public()))
}

/// The fleet that the pinned root is of, where the stick has that root.
///
/// # Errors
/// [`OfflineError::Root`] where its first root is another one, [`OfflineError::Media`].
pub fn fleet_on(
    media: &dyn MediaSource,
    root_sha256: &Sha256Digest,
) -> Result<Option<FleetId>, OfflineError> {
    let Some(bytes) = media.read_document(&MediaName::Root(1))? else { return Ok(None) };
    Ok(Some(TrustedRoot::pin(&bytes, root_sha256, &Limits::DEFAULT)?.fleet_id.clone()))
}

/// This key's fingerprint where its request is on the media already.
///
/// # Errors
/// [`OfflineError`].
pub fn request_on(media: &dyn MediaSource, identity: &Identity) -> Result<Option<String>, OfflineError> {
    let name = file_of(identity)?;
    let found = media.read_document(&MediaName::Request(name.clone()))?;
    Ok(found.map(|_| name.to_string()))
}

/// Writes the site's request onto a stick, and gives the fingerprint that a person compares.
///
/// # Errors
/// [`OfflineError`].
pub fn write_request(
    identity: &Identity,
    ask: &Ask,
    stick: &mut dyn MediaSink,
) -> Result<String, OfflineError> {
    let (request, bytes) = identity.request(ask)?;
    stick.put_document(&MediaName::Request(file_of(identity)?), &bytes)?;
    Ok(request.fingerprint())
}

/// Takes this site's grant and all roots from a stick, unverified; `None` where there is no grant for its key.
///
/// # Errors
/// [`OfflineError`].
pub fn read_grant(media: &dyn MediaSource, identity: &Identity) -> Result<Option<Granted>, OfflineError> {
    let Some(grant) = media.read_document(&MediaName::Grant(file_of(identity)?))? else { return Ok(None) };
    let mut roots = Vec::new();
    for version in 1..=Limits::DEFAULT.root_versions {
        match media.read_document(&MediaName::Root(version))? {
            Some(bytes) => roots.push(bytes),
            None => break,
        }
    }
    Ok(Some(Granted { roots, grant }))
}

#[cfg(test)]
mod tests {
    use airlift_bundles::code::Code;
    use airlift_bundles::ids::Timestamp;
    use airlift_bundles::media::{MediaDirectory, MediaDirectoryWriter};

    use super::*;

    #[test]
    fn the_request_goes_out_under_the_fingerprint_and_no_grant_is_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_make(&dir.path().join("keys")).unwrap();
        let ask = Ask {
            fleet_id: FleetId::new("fleet").unwrap(),
            root_sha256: Sha256Digest::of(b"root"),
            site: None,
            token: None,
            now: Timestamp::from_unix_s(0),
        };
        let mut stick = MediaDirectoryWriter::open(dir.path()).unwrap();
        let shown = write_request(&identity, &ask, &mut stick).unwrap();
        assert!(dir.path().join(format!("airlift-media/requests/{shown}.json")).is_file());
        let media = MediaDirectory::open(dir.path(), &Limits::DEFAULT).unwrap();
        assert_eq!(request_on(&media, &identity).unwrap(), Some(shown));
        assert!(read_grant(&media, &identity).unwrap().is_none());
        assert_eq!(fleet_on(&media, &ask.root_sha256).unwrap(), None);
    }

    #[test]
    fn a_stick_with_another_first_root_names_no_fleet() {
        let dir = tempfile::tempdir().unwrap();
        let mut stick = MediaDirectoryWriter::open(dir.path()).unwrap();
        stick.put_document(&MediaName::Root(1), b"{}").unwrap();
        let media = MediaDirectory::open(dir.path(), &Limits::DEFAULT).unwrap();
        let Err(OfflineError::Root(error)) = fleet_on(&media, &Sha256Digest::of(b"root")) else { panic!() };
        assert!([Code::EnvelopeMalformed, Code::RootNotPinned].contains(&error.code()), "{error}");
    }
}
