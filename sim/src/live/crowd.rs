//! Many agents in one process: the product's core, store, content store and MQTT link, over a cluster that obeys at
//! once.
//!
//! What an agent's own process has beside them is left out: control socket, media, systemd.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use airlift_agent::clock::Clock;
use airlift_agent::config::host_platform;
use airlift_agent::control::desk::{AskError, Desk};
use airlift_agent::core::Event;
use airlift_agent::core::event::LocalCommand;
use airlift_agent::enrol::Identity;
use airlift_agent::enrol::grant::kept;
use airlift_agent::ports::{Content, Store};
use airlift_agent::receive::content::DiskContent;
use airlift_agent::receive::mqtt::{MqttLink, MqttSite};
use airlift_agent::run::ops::Replies;
use airlift_agent::run::{Agent, EVENTS, Ports, Site};
use airlift_agent::store::SqliteStore;
use airlift_agent::tls;
use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::{AppName, RandomId};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use super::LiveError;
use super::fleet::{APP, site_name};
use super::witness::{Seen, Witness};
use super::word::{Order, Word};
use crate::cluster::{Model, ModelCluster, Settings};
use crate::images::ModelImages;

/// Words that are written together at the latest after this, so that ten thousand of them are not as many writes.
const FLUSH_EVERY: Duration = Duration::from_millis(2);

/// Which agents.
#[derive(Debug, clap::Args)]
pub(crate) struct CrowdArgs {
    /// Where the sites' state directories are
    #[arg(long)]
    dir: PathBuf,
    /// Number of the first site
    #[arg(long)]
    from: u32,
    /// How many
    #[arg(long)]
    count: u32,
}

/// One agent, loaded.
struct Member {
    agent: Agent,
    events: mpsc::Receiver<Event>,
    cluster: ModelCluster,
    hand: Hand,
}

/// What somebody at a site can do there.
#[derive(Clone)]
struct Hand {
    seen: Arc<Seen>,
    desk: Desk,
    replies: Replies,
}

/// Lives until its input ends.
pub(crate) fn run(arguments: &CrowdArgs) -> Result<(), LiveError> {
    super::host::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LiveError::io("the system's event queue"))?;
    LocalSet::new().block_on(&runtime, live(arguments))
}

async fn live(arguments: &CrowdArgs) -> Result<(), LiveError> {
    let (words, told) = mpsc::unbounded_channel();
    let writing = tokio::spawn(write_words(told));
    let mut members = Vec::new();
    for number in arguments.from..arguments.from + arguments.count {
        members.push(load(&arguments.dir, number, words.clone()).await?);
    }
    let (end, ending) = watch::channel(false);
    let (mut clusters, mut hands, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for member in members {
        clusters.push(member.cluster);
        hands.push(member.hand);
        waiting.push((member.agent, member.events));
    }
    let _ = words.send(Word::Ready); // who does not listen has closed the input as well
    let mut orders = read_orders();
    let mut lives = JoinSet::new();
    let mut bursts = 0;
    loop {
        let line = tokio::select! {
            line = orders.recv() => line,
            Some(ended) = lives.join_next(), if !lives.is_empty() => {
                let ended: Result<(), airlift_agent::run::RunError> =
                    ended.map_err(|error| LiveError::Failed(format!("an agent broke: {error}")))?;
                ended.map_err(|error| LiveError::Failed(format!("an agent ended: {error}")))?;
                continue;
            }
        };
        let Some(line) = line else { break };
        match line.parse().map_err(|error| LiveError::Failed(format!("{error}")))? {
            Order::Go => {
                for (agent, events) in waiting.drain(..) {
                    lives.spawn_local(agent.run(events, ending.clone()));
                }
            }
            Order::Burst => {
                bursts += 1;
                for cluster in &clusters {
                    cluster.with(|model, _| model.set_nodes(vec![node(bursts)]));
                }
            }
            Order::Write(upto) => {
                for hand in &hands {
                    tokio::task::spawn_local(hand.clone().write(upto));
                }
            }
            Order::Tell => {
                for hand in &hands {
                    let _ = words.send(Word::Chain(hand.seen.chain())); // as above
                }
                let _ = words.send(Word::Told); // as above
            }
        }
    }
    let _ = end.send(true); // none runs any more
    drop((lives, words, hands));
    writing.abort();
    Ok(())
}

/// Loads a site's agent from its state directory, as its own process would.
async fn load(dir: &Path, number: u32, words: mpsc::UnboundedSender<Word>) -> Result<Member, LiveError> {
    let state_dir = dir.join(site_name(number).as_str());
    let failed = |error: &dyn std::fmt::Display| LiveError::Failed(format!("site {number}: {error}"));
    let store = SqliteStore::open(&state_dir).map_err(|error| failed(&error))?;
    let keys = state_dir.join("keys");
    let identity = Identity::load_or_make(&keys).map_err(|error| failed(&error))?;
    let meta = store.load().await.map_err(|error| failed(&error))?.meta;
    let grant = kept(&keys).map_err(|error| failed(&error))?;
    let (Some(meta), Some(grant)) = (meta, grant) else { return Err(failed(&"it is not enrolled")) };
    let seen = Seen::new(number, &meta, words);
    let store: Arc<dyn Store> = Arc::new(Witness::new(store, Arc::clone(&seen)));
    let site =
        Site { key: Arc::clone(&identity.site_key), platform: host_platform(), state_dir: state_dir.clone() };
    let content = DiskContent::open(state_dir, site.platform.clone(), Arc::clone(&store)).await;
    let content = Arc::new(content.map_err(|error| failed(&error))?);
    let (events, queue) = mpsc::channel(EVENTS);
    let settings = tls::granted(&grant.hub_ca, &grant.certificate, &identity.tls_key_pem);
    let clock = Clock::system();
    let link = MqttSite {
        site: meta.site,
        prefix: grant.topic_prefix,
        boot: RandomId::from_bytes(clock.now().boot.0),
        conn_seq: meta.conn_seq,
        hubs: grant.hubs,
        tls: Arc::new(settings.map_err(|error| failed(&error))?),
    };
    let link = MqttLink::new(link, events.clone(), Arc::clone(&content) as Arc<dyn Content>);
    let at_once = Settings {
        ready_after_ms: 0,
        established_after_ms: 0,
        namespace_gone_after_ms: 0,
        ..Settings::default()
    };
    let model = Model::new(u64::from(number) + 1, vec![node(0)], at_once);
    let cluster = ModelCluster::new(model, Arc::new(move || clock.now().mono_ms));
    let (media, _nobody_writes) = mpsc::channel(1);
    let ports = Ports {
        store,
        content,
        cluster: Arc::new(cluster.clone()),
        images: Arc::new(ModelImages::new(Duration::ZERO)),
        link: Some(Arc::new(link)),
        media,
    };
    let agent = Agent::load(site, ports, events.clone()).await.map_err(|error| failed(&error))?;
    let replies = agent.replies();
    let hand = Hand { seen, desk: Desk::new(events, replies.clone()), replies };
    Ok(Member { agent, events: queue, cluster, hand })
}

impl Hand {
    /// Holds the app and lets it go, each of which is receipted, until the chain has so many receipts.
    ///
    /// Nobody waits for an answer in between, so that many receipts are committed together. An agent that ends
    /// meanwhile leaves what is written; whoever starts it again says again how far.
    async fn write(self, upto: u64) {
        let app = AppName::new(APP).expect("the literal is a name");
        let (hold, unhold) = (LocalCommand::Hold(app.clone()), LocalCommand::Unhold(app));
        loop {
            for _ in 0..upto.saturating_sub(self.seen.chain().last).div_ceil(2) {
                for command in [&hold, &unhold] {
                    let (request, _) = self.replies.expect();
                    if self
                        .desk
                        .events()
                        .send(Event::Local { request, command: command.clone() })
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
            // A process that ended between the two has left the app held. By the answer all the others are committed.
            match self.desk.ask(unhold.clone()).await {
                Err(AskError::Ending) => return,
                Ok(_) | Err(_) if self.seen.chain().last >= upto => return,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// The one node of a site; a burst changes what it says of itself.
fn node(bursts: u32) -> NodeStatus {
    NodeStatus {
        name: "node".into(),
        ready: true,
        schedulable: true,
        disk_pressure: false,
        platform: host_platform(),
        kubelet: format!("model {bursts}"),
    }
}

/// Writes words as they come, several at once where they come fast.
async fn write_words(mut words: mpsc::UnboundedReceiver<Word>) {
    let mut text = String::new();
    while let Some(word) = words.recv().await {
        let mut next = Some(word);
        while let Some(word) = next {
            text.push_str(&word.to_string());
            text.push('\n');
            next = words.try_recv().ok();
        }
        if print(&text).is_err() {
            return; // nobody reads any more: the input ends as well
        }
        text.clear();
        tokio::time::sleep(FLUSH_EVERY).await;
    }
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Reads orders on a thread of its own, for whom it is no harm to wait.
fn read_orders() -> mpsc::UnboundedReceiver<String> {
    let (sender, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    orders
}
