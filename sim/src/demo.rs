//! The demo: a fleet on one machine, from the first key to the last receipt, in under a minute.
//!
//! The hub, eleven agents and every command are this same program, run again as real processes over real MQTT with
//! mutual TLS on loopback; what is modelled is only what an agent would find at its site: Kubernetes and containerd.
//! Choices and reasons are in this crate's `DESIGN.md`.

pub mod acts;
pub mod app;
pub mod board;
pub mod failure;
pub mod image;
pub mod process;
pub mod program;
pub mod screen;
pub mod seen;
pub mod sites;
pub mod story;
pub mod tools;
pub mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use acts::{Cast, STICK};
use airlift_agent::config::host_platform;
use board::{Row, columns};
use clap::Args;
use failure::DemoError;
use sites::{RealCluster, all_met, look, name_sites};
use story::{Act, Progress, STORY, Stage};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tools::{PARENT, Tools};

/// Between two looks at the sites.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Shows the whole journey on this machine, with nothing installed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift-sim demo
  airlift-sim demo --keep                  # and leave it running, to try commands
  airlift-sim demo --kubeconfig /etc/rancher/k3s/k3s.yaml --containerd /run/k3s/containerd/containerd.sock")]
pub struct DemoArgs {
    /// Sites with a network; one more has none
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=50))]
    sites: u8,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Where everything is made: an absent or empty directory [default: a new one in the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Make the first site a real cluster: the kubeconfig of an administrator
    #[arg(long, value_name = "FILE", requires = "containerd")]
    kubeconfig: Option<PathBuf>,
    /// … and the socket of its node's containerd
    #[arg(long, value_name = "SOCKET", requires = "kubeconfig")]
    containerd: Option<PathBuf>,
}

/// Runs the demo, to its exit code.
#[must_use]
pub fn run(arguments: &DemoArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(DemoError::io("the system's event queue"))
        .and_then(|runtime| runtime.block_on(stage(arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::complain(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Plays the story, and ends every process whatever becomes of it.
async fn stage(arguments: &DemoArgs) -> Result<(), DemoError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DemoError::io("signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::io("signals"))?;
    let dir = prepare(arguments.dir.as_deref())?;
    let real = arguments.kubeconfig.clone().zip(arguments.containerd.clone());
    let real = match real {
        Some((kubeconfig, containerd)) => {
            let absolute = |path: PathBuf| fs::canonicalize(&path).map_err(DemoError::io(path));
            Some(RealCluster { kubeconfig: absolute(kubeconfig)?, containerd: absolute(containerd)? })
        }
        None => None,
    };
    let tools = Tools::install(&dir)?;
    let mut cast = Cast::gather(tools, name_sites(arguments.sites.into(), real))?;
    cast.screen.say(&format!("Everything is made in {}", dir.display()));
    let outcome = tokio::select! {
        outcome = play(&mut cast, arguments.keep) => outcome,
        _ = interrupt.recv() => Err(DemoError::Interrupted),
        _ = terminate.recv() => Err(DemoError::Interrupted),
    };
    cast.screen.say("");
    cast.stop().await;
    match outcome {
        // The person has seen all of it, and ends it as they were told to.
        Err(DemoError::Interrupted) if cast.is_over => Ok(()),
        Err(DemoError::Interrupted) if arguments.dir.is_none() => {
            fs::remove_dir_all(&dir).map_err(DemoError::io(dir))?;
            outcome
        }
        outcome => outcome,
    }
}

/// Makes the demo's directory.
fn prepare(wanted: Option<&Path>) -> Result<PathBuf, DemoError> {
    let dir = match wanted {
        Some(dir) => {
            fs::create_dir_all(dir).map_err(DemoError::io(dir))?;
            let mut entries = fs::read_dir(dir).map_err(DemoError::io(dir))?;
            if entries.next().is_some() {
                let text = format!("{} is not empty; name another --dir, or remove it", dir.display());
                return Err(DemoError::Options(text));
            }
            dir.to_owned()
        }
        None => {
            let made = tempfile::Builder::new().prefix("airlift-demo-").tempdir();
            made.map_err(DemoError::io(std::env::temp_dir()))?.keep()
        }
    };
    fs::canonicalize(&dir).map_err(DemoError::io(dir))
}

async fn play(cast: &mut Cast, keep: bool) -> Result<(), DemoError> {
    let mut rows = Vec::new();
    for (number, stage) in STORY.iter().enumerate() {
        cast.screen.begin(number + 1, STORY.len(), stage.title, stage.note);
        match stage.act {
            Act::Found => cast.found().await?,
            Act::Enrol => cast.enrol().await?,
            Act::Release(app) => cast.release(app).await?,
            Act::Blackout => cast.black_out().await?,
            Act::Return => cast.come_back().await?,
        }
        if stage.act.concerns_sites() {
            rows = wait_for_sites(cast, stage).await?;
        }
        if matches!(stage.act, Act::Release(_) | Act::Return) {
            cast.carry_back().await?;
        }
    }
    let receipts = cast.count_receipts().await?;
    let seconds = cast.screen.elapsed_ms().div_ceil(1000);
    cast.screen
        .say(&format!("\nDone in {seconds} s. Every site runs, and every receipt is here and verified:\n"));
    for line in table(&rows, &receipts) {
        cast.screen.say(&format!("  {line}"));
    }
    for line in farewell(cast, keep) {
        cast.screen.say(&line);
    }
    cast.is_over = true;
    if keep {
        // Until the person, or a process that ends by itself, ends it.
        loop {
            sleep(Duration::from_secs(1)).await;
            cast.check_hub()?;
        }
    }
    Ok(())
}

/// Shows the sites until all are as the stage expects.
async fn wait_for_sites(cast: &mut Cast, stage: &Stage) -> Result<Vec<Row>, DemoError> {
    let started_ms = cast.screen.elapsed_ms();
    loop {
        cast.check_hub()?;
        let rows = look(&mut cast.sites, &cast.tools, stage.expect).await?;
        cast.screen.show(&rows);
        if all_met(&rows) {
            cast.screen.end("all sites");
            return Ok(rows);
        }
        let waited_s = (cast.screen.elapsed_ms() - started_ms) / 1000;
        let broken = rows.iter().any(|row| matches!(row.progress, Progress::Broken(_)));
        if broken || waited_s >= stage.within_s {
            let missing: Vec<Row> = rows.into_iter().filter(|row| row.progress != Progress::Met).collect();
            let what = format!("after {waited_s} s not every site is as it should be: {}", stage.title);
            let logs = cast.tools.dir().join("logs");
            return Err(DemoError::Stage { what, sites: board::draw(&missing).join("\n"), logs });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The table at the end.
fn table(rows: &[Row], receipts: &[usize]) -> Vec<String> {
    let head = ["SITE", "STATE", "VERSION", "WENT BACK FROM", "RECEIPTS", "ROUTE"].map(str::to_owned);
    let cells = rows.iter().zip(receipts).map(|(row, receipts)| {
        let seen = &row.seen;
        let failed = if seen.target == seen.version { "-" } else { seen.target.as_str() };
        let cells =
            [&row.site, &seen.state, &seen.version, failed, &format!("{receipts} verified"), row.route];
        cells.map(str::to_owned)
    });
    columns(std::iter::once(head).chain(cells).collect())
}

/// Where everything is, and what to try.
fn farewell(cast: &Cast, keep: bool) -> Vec<String> {
    let dir = cast.tools.dir().display();
    let made = [
        ["keys", "keys/", "three holders of the root, three of releases; two sign"],
        ["root", "roots/1.json", "what every site trusts; the ceremony's draft is root.json"],
        ["apps", "apps/", "three versions of the sample app, as a developer has them"],
        ["bundles", "bundles/", "what was built from them and signed"],
        ["stick", &format!("{STICK}/airlift-media/"), "what was carried to the island and back"],
        ["hub", "hub/hub.db", "its database; settings in hub/hub.toml"],
        ["sites", "sites/*/state/agent.db", "each site's database; cluster.json is what its cluster holds"],
        ["logs", "logs/", "hub, agents, and commands.log with every command and its answer"],
    ];
    let mut lines = vec![format!("\nMade in {dir}:\n")];
    let made = made.map(|row| row.map(str::to_owned)).to_vec();
    lines.extend(columns(made).into_iter().map(|line| format!("  {line}")));
    if !keep {
        lines.push(format!("\nEverything is stopped; the files stay until you remove them: rm -r {dir}"));
        lines.push("To try commands on a running fleet: airlift-sim demo --keep".to_owned());
        return lines;
    }
    lines.push(format!("\nIt all keeps running until Ctrl-C here. In another terminal:\n\n  . {dir}/env"));
    let tries = [
        "airlift site list",
        "airlift receipt list --site north-1",
        "airlift site show island",
        "airlift bundle inspect bundles/kiosk-2.0.0",
        "airlift media ls stick",
        "airlift-agent status --config sites/north-1/agent.toml",
        "airlift-agent history --config sites/island/agent.toml",
        "airlift assign kiosk --release 2.0.0 -l region=south --set 'welcome=Hello from the south'",
        "airlift retire kiosk --site north-1",
    ];
    lines.extend(tries.iter().map(|text| format!("  {text}")));
    lines
}

/// Writes the sample app, for `airlift-sim app`.
#[must_use]
pub fn write_app(folder: &Path) -> ExitCode {
    let written = prepare(Some(folder))
        .and_then(|folder| app::FIRST.write(&folder, &host_platform()).map_err(DemoError::io(folder)));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::complain(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Makes this process end with the demo that started it, where one did.
pub fn end_with_parent() {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|text| text.parse::<i32>().ok()) else { return };
    // Without it the process ends when the demo stops it, as it should; this is for a demo that is killed.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        std::process::exit(1);
    }
}
