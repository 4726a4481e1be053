//! Published and made vectors: Ed25519 by Wycheproof, its edges by arithmetic, DSSE by its protocol.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use airlift_bundles::envelope::{Contradiction, Document, Envelope};
use airlift_bundles::ids::{Sha256Digest, encode_hex};
use airlift_bundles::keys::PublicKey;
use airlift_bundles::limits::Limits;
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as BASE, EIGHT_TORSION};
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha512};

const WYCHEPROOF: &[u8] = include_bytes!("data/wycheproof-ed25519.json");
const DSSE: &[u8] = include_bytes!("data/dsse.json");

fn unhex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn all_151_verdicts_of_wycheproof_are_ours() {
    let digest = "752d2ea7d7c6cf4736381b6cbacb61f8182b126ab7cd9b058f00c50084975536";
    assert_eq!(Sha256Digest::of(WYCHEPROOF).to_hex(), digest, "the published file");
    let vectors: Value = serde_json::from_slice(WYCHEPROOF).unwrap();
    let mut verdicts = BTreeMap::new();
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = PublicKey::from_hex(group["publicKey"]["pk"].as_str().unwrap()).unwrap();
        for case in group["tests"].as_array().unwrap() {
            // Of another length than 64 bytes there is no signature at all: an envelope with it does not parse.
            let signature: Result<[u8; 64], _> = unhex(&case["sig"]).try_into();
            let accepted = signature.is_ok_and(|signature| key.verifies(&unhex(&case["msg"]), &signature));
            let expected = case["result"].as_str().unwrap();
            assert_eq!(accepted, expected == "valid", "case {}: {}", case["tcId"], case["comment"]);
            *verdicts.entry(expected).or_insert(0) += 1;
        }
    }
    assert_eq!(verdicts, BTreeMap::from([("invalid", 63), ("valid", 88)]));
}

/// The challenge of a signature: SHA-512 over R, key and message, as a scalar.
fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let digest = Sha512::new().chain_update(r).chain_update(key).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&digest.into())
}

fn signature(r: &[u8; 32], s: &[u8; 32]) -> [u8; 64] {
    [*r, *s].concat().try_into().unwrap()
}

fn lax(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let key = VerifyingKey::from_bytes(key).unwrap();
    key.verify(message, &Signature::from_bytes(signature)).is_ok()
}

#[test]
fn no_point_of_small_order_is_a_key_however_it_is_written() {
    let mut written: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    // The field has 2^255 - 19 elements, so 0 and 1 have a second form; and each a form with the other sign.
    for low in [0xed, 0xee] {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        written.push(bytes);
    }
    let signs = written.clone().into_iter().map(|mut bytes| {
        bytes[31] ^= 0x80;
        bytes
    });
    written.extend(signs.collect::<Vec<_>>());
    assert!(written.len() >= 14);
    for bytes in written {
        assert!(PublicKey::from_bytes(bytes).is_err(), "{}", encode_hex(&bytes));
    }
}

#[test]
fn a_signature_with_a_part_of_small_order_or_a_greater_scalar_is_refused() {
    let secret = Scalar::from(0xa1f7_u64);
    let key = (secret * BASE).compress().to_bytes();
    let ours = PublicKey::from_bytes(key).unwrap();
    // R is the neutral element: the equation holds, and a lax verifier accepts.
    let r = EIGHT_TORSION[0].compress().to_bytes();
    let s = challenge(&r, &key, b"small") * secret;
    let forged = signature(&r, &s.to_bytes());
    assert!(lax(&key, b"small", &forged));
    assert!(!ours.verifies(b"small", &forged));

    let nonce = Scalar::from(77_u64);
    let r = (nonce * BASE).compress().to_bytes();
    let s = nonce + challenge(&r, &key, b"good") * secret;
    assert!(ours.verifies(b"good", &signature(&r, &s.to_bytes())));
    // The same scalar plus the order of the group: 2^252 + 27742317777372353535851937790883648493.
    let order = (-Scalar::ONE).to_bytes();
    let (mut greater, mut carry) = ([0_u8; 32], 1_u16);
    for at in 0..32 {
        carry += u16::from(s.to_bytes()[at]) + u16::from(order[at]);
        (greater[at], carry) = (carry.to_le_bytes()[0], carry >> 8);
    }
    assert_eq!(carry, 0);
    assert!(!ours.verifies(b"good", &signature(&r, &greater)));
}

#[test]
fn with_a_key_of_mixed_order_only_the_exact_equation_counts() {
    let secret = Scalar::from(0xbee5_u64);
    let torsion: EdwardsPoint = EIGHT_TORSION[1];
    let key = (secret * BASE + torsion).compress().to_bytes();
    let ours = PublicKey::from_bytes(key).unwrap();
    let nonce = Scalar::from(1234_u64);
    let r = (nonce * BASE).compress().to_bytes();
    let (mut exact, mut cofactored) = (0, 0);
    for message in 0..64_u32 {
        let message = message.to_be_bytes();
        let k = challenge(&r, &key, &message);
        let forged = signature(&r, &(nonce + k * secret).to_bytes());
        // The part of small order vanishes where the challenge is a multiple of eight, and by the cofactor always.
        let vanishes = k.to_bytes()[0].is_multiple_of(8);
        assert_eq!(ours.verifies(&message, &forged), vanishes);
        (exact, cofactored) = (exact + u32::from(vanishes), cofactored + 1);
    }
    assert!(exact > 0 && exact < cofactored, "{exact} of {cofactored}");
}

/// A kind of document of which only the type matters here.
macro_rules! kind {
    ($name:ident, $payload_type:literal) => {
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        struct $name {}

        impl Document for $name {
            const PAYLOAD_TYPE: &'static str = $payload_type;
            const FIELDS: &'static [&'static str] = &[];

            fn check(&self) -> Result<(), Contradiction> {
                Ok(())
            }
        }
    };
}

kind!(Note, "application/vnd.airlift.note.v1+json");
kind!(Remark, "application/vnd.airlift.remark.v1+json");
kind!(Accented, "application/vnd.airlift.nöte.v1+json");

#[test]
fn every_rule_of_the_dsse_protocol_has_the_verdict_of_its_vector() {
    let vectors: Value = serde_json::from_slice(DSSE).unwrap();
    let key = |name: &Value| {
        PublicKey::from_hex(vectors["keys"][name.as_str().unwrap()].as_str().unwrap()).unwrap()
    };
    let cases = vectors["cases"].as_array().unwrap();
    for case in cases {
        let keys: Vec<PublicKey> = case["keys"].as_array().unwrap().iter().map(key).collect();
        let threshold = usize::try_from(case["threshold"].as_u64().unwrap()).unwrap();
        let envelope = Envelope::parse(case["envelope"].to_string().as_bytes(), &Limits::DEFAULT).unwrap();
        let verdict = match case["type"].as_str().unwrap() {
            Note::PAYLOAD_TYPE => envelope.verify_threshold::<Note>(&keys, threshold),
            Remark::PAYLOAD_TYPE => envelope.verify_threshold::<Remark>(&keys, threshold),
            Accented::PAYLOAD_TYPE => envelope.verify_threshold::<Accented>(&keys, threshold),
            other => panic!("{other}"),
        };
        assert_eq!(verdict.is_ok(), case["accept"].as_bool().unwrap(), "{}: {verdict:?}", case["name"]);
    }
    assert_eq!(cases.len(), 21);
}
