//! The world: virtual time over the real agent core and the real decisions of the hub, from one seed.
//!
//! Everything that happens is an entry of one heap, and every delay and fault is drawn from one sequence, so that a
//! seed is a story. What is real: the core, its documents and signatures, packed bundles and how they are rendered,
//! the hub's queries and decisions. What is a model: disks, clusters, runtimes, links, sticks and clocks.

mod ahead;
mod carrier;
mod checks;
mod clocks;
mod content;
mod dispatch;
mod faults;
mod happening;
mod hub;
mod inspect;
mod keeping;
mod library;
mod link;
mod lying;
mod measure;
mod oversized;
mod peace;
mod random;
mod recovery;
mod shell;
mod site;
mod tally;
mod telling;
mod thief;
mod timeline;
mod trace;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use airlift_agent::core::enrol::{EnrolError, first_rows};
use airlift_agent::core::state::Step as AppStep;
use airlift_agent::core::write::{Rows, Write};
use airlift_agent::ports::Store as _;
use airlift_agent::ports::content::ContentError;
use airlift_agent::ports::store::StoreError;
use airlift_bundles::document::enrolment::{ContactClass, Grant};
use airlift_bundles::document::root::RootError;
use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{Counter, FleetId, Name, RandomId, SiteId, Timestamp};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::pack::PackError;
use airlift_hub::api::ApiError;
use airlift_hub::db::{DbError, MigrateError};
use airlift_hub::init::RootRefused;
use airlift_hub::plan::select::Selector;

use crate::bundle::OwnBundleError;
use crate::cluster::{Model, Settings};
use crate::invariants::{Invariant, Ledger, Violation};
use crate::scenario::{Group, Scenario};
use ahead::Second;
use carrier::Stick;
use clocks::WallClock;
use happening::{Happening, Leg, SiteNo, Start};
use hub::Hub;
use library::{BEGINNING_S, Library, at_once};
use measure::Meter;
pub use measure::{FleetMoment, Goal, GoalEnd, Measures, Order, SiteMeasures};
use random::Random;
use site::{Disk, Link, Node, Site, SiteContent};
use tally::Tally;
use telling::Telling;
use thief::Loot;
use timeline::Timeline;
use trace::Trace;
use trust::Trust;

/// Sites do not start in the same moment.
const STARTS_WITHIN_MS: u64 = 60_000;

/// A world cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The disk.
    #[error("the simulator's scratch folder cannot be used")]
    Io(#[from] io::Error),
    /// A bundle.
    #[error("a bundle of the scenario cannot be packed")]
    Pack(#[from] PackError),
    /// Content.
    #[error("content of the scenario cannot be stored")]
    Content(#[from] ContentError),
    /// A root.
    #[error("the root is refused")]
    Root(#[from] RootError),
    /// The hub's root.
    #[error("the hub refuses the root")]
    RootRefused(#[from] RootRefused),
    /// The agent's store.
    #[error("a site's store failed")]
    Store(#[from] StoreError),
    /// The hub's store.
    #[error("the hub's database failed")]
    Db(#[from] DbError),
    /// The hub's schema.
    #[error("the hub's database cannot be made")]
    Migrate(#[from] MigrateError),
    /// The hub's API.
    #[error("the hub refuses")]
    Api(#[from] ApiError),
    /// Enrolment.
    #[error("a site cannot be enrolled")]
    Enrol(#[from] EnrolError),
    /// An operator's own bundle.
    #[error("a bundle cannot be taken into the scenario")]
    OwnBundle(#[from] OwnBundleError),
    /// A document.
    #[error("refused: {0}")]
    Refused(String),
}

impl From<rusqlite::Error> for WorldError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Db(error.into())
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Sites.
    pub sites: u64,
    /// Virtual time that passed, in milliseconds.
    pub passed_ms: u64,
    /// Happenings.
    pub steps: u64,
    /// Over everything that happened: the same seed gives the same one.
    pub trace_hash: String,
    /// Receipts that sites have made.
    pub receipts: u64,
    /// Bytes of content that reached sites.
    pub moved_bytes: u64,
    /// What must not be; a run ends at the first.
    pub violations: Vec<Violation>,
    /// What it came to for each site.
    pub measures: Measures,
}

/// A simulated world.
pub struct World {
    scenario: Scenario,
    trust: Trust,
    library: Library,
    timeline: Timeline,
    random: Random,
    trace: Trace,
    steps: u64,
    hub: Hub,
    second: Second,
    sites: Vec<Site>,
    names: BTreeMap<SiteId, SiteNo>,
    sticks: Vec<Stick>,
    ledgers: Vec<Ledger>,
    /// Sites to which something happened since they were last seen to be right.
    stirred: Vec<bool>,
    /// Looks from outside.
    looks: u64,
    violations: Vec<Violation>,
    /// Assignments that left the hub, for those who hand them in again.
    remembered: Vec<(SiteNo, Vec<u8>)>,
    /// Faults are drawn until then.
    drawn_until_ms: u64,
    moved_bytes: u64,
    meter: Meter,
    /// The director's key, where somebody stole it.
    loot: Option<Loot>,
    /// Bounds that count.
    tallies: Vec<Tally>,
    /// What happened last, where somebody wants to read it.
    telling: Option<Telling>,
}

/// Runs a seed twice. That both runs tell one story is invariant 14: where they do not, something in them is not
/// determined by the seed.
///
/// # Errors
/// [`WorldError`].
pub fn run_twice(scenario: &Scenario, seed: u64) -> Result<Outcome, WorldError> {
    let mut outcome = World::new(scenario.clone(), seed)?.run();
    let again = World::new(scenario.clone(), seed)?.run();
    if again.trace_hash != outcome.trace_hash {
        let text = format!("the same seed again is {}, not {}", again.trace_hash, outcome.trace_hash);
        let (at_ms, step) = (outcome.passed_ms, outcome.steps);
        let invariant = Invariant::Determinism;
        outcome.violations.push(Violation { invariant, site: None, at_ms, step, text });
    }
    Ok(outcome)
}

/// Steps after which a run that may be stopped asks whether it is to go on: some milliseconds.
const STEPS_BETWEEN_ASKING: u64 = 1 << 10;

impl World {
    /// Makes the world of a scenario: bundles are packed, releases signed, sites enrolled.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn new(scenario: Scenario, seed: u64) -> Result<Self, WorldError> {
        let mut random = Random::new(seed);
        let fleet = FleetId::new("sim").expect("a fleet's name");
        let trust = Trust::new(&fleet)?;
        let library = Library::new(&scenario, &fleet, &trust)?;
        let (mut sites, mut names) = (Vec::new(), BTreeMap::new());
        let root: Arc<[u8]> = trust.newest().envelope().into();
        for group in &scenario.group {
            let labels = Arc::new(group.all_labels());
            for number in 1..=group.count {
                let site = make_site(&library, (&trust, &root), (group, &labels), number, &mut random)?;
                names.insert(site.id.clone(), sites.len());
                sites.push(site);
            }
        }
        let hub = Hub::new(&library, &trust, &sites)?;
        let ledgers = sites.iter().map(|_| Ledger::default()).collect();
        let meter = Meter::new(sites.len(), scenario.duration.ms());
        let stirred = vec![true; sites.len()];
        let drawn_until_ms = scenario.duration.ms() - scenario.quiet.ms();
        let mut world = Self {
            scenario,
            trust,
            library,
            timeline: Timeline::default(),
            random,
            trace: Trace::default(),
            steps: 0,
            hub,
            second: Second::default(),
            sites,
            names,
            sticks: Vec::new(),
            ledgers,
            stirred,
            looks: 0,
            violations: Vec::new(),
            remembered: Vec::new(),
            drawn_until_ms,
            moved_bytes: 0,
            meter,
            loot: None,
            tallies: Vec::new(),
            telling: None,
        };
        world.plan();
        Ok(world)
    }

    /// Plans what the scenario says.
    fn plan(&mut self) {
        for site in 0..self.sites.len() {
            self.place_bystanders(site);
            let delay_ms = self.random.below(STARTS_WITHIN_MS);
            self.timeline.after(delay_ms, Happening::Load(site, 1, Start::Process));
            self.keep_hours(site);
        }
        for (number, action) in self.scenario.action.iter().enumerate() {
            self.timeline.at(action.at.ms(), Happening::Act(number));
        }
        for (number, carrier) in self.scenario.carrier.clone().into_iter().enumerate() {
            let route = self.selected(&carrier.sites);
            let first_ms = carrier.first.ms();
            self.sticks.push(Stick::new(carrier, route));
            self.timeline.at(first_ms, Happening::Stick(number, Leg::AtHub));
        }
        let end_ms = self.scenario.duration.ms();
        for (number, expectation) in self.scenario.expect.iter().enumerate() {
            let at_ms = expectation.at.map_or(end_ms, crate::scenario::Span::ms);
            self.timeline.at(at_ms, Happening::Expect(number));
        }
        for (number, bound) in self.scenario.bound.iter().enumerate() {
            self.timeline.at(bound.from.ms(), Happening::Bound(number, true));
            self.timeline.at(bound.until.ms(), Happening::Bound(number, false));
        }
        self.plan_faults();
        self.timeline.after(inspect::INSPECT_MS, Happening::Inspect);
    }

    /// Runs to the scenario's end, or to the first violation.
    #[must_use]
    pub fn run(self) -> Outcome {
        self.run_watched(|_| ())
    }

    /// The same; `watch` is called now and then.
    #[must_use]
    pub fn run_watched(mut self, mut watch: impl FnMut(&Self)) -> Outcome {
        self.go_on(|world| {
            watch(world);
            true
        });
        self.outcome()
    }

    /// The same for as long as `goes_on` says, which is asked now and then; nothing where that was too short.
    #[must_use]
    pub fn run_while(mut self, mut goes_on: impl FnMut() -> bool) -> Option<Outcome> {
        self.go_on(|_| goes_on()).then(|| self.outcome())
    }

    /// The same, with the last happenings in words: so many lines of the site of the first violation, or of everybody
    /// where that is not of a site.
    #[must_use]
    pub fn run_telling(mut self, lines: usize) -> (Outcome, Vec<String>) {
        self.telling = Some(Telling::new(lines));
        self.go_on(|_| true);
        let told = self.told();
        (self.outcome(), told)
    }

    /// Whether it came to an end.
    fn go_on(&mut self, mut goes_on: impl FnMut(&Self) -> bool) -> bool {
        let end_ms = self.scenario.duration.ms();
        if !goes_on(self) {
            return false;
        }
        while self.violations.is_empty() {
            let Some(next) = self.timeline.next(end_ms) else { break };
            self.steps += 1;
            self.trace.happens(self.timeline.now_ms(), next.mark());
            self.say(&next);
            self.happen(next);
            if self.steps.is_multiple_of(STEPS_BETWEEN_ASKING) && !goes_on(self) {
                return false;
            }
        }
        if self.violations.is_empty() {
            self.check_end();
        }
        true
    }

    /// How many sites there are.
    #[must_use]
    pub fn sites(&self) -> usize {
        self.sites.len()
    }

    /// Virtual time that has passed, in milliseconds.
    #[must_use]
    pub fn passed_ms(&self) -> u64 {
        self.timeline.now_ms()
    }

    /// Virtual time in all, in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.scenario.duration.ms()
    }

    /// Happenings so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Sites whose agent runs and has nothing left to do.
    #[must_use]
    pub fn settled(&self) -> usize {
        let processes = self.sites.iter().filter_map(|site| site.process.as_ref());
        let rests =
            |process: &&site::Process| process.core.rows().apps.values().all(|app| app.step == AppStep::Rest);
        processes.filter(rests).count()
    }

    fn outcome(self) -> Outcome {
        Outcome {
            sites: self.sites.len() as u64,
            passed_ms: self.timeline.now_ms(),
            steps: self.steps,
            trace_hash: self.trace.digest(),
            receipts: self.ledgers.iter().map(|ledger| ledger.receipts.len() as u64).sum(),
            moved_bytes: self.moved_bytes,
            violations: self.violations,
            measures: self
                .meter
                .finish(self.timeline.now_ms(), self.sites.into_iter().map(|site| (site.id, site.contact))),
        }
    }

    fn happen(&mut self, what: Happening) {
        if let Some(site) = what.site() {
            self.stir(site);
        }
        match what {
            Happening::Tell(site, life, event) => self.tell(site, life, *event),
            Happening::Alarm(site, life, at_ms) => self.ring(site, life, at_ms),
            Happening::Committed(site, life) => self.committed(site, life),
            Happening::Load(site, life, start) => self.load(site, life, start),
            Happening::Call(site, life, op, call) => self.call(site, life, op, *call),
            Happening::Read(site, life, op, read) => self.read_health(site, life, op, &read.0, &read.1),
            Happening::Ripen(site) => self.ripen(site),
            Happening::Look(site, life) => self.look(site, life),
            Happening::Arrived(site, ticket) => self.arrived(site, ticket),
            Happening::Connect(site, life) => self.connect(site, life),
            Happening::Hours(site) => self.keep_hours(site),
            Happening::Missed(site, session, will) => self.missed(site, session, &will),
            Happening::Up(site, session, message) => self.up(site, session, *message),
            Happening::Down(site, session, message) => self.down(site, session, *message),
            Happening::Acks => self.send_acks(),
            Happening::Act(number) => {
                let action = self.scenario.action[number].clone();
                self.act(number, &action);
            }
            Happening::Strike(fault, site) => self.strike(fault, site),
            Happening::Mend(mending) => self.mend(mending),
            Happening::Stick(stick, leg) => self.carry(stick, leg),
            Happening::Expect(number) => {
                let expectation = self.scenario.expect[number].clone();
                self.check_expected(&expectation);
            }
            Happening::Inspect => self.inspect(),
            Happening::People => self.look_after_hub(),
            Happening::Bound(bound, begins) => self.bound(bound, begins),
        }
    }

    /// The sites that a selector chooses.
    fn selected(&self, selector: &str) -> Vec<SiteNo> {
        let selector: Selector =
            selector.parse().expect("a scenario's selectors are checked when it is read");
        let chosen = self.sites.iter().enumerate().filter(|(_, site)| selector.matches(&site.labels));
        chosen.map(|(number, _)| number).collect()
    }

    fn node_status(&self, ready: bool) -> NodeStatus {
        node_status(&self.library, ready)
    }
}

fn node_status(library: &Library, ready: bool) -> NodeStatus {
    NodeStatus {
        name: "node".into(),
        ready,
        schedulable: true,
        disk_pressure: false,
        platform: library.platform.clone(),
        kubelet: "model".into(),
    }
}

/// A site as its installation leaves it: its key, its grant, its first rows, an empty cluster. All have one copy of the
/// first root.
fn make_site(
    library: &Library,
    (trust, root): (&Trust, &Arc<[u8]>),
    (group, labels): (&Group, &Arc<BTreeMap<String, String>>),
    number: u64,
    random: &mut Random,
) -> Result<Site, WorldError> {
    let id = group.site(number).map_err(|error| WorldError::Refused(error.to_string()))?;
    let key = SecretKey::from_seed(&random.bytes());
    let [chain_id, outbox_epoch, nonce] = std::array::from_fn(|_| RandomId::from_bytes(random.bytes()));
    let grant = Grant {
        fleet_id: library.fleet.clone(),
        site: id.clone(),
        incarnation: 1,
        site_keyid: key.public().key_id(),
        nonce: nonce.clone(),
        minimum: Counter::default(),
        hubs: Vec::new(),
        hub_ca: String::new(),
        certificate: String::new(),
        topic_prefix: Name::new("airlift").expect("a name"),
        contact: group.contact,
        issued_at: Timestamp::from_unix_s(BEGINNING_S),
        crit: Vec::new(),
    };
    let envelope = Envelope::signed(&grant, &trust.director());
    let roots = std::slice::from_ref(trust.newest().as_ref());
    let (_, mut writes) = first_rows(
        &Rows::default(),
        roots,
        &envelope.to_json(),
        &key.public().key_id(),
        &nonce,
        &chain_id,
        outbox_epoch,
    )?;
    for write in &mut writes {
        if let Write::PutRoot(row) = write {
            row.envelope = Arc::clone(root);
        }
    }
    let disk = Disk::default();
    at_once(disk.durable.commit(writes))?;
    let uids = random.below(1 << 32);
    let mut clock = WallClock::right();
    clock.start(group.clock, 0);
    Ok(Site {
        id,
        labels: Arc::clone(labels),
        contact: group.contact,
        key: Arc::new(key),
        chain_id,
        node: Node { powered: true, boots: 1, booted_ms: 0, clock, clock_kind: group.clock },
        disk,
        process: None,
        life: 1,
        cluster: Model::new(uids, vec![node_status(library, true)], Settings::default()),
        cluster_up: true,
        api_fault: None,
        node_down: false,
        ripens_ms: None,
        content: SiteContent::default(),
        images: BTreeSet::new(),
        link: Link {
            spec: group.link.clone(),
            open: group.contact == ContactClass::Mqtt,
            shut: false,
            session: None,
            since_ms: 0,
            conns: 0,
        },
        stick: None,
        disturbed_ms: 0,
        troubles: 0,
    })
}
