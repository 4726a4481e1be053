//! A hub and a site, each on a disk that forgets, an operator who releases, and whoever pulls the plugs.

use std::process::Stdio;
use std::time::Duration;

use airlift_tests::chance::Chance;
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::lossy::LossyDisk;
use airlift_tests::model_site::ModelSite;
use airlift_tests::sample::{Sample, configuration, workload};
use serde_json::json;

use super::ledger::{AgentRows, HubRows, Ledger};

/// How long a cut waits for a sync before it comes anyway.
const PATIENCE: Duration = Duration::from_secs(3);
/// A cut comes after fewer syncs than this.
const SYNCS_MAX: u64 = 16;
/// Five pieces, so that content comes in parts.
const IMAGE_BYTES: usize = 300 << 10;
pub(super) const SITE: &str = "anna";
pub(super) const APP: &str = "counter";

/// The disks are given free before the processes are ended: one that waits for its disk does not end.
pub(super) struct Stand {
    pub(super) hub_disk: LossyDisk,
    pub(super) site_disk: LossyDisk,
    pub(super) site: ModelSite,
    pub(super) hub: Hub,
    pub(super) ledger: Ledger,
    chance: Chance,
    /// What the operator has still to do, the next thing last.
    orders: Vec<Order>,
}

#[derive(Clone)]
enum Order {
    Publish { bundle: String, seq: u32 },
    Assign { seq: u32 },
}

impl Order {
    fn arguments(&self) -> Vec<&str> {
        match self {
            Self::Publish { bundle, .. } => vec!["publish", bundle],
            Self::Assign { .. } => vec!["assign", APP, "--release", "newest", "--site", SITE],
        }
    }
}

impl Stand {
    pub(super) fn set_up(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let mut hub = Hub::start();
        hub.kill();
        let hub_disk = LossyDisk::over(&hub.dir().join("hub"), chance.below(u64::MAX));
        hub.run();
        let mut site = ModelSite::install(&hub, SITE);
        let site_disk = LossyDisk::over(&site.state_dir(), chance.below(u64::MAX));
        site.enrol(&hub);
        site.run(&hub);
        Self { hub_disk, site_disk, site, hub, ledger: Ledger::default(), chance, orders: Vec::new() }
    }

    /// From now on both disks only say that they sync.
    pub(super) fn ignore_syncs(&self) {
        self.hub_disk.ignore_syncs();
        self.site_disk.ignore_syncs();
    }

    /// Builds and signs the next version; it is published and assigned while cuts come.
    pub(super) fn begin(&mut self, seq: u32) {
        let version = format!("{seq}.0.0");
        let layout = self.hub.dir().join(format!("image-{seq}"));
        let image = TestImage::make(&layout, &format!("airlift.test/{APP}:{version}"), IMAGE_BYTES);
        let template = json!({
            "metadata": {"labels": {"app": APP}},
            "spec": {"containers": [{"name": APP, "image": image.name, "imagePullPolicy": "IfNotPresent"}]},
        });
        let folder = Sample::new(APP, &version)
            .says("timeout", json!("60s"))
            .says("soak", json!("1s"))
            .carries(&image)
            .with(configuration("ConfigMap", APP, "settings", json!({"version": version})))
            .with(workload("Deployment", APP, template, json!({"replicas": 1})))
            .write(&self.hub.dir().join(format!("folder-{seq}")));
        let bundle = self.hub.build(&folder, &format!("bundle-{seq}"), seq);
        self.orders = vec![Order::Assign { seq }, Order::Publish { bundle, seq }];
    }

    /// Cuts the power of the hub, of the site, or of both, perhaps in the middle of an order; answers whether it was
    /// at a sync.
    ///
    /// # Errors
    /// What is missing, wrong or older on a disk after it.
    pub(super) fn cut(&mut self) -> Result<bool, String> {
        let (cut_hub, cut_site) = [(true, false), (false, true), (false, true), (true, true)]
            [usize::try_from(self.chance.below(4)).unwrap()];
        let watched = if cut_hub { &self.hub_disk } else { &self.site_disk };
        watched.cut_after_syncs(self.chance.below(SYNCS_MAX));
        let order = self.orders.last().cloned();
        let running = order.as_ref().map(|order| {
            let mut command = self.hub.command(&order.arguments());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        });
        let at_a_sync = watched.wait_for_cut(PATIENCE);
        self.hub.process().check_alive()?;
        self.site.process().check_alive()?;
        if cut_hub {
            self.hub_disk.cut(self.hub.process());
        }
        if cut_site {
            self.site_disk.cut(self.site.process());
        }
        if let (Some(order), Some(running)) = (order, running) {
            let output = running.wait_with_output().unwrap();
            if output.status.success() {
                self.done(&order);
            } else if !cut_hub {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        let (agent, hub) = (AgentRows::of(&self.site_disk)?, HubRows::of(&self.hub_disk)?);
        self.ledger.compare(cut_site.then_some(&agent), cut_hub.then_some(&hub))?;
        self.ledger.match_up(&agent, &hub)?;
        self.ledger.keep(cut_site.then_some(agent), cut_hub.then_some(hub));
        if cut_hub {
            self.hub.kill();
            self.hub.run();
        }
        if cut_site {
            self.site.run(&self.hub);
        }
        Ok(at_a_sync)
    }

    /// Does what is to be done until the hub refuses; gives its words then.
    pub(super) fn try_orders(&mut self) -> Option<String> {
        while let Some(order) = self.orders.last().cloned() {
            let output = self.hub.try_airlift(&order.arguments());
            if !output.status.success() {
                return Some(String::from_utf8_lossy(&output.stderr).into_owned());
            }
            self.done(&order);
        }
        None
    }

    /// Does what the cuts have left undone.
    pub(super) fn finish(&mut self) {
        while let Some(order) = self.orders.last().cloned() {
            let _ = self.hub.airlift(&order.arguments());
            self.done(&order);
        }
    }

    /// The hub has said that it did this.
    fn done(&mut self, order: &Order) {
        self.orders.pop();
        match order {
            Order::Publish { seq, .. } => self.ledger.published = *seq,
            Order::Assign { seq } => self.ledger.assigned = *seq,
        }
    }
}
