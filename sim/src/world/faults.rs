//! What goes wrong: drawn from the seed, at the rates of the scenario.

use airlift_agent::core::event::{Carrier, DocumentKind};
use airlift_agent::core::object::{Gvk, ObjectRef};
use airlift_agent::core::{Event, Write};
use airlift_agent::ports::cluster::{ApplyRequest, Propagation};
use airlift_bundles::document::assignment::{Assignment, DesiredApp};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::limits::Limits;
use serde_json::json;

use super::World;
use super::content::disk_full;
use super::happening::{Happening, Mending, SiteNo, Start};
use super::trust::{RELEASE_KEYS, key, sign};
use crate::cluster::Fault as ApiFault;
use crate::scenario::FaultKind;

/// From power to the agent's process, and to a cluster that answers.
const AGENT_STARTS_MS: (u64, u64) = (2_000, 10_000);
const CLUSTER_STARTS_MS: (u64, u64) = (10_000, 60_000);
/// Every n-th request meets an API fault.
const EVERY: u64 = 3;
/// Assignments that are kept to be handed in again.
const REMEMBERED: usize = 256;
/// What removals of images take to be seen.
const LOSS_SEEN_MS: u64 = 600;
/// A key that no root names.
const STRANGER: u8 = 99;
/// What may still fit onto a disk that fills up: some commits, but not all.
const ROOM_BYTES_MAX: u64 = 64 << 10;

impl World {
    /// Plans the first strike of each fault at each of its sites.
    pub(super) fn plan_faults(&mut self) {
        for (number, fault) in self.scenario.fault.clone().iter().enumerate() {
            let sites = match fault.kind {
                FaultKind::HubCrash | FaultKind::HubRestore => vec![0],
                _ => self.selected(&fault.sites),
            };
            if fault.kind == FaultKind::LyingDisk {
                sites.iter().for_each(|site| self.sites[*site].disk.begin_to_lie());
            }
            for site in sites {
                let delay_ms = fault.from.ms() + self.pause(number);
                self.timeline.after(delay_ms, Happening::Strike(number, site));
            }
        }
    }

    /// Until the next strike: the mean is what the rate says.
    fn pause(&mut self, fault: usize) -> u64 {
        let mean_ms = 86_400_000.0 / self.scenario.fault[fault].per_day;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are checked")]
        let mean_ms = mean_ms as u64;
        self.random.below(2 * mean_ms)
    }

    /// A fault strikes, and its next strike is planned, unless the quiet end has come.
    pub(super) fn strike(&mut self, number: usize, site: SiteNo) {
        let now_ms = self.timeline.now_ms();
        if now_ms >= self.drawn_until_ms {
            return;
        }
        let fault = self.scenario.fault[number].clone();
        let lasts_ms = self.random.between(fault.lasts[0].ms(), fault.lasts[1].ms());
        let end_ms = (now_ms + lasts_ms).min(self.drawn_until_ms);
        self.sites[site].disturb(now_ms);
        let mending = self.begin(fault.kind, site);
        if let Some(mending) = mending {
            if !matches!(mending, Mending::Hub | Mending::HubRestored) {
                self.sites[site].troubles += 1;
            }
            self.timeline.at(end_ms, Happening::Mend(mending));
        }
        let pause_ms = self.pause(number);
        self.timeline.at(end_ms + pause_ms, Happening::Strike(number, site));
    }

    /// Begins a fault; answers with what ends it, where it lasts.
    fn begin(&mut self, kind: FaultKind, site: SiteNo) -> Option<Mending> {
        match kind {
            FaultKind::PowerCut => return self.cut_power(site),
            FaultKind::Kill => {
                self.sites[site].process.as_ref()?;
                self.crash(site);
                return Some(Mending::Process(site, self.sites[site].life));
            }
            FaultKind::DiskFull => {
                let room_bytes = self.random.below(ROOM_BYTES_MAX);
                self.sites[site].disk.room_bytes = Some(room_bytes);
                self.stop_transfer(site);
                self.fail_fetches(site, &disk_full());
                return Some(Mending::Disk(site));
            }
            FaultKind::Partition => {
                self.sites[site].link.open = false;
                self.break_link(site);
                return Some(Mending::Way(site));
            }
            FaultKind::HubCrash => {
                if !self.hub.up {
                    return None;
                }
                self.lose_hub();
                return Some(Mending::Hub);
            }
            FaultKind::HubRestore => {
                if !self.hub.up || self.hub.copy.is_none() {
                    return None;
                }
                self.lose_hub();
                self.expect_people();
                return Some(Mending::HubRestored);
            }
            FaultKind::Thief => {
                self.thieve(site);
                return None;
            }
            FaultKind::ApiDown => self.sites[site].api_fault = Some(ApiFault::Down),
            FaultKind::ApiThrottled => {
                self.sites[site].api_fault =
                    Some(ApiFault::Throttled { every: EVERY, retry_after_ms: 1_000 });
            }
            FaultKind::ApiBroken => {
                self.sites[site].api_fault = Some(ApiFault::Broken { every: EVERY, status: 500 });
            }
            FaultKind::NodeDown => {
                self.sites[site].node_down = true;
                self.refresh_cluster(site);
                return Some(Mending::Node(site));
            }
            FaultKind::Drift => {
                self.drift(site);
                return None;
            }
            FaultKind::ImagesLost => {
                self.lose_images(site);
                return None;
            }
            FaultKind::Clock => {
                self.set_clock(site);
                return None;
            }
            FaultKind::Forged => {
                self.forge(site);
                return None;
            }
            FaultKind::LyingDisk => {
                let mending = self.cut_power(site);
                if mending.is_some() {
                    self.lose_commits(site);
                }
                return mending;
            }
            FaultKind::ContentDamaged => {
                self.damage_content(site);
                self.go_on_fetching(site);
                return None;
            }
            FaultKind::Oversized => {
                self.offer_oversized(site);
                return None;
            }
        }
        self.refresh_cluster(site);
        Some(Mending::Api(site))
    }

    /// A fault ends.
    pub(super) fn mend(&mut self, mending: Mending) {
        let now_ms = self.timeline.now_ms();
        match mending {
            Mending::ClusterStarted(site, boots) => {
                let here = &mut self.sites[site];
                if here.node.powered && here.node.boots == boots {
                    here.cluster_up = true;
                    here.disturb(now_ms);
                    self.refresh_cluster(site);
                }
                return;
            }
            Mending::Hub => return self.return_hub(),
            Mending::HubRestored => return self.restore_hub(),
            _ => {}
        }
        let Some(site) = mending.site() else { return };
        let here = &mut self.sites[site];
        here.troubles = here.troubles.saturating_sub(1);
        here.disturb(now_ms);
        match mending {
            Mending::Power(_) => self.give_power(site),
            Mending::Process(_, life) => {
                self.timeline.after(1, Happening::Load(site, life, Start::Process));
            }
            Mending::Disk(_) => here.disk.room_bytes = None,
            Mending::Way(_) => here.link.open = true,
            Mending::Api(_) => here.api_fault = None,
            Mending::Node(_) => here.node_down = false,
            Mending::ClusterStarted(..) | Mending::Hub | Mending::HubRestored => {}
        }
        if matches!(mending, Mending::Api(_) | Mending::Node(_)) {
            self.refresh_cluster(site);
        }
    }

    /// The process dies: of the commits under way some reached the disk, and nobody was told.
    fn crash(&mut self, site: SiteNo) {
        let disk = &self.sites[site].disk;
        let under_way = if disk.room_bytes.is_some() { 0 } else { disk.waiting.len() as u64 };
        let reached = usize::try_from(self.random.between(0, under_way)).unwrap_or(0);
        let reached: Vec<Vec<Write>> =
            self.sites[site].disk.waiting.drain(..reached).map(|batch| batch.writes).collect();
        for writes in reached {
            self.write(site, writes);
        }
        self.end_process(site);
    }

    fn cut_power(&mut self, site: SiteNo) -> Option<Mending> {
        if !self.sites[site].node.powered {
            return None;
        }
        self.crash(site);
        let here = &mut self.sites[site];
        here.node.powered = false;
        here.cluster_up = false;
        self.refresh_cluster(site);
        Some(Mending::Power(site))
    }

    /// Every site of these loses power at once, and gets it back at once.
    pub(super) fn black_out(&mut self, sites: &[SiteNo], lasts_ms: u64) {
        let now_ms = self.timeline.now_ms();
        for site in sites {
            self.sites[*site].disturb(now_ms);
            if let Some(mending) = self.cut_power(*site) {
                self.sites[*site].troubles += 1;
                self.timeline.after(lasts_ms, Happening::Mend(mending));
            }
        }
    }

    pub(super) fn give_power(&mut self, site: SiteNo) {
        let now_ms = self.timeline.now_ms();
        let here = &mut self.sites[site];
        here.node.powered = true;
        here.node.boots += 1;
        here.node.booted_ms = now_ms;
        here.node.clock.start(here.node.clock_kind, now_ms);
        here.life += 1;
        let (life, boots) = (here.life, here.node.boots);
        let agent_ms = self.random.between(AGENT_STARTS_MS.0, AGENT_STARTS_MS.1);
        self.timeline.after(agent_ms, Happening::Load(site, life, Start::Process));
        let cluster_ms = self.random.between(CLUSTER_STARTS_MS.0, CLUSTER_STARTS_MS.1);
        self.timeline.after(cluster_ms, Happening::Mend(Mending::ClusterStarted(site, boots)));
    }

    /// Makes the cluster what power, faults and node say.
    fn refresh_cluster(&mut self, site: SiteNo) {
        let node = self.node_status(!self.sites[site].node_down && self.sites[site].cluster_up);
        let here = &self.sites[site];
        let fault = if here.cluster_up { here.api_fault } else { Some(ApiFault::Down) };
        self.on_cluster(site, |model, _| {
            model.set_fault(fault);
            model.set_nodes(vec![node]);
        });
        self.look_soon(site);
    }

    /// Somebody deletes or edits one of our objects.
    fn drift(&mut self, site: SiteNo) {
        let Some(process) = &self.sites[site].process else { return };
        let rows = process.core.rows();
        let ours: Vec<ObjectRef> = rows
            .objects
            .values()
            .flat_map(|objects| objects.values())
            .filter(|row| {
                row.applied.is_some()
                    && matches!(row.object.gvk.kind.as_str(), "ConfigMap" | "Deployment" | "Service")
            })
            .map(|row| row.object.clone())
            .collect();
        let Some(object) = self.random.pick(&ours).cloned() else { return };
        let uid = self.sites[site].cluster.uid(&object);
        let Some(uid) = uid else { return };
        // Hands use the same API, so a fault of it stops them too.
        if self.random.chance(500) {
            let _ =
                self.on_cluster(site, |model, now| model.delete(now, &object, &uid, Propagation::Background));
            return;
        }
        let mut body = json!({"apiVersion": object.gvk.api_version(), "kind": object.gvk.kind, "metadata": {
            "name": object.name, "namespace": object.namespace}});
        match object.gvk.kind.as_str() {
            "ConfigMap" => body["data"] = json!({"version": "by hand", "seq": "by hand"}),
            "Deployment" => body["spec"] = json!({"replicas": 7}),
            _ => body["spec"] = json!({"selector": {"app": "other"}}),
        }
        let field_manager = "kubectl".to_owned();
        let request = ApplyRequest { object, body, field_manager, force: true, dry_run: false, uid: None };
        let _ = self.on_cluster(site, |model, now| model.apply(now, &request));
    }

    fn lose_images(&mut self, site: SiteNo) {
        let here = &mut self.sites[site];
        let lost = std::mem::take(&mut here.images);
        let kept = here.process.as_ref().map(|process| &process.kept_images);
        let references: Vec<String> =
            lost.into_iter().filter(|lost| kept.is_some_and(|kept| kept.contains(lost))).collect();
        let life = here.life;
        if !references.is_empty() {
            let event = Box::new(Event::ImagesLost { references });
            self.timeline.after(LOSS_SEEN_MS, Happening::Tell(site, life, event));
        }
    }

    /// Keeps an assignment, so that it can be handed in again later, here or elsewhere.
    pub(super) fn remember(&mut self, site: SiteNo, envelope: &[u8]) {
        if self.remembered.len() < REMEMBERED {
            self.remembered.push((site, envelope.to_vec()));
        } else {
            let at = usize::try_from(self.random.below(REMEMBERED as u64)).unwrap_or(0);
            self.remembered[at] = (site, envelope.to_vec());
        }
    }

    /// Hands a site something that it must refuse.
    fn forge(&mut self, site: SiteNo) {
        let documents = match self.random.below(4) {
            0 => self.remembered_for(site, true),
            1 => self.remembered_for(site, false),
            2 => self.forged(site, STRANGER),
            // A thief has the director key and one release key of the two that it takes.
            _ => self.forged(site, RELEASE_KEYS[0]),
        };
        let life = self.sites[site].life;
        for (expected, bytes) in documents {
            let delay_ms = self.random.between(1, 1_000);
            let event = Box::new(Event::Document { expected, carrier: Carrier::Hub, bytes });
            self.timeline.after(delay_ms, Happening::Tell(site, life, event));
        }
    }

    /// An old assignment, of this site or of another.
    fn remembered_for(&mut self, site: SiteNo, own: bool) -> Vec<(DocumentKind, Vec<u8>)> {
        let some: Vec<Vec<u8>> = self
            .remembered
            .iter()
            .filter(|(of, _)| (*of == site) == own)
            .map(|(_, envelope)| envelope.clone())
            .collect();
        self.random
            .pick(&some)
            .map(|envelope| (DocumentKind::Assignment, envelope.clone()))
            .into_iter()
            .collect()
    }

    /// A release with one signature, and an assignment that names it, made of what the site has now.
    fn forged(&mut self, site: SiteNo, seed: u8) -> Vec<(DocumentKind, Vec<u8>)> {
        let Some((_, envelope)) = self.remembered.iter().rev().find(|(of, _)| *of == site) else {
            return Vec::new();
        };
        let read = Envelope::parse(envelope, &Limits::DEFAULT)
            .and_then(|envelope| envelope.read_unverified::<Assignment>(&Limits::DEFAULT));
        let Ok(mut assignment) = read else { return Vec::new() };
        let Some(entry) = assignment.desired.first().cloned() else { return Vec::new() };
        let found = self.library.releases().find(|release| release.sha256 == entry.release);
        let Some(mut statement) = found.map(|release| release.statement.clone()) else { return Vec::new() };
        statement.predicate.seq += 1_000;
        let release = sign(&statement, &[seed]);
        let digest = Envelope::draft(&statement).digest();
        self.library.learn(digest, &release);
        let forged = DesiredApp { release: digest, seq: statement.predicate.seq, ..entry };
        assignment.desired[0] = forged;
        assignment.assignment_seq += 60_000;
        let mut envelope = Envelope::draft(&assignment);
        match seed {
            STRANGER => envelope.sign(&key(STRANGER)),
            _ => envelope.sign(&self.trust.director()),
        }
        vec![(DocumentKind::Release, release), (DocumentKind::Assignment, envelope.to_json())]
    }

    /// Things of others beside ours, which nobody may touch.
    pub(super) fn place_bystanders(&mut self, site: SiteNo) {
        for object in bystanders() {
            let mut body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": object.name, "namespace": object.namespace, "labels": {"airlift.dev/app": "shop"}}});
            body["data"] = json!({"of": "somebody else"});
            let field_manager = "kubectl".to_owned();
            let request =
                ApplyRequest { object, body, field_manager, force: true, dry_run: false, uid: None };
            self.on_cluster(site, |model, now| model.apply(now, &request))
                .expect("a cluster without faults takes an object");
        }
    }

    pub(super) fn missing_bystander(&self, site: SiteNo) -> Option<ObjectRef> {
        bystanders().into_iter().find(|object| self.sites[site].cluster.body(object).is_none())
    }
}

/// One that bears our label, and one that bears a name of ours elsewhere.
fn bystanders() -> [ObjectRef; 2] {
    ["labelled", "settings"].map(|name| ObjectRef {
        gvk: std::sync::Arc::new(Gvk::new("v1", "ConfigMap")),
        namespace: Some("default".into()),
        name: name.into(),
    })
}
