//! Live mode: thousands of real agents on this machine, with real TLS and real databases, against a real hub.
//!
//! Agents share a few processes; the hub is a process of its own, and so is a broker where one stands between them. What
//! is modelled is only what an agent would find at its site, a cluster that obeys at once. Times are those of commits:
//! from the order to the agent's commit of `healthy`.

mod api;
mod audit;
mod broker;
mod crowd;
mod field;
mod fleet;
mod host;
mod load;
mod receipts;
mod report;
mod witness;
mod word;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use airlift_bundles::causes::in_one_line;
use airlift_bundles::ids::Sha256Digest;
use airlift_hub::api::types::{Assigned, HubInfo, Page, ReleaseInfo, route};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::demo::acts::free_ports;
use crate::demo::failure::DemoError;
use crate::demo::process::Process;
use crate::demo::tools::Tools;
use crate::run::Output;
use api::Api;
use broker::Broker;
use field::Field;
use host::Spent;
use load::{Measured, Orders};
use report::{Kill, Report, Stretch};
use word::{Order, now_ns};

pub(crate) use crowd::CrowdArgs;

/// Agents of one process: five descriptors each, of the 20,000 that a process often may have.
const CROWD_MAX: u32 = 2_500;
/// Time for every site to connect, to become healthy, or to be rid of its receipts.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two questions to the hub who is connected: it looks at every site for the answer.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a killed hub stays dead.
const DEAD: Duration = Duration::from_secs(1);

/// Runs live agents against a live hub.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  airlift-sim live --sites 200
  airlift-sim live --sites 100 --receipts 100 --broker
  airlift-sim live --sites 10000 --rate 500 --seconds 30 --kills 3 --idle 60 -o json")]
pub(crate) struct LiveArgs {
    /// Agents
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sites: u32,
    /// Processes that the agents share [default: one for each 2,500]
    #[arg(long)]
    processes: Option<u32>,
    /// Assignments a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// For how long: seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Then raise or lower the rate, a quarter at a time, to the last at which 99 of 100 take less than a second
    #[arg(long)]
    fastest: bool,
    /// Kill the hub so many times under half that load
    #[arg(long, default_value_t = 1)]
    kills: u32,
    /// Then let each site write so many receipts at once, and kill hub, broker and agents in the middle of it
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100_000))]
    receipts: u64,
    /// Leave everything alone at the end, and then read the hub's memory: seconds
    #[arg(long, default_value_t = 0)]
    idle: u64,
    /// Put mosquitto between hub and sites; then kills take hub, broker and both in turn
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, default_missing_value = "/usr/sbin/mosquitto")]
    broker: Option<PathBuf>,
    /// Where everything is made: an absent or empty directory [default: a new one, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the sites' directories are made [default: in the other]
    #[arg(long, value_name = "DIR")]
    sites_dir: Option<PathBuf>,
    /// How the result is printed; json ends with one object
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Why a live run ended early; all its processes are ended by then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveError {
    /// What it shares with the demo failed.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// A file, pipe or socket cannot be used.
    #[error("cannot use {what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else, in words.
    #[error("{0}")]
    Failed(String),
}

impl LiveError {
    /// For `map_err` at a file, pipe or socket.
    fn io(what: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let what = what.as_ref().display().to_string();
        move |source| Self::Io { what, source }
    }

    /// For `map_err` at the product's own functions.
    fn failed(error: impl std::error::Error) -> Self {
        Self::Failed(in_one_line(&error))
    }
}

/// Runs it to its exit code: 0 where nothing that was acknowledged is lost, 1 where it is, 2 where it could not be run.
pub(crate) fn run(arguments: &LiveArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let outcome = runtime
        .map_err(LiveError::io("the system's event queue"))
        .and_then(|runtime| runtime.block_on(stage(arguments)));
    finish(outcome.map(|report| report.is_whole()))
}

/// Runs a crowd, which `live` starts.
pub(crate) fn run_crowd(arguments: &CrowdArgs) -> ExitCode {
    finish(crowd::run(arguments).map(|()| true))
}

fn finish(outcome: Result<bool, LiveError>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            crate::demo::screen::complain(&error.to_string());
            ExitCode::from(2)
        }
    }
}

/// Makes the directories, plays, and takes them away again where nobody named them.
async fn stage(arguments: &LiveArgs) -> Result<Report, LiveError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(LiveError::io("signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(LiveError::io("signals"))?;
    let scratch = match &arguments.dir {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("airlift-live-")
                .tempdir()
                .map_err(LiveError::io("a directory"))?,
        ),
    };
    let dir = arguments.dir.clone().or_else(|| scratch.as_ref().map(|dir| dir.path().to_owned()));
    let dir = dir.expect("either is there");
    fs::create_dir_all(&dir).map_err(LiveError::io(&dir))?;
    let dir = fs::canonicalize(&dir).map_err(LiveError::io(&dir))?;
    let sites = arguments.sites_dir.clone().unwrap_or_else(|| dir.join("sites"));
    fs::create_dir_all(&sites).map_err(LiveError::io(&sites))?;
    if fs::read_dir(&sites).map_err(LiveError::io(&sites))?.next().is_some() {
        return Err(LiveError::Failed(format!("{} is not empty; name another directory", sites.display())));
    }
    let sites = fs::canonicalize(&sites).map_err(LiveError::io(&sites))?;
    let report = tokio::select! {
        report = play(arguments, &dir, &sites) => report,
        _ = interrupt.recv() => Err(DemoError::Interrupted.into()),
        _ = terminate.recv() => Err(DemoError::Interrupted.into()),
    };
    if scratch.is_some() && report.is_ok() {
        fs::remove_dir_all(&sites).map_err(LiveError::io(&sites))?;
    } else if let Some(scratch) = scratch {
        report::say(&format!("everything is still in {}", scratch.keep().display()));
    }
    report
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Hub,
    Broker,
    Both,
}

impl Victim {
    fn word(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Broker => "broker",
            Self::Both => "hub and broker",
        }
    }
}

/// The hub of a run, the broker before it, where there is one, and whoever asks them.
struct Host {
    tools: Tools,
    process: Option<Process>,
    broker: Option<Broker>,
    api: Api,
}

impl Host {
    /// Starts what does not run.
    async fn start(&mut self) -> Result<(), LiveError> {
        if let Some(broker) = &mut self.broker {
            broker.start(&self.tools).await?;
        }
        if self.process.is_none() {
            self.start_hub().await?;
        }
        Ok(())
    }

    /// Starts the hub, and waits until it answers.
    async fn start_hub(&mut self) -> Result<(), LiveError> {
        let mut command: Command = self.tools.service("airlift", &["hub", "serve", "--data", "hub"]);
        command.env("AIRLIFT_LOG", "warn");
        let mut process = Process::start("the hub", command, &self.tools.dir().join("logs/hub.log"))?;
        loop {
            process.check()?;
            if self.api.connect().await.is_ok() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Ends them as a power cut would.
    async fn kill(&mut self, victim: Victim) {
        if victim != Victim::Broker
            && let Some(process) = self.process.take()
        {
            process.kill().await;
        }
        if victim != Victim::Hub
            && let Some(broker) = &mut self.broker
        {
            broker.kill().await;
        }
    }

    /// Waits until the hub knows so many sites as connected.
    async fn wait_connected(&self, all: usize) -> Result<(), LiveError> {
        let until_ns = now_ns() + u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
        loop {
            let connected = self.info().await?.sites.connected;
            if usize::try_from(connected) == Ok(all) {
                return Ok(());
            }
            if now_ns() > until_ns {
                return Err(LiveError::Failed(format!(
                    "the hub knows {connected} of {all} sites as connected"
                )));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn spent(&self) -> Spent {
        self.process.as_ref().and_then(Process::id).map(Spent::of).unwrap_or_default()
    }

    async fn info(&self) -> Result<HubInfo, LiveError> {
        self.api.connect().await?.get(route::HUB).await
    }
}

async fn play(arguments: &LiveArgs, dir: &Path, sites_dir: &Path) -> Result<Report, LiveError> {
    let count = arguments.sites;
    let processes = arguments.processes.unwrap_or(count.div_ceil(CROWD_MAX)).clamp(1, count);
    let mut report = Report::begin(count, processes, arguments.output == Output::Json);
    let descriptors = host::raise_descriptors();
    let needed = u64::from(count.div_ceil(processes)) * 6 + 100;
    if needed > descriptors || u64::from(count) + 200 > descriptors {
        let text =
            format!("a process may have {descriptors} descriptors: fewer --sites, or more --processes");
        return Err(LiveError::Failed(text));
    }

    let tools = Tools::install(dir)?;
    let [https_port, mqtt_port] = free_ports()?;
    let broker = arguments.broker.as_deref().map(|program| Broker::new(program, mqtt_port));
    fleet::found(&tools, https_port, mqtt_port, broker.is_some()).await?;
    if let Some(broker) = &broker {
        broker.install(&tools).await?;
        report.set("broker", "mosquitto");
    }
    let began_ns = now_ns();
    let hub_key = fleet::enrol(&tools, sites_dir, count).await?;
    report.enrolled((now_ns() - began_ns) / 1_000_000);

    let token = fleet::data(&tools).admin_token();
    let token = fs::read_to_string(&token).map_err(LiveError::io(token))?.trim().to_owned();
    let api = Api::new(https_port, hub_key, token)?;
    let mut host = Host { tools: tools.clone(), process: None, broker, api };
    host.start().await?;
    fleet::publish(&tools).await?;
    report.hub_starts(host.spent());

    let mut field = Field::gather(&tools, sites_dir, count, processes).await?;
    let outcome = act(arguments, &mut host, &mut field, &mut report).await;
    let outcome = match outcome {
        Ok(()) => {
            host.kill(Victim::Both).await;
            let found = audit::compare(&fleet::data(&tools).database(), &field)?;
            report.found(found);
            Ok(report)
        }
        Err(error) => Err(error),
    };
    field.end().await;
    host.kill(Victim::Both).await;
    outcome
}

/// What is done with fleet and hub, in order.
async fn act(
    arguments: &LiveArgs,
    host: &mut Host,
    field: &mut Field,
    report: &mut Report,
) -> Result<(), LiveError> {
    let all = field.sites.len();
    let before = host.spent();
    field.order(Order::Go).await?;
    let connected_ms =
        field.wait("every site's connection", PATIENCE, |field| field.linked_since(1) == all).await?;
    host.wait_connected(all).await?;
    report.connected(connected_ms, host.info().await?.sites.connected, before, host.spent());

    let release = newest_release(host).await?;
    let mut orders = Orders::new(&host.api, release);
    let before = (host.spent(), field.spent());
    let installed_ms = everywhere(host, field, &mut orders).await?;
    report.installed(installed_ms, before, (host.spent(), field.spent()));

    let mut rate = arguments.rate;
    let good = stretch(host, field, &mut orders, report, rate, arguments.seconds).await?;
    while arguments.fastest && rate > 4 {
        rate = if good { rate + rate / 4 } else { rate - rate / 4 };
        if stretch(host, field, &mut orders, report, rate, arguments.seconds).await? != good {
            break;
        }
    }

    burst(host, field, report).await?;
    let victims =
        if host.broker.is_some() { &[Victim::Hub, Victim::Broker, Victim::Both][..] } else { &[Victim::Hub] };
    for victim in victims.iter().cycle().take(arguments.kills as usize).copied() {
        let length = Duration::from_secs(arguments.seconds.clamp(4, 20));
        let rate = (arguments.rate / 2).max(1);
        let kill = async {
            sleep(length / 2).await;
            host.kill(victim).await;
            let dead_ns = now_ns();
            sleep(DEAD).await;
            host.start().await?;
            Ok::<_, LiveError>((dead_ns, now_ns()))
        };
        let (measured, killed) = tokio::join!(orders.run(field, rate, length), kill);
        let (measured, (dead_ns, alive_ns)) = (measured?, killed?);
        // A hub behind a broker can go without any site's connection being broken.
        let mut again_ns = alive_ns;
        if host.broker.is_none() || victim != Victim::Hub {
            let is_back = |field: &Field| field.linked_since(dead_ns) == all;
            field.wait("every site's connection", PATIENCE, is_back).await?;
            again_ns = field.sites.iter().map(|site| site.linked_ns).fold(alive_ns, u64::max);
        }
        host.wait_connected(all).await?;
        if again_ns == alive_ns {
            again_ns = now_ns();
        }
        let again_ms = (again_ns - alive_ns) / 1_000_000;
        report.killed(Kill {
            victim: victim.word(),
            again_ms,
            failed_orders: measured.failed,
            lost: measured.lost,
        });
    }

    if arguments.receipts > 0 {
        receipts::write(arguments.receipts, host, field, report).await?;
    }

    let settled_ms = everywhere(host, field, &mut orders).await?;
    let began_ns = now_ns();
    while field.ask_chains().await? > 0 {
        if now_ns() - began_ns > u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX) {
            break; // what is missing is found below, and counted
        }
        sleep(Duration::from_millis(500)).await;
    }
    report.settled(settled_ms, (now_ns() - began_ns) / 1_000_000);

    if arguments.idle > 0 {
        sleep(Duration::from_secs(arguments.idle)).await;
        let connected = host.info().await?.sites.connected;
        report.idled(arguments.idle, connected, host.spent(), field.spent());
        let _ = field.ask_chains().await?; // with what the idle minutes have brought
    }
    Ok(())
}

async fn newest_release(host: &Host) -> Result<Sha256Digest, LiveError> {
    let page: Page<ReleaseInfo> = host.api.connect().await?.get(route::RELEASES).await?;
    let newest = page.items.first().map(|release| release.sha256);
    newest.ok_or_else(|| LiveError::Failed("the hub lists no release".into()))
}

/// One order to every site, and how long it takes until the last one is healthy with it.
async fn everywhere(host: &Host, field: &mut Field, orders: &mut Orders) -> Result<u64, LiveError> {
    let (order, generation) = orders.next(None);
    let began_ns = now_ns();
    let assigned: Assigned = host.api.connect().await?.post(route::ASSIGNMENTS, &order).await?;
    if assigned.sites.len() != field.sites.len() {
        return Err(LiveError::Failed(format!("the hub assigned {} sites", assigned.sites.len())));
    }
    let is_there = |field: &Field| field.sites.iter().all(|site| site.healthy == Some(generation));
    field.wait("every site to be healthy", PATIENCE, is_there).await?;
    Ok((now_ns() - began_ns) / 1_000_000)
}

/// Assignments at a rate; whether 99 of 100 took less than a second.
async fn stretch(
    host: &Host,
    field: &mut Field,
    orders: &mut Orders,
    report: &mut Report,
    rate: u64,
    seconds: u64,
) -> Result<bool, LiveError> {
    let before = (host.spent(), field.spent());
    let measured: Measured = orders.run(field, rate, Duration::from_secs(seconds)).await?;
    let after = (host.spent(), field.spent());
    Ok(report.stretched(Stretch { wanted_rate: rate, measured, before, after }))
}

/// Changes something at every site at once, and waits until the hub has acknowledged every status.
async fn burst(host: &Host, field: &mut Field, report: &mut Report) -> Result<(), LiveError> {
    let (began_ns, before) = (now_ns(), host.spent());
    field.order(Order::Burst).await?;
    let is_acked = |field: &Field| field.sites.iter().all(|site| site.status_acked_ns >= began_ns);
    let acked_ms = field.wait("every status to be acknowledged", PATIENCE, is_acked).await?;
    report.burst(acked_ms, before, host.spent());
    Ok(())
}
