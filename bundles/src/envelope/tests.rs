use super::*;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    text: String,
}

impl Document for Note {
    const PAYLOAD_TYPE: &'static str = "application/vnd.airlift.note.v1+json";
    const FIELDS: &'static [&'static str] = &["text"];

    fn check(&self) -> Result<(), Contradiction> {
        if self.text.is_empty() { Err("text is empty".into()) } else { Ok(()) }
    }
}

fn keys(count: u8) -> Vec<SecretKey> {
    (1..=count).map(|seed| SecretKey::from_seed(&[seed; 32])).collect()
}

fn public(keys: &[SecretKey]) -> Vec<PublicKey> {
    keys.iter().map(SecretKey::public).collect()
}

fn signed(payload: &str, keys: &[SecretKey]) -> Envelope {
    let mut envelope = Envelope::around(Note::PAYLOAD_TYPE, payload.as_bytes().to_vec());
    keys.iter().for_each(|key| envelope.sign(key));
    envelope
}

fn verdict(
    envelope: &Envelope,
    keys: &[PublicKey],
    threshold: usize,
) -> Result<Verified<Note>, EnvelopeError> {
    open(&envelope.to_json(), keys, threshold, &Limits::DEFAULT)
}

#[test]
fn the_encoding_is_that_of_the_dsse_protocol() {
    let bytes = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
    assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn enough_distinct_keys_open_a_document() {
    let keys = keys(3);
    let note = verdict(&signed("{\"text\":\"x\",\"later\":1}", &keys[..2]), &public(&keys), 2).unwrap();
    assert_eq!(note.document().text, "x");
    assert_eq!(note.digest(), Sha256Digest::of(b"{\"text\":\"x\",\"later\":1}"));
}

#[test]
fn one_key_never_counts_twice() {
    let keys = keys(2);
    let mut envelope = signed("{\"text\":\"x\"}", &keys[..1]);
    let again = envelope.signatures[0].clone();
    envelope.signatures.push(again.clone());
    envelope.signatures.push(Signature { keyid: Some(keys[1].public().key_id()), ..again });
    let refused = verdict(&envelope, &public(&keys), 2).unwrap_err();
    assert_eq!(refused, EnvelopeError::Threshold { valid: 1, threshold: 2 });
    assert_eq!(refused.code(), Code::TooFewSignatures);
    let mut same = public(&keys[..1]);
    same.extend(public(&keys[..1]));
    assert!(verdict(&envelope, &same, 2).is_err(), "the same key listed twice is one key");
    envelope.signatures.iter_mut().for_each(|signature| signature.keyid = None);
    let refused = verdict(&envelope, &public(&keys), 2).unwrap_err();
    assert_eq!(refused, EnvelopeError::Threshold { valid: 1, threshold: 2 }, "nor without any id");
}

#[test]
fn a_threshold_of_zero_still_needs_a_signature() {
    let keys = keys(1);
    assert!(verdict(&signed("{\"text\":\"x\"}", &[]), &public(&keys), 0).is_err());
}

#[test]
fn the_payload_type_is_signed_and_expected() {
    let keys = keys(1);
    let mut envelope = signed("{\"text\":\"x\"}", &keys);
    envelope.payload_type = "application/vnd.airlift.root.v1+json".into();
    let refused = verdict(&envelope, &public(&keys), 1).unwrap_err();
    assert_eq!(refused.code(), Code::WrongPayloadType);
    let moved = Envelope {
        payload_type: Note::PAYLOAD_TYPE.into(),
        ..Envelope::around("other/type", envelope.payload.clone())
    };
    let mut other = Envelope::around("other/type", envelope.payload);
    other.sign(&keys[0]);
    let moved = Envelope { signatures: other.signatures, ..moved };
    assert_eq!(verdict(&moved, &public(&keys), 1).unwrap_err().code(), Code::TooFewSignatures);
}

#[test]
fn critical_fields_must_be_understood() {
    let keys = keys(1);
    let refused =
        verdict(&signed("{\"text\":\"x\",\"new\":1,\"crit\":[\"text\",\"new\"]}", &keys), &public(&keys), 1);
    let refused = refused.unwrap_err();
    assert_eq!((&refused, refused.code()), (&EnvelopeError::Critical("new".into()), Code::UnknownCritical));
    assert!(verdict(&signed("{\"text\":\"x\",\"crit\":[\"text\"]}", &keys), &public(&keys), 1).is_ok());
}

#[test]
fn loose_json_under_a_good_signature_is_refused() {
    let keys = keys(1);
    for (payload, code) in [
        ("{\"text\":\"x\",\"text\":\"y\"}", Code::JsonNotStrict),
        ("{\"text\":\"x\"}{}", Code::JsonNotStrict),
        ("{\"text\":1.5}", Code::JsonNotStrict),
        ("{\"text\":7}", Code::DocumentInvalid),
        ("{\"text\":\"\"}", Code::DocumentInvalid),
        (&format!("{{\"text\":\"x\",\"later\":{}1{}}}", "[".repeat(40), "]".repeat(40)), Code::JsonNotStrict),
        ("{\"text\":\"\\ud800\"}", Code::JsonNotStrict),
    ] {
        assert_eq!(
            verdict(&signed(payload, &keys), &public(&keys), 1).unwrap_err().code(),
            code,
            "{payload}"
        );
    }
}

#[test]
fn too_many_signatures_are_refused_before_any_is_checked() {
    let envelope = signed("{\"text\":\"x\"}", &keys(33));
    let refused = Envelope::parse(&envelope.to_json(), &Limits::DEFAULT).unwrap_err();
    assert_eq!(refused, EnvelopeError::Signatures { found: 33, limit: 32 });
    assert_eq!(refused.code(), Code::EnvelopeMalformed);
}

#[test]
fn either_alphabet_of_base64_is_read_but_not_both_in_one_text() {
    let keys = keys(1);
    let good = signed("{\"text\":\"\u{fbff}\u{fbff}???>>>\"}", &keys);
    let text = String::from_utf8(good.to_json()).unwrap();
    let wire: Wire = serde_json::from_str(&text).unwrap();
    let respelt = |from: &str| from.replace('+', "-").replace('/', "_");
    let url_safe = text
        .replace(&wire.payload, &respelt(&wire.payload))
        .replace(&wire.signatures[0].sig, &respelt(&wire.signatures[0].sig));
    assert_ne!(url_safe, text);
    let note: Verified<Note> = open(url_safe.as_bytes(), &public(&keys), 1, &Limits::DEFAULT).unwrap();
    assert_eq!(note.digest(), good.digest());
    let both = text.replace(&wire.payload, &format!("{}+-_/", &wire.payload[..wire.payload.len() - 4]));
    let refused = Envelope::parse(both.as_bytes(), &Limits::DEFAULT).unwrap_err();
    assert_eq!((&refused, refused.code()), (&EnvelopeError::Base64("payload"), Code::EnvelopeMalformed));
}

#[test]
fn a_signature_without_an_id_is_tried_with_every_key_and_one_with_a_wrong_id_with_none() {
    let keys = keys(2);
    let mut envelope = signed("{\"text\":\"x\"}", &keys);
    envelope.signatures.iter_mut().for_each(|signature| signature.keyid = None);
    assert!(verdict(&envelope, &public(&keys), 2).is_ok());
    let text = String::from_utf8(envelope.to_json()).unwrap().replace("\"keyid\":\"\",", "");
    assert!(!text.contains("keyid"));
    assert!(open::<Note>(text.as_bytes(), &public(&keys), 2, &Limits::DEFAULT).is_ok());
    envelope.signatures[0].keyid = Some(keys[1].public().key_id());
    assert_eq!(verdict(&envelope, &public(&keys), 2).unwrap_err().code(), Code::TooFewSignatures);
}

#[test]
fn signatures_made_apart_are_merged_over_one_payload_only() {
    let keys = keys(2);
    let mut first = signed("{\"text\":\"x\"}", &keys[..1]);
    assert_eq!(first.merge(&signed("{\"text\":\"x\"}", &keys[1..])), Ok(1));
    assert!(verdict(&first, &public(&keys), 2).is_ok());
    assert!(first.merge(&signed("{\"text\":\"y\"}", &keys)).is_err());
}

proptest::proptest! {
    #[test]
    fn a_changed_byte_never_opens(at in 0usize..400, bit in 0u8..8) {
        let keys = keys(1);
        let good = signed("{\"text\":\"payload of some length\"}", &keys);
        let mut bytes = good.to_json();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(note) = open::<Note>(&bytes, &public(&keys), 1, &Limits::DEFAULT) {
            proptest::prop_assert_eq!(note.digest(), good.digest());
        }
    }
}
