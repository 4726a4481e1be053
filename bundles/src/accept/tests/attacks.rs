//! Attacks on the whole of acceptance: stolen keys, documents in each other's place, parts of several put together.

use super::*;
use crate::document::assignment::Assignment;
use crate::document::root::{Pattern, ReleaseRole, RootError};
use crate::envelope::{Document, Envelope};
use crate::fixture::{key, next_root, with_role_keys};

const ROOT_KEYS: [u8; 3] = [1, 2, 3];
const RELEASE_KEYS: [u8; 3] = [11, 12, 13];
const DIRECTOR: u8 = 21;

fn with_release_key(seeds: &[u8]) -> impl Fn(&mut Root) {
    let seeds = seeds.to_vec();
    move |root| {
        with_role_keys(&mut root.roles.releases[0].keyids, &seeds);
        root.keys.extend(seeds.iter().map(|seed| (key(*seed).public().key_id(), key(*seed).public())));
    }
}

fn advance(site: &Site, change: impl Fn(&mut Root), seeds: &[u8]) -> Result<TrustedRoot, RootError> {
    let mut next = next_root(&site.root, site.root.digest());
    change(&mut next);
    site.root.advance(&sign(&next, seeds), &Limits::DEFAULT)
}

/// What a thief may sign with: some keys of each role.
struct Loot(Vec<u8>);

impl Loot {
    fn count(&self, role: &[u8]) -> usize {
        role.iter().filter(|seed| self.0.contains(seed)).count()
    }

    fn assigns(&self) -> bool {
        self.count(&[DIRECTOR]) == 1
    }

    fn releases(&self) -> bool {
        self.count(&RELEASE_KEYS) >= 2
    }

    fn rules(&self) -> bool {
        self.count(&ROOT_KEYS) >= 2
    }
}

#[test]
fn stolen_keys_alone_and_in_pairs_do_what_their_roles_may_and_no_more() {
    let site = Site::new(&root_1());
    let all: Vec<u8> = [&ROOT_KEYS[..], &RELEASE_KEYS, &[DIRECTOR]].concat();
    let pairs = all.iter().flat_map(|one| all.iter().map(move |other| vec![*one, *other]));
    for loot in pairs.map(Loot) {
        // A root of the thief's own, that would hand the releases to a key of his.
        let root = advance(&site, with_release_key(&[91, 92]), &loot.0);
        assert_eq!(
            root.map_err(|error| error.code()).err(),
            (!loot.rules()).then_some(Code::RootChainBroken)
        );
        // A release of his own, in an assignment that the director signed.
        let forged = Site::new(&root_1()).with(&shop(7), &loot.0);
        let verdict = forged.verdict(desire(&shop(7)));
        assert_eq!(verdict, (!loot.releases()).then_some(Code::TooFewSignatures), "{:?}", loot.0);
        // An assignment of his own.
        let ordered = site.offer(&sign(&assignment(99, vec![]), &loot.0)).map(drop);
        let expected = if loot.assigns() { Ok(()) } else { Err(Code::TooFewSignatures) };
        assert_eq!(ordered.map_err(|error| error.code()), expected, "{:?}", loot.0);
    }
}

#[test]
fn the_signatures_of_one_document_open_no_other() {
    let site = Site::new(&root_1()).with(&shop(1), &[11, 12]);
    let payload = |document: &Assignment| Envelope::draft(document).payload_unverified().to_vec();
    let honest = assignment(10, vec![]);
    let forged = assignment(11, vec![desire(&shop(1))]);
    let signed = Envelope::parse(&sign(&honest, &[DIRECTOR]), &Limits::DEFAULT).unwrap();
    let text = String::from_utf8(signed.to_json()).unwrap();
    let swapped = text.replace(&encode(&payload(&honest)), &encode(&payload(&forged)));
    assert_ne!(text, swapped);
    assert_eq!(site.offer(swapped.as_bytes()).unwrap_err().code(), Code::TooFewSignatures);
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn no_document_is_taken_for_one_of_another_kind() {
    let site = Site::new(&root_1());
    let all = [ROOT_KEYS.as_slice(), &RELEASE_KEYS, &[DIRECTOR]].concat();
    let root = sign(&next_root(&site.root, site.root.digest()), &all);
    let release = sign(&shop(1), &all);
    let order = sign(&assignment(10, vec![]), &all);
    for other in [&root, &release] {
        assert_eq!(site.offer(other).unwrap_err().code(), Code::WrongPayloadType);
    }
    for other in [&root, &order] {
        let refused = open_release(other, &site.root, &Limits::DEFAULT).unwrap_err();
        assert_eq!(refused.code, Code::WrongPayloadType);
    }
    for other in [&release, &order] {
        let refused = site.root.advance(other, &Limits::DEFAULT).unwrap_err();
        assert_eq!(refused.code(), Code::WrongPayloadType);
    }
}

/// Signs a document after a change to its JSON, which its types would not allow.
fn sign_changed<D: Document>(document: &D, change: impl Fn(&mut serde_json::Value), seeds: &[u8]) -> Vec<u8> {
    let mut value = serde_json::to_value(document).unwrap();
    change(&mut value);
    let mut envelope = Envelope::around(D::PAYLOAD_TYPE, value.to_string().into_bytes());
    seeds.iter().for_each(|seed| envelope.sign(&key(*seed)));
    envelope.to_json()
}

#[test]
fn a_field_that_must_be_understood_and_is_not_refuses_each_kind_of_document() {
    let site = Site::new(&root_1());
    let later = serde_json::json!(["fleet_id", "later"]);
    let outer = |value: &mut serde_json::Value| value["crit"] = later.clone();
    let next = next_root(&site.root, site.root.digest());
    let refused = site.root.advance(&sign_changed(&next, outer, &[1, 2]), &Limits::DEFAULT).unwrap_err();
    assert_eq!(refused.code(), Code::UnknownCritical);
    let order = sign_changed(&assignment(10, vec![]), outer, &[DIRECTOR]);
    assert_eq!(site.offer(&order).unwrap_err().code(), Code::UnknownCritical);
    let inner = |value: &mut serde_json::Value| value["predicate"]["crit"] = later.clone();
    let release = sign_changed(&shop(1), inner, &[11, 12]);
    let refused = open_release(&release, &site.root, &Limits::DEFAULT).unwrap_err();
    assert_eq!(refused.code, Code::UnknownCritical);
}

#[test]
fn a_statement_of_another_predicate_or_of_several_subjects_is_no_release() {
    let site = Site::new(&root_1());
    type Change = fn(&mut serde_json::Value);
    let changes: [Change; 4] = [
        |value| value["predicateType"] = "https://slsa.dev/provenance/v1".into(),
        |value| value["_type"] = "https://in-toto.io/Statement/v0.1".into(),
        |value| value["subject"] = serde_json::json!([value["subject"][0], value["subject"][0]]),
        |value| value["subject"] = serde_json::json!([]),
    ];
    for change in changes {
        let release = sign_changed(&shop(1), change, &[11, 12]);
        let refused = open_release(&release, &site.root, &Limits::DEFAULT).unwrap_err();
        assert_eq!(refused.code, Code::StatementInvalid, "{}", refused.detail);
    }
}

#[test]
fn a_role_releases_its_own_apps_and_a_key_without_a_role_none() {
    let mut root = root_1();
    root.roles.releases[0].apps = vec![Pattern("till-*".into())];
    let mut second = ReleaseRole { name: Name::new("others").unwrap(), ..root.roles.releases[0].clone() };
    second.apps = vec![Pattern("shop".into())];
    with_role_keys(&mut second.keyids, &[14, 15]);
    root.keys.extend([14, 15].map(|seed| (key(seed).public().key_id(), key(seed).public())));
    root.roles.releases.push(second);
    let site = Site::new(&root);
    let code = |app: &str, seeds: &[u8]| {
        let opened = open_release(&sign(&release(app, 1), seeds), &site.root, &Limits::DEFAULT);
        opened.err().map(|refusal| refusal.code)
    };
    assert_eq!(code("shop", &[14, 15]), None);
    assert_eq!(code("shop", &[11, 12]), Some(Code::TooFewSignatures), "the other role's threshold is met");
    assert_eq!(code("shop", &[11, 14]), Some(Code::TooFewSignatures), "one key of each");
    assert_eq!(code("kiosk", &[11, 12]), Some(Code::ReleaseRoleMissing), "nobody's app");
}

#[test]
fn a_revoked_key_signs_no_new_release_and_comes_back_in_no_role() {
    let mut site = Site::new(&root_1());
    let revoke = |root: &mut Root| {
        with_release_key(&[31, 32])(root);
        root.revoked.keyids = RELEASE_KEYS.iter().map(|seed| key(*seed).public().key_id()).collect();
        root.revoked.keyids.sort();
    };
    site.root = advance(&site, revoke, &[1, 2]).unwrap();
    let site = site.with(&shop(1), &[11, 12, 13]).with(&shop(2), &[31, 32]);
    assert_eq!(site.verdict(desire(&shop(1))), Some(Code::TooFewSignatures));
    assert_eq!(site.verdict(desire(&shop(2))), None);
    let again = advance(&site, with_release_key(&[11, 12]), &[1, 2]).unwrap_err();
    assert_eq!(again.code(), Code::DocumentInvalid);
}

#[test]
fn a_release_of_another_fleet_under_the_same_keys_is_refused() {
    let mut theirs = shop(1);
    theirs.predicate.fleet_id = FleetId::new("other").unwrap();
    let site = Site::new(&root_1()).with(&theirs, &[11, 12]);
    assert_eq!(site.verdict(desire(&theirs)), Some(Code::OtherFleet));
}

#[test]
fn a_release_without_this_sites_platform_is_refused() {
    let platform = |architecture: &str| Platform {
        os: "linux".into(),
        architecture: architecture.into(),
        variant: None,
    };
    let mut theirs = shop(1);
    theirs.predicate.platforms = vec![platform("riscv64")];
    let site = Site::new(&root_1()).with(&theirs, &[11, 12]);
    let nodes = [platform("amd64"), platform("arm64")];
    let held = Held {
        identity: &site.identity,
        root: &site.root,
        current: None,
        release: &|digest| site.releases.get(digest).cloned(),
        accepted: &site.accepted,
        running: &site.running,
        floors: &site.floors,
        platforms: &nodes,
    };
    let order = sign(&assignment(10, vec![desire(&theirs)]), &[DIRECTOR]);
    let Acceptance::Accepted(accepted) = accept_assignment(&order, &held, &Limits::DEFAULT).unwrap() else {
        panic!("expected to be accepted")
    };
    assert_eq!(accepted.entries()[0].verdict.as_ref().unwrap_err().code, Code::PlatformMissing);
}

#[test]
fn a_secret_for_a_slot_that_this_version_cannot_fill_refuses_the_entry() {
    let site = Site::new(&root_1()).with(&shop(1), &[11, 12]);
    let mut sealed = desire(&shop(1));
    sealed.secrets.insert(Name::new("token").unwrap(), Sha256Digest::of(b"sealed"));
    assert_eq!(site.verdict(sealed), Some(Code::SecretUnavailable));
}
