//! What is to be thought of bytes on disk: decisions over digests, with no file in them, so that simulated disks are
//! judged by the same words as real ones.
//!
//! A disk can lie: after a power cut, what it said was synced may be zeros. So a file is believed for its digest alone,
//! and what it turns out not to be is fetched again, which is nobody's fault but the disk's.

use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;

use crate::core::event::FailureClass;
use crate::ports::content::ContentError;

/// A transfer whose pieces are all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It is the blob, and takes its name.
    Whole,
    /// Pieces are not on the disk what they were on the way: all of it comes again.
    Again,
    /// Every piece fits a signed list, also as the disk has it, and the whole does not fit its digest: the bundle
    /// contradicts itself.
    Contradiction,
}

/// Judges a transfer by the digest of its file, where that has the blob's size; `fits` tells whether each piece, read
/// from the disk again, is the one of the signed list.
///
/// # Errors
/// Those of `fits`, which is asked only where the digest is another.
pub fn judge_finished<E>(
    signed: &Sha256Digest,
    found: Option<&Sha256Digest>,
    fits: impl FnOnce() -> Result<bool, E>,
) -> Result<Finished, E> {
    if found.is_some_and(|found| is_whole(signed, found)) {
        return Ok(Finished::Whole);
    }
    Ok(if fits()? { Finished::Contradiction } else { Finished::Again })
}

/// Judges a file that counts as a blob, before anything of it is used.
///
/// # Errors
/// [`ContentError`] of the surroundings: the blob is not here, whatever its row says.
pub fn judge_blob(signed: &Sha256Digest, found: &Sha256Digest) -> Result<(), ContentError> {
    if is_whole(signed, found) {
        return Ok(());
    }
    let reason = format!("{signed} was damaged on this disk and is fetched again");
    Err(ContentError { class: FailureClass::Environment, code: Code::BlobDigest, reason })
}

fn is_whole(signed: &Sha256Digest, found: &Sha256Digest) -> bool {
    #[cfg(feature = "mutations")]
    if crate::mutation::is(crate::mutation::Mutation::UnreadDigests) {
        return true;
    }
    signed == found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pieces_that_still_fit_on_the_disk_make_a_bundle_contradict_itself() {
        let (signed, other) = (Sha256Digest::of(b"signed"), Sha256Digest::of(b"other"));
        for (found, fits, expected) in [
            (Some(&signed), true, Finished::Whole),
            (Some(&signed), false, Finished::Whole),
            (Some(&other), false, Finished::Again),
            (None, false, Finished::Again),
            (Some(&other), true, Finished::Contradiction),
            (None, true, Finished::Contradiction),
        ] {
            let judged = judge_finished(&signed, found, || Ok::<_, ()>(fits));
            assert_eq!(judged, Ok(expected), "{found:?} {fits}");
        }
        assert_eq!(judge_blob(&signed, &signed), Ok(()));
        let damaged = judge_blob(&signed, &other).unwrap_err();
        assert_eq!((damaged.class, damaged.code), (FailureClass::Environment, Code::BlobDigest));
    }
}
