//! What is known of every site, from the words of the crowds; and the processes that the crowds are.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use airlift_bundles::ids::Sha256Digest;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::LiveError;
use super::host::Spent;
use super::word::{Chain, Order, Word, now_ns};
use crate::demo::tools::Tools;

/// One site as its words show it.
#[derive(Debug, Clone, Default)]
pub(super) struct SiteSeen {
    pub(super) linked_ns: u64,
    pub(super) healthy: Option<Sha256Digest>,
    pub(super) status_acked_ns: u64,
    pub(super) chain: Option<Chain>,
    /// The generation that it was told to run, and when.
    pub(super) told: Option<(Sha256Digest, u64)>,
}

/// All sites, and the processes that they live in.
pub(super) struct Field {
    pub(super) sites: Vec<SiteSeen>,
    tools: Tools,
    dir: PathBuf,
    crowds: Vec<Crowd>,
    tell: mpsc::UnboundedSender<Result<Word, LiveError>>,
    words: mpsc::UnboundedReceiver<Result<Word, LiveError>>,
    ready: usize,
    told: usize,
}

struct Crowd {
    from: u32,
    count: u32,
    child: Child,
    orders: ChildStdin,
    listening: JoinHandle<()>,
}

impl Crowd {
    /// Starts the process of so many sites, whose words go to `tell`.
    fn start(
        tools: &Tools,
        dir: &Path,
        (from, count): (u32, u32),
        tell: mpsc::UnboundedSender<Result<Word, LiveError>>,
    ) -> Result<Self, LiveError> {
        let numbers = [from.to_string(), count.to_string()];
        let place = dir.display().to_string();
        let arguments = ["crowd", "--dir", &place, "--from", &numbers[0], "--count", &numbers[1]];
        let log = tools.dir().join("logs").join(format!("crowd-{from}.log"));
        let file = File::options().create(true).append(true).open(&log).map_err(LiveError::io(log))?;
        let mut command = tools.service("airlift-sim", &arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().map_err(LiveError::io("a crowd's process"))?;
        let piped = "the command above pipes it";
        let orders = child.stdin.take().expect(piped);
        let mut lines = BufReader::new(child.stdout.take().expect(piped)).lines();
        let listening = tokio::spawn(async move {
            loop {
                let word = match lines.next_line().await {
                    Ok(Some(line)) => line.parse().map_err(LiveError::failed),
                    Ok(None) => Err(LiveError::Failed(format!("the crowd from site {from} on ended"))),
                    Err(error) => Err(LiveError::failed(error)),
                };
                let last = word.is_err();
                if tell.send(word).is_err() || last {
                    return;
                }
            }
        });
        Ok(Self { from, count, child, orders, listening })
    }
}

impl Field {
    /// Starts the crowds for so many sites, shared evenly, and waits until every agent is loaded.
    pub(super) async fn gather(
        tools: &Tools,
        dir: &Path,
        count: u32,
        processes: u32,
    ) -> Result<Self, LiveError> {
        let (tell, words) = mpsc::unbounded_channel();
        let share = count.div_ceil(processes);
        let mut crowds = Vec::new();
        for from in (0..count).step_by(share as usize) {
            crowds.push(Crowd::start(tools, dir, (from, share.min(count - from)), tell.clone())?);
        }
        let sites = vec![SiteSeen::default(); count as usize];
        let (tools, dir) = (tools.clone(), dir.to_owned());
        let mut field = Self { sites, tools, dir, crowds, tell, words, ready: 0, told: 0 };
        field.wait_ready().await?;
        Ok(field)
    }

    async fn wait_ready(&mut self) -> Result<(), LiveError> {
        let all = self.crowds.len();
        self.wait("agents to be loaded", Duration::from_secs(600), |field| field.ready == all).await?;
        Ok(())
    }

    /// Ends every process as a power cut would, and starts it again. Clusters, which are models, are new; what the
    /// agents have on disk is as it was left.
    pub(super) async fn kill_and_start(&mut self) -> Result<(), LiveError> {
        self.ready = 0;
        for crowd in &mut self.crowds {
            // Its end is no news.
            crowd.listening.abort();
            crowd.child.kill().await.map_err(LiveError::io("a crowd's process"))?;
        }
        for crowd in &mut self.crowds {
            *crowd = Crowd::start(&self.tools, &self.dir, (crowd.from, crowd.count), self.tell.clone())?;
        }
        self.wait_ready().await?;
        self.order(Order::Go).await
    }

    /// Tells every crowd.
    pub(super) async fn order(&mut self, order: Order) -> Result<(), LiveError> {
        for crowd in &mut self.crowds {
            let line = format!("{order}\n");
            crowd.orders.write_all(line.as_bytes()).await.map_err(LiveError::io("a crowd"))?;
        }
        Ok(())
    }

    /// What all crowds together have spent.
    pub(super) fn spent(&self) -> Spent {
        let each = self.crowds.iter().filter_map(|crowd| crowd.child.id()).map(Spent::of);
        each.fold(Spent::default(), |all, one| Spent {
            cpu_ms: all.cpu_ms + one.cpu_ms,
            rss_kb: all.rss_kb + one.rss_kb,
        })
    }

    /// Takes the next word, when it comes.
    pub(super) async fn next(&mut self) -> Result<Word, LiveError> {
        let word = self.words.recv().await.unwrap_or(Err(LiveError::Failed("no crowd lives".into())))?;
        match &word {
            Word::Ready => self.ready += 1,
            Word::Told => self.told += 1,
            Word::Linked { site, at_ns, .. } => self.site(*site)?.linked_ns = *at_ns,
            Word::Healthy { site, generation, .. } => self.site(*site)?.healthy = Some(*generation),
            Word::StatusAcked { site, at_ns } => self.site(*site)?.status_acked_ns = *at_ns,
            Word::Chain(chain) => self.site(chain.site)?.chain = Some(chain.clone()),
        }
        Ok(word)
    }

    pub(super) fn site(&mut self, number: u32) -> Result<&mut SiteSeen, LiveError> {
        let strange = || LiveError::Failed(format!("a crowd tells of site {number}, which is nobody's"));
        self.sites.get_mut(number as usize).ok_or_else(strange)
    }

    /// Takes words until `done`, and gives how long that took.
    pub(super) async fn wait(
        &mut self,
        what: &str,
        within: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<u64, LiveError> {
        let (began_ns, until) = (now_ns(), Instant::now() + within);
        while !done(self) {
            match timeout_at(until, self.next()).await {
                Ok(word) => {
                    word?;
                }
                Err(_) => {
                    return Err(LiveError::Failed(format!("{what}: not within {} s", within.as_secs())));
                }
            }
            // A look at every site costs more than a word: what is here already is taken first.
            for _ in 0..self.words.len() {
                self.next().await?;
            }
        }
        Ok((now_ns() - began_ns) / 1_000_000)
    }

    /// How many sites have a connection that is newer than this.
    pub(super) fn linked_since(&self, since_ns: u64) -> usize {
        self.sites.iter().filter(|site| site.linked_ns >= since_ns).count()
    }

    /// Asks every site how its chain stands, and gives how many receipts the hub has not acknowledged.
    pub(super) async fn ask_chains(&mut self) -> Result<u64, LiveError> {
        self.told = 0;
        self.order(Order::Tell).await?;
        self.wait("the chains", Duration::from_secs(60), |field| field.told == field.crowds.len()).await?;
        let chains = self.sites.iter().filter_map(|site| site.chain.as_ref());
        Ok(chains.map(|chain| chain.last - chain.acked).sum())
    }

    /// Ends every process.
    pub(super) async fn end(mut self) {
        for crowd in &mut self.crowds {
            let _ = crowd.child.kill().await; // it may have ended by itself
        }
    }
}
