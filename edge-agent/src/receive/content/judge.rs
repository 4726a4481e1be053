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
    /// Pieces that an earlier process wrote are not what they were: all of it comes again.
    Again,
    /// Every piece was seen by this process to fit a signed list, and the whole does not fit its digest: the bundle
    /// contradicts itself.
    Contradiction,
}

/// Judges a transfer by the digest of its file, where that has the blob's size; `resumed` where pieces of it were
/// found on disk when the process began.
#[must_use]
pub fn judge_finished(signed: &Sha256Digest, found: Option<&Sha256Digest>, resumed: bool) -> Finished {
    match found {
        Some(found) if is_whole(signed, found) => Finished::Whole,
        _ if resumed => Finished::Again,
        _ => Finished::Contradiction,
    }
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
    fn only_pieces_that_this_process_saw_make_a_bundle_contradict_itself() {
        let (signed, other) = (Sha256Digest::of(b"signed"), Sha256Digest::of(b"other"));
        for (found, resumed, expected) in [
            (Some(&signed), true, Finished::Whole),
            (Some(&signed), false, Finished::Whole),
            (Some(&other), true, Finished::Again),
            (None, true, Finished::Again),
            (Some(&other), false, Finished::Contradiction),
            (None, false, Finished::Contradiction),
        ] {
            assert_eq!(judge_finished(&signed, found, resumed), expected, "{found:?} {resumed}");
        }
        assert_eq!(judge_blob(&signed, &signed), Ok(()));
        let damaged = judge_blob(&signed, &other).unwrap_err();
        assert_eq!((damaged.class, damaged.code), (FailureClass::Environment, Code::BlobDigest));
    }
}
