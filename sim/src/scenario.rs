//! Scenarios: a story in TOML, as a fleet, a timeline of what operators do, faults with rates, and expectations.
//!
//! Every table refuses fields that it does not know, and `scenarios/schema.json` says the same to editors.

mod fleet;
mod own;
mod span;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::ids::{AppName, IdError, Name, SiteId, Version};
use airlift_hub::plan::select::{Selector, SelectorError};
use serde::{Deserialize, Serialize};

pub use fleet::{FLEET_BYTES_MAX, FleetError};
pub use span::Span;

/// The scenarios that are part of the program, in the order in which they are listed.
const BUILT_IN: [&str; 15] = [
    include_str!("../scenarios/bad-release.toml"),
    include_str!("../scenarios/usb-only.toml"),
    include_str!("../scenarios/hub-lost-for-90-days.toml"),
    include_str!("../scenarios/power-cuts.toml"),
    include_str!("../scenarios/stick-chaos.toml"),
    include_str!("../scenarios/disk-full.toml"),
    include_str!("../scenarios/lying-disks.toml"),
    include_str!("../scenarios/clock-1970.toml"),
    include_str!("../scenarios/thin-link-5000.toml"),
    include_str!("../scenarios/hundred-thousand.toml"),
    include_str!("../scenarios/mass-reboot.toml"),
    include_str!("../scenarios/restored-hub.toml"),
    include_str!("../scenarios/rotating-keys.toml"),
    include_str!("../scenarios/stolen-director-key.toml"),
    include_str!("../scenarios/chaos.toml"),
];

/// JSON Schema of a scenario, for editors and for people.
pub const SCHEMA: &str = include_str!("../scenarios/schema.json");

/// The most sites of one scenario.
const SITES_MAX: u64 = 1_000_000;

/// One story.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// How long it is.
    pub duration: Span,
    /// At its end, faults that are drawn and what happens to sticks cease for so long, so that what must converge can.
    #[serde(default)]
    pub quiet: Span,
    /// The fleet.
    #[serde(default)]
    pub group: Vec<Group>,
    /// What may be assigned.
    #[serde(default)]
    pub release: Vec<ReleaseSpec>,
    /// What people do, and when.
    #[serde(default)]
    pub action: Vec<Action>,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// Who carries sticks.
    #[serde(default)]
    pub carrier: Vec<Carrier>,
    /// What must be so.
    #[serde(default)]
    pub expect: Vec<Expectation>,
    /// What a part of the story may cost.
    #[serde(default)]
    pub bound: Vec<Bound>,
}

/// Sites that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// First part of its sites' names, and their label `group`.
    pub name: Name,
    /// How many.
    pub count: u64,
    /// Their names, where they are not numbered.
    #[serde(default)]
    pub names: Vec<SiteId>,
    /// How they are reached.
    #[serde(default)]
    pub contact: ContactClass,
    /// Further labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Their link to the hub, where they have one.
    #[serde(default)]
    pub link: LinkSpec,
    /// What their wall clocks show after each power cut.
    #[serde(default)]
    pub clock: ClockKind,
}

/// What a machine's wall clock shows when its power has come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockKind {
    /// What it showed before.
    #[default]
    Right,
    /// There is none: time begins when the agent was built.
    NoRtc,
    /// There is none: time begins in 1970.
    Epoch,
}

/// A way to the hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSpec {
    /// Of each message, from and to; later messages may come first.
    pub latency: [Span; 2],
    /// For content.
    pub kbit_per_s: u64,
    /// Messages in a thousand that are lost, and the connection with them: a lost packet is only late.
    pub lost_per_mille: u32,
    /// Messages in a thousand that come twice.
    pub repeated_per_mille: u32,
    /// It may be used from and to these hours of a day only; other hours cost too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<[Span; 2]>,
}

impl Group {
    /// Its labels, with that of its name.
    #[must_use]
    pub fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.entry("group".into()).or_insert_with(|| self.name.to_string());
        labels
    }

    /// The name of its site of this number, which begins at 1.
    ///
    /// # Errors
    /// Where group and number are too long for a site's name.
    pub fn site(&self, number: u64) -> Result<SiteId, IdError> {
        let own = usize::try_from(number - 1).ok().and_then(|at| self.names.get(at));
        own.map_or_else(|| SiteId::new(&format!("{}-{number}", self.name)), |own| Ok(own.clone()))
    }
}

impl Default for LinkSpec {
    fn default() -> Self {
        Self {
            latency: [Span::from_ms(20), Span::from_ms(200)],
            kbit_per_s: 10_000,
            lost_per_mille: 0,
            repeated_per_mille: 0,
            hours: None,
        }
    }
}

/// One version of one app; its bundle is really built and its release really signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseSpec {
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: Version,
    /// Its number.
    pub seq: u64,
    /// Once it is healthy at a site, nothing below this may be installed there.
    #[serde(default)]
    pub floor: u64,
    /// Whether its pods become ready.
    #[serde(default = "works")]
    pub works: bool,
    /// Bytes that travel, in the place of the small bundle's own.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// A bundle of an operator, with its release: its objects and sizes in the place of the sample app's.
    #[serde(default)]
    pub bundle: Option<PathBuf>,
    /// How long it may take to become healthy.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// How long it must stay so.
    #[serde(default = "soak")]
    pub soak: Span,
}

fn works() -> bool {
    true
}

fn timeout() -> Span {
    Span::from_ms(600_000)
}

fn soak() -> Span {
    Span::from_ms(120_000)
}

/// One thing that people do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// When.
    pub at: Span,
    /// What.
    pub act: Act,
    /// The app, for `assign`, `retire`, `block` and `stop`.
    #[serde(default)]
    pub app: Option<AppName>,
    /// The version, for `assign`, `block` and `stop`.
    #[serde(default)]
    pub version: Option<Version>,
    /// The sites, by labels.
    #[serde(default = "all")]
    pub sites: String,
    /// How long it lasts, from and to, for `blackout`.
    #[serde(default)]
    pub lasts: Option<[Span; 2]>,
}

fn all() -> String {
    "*".to_owned()
}

/// Kinds of deeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Assign a version.
    Assign,
    /// Tell an app to leave.
    Retire,
    /// The hub's machine is lost.
    HubDown,
    /// It is back, with its database.
    HubUp,
    /// A backup of the hub is made, in the place of the one before.
    HubBackup,
    /// The hub's machine is lost; another begins with the backup.
    HubRestore,
    /// Its people bring keys, roots and releases up to date, and adopt what sites returned.
    HubReconcile,
    /// A new root names other holders of the root.
    RotateRoot,
    /// A new root names other holders of releases; the old keys are revoked, and releases are signed again.
    RotateReleases,
    /// A new root names another key of the hub.
    RotateDirector,
    /// The same after a theft: the stolen key is revoked, and its numbers are left behind.
    ReplaceDirector,
    /// Somebody copies the hub's key; the fault `thief` is nothing before.
    StealDirectorKey,
    /// A new root blocks a version: nothing begins with it any more.
    Block,
    /// A new root stops a version: its pods end.
    Stop,
    /// The keys of sites are taken back.
    RevokeSites,
    /// Sites lose power all at once, and get it back all at once.
    Blackout,
}

/// Something that goes wrong at sites, or at the hub, again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// At which sites, by labels; the hub's own faults ignore it.
    #[serde(default = "all")]
    pub sites: String,
    /// How often a day at each, on average.
    pub per_day: f64,
    /// How long it lasts, from and to.
    #[serde(default)]
    pub lasts: [Span; 2],
    /// Not before.
    #[serde(default)]
    pub from: Span,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The site loses power: commits under way may or may not be on disk, content loses what was not synced.
    PowerCut,
    /// The agent's process is killed and started again.
    Kill,
    /// The site's disk fills up: some commits fit, and then none does.
    DiskFull,
    /// No way to the hub.
    Partition,
    /// The hub's process dies.
    HubCrash,
    /// The API server does not answer.
    ApiDown,
    /// It refuses every third request as one too many.
    ApiThrottled,
    /// It fails every third request.
    ApiBroken,
    /// No node is Ready.
    NodeDown,
    /// Somebody edits or deletes an object of ours.
    Drift,
    /// Images vanish from the container runtime.
    ImagesLost,
    /// The site's wall clock jumps: to 1970, up to ten years either way; or drifts, or is right again.
    Clock,
    /// Forged documents, and old ones again, arrive by link or stick.
    Forged,
    /// The site loses power, and the last commits that its disk acknowledged were never there.
    LyingDisk,
    /// Content on the site's disk is torn or gone.
    ContentDamaged,
    /// Documents beyond the limits arrive, signed with the director's key.
    Oversized,
    /// The hub's machine is lost, and another begins with the last backup; its people look after it from then on.
    HubRestore,
    /// Whoever stole the director's key gives an order.
    Thief,
}

/// Somebody who carries a stick round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carrier {
    /// To which sites, by labels.
    pub sites: String,
    /// The first round's start.
    #[serde(default)]
    pub first: Span,
    /// From one round's start to the next; a longer round delays it.
    pub every: Span,
    /// From place to place, from and to.
    pub travel: [Span; 2],
    /// At each site, from and to.
    pub stay: [Span; 2],
    /// Files in a thousand that are not on the stick, because it was pulled while it was written.
    #[serde(default)]
    pub half_copied_per_mille: u32,
    /// Rounds in a thousand with what an earlier round had on it.
    #[serde(default)]
    pub stale_per_mille: u32,
    /// Rounds in a thousand on which two carriers take each other's sticks.
    #[serde(default)]
    pub swapped_per_mille: u32,
    /// Files in a thousand, either way, of which only the beginning can be read.
    #[serde(default)]
    pub torn_per_mille: u32,
    /// Visits in a thousand after which the stick is put in there once more.
    #[serde(default)]
    pub twice_per_mille: u32,
    /// Rounds in a thousand after which the receipts stay on the stick, and come back with the next ones.
    #[serde(default)]
    pub old_receipts_per_mille: u32,
}

/// What must be so at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// When; at the end where it is not said.
    #[serde(default)]
    pub at: Option<Span>,
    /// At which sites, by labels.
    #[serde(default = "all")]
    pub sites: String,
    /// For this app.
    pub app: AppName,
    /// This version is healthy there; where it is not said the app is not there.
    #[serde(default)]
    pub running: Option<Version>,
    /// This version has failed there.
    #[serde(default)]
    pub failed: Option<Version>,
    /// The hub shows it as well.
    #[serde(default)]
    pub known: bool,
}

/// What a part of the story may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Counted from then.
    pub from: Span,
    /// And until then.
    pub until: Span,
    /// The most connections that the hub may see in one second.
    #[serde(default)]
    pub connects_per_s: Option<u64>,
    /// The most commits at any one site.
    #[serde(default)]
    pub commits_per_site: Option<u64>,
    /// The most objects applied, at all sites together.
    #[serde(default)]
    pub applied: Option<u64>,
    /// The most bytes of content moved, to all sites together.
    #[serde(default)]
    pub moved_bytes: Option<u64>,
}

/// A scenario that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// There is no such scenario, and no such file.
    #[error(
        "there is no scenario {0}, and no file of that name: `airlift-sim list` shows those that are built in"
    )]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what the schema asks for.
    #[error("not a scenario: {0}")]
    Malformed(#[from] toml::de::Error),
    /// A selector is not one.
    #[error("not a selector: {0}")]
    Selector(#[from] SelectorError),
    /// A fleet that cannot take the place of the scenario's.
    #[error("the fleet cannot be taken")]
    Fleet(#[from] FleetError),
    /// It contradicts itself.
    #[error("{0}")]
    Senseless(String),
}

impl Scenario {
    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// All built-in scenarios.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        let parse = |text: &&str| Self::parse(text).expect("a test reads every built-in scenario");
        BUILT_IN.iter().map(parse).collect()
    }

    /// The built-in scenario of this name, or the one in this file.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub fn find(name: &str) -> Result<Self, ScenarioError> {
        if let Some(found) = Self::built_in().into_iter().find(|scenario| scenario.name == name) {
            return Ok(found);
        }
        if !Path::new(name).is_file() {
            return Err(ScenarioError::Unknown(name.to_owned()));
        }
        let read = std::fs::read_to_string(name);
        Self::parse(&read.map_err(|source| ScenarioError::Unreadable { path: name.to_owned(), source })?)
    }

    /// How many sites it has.
    #[must_use]
    pub fn sites(&self) -> u64 {
        self.group.iter().map(|group| group.count).sum()
    }

    /// The same story with about so many sites: groups keep their shares, and at least one site each.
    #[must_use]
    pub fn with_sites(mut self, sites: u64) -> Self {
        let all = self.sites().max(1);
        for group in &mut self.group {
            group.count = (group.count * sites / all).max(1);
            if !group.names.is_empty() {
                group.count = group.count.min(group.names.len() as u64);
                group.names.truncate(usize::try_from(group.count).unwrap_or(usize::MAX));
            }
        }
        self
    }

    /// A site's name is there once.
    fn check_names(&self) -> Result<(), ScenarioError> {
        let mut names = BTreeSet::new();
        for group in self.group.iter().filter(|group| !group.names.is_empty()) {
            if group.names.len() as u64 != group.count {
                let (name, names) = (&group.name, group.names.len());
                let text = format!("group {name} has {names} names for {} sites", group.count);
                return Err(ScenarioError::Senseless(text));
            }
            names.extend(&group.names);
        }
        let named: u64 =
            self.group.iter().filter(|group| !group.names.is_empty()).map(|group| group.count).sum();
        let mut numbered = self.group.iter().filter(|group| group.names.is_empty());
        let taken = |group: &Group, name: &SiteId| {
            let number =
                name.as_str().strip_prefix(group.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
            number
                .and_then(|number| number.parse().ok())
                .is_some_and(|number| (1..=group.count).contains(&number))
        };
        if names.len() as u64 != named || numbered.any(|group| names.iter().any(|name| taken(group, name))) {
            return Err(ScenarioError::Senseless("two sites have one name".into()));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let senseless = |text: String| Err(ScenarioError::Senseless(text));
        if self.group.iter().any(|group| group.count > SITES_MAX) || !(1..=SITES_MAX).contains(&self.sites())
        {
            return senseless(format!("a scenario has 1 to {SITES_MAX} sites"));
        }
        self.check_names()?;
        if self.quiet >= self.duration {
            return senseless("`quiet` is no shorter than `duration`".into());
        }
        let actions = self.action.iter().map(|action| &action.sites);
        let faults = self.fault.iter().map(|fault| &fault.sites);
        let expectations = self.expect.iter().map(|expectation| &expectation.sites);
        let carriers = self.carrier.iter().map(|carrier| &carrier.sites);
        for selector in actions.chain(faults).chain(expectations).chain(carriers) {
            selector.parse::<Selector>()?;
        }
        let released = |app: &AppName, version: &Version| {
            self.release.iter().any(|release| release.app == *app && release.version == *version)
        };
        for action in &self.action {
            match (action.act, &action.app, &action.version) {
                (Act::Assign, Some(app), Some(version)) if !released(app, version) => {
                    return senseless(format!("there is no release {version} of {app} to assign"));
                }
                (Act::Assign, Some(_), Some(_)) | (Act::Retire, Some(_), None) => {}
                (Act::Assign, ..) => return senseless("`assign` needs `app` and `version`".into()),
                (Act::Retire, ..) => return senseless("`retire` needs `app` alone".into()),
                (Act::Block | Act::Stop, Some(app), Some(version)) if released(app, version) => {}
                (Act::Block | Act::Stop, ..) => {
                    return senseless(
                        "`block` and `stop` need `app` and a `version` that is released".into(),
                    );
                }
                (_, None, None) => {}
                _ => return senseless("only orders and revocations name an app".into()),
            }
            if (action.act == Act::Blackout) != action.lasts.is_some() {
                return senseless("`lasts` is how long a `blackout` lasts, and every one has it".into());
            }
        }
        for expectation in &self.expect {
            for version in expectation.running.iter().chain(&expectation.failed) {
                if !released(&expectation.app, version) {
                    return senseless(format!("there is no release {version} of {}", expectation.app));
                }
            }
        }
        let hours = self.group.iter().filter_map(|group| group.link.hours);
        if hours.flatten().any(|hour| hour.ms() >= 86_400_000) {
            return senseless("the hours of a link are those of one day".into());
        }
        if self.bound.iter().any(|bound| bound.from >= bound.until) {
            return senseless("a bound ends after it begins".into());
        }
        match self.fault.iter().find(|fault| !(fault.per_day > 0.0 && fault.per_day <= 10_000.0)) {
            Some(fault) => senseless(format!("`per_day = {}` is not within 0 to 10000", fault.per_day)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
