//! What an attacker brings to a site that runs an app: each attempt is counted under its own code, and neither rows nor
//! workloads change, by whichever way it came and after a restart too.

use airlift_bundles::code::Code;
use airlift_bundles::document::ack::Ack;
use airlift_bundles::document::assignment::{Assignment, DesiredApp};
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::release::{Platform, Requirement, Scalar, Statement};
use airlift_bundles::document::root::{AppFloor, RevokeAction, RevokedRelease, Root};
use airlift_bundles::document::status::AppState;
use airlift_bundles::envelope::{Document, Envelope};
use airlift_bundles::ids::{FleetId, INTEGER_MAX, Name, Sha256Digest, SiteId};
use airlift_bundles::limits::Limits;

use super::world::{World, app, desire, key, object, root_1, sign};
use crate::core::event::{Carrier, DocumentKind, Failure, FailureClass, MediaId};
use crate::core::write::CounterKey;
use crate::core::{Effect, Event, Rows};

const V1: &[(&str, &str)] = &[("cm-settings", "settings 1"), ("web-front", "front 1")];
const V2: &[(&str, &str)] = &[("cm-settings", "settings 2"), ("web-front", "front 2")];

/// A site that runs version 1 of the shop.
struct Site {
    world: World,
    v1: Statement,
    root: Root,
}

fn signed<D: Document>(document: &D, seeds: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::draft(document);
    seeds.iter().for_each(|seed| envelope.sign(&key(*seed)));
    envelope.to_json()
}

/// Signs JSON text as a kind of document.
fn signed_text<D: Document>(text: &str, seed: u8) -> Vec<u8> {
    let mut envelope = Envelope::around(D::PAYLOAD_TYPE, text.as_bytes().to_vec());
    envelope.sign(&key(seed));
    envelope.to_json()
}

fn text_of<D: Document>(document: &D) -> String {
    String::from_utf8(Envelope::draft(document).payload_unverified().to_vec()).unwrap()
}

/// What must stay as it is: everything but the counts of refusals and the reports of them.
fn lasting(rows: &Rows) -> Rows {
    let mut rows = rows.clone();
    rows.refusals.clear();
    rows.outbox.clear();
    if let Some(meta) = &mut rows.meta {
        (meta.outbox_next, meta.starts) = (0, 0);
    }
    rows
}

impl Site {
    fn new() -> Self {
        let mut world = World::new();
        let v1 = world.install(1, V1);
        Self { world, v1, root: root_1() }
    }

    fn offer(&mut self, expected: DocumentKind, carrier: Carrier, bytes: &[u8]) {
        self.world.say(Event::Document { expected, carrier, bytes: bytes.to_vec() });
        self.world.pass(5_000);
    }

    /// Brings a document by both ways, with a restart between, and sees that it only counts.
    fn refuses(&mut self, expected: DocumentKind, bytes: &[u8], code: Code) {
        for (carrier, name) in [(Carrier::Hub, "hub"), (Carrier::Media(MediaId("stick".into())), "media")] {
            let count =
                |world: &World| world.rows.refusals.get(&(code, name.to_owned())).map_or(0, |row| row.count);
            let before = (lasting(&self.world.rows), self.world.cluster.clone(), self.world.receipts.len());
            let (applied, refused) = (self.world.applied, count(&self.world));
            self.offer(expected, carrier, bytes);
            let told: Vec<_> = self.world.rows.refusals.values().map(|row| (row.code, &row.last)).collect();
            assert_eq!(count(&self.world), refused + 1, "by {name}: {told:?}");
            let after = (lasting(&self.world.rows), self.world.cluster.clone(), self.world.receipts.len());
            assert_eq!(after, before, "by {name}");
            assert_eq!((self.world.applied, self.world.deleted.len()), (applied, 0));
            self.world.restart();
            self.world.pass(5_000);
        }
        assert_eq!(
            (self.world.state(), self.world.content("web-front")),
            (AppState::Healthy, Some("front 1"))
        );
    }

    /// Assigns an entry whose release is here, and sees that this app alone is refused, and runs on as it was.
    fn refuses_entry(&mut self, entry: DesiredApp, code: Code) {
        let before = (self.world.cluster.clone(), self.world.applied);
        let order = self.world.assignment(vec![entry], &[]);
        self.world.bring_assignment(&order);
        self.world.pass(30_000);
        assert_eq!((self.world.state(), self.world.report().code), (AppState::Refused, Some(code)));
        assert_eq!(self.world.last(Outcome::Refused).reason, Some(code), "the hub is told");
        assert_eq!((self.world.cluster.clone(), self.world.applied), before);
        assert_eq!(self.world.content("web-front"), Some("front 1"));
        self.world.restart();
        self.world.pass(30_000);
        assert_eq!(
            (self.world.state(), self.world.content("web-front")),
            (AppState::Refused, Some("front 1"))
        );
    }

    /// Walks to a root with this change.
    fn advance(&mut self, change: impl FnOnce(&mut Root)) {
        let prev_sha256 = Some(Envelope::draft(&self.root).digest());
        let mut next = Root { version: self.root.version + 1, prev_sha256, ..self.root.clone() };
        change(&mut next);
        self.offer(DocumentKind::Root, Carrier::Hub, &sign(&next, 1));
        assert_eq!(self.world.rows.roots.len() as u64, next.version, "the root is good");
        self.root = next;
    }

    fn next_root(&self) -> Root {
        let prev_sha256 = Some(Envelope::draft(&self.root).digest());
        Root { version: self.root.version + 1, prev_sha256, ..self.root.clone() }
    }

    /// A version that is here.
    fn v2(&mut self) -> Statement {
        let v2 = self.world.release("shop", 2, V2);
        self.world.bring_release(&v2);
        v2
    }

    fn order(&mut self) -> Assignment {
        let v1 = desire(&self.v1);
        self.world.assignment(vec![v1], &[])
    }
}

#[test]
fn a_document_that_nobody_signed_changes_nothing() {
    let mut site = Site::new();
    let (release, order) = (site.world.release("shop", 2, V2), site.order());
    site.refuses(DocumentKind::Release, &signed(&release, &[]), Code::TooFewSignatures);
    site.refuses(DocumentKind::Assignment, &signed(&order, &[]), Code::TooFewSignatures);
    site.refuses(DocumentKind::Root, &signed(&site.next_root(), &[]), Code::RootChainBroken);
}

#[test]
fn a_release_with_too_few_signatures_changes_nothing() {
    let mut site = Site::new();
    site.advance(|root| {
        let second = key(12).public();
        root.roles.releases[0].keyids.push(second.key_id());
        root.roles.releases[0].keyids.sort();
        root.roles.releases[0].threshold = 2;
        root.keys.insert(second.key_id(), second);
    });
    let release = site.world.release("shop", 2, V2);
    site.refuses(DocumentKind::Release, &signed(&release, &[2]), Code::TooFewSignatures);
    // One key's signature twice, and under the other key's id.
    let one = serde_json::from_slice::<serde_json::Value>(&signed(&release, &[2])).unwrap();
    let mut twice = one.clone();
    twice["signatures"].as_array_mut().unwrap().push(one["signatures"][0].clone());
    site.refuses(DocumentKind::Release, twice.to_string().as_bytes(), Code::TooFewSignatures);
    twice["signatures"][1]["keyid"] = key(12).public().key_id().to_string().into();
    site.refuses(DocumentKind::Release, twice.to_string().as_bytes(), Code::TooFewSignatures);
    site.offer(DocumentKind::Release, Carrier::Hub, &signed(&release, &[2, 12]));
    assert!(site.world.rows.documents.contains_key(&desire(&release).release), "both keys are enough");
}

#[test]
fn a_document_of_the_wrong_role_changes_nothing() {
    let mut site = Site::new();
    let (release, order) = (site.world.release("shop", 2, V2), site.order());
    site.refuses(DocumentKind::Release, &signed(&release, &[1, 3]), Code::TooFewSignatures);
    site.refuses(DocumentKind::Assignment, &signed(&order, &[1, 2]), Code::TooFewSignatures);
    site.refuses(DocumentKind::Root, &signed(&site.next_root(), &[2, 3]), Code::RootChainBroken);
}

#[test]
fn a_document_in_the_place_of_another_changes_nothing() {
    let mut site = Site::new();
    let all = [1, 2, 3];
    let (release, order) = (site.world.release("shop", 2, V2), site.order());
    let (release, order) = (signed(&release, &all), signed(&order, &all));
    site.refuses(DocumentKind::Assignment, &release, Code::WrongPayloadType);
    site.refuses(DocumentKind::Release, &order, Code::WrongPayloadType);
    site.refuses(DocumentKind::Root, &release, Code::WrongPayloadType);
    site.refuses(DocumentKind::Ack, &order, Code::WrongPayloadType);
}

#[test]
fn a_command_that_is_not_known_is_not_obeyed() {
    let mut site = Site::new();
    let order = site.order();
    site.refuses(DocumentKind::Command, &sign(&order, 3), Code::UnknownCritical);
}

#[test]
fn documents_of_others_change_nothing() {
    let mut site = Site::new();
    let theirs = site.world.release_with("shop", 2, V2, |release| {
        release.fleet_id = FleetId::new("other").unwrap();
    });
    site.refuses(DocumentKind::Release, &sign(&theirs, 2), Code::OtherFleet);
    let order = site.order();
    let fleet = Assignment { fleet_id: FleetId::new("other").unwrap(), ..order.clone() };
    site.refuses(DocumentKind::Assignment, &sign(&fleet, 3), Code::OtherFleet);
    let shore = Assignment { site: SiteId::new("shore").unwrap(), ..order.clone() };
    site.refuses(DocumentKind::Assignment, &sign(&shore, 3), Code::OtherSite);
    let before = Assignment { incarnation: 2, ..order };
    site.refuses(DocumentKind::Assignment, &sign(&before, 3), Code::OtherIncarnation);
    let root = Root { fleet_id: FleetId::new("other").unwrap(), ..site.next_root() };
    site.refuses(DocumentKind::Root, &sign(&root, 1), Code::OtherFleet);
}

#[test]
fn every_older_assignment_changes_nothing_whenever_it_comes() {
    let mut site = Site::new();
    let older: Vec<Assignment> = (0..4).map(|_| site.world.assignment(vec![], &[])).collect();
    let newest = site.order();
    site.world.bring_assignment(&newest);
    site.world.pass(5_000);
    for old in &older {
        site.refuses(DocumentKind::Assignment, &sign(old, 3), Code::AssignmentOlder);
    }
    let twin = Assignment { stale_after_s: Some(9), ..newest };
    site.refuses(DocumentKind::Assignment, &sign(&twin, 3), Code::AssignmentEqualButDifferent);
    let epoch = Assignment { epoch: 1, ..site.order() };
    site.refuses(DocumentKind::Assignment, &sign(&epoch, 3), Code::AssignmentEpochOther);
}

#[test]
fn the_same_stick_every_day_for_a_year_changes_nothing() {
    let mut site = Site::new();
    let order = site.order();
    let stick = || Carrier::Media(MediaId("stick".into()));
    site.offer(DocumentKind::Assignment, stick(), &sign(&order, 3));
    let before = (site.world.rows.counters.clone(), site.world.cluster.clone(), site.world.applied);
    for _ in 0..365 {
        site.world.pass(86_400_000);
        site.offer(DocumentKind::Release, stick(), &sign(&site.v1.clone(), 2));
        site.offer(DocumentKind::Assignment, stick(), &sign(&order, 3));
    }
    let after = (site.world.rows.counters.clone(), site.world.cluster.clone(), site.world.applied);
    assert_eq!(after, before);
    assert!(site.world.rows.refusals.is_empty(), "the bytes in force are no fault");
    assert_eq!(site.world.state(), AppState::Healthy);
}

#[test]
fn numbers_that_a_thief_used_up_are_left_behind_by_a_root() {
    let mut site = Site::new();
    let burnt = Assignment { assignment_seq: INTEGER_MAX, ..site.order() };
    site.offer(DocumentKind::Assignment, Carrier::Hub, &sign(&burnt, 3));
    assert_eq!(site.world.rows.counters[&CounterKey::Assignment].seq, INTEGER_MAX);
    let order = site.order();
    site.refuses(DocumentKind::Assignment, &sign(&order, 3), Code::AssignmentOlder);
    let fresh = key(33).public();
    site.advance(|root| {
        root.keys.remove(&key(3).public().key_id());
        root.roles.director.keyids = vec![fresh.key_id()];
        root.roles.director.epoch = 1;
        root.revoked.keyids = vec![key(3).public().key_id()];
        root.keys.insert(fresh.key_id(), fresh.clone());
    });
    let v2 = site.v2();
    let order = Assignment { epoch: 1, assignment_seq: 1, ..site.world.assignment(vec![desire(&v2)], &[]) };
    site.refuses(DocumentKind::Assignment, &sign(&order, 3), Code::TooFewSignatures);
    site.offer(DocumentKind::Assignment, Carrier::Hub, &sign(&order, 33));
    site.world.pass(10_000);
    assert_eq!((site.world.state(), site.world.content("web-front")), (AppState::Healthy, Some("front 2")));
}

#[test]
fn a_root_that_breaks_the_chain_changes_nothing() {
    let mut site = Site::new();
    site.advance(|root| {
        root.roles.director.epoch = 3;
        root.apps.insert(app("kiosk"), AppFloor { epoch: 1, min_seq: 4 });
    });
    let good = site.next_root();
    let forked = Root { prev_sha256: Some(Sha256Digest::of(b"another")), ..good.clone() };
    site.refuses(DocumentKind::Root, &sign(&forked, 1), Code::RootChainBroken);
    let repeated =
        Root { version: 2, issued_at: good.issued_at, crit: vec!["version".into()], ..good.clone() };
    site.refuses(DocumentKind::Root, &sign(&repeated, 1), Code::RootChainBroken);
    let mut lower = good.clone();
    lower.roles.director.epoch = 2;
    site.refuses(DocumentKind::Root, &sign(&lower, 1), Code::RootLowers);
    let mut lower = good.clone();
    lower.apps.clear();
    site.refuses(DocumentKind::Root, &sign(&lower, 1), Code::RootLowers);
    let mut both = good;
    both.roles.director.keyids = both.roles.root.keyids.clone();
    site.refuses(DocumentKind::Root, &sign(&both, 1), Code::KeyReused);
}

#[test]
fn loose_json_under_a_good_signature_changes_nothing() {
    let mut site = Site::new();
    let text = text_of(&site.order());
    let twice = text.replacen('{', "{\"site\":\"ship\",", 1);
    let deep = text.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(100), "]".repeat(100)), 1);
    let fraction = text.replacen('{', "{\"x\":1.5,", 1);
    let trailing = format!("{text}{{}}");
    for loose in [twice, deep, fraction, trailing] {
        let bytes = signed_text::<Assignment>(&loose, 3);
        site.refuses(DocumentKind::Assignment, &bytes, Code::JsonNotStrict);
    }
    let critical = text.replacen('{', "{\"crit\":[\"later\"],", 1);
    site.refuses(DocumentKind::Assignment, &signed_text::<Assignment>(&critical, 3), Code::UnknownCritical);
    let missing = text.replacen("\"site\"", "\"sight\"", 1);
    site.refuses(DocumentKind::Assignment, &signed_text::<Assignment>(&missing, 3), Code::DocumentInvalid);
}

#[test]
fn bytes_that_are_no_envelope_change_nothing() {
    let mut site = Site::new();
    let good = sign(&site.order(), 3);
    let mut large = good.clone();
    large.resize(Limits::DEFAULT.document_bytes + 1, b' ');
    let twice = String::from_utf8(good.clone()).unwrap().replacen('{', "{\"payload\":\"\",", 1);
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for bytes in [&good[..good.len() / 2], &large, twice.as_bytes(), nested.as_bytes(), b"", b"\0\xff"] {
        for kind in [DocumentKind::Assignment, DocumentKind::Release, DocumentKind::Root, DocumentKind::Ack] {
            site.refuses(kind, bytes, Code::EnvelopeMalformed);
        }
    }
}

#[test]
fn a_statement_of_another_predicate_changes_nothing() {
    let mut site = Site::new();
    let text = text_of(&site.world.release("shop", 2, V2));
    let other = text.replace("https://airlift.dev/release/v1", "https://slsa.dev/provenance/v1");
    site.refuses(DocumentKind::Release, &signed_text::<Statement>(&other, 2), Code::StatementInvalid);
}

#[test]
fn an_entry_below_the_roots_floor_is_refused_alone() {
    let mut site = Site::new();
    let v2 = site.v2();
    site.advance(|root| _ = root.apps.insert(app("shop"), AppFloor { epoch: 0, min_seq: 3 }));
    site.refuses_entry(desire(&v2), Code::ReleaseBelowFloor);
}

#[test]
fn an_entry_of_another_epoch_is_refused_alone() {
    let mut site = Site::new();
    let v2 = site.v2();
    site.advance(|root| _ = root.apps.insert(app("shop"), AppFloor { epoch: 1, min_seq: 0 }));
    site.refuses_entry(desire(&v2), Code::ReleaseEpochOther);
}

#[test]
fn an_entry_with_a_revoked_release_is_refused_alone() {
    for (action, code) in
        [(RevokeAction::Block, Code::ReleaseRevoked), (RevokeAction::Stop, Code::ReleaseStopped)]
    {
        let mut site = Site::new();
        let v2 = site.v2();
        let sha256 = desire(&v2).release;
        site.advance(|root| root.revoked.releases = vec![RevokedRelease { sha256, action }]);
        site.refuses_entry(desire(&v2), code);
    }
}

#[test]
fn an_entry_that_says_something_else_than_its_release_is_refused_alone() {
    let mut site = Site::new();
    let v2 = site.v2();
    site.refuses_entry(DesiredApp { seq: 3, ..desire(&v2) }, Code::EntryDiffers);
}

#[test]
fn an_entry_outside_of_what_its_release_declares_is_refused_alone() {
    let name = |text: &str| Name::new(text).unwrap();
    let targets = r#"[{"apiVersion":"apps/v1","kind":"Deployment","namespace":"shop","name":"web-front",
        "pointer":"/spec/replicas"}]"#;
    let declared = format!(r#"{{"type":"integer","min":1,"max":5,"targets":{targets}}}"#);
    type Change = fn(&mut DesiredApp);
    let changes: [(Change, Code); 4] = [
        (
            |entry| _ = entry.parameters.insert(Name::new("image").unwrap(), Scalar::Integer(1)),
            Code::ParameterUndeclared,
        ),
        (
            |entry| _ = entry.parameters.insert(Name::new("replicas").unwrap(), Scalar::Integer(6)),
            Code::ParameterOutside,
        ),
        (|entry| entry.overlays = vec![Name::new("dark").unwrap()], Code::OverlayUnknown),
        (
            |entry| _ = entry.secrets.insert(Name::new("token").unwrap(), Sha256Digest::of(b"sealed")),
            Code::SecretUnavailable,
        ),
    ];
    for (change, code) in changes {
        let mut site = Site::new();
        let v2 = site.world.release_with("shop", 2, V2, |release| {
            _ = release.parameters.insert(name("replicas"), serde_json::from_str(&declared).unwrap());
        });
        site.world.bring_release(&v2);
        let mut entry = desire(&v2);
        change(&mut entry);
        site.refuses_entry(entry, code);
    }
}

#[test]
fn an_entry_without_what_it_requires_or_for_other_platforms_is_refused_alone() {
    let mut site = Site::new();
    let v2 = site.world.release_with("shop", 2, V2, |release| {
        release.requires = vec![Requirement { app: app("base"), min_seq: 1 }];
    });
    site.world.bring_release(&v2);
    site.refuses_entry(desire(&v2), Code::RequiresMissing);
    let mut site = Site::new();
    let v2 = site.world.release_with("shop", 2, V2, |release| {
        let architecture = "riscv64".into();
        release.platforms = vec![Platform { os: "linux".into(), architecture, variant: None }];
    });
    site.world.bring_release(&v2);
    site.refuses_entry(desire(&v2), Code::PlatformMissing);
}

#[test]
fn a_second_release_with_the_number_of_an_accepted_one_is_refused_alone() {
    let mut site = Site::new();
    let twin = site.world.release_with("shop", 1, V2, |release| release.floor = 1);
    site.world.bring_release(&twin);
    site.refuses_entry(desire(&twin), Code::ReleaseEqualButDifferent);
}

/// Assigns version 2, whose content fails at the effect for which `fail` has an event.
fn refuses_content(code: Code, fail: impl Fn(&Effect, Failure) -> Option<Event>) {
    let mut site = Site::new();
    let v2 = site.v2();
    let before = site.world.cluster.clone();
    let order = site.world.assignment(vec![desire(&v2)], &[]);
    site.world.bring_assignment(&order);
    let failure = || Failure { class: FailureClass::App, code, reason: "hostile".into(), evidence: vec![] };
    while let Some(effect) = site.world.pending.pop_front() {
        if let Some(event) = fail(&effect, failure()).or_else(|| site.world.answer(&effect)) {
            site.world.say(event);
        }
    }
    site.world.pass(60_000);
    assert_eq!((site.world.state(), site.world.report().code), (AppState::Refused, Some(code)));
    assert_eq!(site.world.last(Outcome::Refused).reason, Some(code));
    assert_eq!(site.world.cluster, before);
}

#[test]
fn content_that_is_not_what_was_signed_or_outside_the_scope_changes_no_workload() {
    for code in [Code::OutOfScope, Code::DescriptorDiffers, Code::BundleMalformed, Code::TooLarge] {
        refuses_content(code, |effect, failure| match effect {
            Effect::Prepare { op, .. } => Some(Event::PrepareFailed { op: *op, failure }),
            _ => None,
        });
    }
}

#[test]
fn an_image_that_is_not_in_the_bundle_or_whose_name_is_taken_changes_no_workload() {
    for code in [Code::ImageNameTaken, Code::PlatformMissing, Code::BundleMalformed] {
        refuses_content(code, |effect, failure| match effect {
            Effect::Import { op, .. } => Some(Event::ImportFailed { op: *op, failure }),
            _ => None,
        });
    }
}

#[test]
fn an_object_that_another_owner_marks_as_its_own_is_left_as_it_is() {
    let mut site = Site::new();
    let v2 = site.v2();
    site.world.owners.insert(object("web-front"), "Helm release front".into());
    site.refuses_entry(desire(&v2), Code::OtherOwner);
}

#[test]
fn an_ack_that_the_director_did_not_sign_frees_nothing() {
    let mut site = Site::new();
    let ack = site.world.ack();
    site.refuses(DocumentKind::Ack, &sign(&ack, 2), Code::TooFewSignatures);
    let other = Ack { site: SiteId::new("shore").unwrap(), ..ack.clone() };
    site.refuses(DocumentKind::Ack, &sign(&other, 3), Code::OtherSite);
    let before = Ack { incarnation: 7, ..ack };
    site.refuses(DocumentKind::Ack, &sign(&before, 3), Code::OtherIncarnation);
}

#[test]
fn a_definition_that_is_never_established_ends_in_a_rollback() {
    let mut site = Site::new();
    let v2 = site.world.release("shop", 2, &[("crd-things", "bad"), ("thing-x", "x 1"), V2[1]]);
    site.world.assign(&v2);
    site.world.pass(600_000);
    assert_eq!((site.world.state(), site.world.content("web-front")), (AppState::Healthy, Some("front 1")));
    assert_eq!(site.world.content("thing-x"), None, "what needs the definition was never sent");
    assert_eq!(site.world.last(Outcome::RolledBack).reason, Some(Code::NotHealthyInTime));
}

#[test]
fn no_clock_stops_a_site() {
    const YEAR_MS: u64 = 31_557_600_000;
    let readings =
        [Some(0), Some(136 * YEAR_MS), None, Some(57 * YEAR_MS), Some(47 * YEAR_MS), Some(u64::MAX)];
    let mut site = Site::new();
    for (seq, wall_ms) in (2..).zip(readings) {
        site.world.wall_ms = wall_ms;
        let content = format!("front {seq}");
        let next = site.world.release("shop", seq, &[V1[0], ("web-front", &content)]);
        site.world.assign(&next);
        site.world.pass(10_000);
        site.world.restart();
        site.world.pass(10_000);
        assert_eq!(site.world.state(), AppState::Healthy, "{wall_ms:?}");
        assert_eq!(site.world.content("web-front"), Some(content.as_str()), "{wall_ms:?}");
    }
    assert!(site.world.rows.refusals.is_empty());
    let floors: Vec<_> = site.world.receipts.iter().map(|receipt| receipt.known_time).collect();
    assert!(floors.iter().all(|time| time.unix_s() >= super::world::ISSUED_S), "{floors:?}");
}
