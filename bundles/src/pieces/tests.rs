use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn list_of(bytes: &[u8]) -> PieceList {
    let mut hasher = PieceHasher::default();
    hasher.update(bytes);
    hasher.finish()
}

#[test]
fn each_piece_is_verified_on_its_own() {
    let item: Vec<u8> = (0..PIECE_BYTES * 2 + 5).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let list = list_of(&item);
    assert_eq!(list.count(), 3);
    for (piece, bytes) in (0..).zip(item.chunks(PIECE_BYTES)) {
        assert_eq!(list.verify_piece(piece, bytes), Ok(()));
        assert_eq!(list.hash(piece), Some(Blake3Digest::of(bytes)));
    }
    let mut flipped = item[..PIECE_BYTES].to_vec();
    flipped[7] ^= 1;
    assert_eq!(list.verify_piece(0, &flipped), Err(PieceError::Mismatch { piece: 0 }));
    assert_eq!(list.verify_piece(1, &item[..PIECE_BYTES]), Err(PieceError::Mismatch { piece: 1 }));
    assert_eq!(list.verify_piece(2, &item[PIECE_BYTES * 2..][..4]), Err(PieceError::Mismatch { piece: 2 }));
    assert_eq!(list.verify_piece(3, &[]), Err(PieceError::Beyond { piece: 3, count: 3 }));
}

#[test]
fn a_list_that_does_not_fit_its_item_is_refused() {
    let size = PIECE_BYTES as u64 + 1;
    assert!(PieceList::new(size, vec![0; 64]).is_ok());
    for wrong in [0, 32, 63, 65, 96] {
        let refused = PieceList::new(size, vec![0; wrong]);
        assert_eq!(refused, Err(PieceError::ListLength { found: wrong, size }));
    }
    assert!(PieceList::new(u64::MAX, vec![0; 32]).is_err());
}

#[test]
fn a_long_list_is_split_in_order_at_one_mebibyte() {
    let hashes: Vec<u8> =
        (0..HASHES_PER_LIST + 1).flat_map(|at| [u8::try_from(at % 256).unwrap(); 32]).collect();
    let size = (HASHES_PER_LIST as u64 + 1) * PIECE_BYTES as u64;
    let list = PieceList::new(size, hashes.clone()).unwrap();
    let blobs = list.to_blobs();
    assert_eq!(blobs.iter().map(|blob| blob.len()).collect::<Vec<_>>(), [1 << 20, 32]);
    assert_eq!(PieceList::new(size, blobs.concat()).unwrap(), list);
}

#[test]
fn an_empty_item_has_no_pieces_and_is_complete() {
    let list = list_of(&[]);
    assert_eq!((list.count(), list.to_blobs()), (0, vec![&[][..]]));
    assert!(Bitmap::empty(0).is_complete());
}

#[test]
fn a_bitmap_with_bits_beyond_its_pieces_is_refused() {
    assert!(Bitmap::from_bytes(9, &[0xff, 0x01]).is_ok_and(|bitmap| bitmap.is_complete()));
    for wrong in [&[0xff][..], &[0xff, 0x02], &[0, 0, 0]] {
        assert!(Bitmap::from_bytes(9, wrong).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn a_list_is_the_same_however_the_bytes_arrive(
        size in 0_usize..300_000, cuts in proptest::collection::vec(1_usize..90_000, 1..8)
    ) {
        let item: Vec<u8> = (0..size).map(|at| u8::try_from(at * 7 % 253).unwrap()).collect();
        let mut hasher = PieceHasher::default();
        let (mut rest, mut turn) = (&item[..], 0);
        while !rest.is_empty() {
            let take = cuts[turn % cuts.len()].min(rest.len());
            hasher.update(&rest[..take]);
            rest = &rest[take..];
            turn += 1;
        }
        let list = hasher.finish();
        prop_assert_eq!(list.to_blobs().concat(), item.chunks(PIECE_BYTES)
            .flat_map(|piece| *Blake3Digest::of(piece).as_bytes()).collect::<Vec<_>>());
        prop_assert_eq!(PieceList::new(size as u64, list.to_blobs().concat()), Ok(list));
    }

    #[test]
    fn a_bitmap_remembers_exactly_what_was_set(
        count in 0_u64..200, pieces in proptest::collection::btree_set(0_u64..220, 0..60)
    ) {
        let mut bitmap = Bitmap::empty(count);
        let expected: BTreeSet<u64> = pieces.iter().copied().filter(|&piece| piece < count).collect();
        for &piece in &pieces {
            prop_assert_eq!(bitmap.set(piece), piece < count);
            prop_assert!(!bitmap.set(piece));
        }
        let here: BTreeSet<u64> = (0..300).filter(|&piece| bitmap.has(piece)).collect();
        prop_assert_eq!(&here, &expected);
        prop_assert_eq!(bitmap.count_here(), expected.len() as u64);
        let missing: Vec<u64> = bitmap.missing().flatten().collect();
        prop_assert_eq!(missing, (0..count).filter(|piece| !expected.contains(piece)).collect::<Vec<_>>());
        let runs: Vec<_> = bitmap.missing().collect();
        prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "runs are as long as can be");
        prop_assert_eq!(Bitmap::from_bytes(count, bitmap.as_bytes()), Ok(bitmap.clone()));
    }
}
