//! The documents that reach the world: releases, assignments, acknowledgements, roots and orders of a person.

use std::collections::BTreeMap;

use airlift_bundles::document::ack::Ack;
use airlift_bundles::document::assignment::{Assignment, DesiredApp, ReceiptMark};
use airlift_bundles::document::release::{Release, RollbackRule, Sizes, Statement};
use airlift_bundles::document::root::{RevokeAction, RevokedRelease, Root};
use airlift_bundles::document::status::AppState;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{FleetId, RandomId, Sha256Digest, SiteId, Timestamp, Version};

use super::world::{Content, FLEET, ISSUED_S, World, app, desire, root_1, sign};
use crate::core::Event;
use crate::core::event::{Carrier, DocumentKind, LocalCommand, RequestId};
use crate::core::status::LocalReply;
use crate::core::write::MetaRow;

impl World {
    /// Releases a version: objects as (name, content).
    pub(super) fn release(&mut self, name: &str, seq: u64, objects: &[(&str, &str)]) -> Statement {
        self.release_with(name, seq, objects, |_| {})
    }

    pub(super) fn release_with(
        &mut self,
        name: &str,
        seq: u64,
        objects: &[(&str, &str)],
        change: impl FnOnce(&mut Release),
    ) -> Statement {
        let mut release = Release {
            fleet_id: FleetId::new(FLEET).unwrap(),
            app: app(name),
            epoch: 0,
            seq,
            floor: 0,
            version: Version::new(&format!("{seq}.0.0")).unwrap(),
            prev: None,
            platforms: vec![],
            requires: vec![],
            sizes: Sizes::default(),
            rollback: RollbackRule::Allowed,
            parameters: BTreeMap::new(),
            overlays: vec![],
            secret_slots: vec![],
            prune: Default::default(),
            retire: Default::default(),
            issued_at: Timestamp::from_unix_s(ISSUED_S),
            crit: vec![],
        };
        change(&mut release);
        let statement = Statement::new(&Sha256Digest::of(format!("{name} {seq}").as_bytes()), release);
        let objects =
            objects.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect();
        let digest = Envelope::draft(&statement).digest();
        self.contents.insert(digest, Content { objects, watch_ms: 0 });
        statement
    }

    pub(super) fn bring_release(&mut self, statement: &Statement) {
        let bytes = sign(statement, 2);
        self.say(Event::Document { expected: DocumentKind::Release, carrier: Carrier::Hub, bytes });
    }

    pub(super) fn assignment(&mut self, desired: Vec<DesiredApp>, retire: &[&str]) -> Assignment {
        self.assignment_seq += 1;
        Assignment {
            fleet_id: FleetId::new(FLEET).unwrap(),
            site: SiteId::new("ship").unwrap(),
            incarnation: 1,
            epoch: 0,
            assignment_seq: self.assignment_seq,
            hub_incarnation: RandomId::from_bytes([9; 16]),
            desired,
            retire: retire.iter().map(|name| app(name)).collect(),
            receipts_acked: None,
            offers: vec![],
            issued_at: Timestamp::from_unix_s(ISSUED_S),
            stale_after_s: None,
            crit: vec![],
        }
    }

    pub(super) fn bring_assignment(&mut self, assignment: &Assignment) {
        let bytes = sign(assignment, 3);
        self.say(Event::Document { expected: DocumentKind::Assignment, carrier: Carrier::Hub, bytes });
    }

    /// Brings a release and an assignment of it alone.
    pub(super) fn assign(&mut self, statement: &Statement) {
        self.bring_release(statement);
        let assignment = self.assignment(vec![desire(statement)], &[]);
        self.bring_assignment(&assignment);
    }

    /// Installs a version of the shop and waits until it is healthy.
    pub(super) fn install(&mut self, seq: u64, objects: &[(&str, &str)]) -> Statement {
        let statement = self.release("shop", seq, objects);
        self.assign(&statement);
        self.pass(10_000);
        assert_eq!(self.state(), AppState::Healthy);
        statement
    }

    pub(super) fn local(&mut self, command: LocalCommand) -> LocalReply {
        self.say(Event::Local { request: RequestId(1), command });
        self.settle_down();
        self.replies.pop().expect("every request is answered")
    }

    /// The hub's word that it holds everything so far.
    pub(super) fn ack(&self) -> Ack {
        self.ack_of_first(self.receipts.len())
    }

    /// The hub's word that it holds the status and so many receipts.
    fn ack_of_first(&self, receipts: usize) -> Ack {
        let last = &self.receipts[receipts - 1];
        let (receipt_next, receipt_head) = (last.receipt_seq + 1, Some(Envelope::draft(last).digest()));
        ack_of(&MetaRow { receipt_next, receipt_head, ..self.rows.meta.clone().unwrap() })
    }

    /// The hub acknowledges everything so far.
    pub(super) fn acknowledge(&mut self) {
        self.bring_ack(&self.ack());
    }

    /// The hub acknowledges the status and so many receipts.
    pub(super) fn acknowledge_some(&mut self, receipts: usize) {
        self.bring_ack(&self.ack_of_first(receipts));
    }

    /// The hub acknowledges what another database of this site has sent.
    pub(super) fn acknowledge_as(&mut self, meta: &MetaRow) {
        self.bring_ack(&ack_of(meta));
    }

    fn bring_ack(&mut self, ack: &Ack) {
        let bytes = sign(ack, 3);
        self.say(Event::Document { expected: DocumentKind::Ack, carrier: Carrier::Hub, bytes });
    }

    /// A newer root revokes a release.
    pub(super) fn revoke(&mut self, statement: &Statement, action: RevokeAction) {
        let sha256 = Envelope::draft(statement).digest();
        let first = root_1();
        let mut root = Root { version: 2, prev_sha256: Some(Envelope::draft(&first).digest()), ..first };
        root.revoked.releases = vec![RevokedRelease { sha256, action }];
        let bytes = sign(&root, 1);
        self.say(Event::Document { expected: DocumentKind::Root, carrier: Carrier::Hub, bytes });
    }
}

/// The hub's word that it holds what a database of this site has sent.
fn ack_of(meta: &MetaRow) -> Ack {
    let mark = ReceiptMark {
        chain_id: meta.chain_id.clone(),
        upto: meta.receipt_next - 1,
        sha256: meta.receipt_head.expect("it has made receipts"),
    };
    Ack {
        fleet_id: FleetId::new(FLEET).unwrap(),
        site: SiteId::new("ship").unwrap(),
        incarnation: 1,
        outbox_epoch: meta.outbox_epoch.clone(),
        upto: meta.outbox_next - 1,
        receipts: Some(mark),
        crit: vec![],
    }
}
