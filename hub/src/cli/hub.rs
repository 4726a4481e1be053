//! `airlift hub`: makes and runs the server, and looks after it.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use airlift_bundles::code::Code;
use airlift_bundles::ids::FleetId;
use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Client, HubAddress};
use super::context::{ContextName, key_of, local_url};
use super::failure::{Failure, Kind};
use super::output::{Format, OutputArgs, Table, line, print_json};
use super::root::show::{read_chain, walk};
use super::terminal::{Terminal, read_secret_text};
use crate::api::types::{HubInfo, Reconcile, Reconciled, route};
use crate::config::{BrokerPlace, Config, ConfigError, DataDir};
use crate::db::{self, DamageError, MigrateError};
use crate::init::{InitError, InitOptions, init, install_roots, write_file};
use crate::publish::broker::broker_files;
use crate::serve::{self, ServeError};

#[derive(Debug, Subcommand)]
pub(crate) enum HubCommand {
    /// Make a hub: its keys, authorities, database and first token
    #[command(after_help = "Example:
  airlift hub init --data /var/lib/airlift-hub --fleet lab --host hub.example --host 10.0.0.1
  airlift root add-key root.json --role director --key /var/lib/airlift-hub/director.pub.json

Settings are in hub.toml in that directory. The hub signs nothing until a root names its director key.")]
    Init(Init),
    /// Make what a broker needs to stand between the hub and its sites: certificate, key, and whom it admits
    #[command(after_help = "Example:
  airlift hub broker --data /var/lib/airlift-hub --host broker.example --out /etc/mosquitto/airlift

Settings and rights for mosquitto are in deploy/broker/.")]
    Broker(MakeBroker),
    /// Run the hub until it is told to stop (AIRLIFT_LOG: error, warn, info, debug, trace)
    Serve(Serve),
    /// See that the hub answers, and what it still needs
    Check(Check),
    /// Copy the database of a hub, which may be serving, to a file
    #[command(after_help = "Example:
  airlift hub backup --data /var/lib/airlift-hub --to /mnt/backup/hub.db

A hub that serves keeps one of the last hour beside its database, as hub.db.backup. A disk that fails takes both: keep
others elsewhere, with the keys, authorities and settings of the same directory.")]
    Backup(Backup),
    /// Go back to a backup where the database is damaged; the hub must not be running
    #[command(after_help = "Example:
  airlift hub restore --data /var/lib/airlift-hub
  airlift hub serve --data /var/lib/airlift-hub     # takes in what sites have, and publishes nothing
  airlift hub reconcile --adopt

The database is put aside as hub.db.damaged-1 and nothing is deleted. Sites go on with what they have. They return
assignments that are newer than the backup, and send again the receipts that it lacks.")]
    Restore(Restore),
    /// After a restore from a backup: show what sites returned, and adopt it
    #[command(after_help = "A hub that was restored publishes nothing until this has been run with --adopt.")]
    Reconcile(ReconcileArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// The hub's data directory
    #[arg(long, value_name = "DIR", env = "AIRLIFT_DATA", default_value = "/var/lib/airlift-hub")]
    data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    data: DataArgs,
    /// The fleet that it serves
    #[arg(long)]
    fleet: FleetId,
    /// A name or address under which sites and operators reach it; repeat
    #[arg(long = "host", required = true, value_delimiter = ',')]
    hosts: Vec<String>,
    /// Port of HTTPS
    #[arg(long, default_value_t = 8443)]
    https_port: u16,
    /// Port of MQTT over TLS
    #[arg(long, default_value_t = 8883)]
    mqtt_port: u16,
    /// The broker that stands between hub and sites, as mqtts://HOST:PORT; else the hub listens itself
    #[arg(long, value_name = "URL")]
    broker: Option<BrokerPlace>,
    /// Signed roots to install at once: files, or a folder of VERSION.json
    #[arg(long, value_name = "PATH")]
    root: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    data: DataArgs,
    /// The broker that stands between hub and sites, as mqtts://HOST:PORT, in the place of hub.toml's
    #[arg(long, value_name = "URL")]
    broker: Option<BrokerPlace>,
}

#[derive(Debug, Args)]
pub(crate) struct MakeBroker {
    #[command(flatten)]
    data: DataArgs,
    /// A name or address under which hub and sites reach the broker; repeat
    #[arg(long = "host", required = true, value_delimiter = ',')]
    hosts: Vec<String>,
    /// Where the files are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The hub's data directory on this machine; else the hub that this person is logged in to
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    data: DataArgs,
    /// The file; one that is there is replaced when the new one is whole
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    data: DataArgs,
    /// The backup [default: the last one that the hub made itself]
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReconcileArgs {
    /// Take over what sites returned, and publish again
    #[arg(long)]
    adopt: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Read { .. } => Self::new(Kind::NotFound, error)
                .code(Code::ConfigInvalid)
                .next("Run `airlift hub init` first, or name the directory with --data."),
            _ => Self::new(Kind::Usage, error).code(Code::ConfigInvalid),
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Config(error) => error.into(),
            ServeError::Open(error) => error.into(),
            ServeError::Locked(_) => Self::new(Kind::Conflict, error)
                .code(Code::StoreLocked)
                .next("Stop the other hub, or name another directory with --data."),
            ServeError::Bind { .. } => Self::new(Kind::Runtime, error)
                .code(Code::ConfigInvalid)
                .next("See who listens there, or choose other ports in hub.toml."),
            _ => Self::new(Kind::Runtime, error).code(Code::StoreFailed),
        }
    }
}

const RESTORE: &str = "Nothing was changed, and sites go on with what they have. Check the disk; then `airlift hub \
                       restore`, with --from for a backup that is kept elsewhere.";

impl From<DamageError> for Failure {
    fn from(error: DamageError) -> Self {
        let (kind, code, next) = match &error {
            DamageError::Damaged { .. } => {
                (Kind::Refused, Code::StoreDamaged, "Nothing was changed. Name another backup with --from.")
            }
            DamageError::Foreign(_) => {
                (Kind::Refused, Code::Conflict, "Nothing was changed. Name a backup of this hub with --from.")
            }
            DamageError::Io { .. } | DamageError::Sqlite { .. } => {
                (Kind::Runtime, Code::StoreFailed, "Check disk space, permissions and the message.")
            }
        };
        Self::new(kind, error).code(code).next(next)
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        let (kind, code, next) = match &error {
            InitError::Exists(_) => {
                (Kind::Conflict, Code::Conflict, "Choose another directory. Nothing was changed.")
            }
            InitError::Missing(_) => (
                Kind::NotFound,
                Code::NotFound,
                "Run `airlift hub init` first, or name the directory with --data.",
            ),
            InitError::Root(_) => {
                (Kind::Refused, Code::RootChainBroken, "Bring every root from version 1 on.")
            }
            InitError::Key { .. } => (Kind::Usage, Code::KeyFile, Code::KeyFile.next_step()),
            InitError::Migrate(MigrateError::Damage(DamageError::Damaged { .. })) => {
                (Kind::Runtime, Code::StoreDamaged, RESTORE)
            }
            _ => (Kind::Runtime, Code::StoreFailed, "Check disk space, permissions and the message."),
        };
        Self::new(kind, error).code(code).next(next)
    }
}

pub(crate) fn run(command: &HubCommand, context: &ContextName, terminal: Terminal) -> Result<(), Failure> {
    match command {
        HubCommand::Init(arguments) => make(arguments, terminal),
        HubCommand::Broker(arguments) => make_broker(arguments, terminal),
        HubCommand::Serve(arguments) => serve(arguments),
        HubCommand::Check(arguments) => check(arguments, context, terminal),
        HubCommand::Backup(arguments) => backup(arguments),
        HubCommand::Restore(arguments) => take_back(arguments, terminal),
        HubCommand::Reconcile(arguments) => reconcile(arguments, &context.client()?, terminal),
    }
}

fn make(arguments: &Init, terminal: Terminal) -> Result<(), Failure> {
    let data = DataDir::new(&arguments.data.data);
    let mut config = Config::new(arguments.hosts.clone());
    (config.https.port, config.mqtt.port) = (arguments.https_port, arguments.mqtt_port);
    config.broker.clone_from(&arguments.broker);
    let chain = match arguments.root.is_empty() {
        true => Vec::new(),
        false => read_chain(&arguments.root)?,
    };
    walk(&chain, None)?;
    let made = init(&InitOptions { data: data.clone(), fleet: arguments.fleet.clone(), config })?;
    if !chain.is_empty() {
        let envelopes: Vec<Vec<u8>> = chain.into_iter().map(|(_, bytes)| bytes).collect();
        install_roots(&data, &envelopes)?;
    }
    let (path, director) = (data.path().display(), data.director_public());
    match arguments.output.format {
        Format::Json => print_json(
            "HubInitialised",
            &json!({ "data": data.path(), "fleet_id": arguments.fleet, "director_key": made.director_key,
                "director_key_file": director, "hub_key_sha256": made.hub_key_sha256 }),
        )?,
        Format::Name => line(made.hub_key_sha256.to_string())?,
        Format::Table | Format::Wide => {
            line(format!("hub of fleet {} in {path}", arguments.fleet))?;
            line(format!("director key  {}  {}", made.director_key.key_id(), director.display()))?;
            line(format!("hub key       {}", made.hub_key_sha256))?;
        }
    }
    terminal.note(format!(
        "next: put {} into the root's director role, then `airlift hub serve --data {path}`",
        director.display()
    ));
    Ok(())
}

/// Writes what a broker needs. Made again it has another key and is as good: sites ask for the hub's authority.
fn make_broker(arguments: &MakeBroker, terminal: Terminal) -> Result<(), Failure> {
    let data = DataDir::new(&arguments.data.data);
    let made = broker_files(&data, &arguments.hosts)?;
    std::fs::create_dir_all(&arguments.out)?;
    for (name, text, mode) in [
        ("broker.pem", &made.certificate, 0o644),
        ("broker.key", &made.key, 0o600),
        ("site-ca.pem", &made.site_ca, 0o644),
    ] {
        let path = arguments.out.join(name);
        write_file(&path, text.as_bytes(), mode)?;
        line(path.display().to_string())?;
    }
    terminal.note(
        "next: let the broker's own user read broker.key, and start the hub with --broker mqtts://HOST:PORT",
    );
    Ok(())
}

fn serve(arguments: &Serve) -> Result<(), Failure> {
    let data = DataDir::new(&arguments.data.data);
    let mut config = Config::load(&data)?;
    if arguments.broker.is_some() {
        config.broker.clone_from(&arguments.broker);
    }
    let level = std::env::var("AIRLIFT_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::INFO))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(serve::serve(data, config))?)
}

fn check(arguments: &Check, context: &ContextName, terminal: Terminal) -> Result<(), Failure> {
    let client = match &arguments.data {
        None => context.client()?,
        Some(directory) => local_client(&DataDir::new(directory))?,
    };
    let hub: HubInfo = client.get(route::HUB)?;
    match arguments.output.format {
        Format::Json => print_json("Hub", &hub)?,
        Format::Name => line(hub.fleet_id.as_str())?,
        Format::Table | Format::Wide => {
            line(format!("hub       version {}, fleet {}", hub.version, hub.fleet_id))?;
            line(format!(
                "reached   {} (HTTPS {}, MQTT {})",
                hub.hosts.join(", "),
                hub.https_port,
                hub.mqtt_port
            ))?;
            line(format!("hub key   {}", hub.hub_key_sha256))?;
            line(format!("director  {}", hub.director_key.key_id()))?;
            line(
                hub.root_version
                    .map_or_else(|| "root      none".into(), |version| format!("root      {version}")),
            )?;
            let sites = &hub.sites;
            line(format!(
                "sites     {}: {} healthy, {} on their way, {} in trouble, {} stale, {} quarantined; {} connected",
                sites.total,
                sites.healthy,
                sites.progressing,
                sites.troubled,
                sites.stale,
                sites.quarantined,
                sites.connected
            ))?;
        }
    }
    let needs = [
        (hub.root_version.is_none(), "no root is installed: `airlift root publish roots/`"),
        (
            hub.root_version.is_some() && !hub.director_in_root,
            "the newest root does not name the director key, so nothing is signed: `airlift root edit`",
        ),
        (hub.reconcile_needed, "it was restored and publishes nothing until `airlift hub reconcile --adopt`"),
    ];
    needs.iter().filter(|(missing, _)| *missing).for_each(|(_, text)| terminal.note(text));
    Ok(())
}

/// Speaks to the hub of a data directory, with its own token.
fn local_client(data: &DataDir) -> Result<Client, Failure> {
    let address = HubAddress::parse(&local_url(data)?)?;
    let token = read_secret_text(&data.admin_token())
        .map_err(|cause| Failure::from(cause).during("cannot read the administrator's token"))?;
    Client::new(address, key_of(&data.hub_ca())?, token)
}

fn backup(arguments: &Backup) -> Result<(), Failure> {
    let database = DataDir::new(&arguments.data.data).database();
    db::back_up(&database, &arguments.to)?;
    Ok(line(arguments.to.display().to_string())?)
}

fn take_back(arguments: &Restore, terminal: Terminal) -> Result<(), Failure> {
    let data = DataDir::new(&arguments.data.data);
    let database = data.database();
    let from = arguments.from.clone().unwrap_or_else(|| db::backup_of(&database));
    let _lock = serve::lock(&data)?;
    terminal.confirm(&format!(
        "Put {} aside and {} in its place? What was decided since then is not in it.",
        database.display(),
        from.display()
    ))?;
    match db::restore(&database, &from)? {
        Some(aside) => terminal.note(format!("the old database is {}", aside.display())),
        None => terminal.note("there was no database"),
    }
    terminal
        .note("next: `airlift hub serve`, wait until sites were heard of, `airlift hub reconcile --adopt`");
    Ok(())
}

fn reconcile(arguments: &ReconcileArgs, client: &Client, terminal: Terminal) -> Result<(), Failure> {
    let mut found: Reconciled = client.post(route::RECONCILE, &Reconcile { adopt: false })?;
    if arguments.adopt {
        let question = format!("Adopt what {} sites returned, and publish again?", found.sites.len());
        terminal.confirm(&question)?;
        found = client.post(route::RECONCILE, &Reconcile { adopt: true })?;
    }
    let mut table = Table::new("SiteDifferenceList", &["SITE", "KNOWN", "RETURNED", "CHANGES"], &[]);
    for site in &found.sites {
        let cells = vec![
            site.site.to_string(),
            site.known.map_or_else(|| "-".into(), |counter| counter.to_string()),
            site.returned.to_string(),
            if site.changes.is_empty() { "-".into() } else { site.changes.join("; ") },
        ];
        table.row(site, &site.site, cells);
    }
    table.print(arguments.output.format)?;
    if found.adopted {
        terminal.note("adopted: the hub publishes again");
    } else if !found.sites.is_empty() {
        terminal.note("nothing was changed; `airlift hub reconcile --adopt` takes it over");
    } else {
        terminal.note("no site has returned anything newer so far");
    }
    Ok(())
}
