//! Gathers what is to be seen of a site without asking the agent: machine, configuration, database, cluster, container
//! runtime, journal. Each part is had or noted as missing; none stops another.

use std::future::Future;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::AppName;
use rustix::system::uname;
use serde::Serialize;
use serde_json::{Value, json};

use super::archive::Draft;
use super::redact::Redactor;
use super::secrets;
use crate::apply::KubeCluster;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::object::{Generation, Health, ObjectRef};
use crate::core::write::Rows;
use crate::import::Containerd;
use crate::ports::Cluster;
use crate::store::Peek;

/// Longest wait for one part.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for one object's health.
const OBJECT_PATIENCE: Duration = Duration::from_secs(3);
/// Objects whose health is read.
const OBJECTS_MAX: usize = 200;
/// Lines of the journal.
const JOURNAL_LINES: &str = "3000";

/// Begins a draft that knows this site's secrets, with all that can be had without the agent.
pub async fn gather(config: &Config) -> Draft {
    let peek = Peek::open(&config.state_dir);
    let rows = match &peek {
        Ok(peek) => peek.rows(),
        Err(error) => Err(error.clone()),
    };
    let mut redactor = Redactor::default();
    secrets::learn(&mut redactor, config, rows.as_ref().unwrap_or(&Rows::default()));
    let mut draft = Draft::new(redactor);
    draft.add("machine.json", "version, system, memory, load, disk, clock", &machine(config));
    draft.add("config.json", "the settings in force; the file itself is left where it is", &settings(config));
    match peek.and_then(|peek| peek.health()) {
        Ok(Some(health)) => draft.add("database.json", "row counts and SQLite's own check", &health),
        Ok(None) => draft.miss("database.json", "there is no database"),
        Err(error) => draft.miss("database.json", error),
    }
    if let Err(error) = &rows {
        draft.miss("rows of the database", error);
    }
    containerd(config, &mut draft).await;
    cluster(config, &rows.unwrap_or_default(), &mut draft).await;
    journal(&mut draft).await;
    draft
}

/// Waits for a part, and no longer than is good.
async fn in_time<T>(patience: Duration, part: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || Err(format!("no answer within {} s", patience.as_secs()));
    tokio::time::timeout(patience, part).await.unwrap_or_else(|_| late())
}

fn machine(config: &Config) -> Value {
    let line_of = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = line_of("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let memory = line_of("/proc/meminfo");
    let memory: Vec<&str> = memory
        .lines()
        .filter(|line| ["MemTotal", "MemAvailable", "Swap"].iter().any(|name| line.starts_with(name)))
        .collect();
    let system = uname();
    let words = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let now = Clock::system().now();
    json!({
        "agent_version": env!("CARGO_PKG_VERSION"),
        "system": pretty.unwrap_or("unknown").trim_matches('"'),
        "kernel": format!("{} {}", words(system.sysname()), words(system.release())),
        "machine": words(system.machine()),
        "uptime_s": now.mono_ms / 1000,
        "clock": { "wall_ms": now.wall_ms, "quality": now.quality },
        "load": line_of("/proc/loadavg"),
        "memory": memory,
        "disk": disk(&config.state_dir),
    })
}

fn disk(dir: &Path) -> Value {
    match rustix::fs::statvfs(dir) {
        Ok(disk) => json!({
            "directory": dir,
            "bytes": disk.f_blocks * disk.f_frsize,
            "free_bytes": disk.f_bavail * disk.f_frsize,
            "inodes": disk.f_files,
            "free_inodes": disk.f_favail,
        }),
        Err(error) => json!({ "directory": dir, "error": error.to_string() }),
    }
}

fn settings(config: &Config) -> Value {
    let hubs: Vec<Value> = config
        .hubs
        .iter()
        .map(|hub| json!({ "host": hub.host, "https_port": hub.https_port, "mqtt_port": hub.mqtt_port }))
        .collect();
    json!({
        "state_dir": config.state_dir,
        "control_socket": config.control_socket,
        "root_sha256": config.root_sha256,
        "fleet": config.fleet,
        "hubs": hubs,
        "online": config.online,
        "media_dirs": config.media_dirs,
        "kubernetes": { "kubeconfig": config.kubernetes.kubeconfig },
        "containerd": { "socket": config.containerd.socket, "snapshotter": config.containerd.snapshotter },
    })
}

async fn containerd(config: &Config, draft: &mut Draft) {
    let name = "containerd.json";
    let version = in_time(PATIENCE, async {
        let runtime = Containerd::new(&config.containerd.socket, None).map_err(|error| error.to_string())?;
        runtime.version().await.map_err(|error| error.to_string())
    });
    match version.await {
        Ok(version) => draft.add(name, "version of the container runtime", &json!({ "version": version })),
        Err(why) => draft.miss(name, why),
    }
}

/// How an object is, beside what the rows say of it.
#[derive(Debug, Serialize)]
struct ObjectSeen {
    app: AppName,
    object: String,
    wanted: bool,
    applied: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<Value>,
}

async fn cluster(config: &Config, rows: &Rows, draft: &mut Draft) {
    let cluster = KubeCluster::new(&config.kubernetes.kubeconfig);
    let nodes = in_time(PATIENCE, async { cluster.nodes().await.map_err(|error| error.message) }).await;
    let answers = nodes.is_ok();
    match nodes {
        Ok(nodes) => draft.add("nodes.json", "nodes, with the versions of their kubelets", &listed(&nodes)),
        Err(why) => draft.miss("nodes.json", why),
    }
    let mut seen = Vec::new();
    for row in rows.objects.values().flat_map(|rows| rows.values()) {
        let planned = rows.apps.get(&row.app).and_then(|app| app.planned);
        let generation =
            planned.and_then(|id| rows.generations.get(&id)).map(|known| Arc::clone(&known.generation));
        let look = answers && row.traits.observed && seen.len() < OBJECTS_MAX;
        let health = match generation.filter(|_| look) {
            Some(generation) => Some(health(&cluster, &generation, &row.object).await),
            None => None,
        };
        seen.push(ObjectSeen {
            app: row.app.clone(),
            object: row.object.to_string(),
            wanted: row.wanted.is_some(),
            applied: row.applied.is_some(),
            seen: health,
        });
    }
    let what = "the apps' objects, the health of those that have one, and evidence where they are not well";
    draft.add("objects.json", what, &json!({ "items": seen }));
}

fn listed(nodes: &[NodeStatus]) -> Value {
    json!({ "items": nodes })
}

async fn health(cluster: &KubeCluster, generation: &Generation, object: &ObjectRef) -> Value {
    let reading = async { cluster.health(generation, object).await.map_err(|error| error.message) };
    match in_time(OBJECT_PATIENCE, reading).await {
        Ok(Health { verdict, restarts, reason, evidence }) => {
            json!({ "verdict": format!("{verdict:?}"), "restarts": restarts, "reason": reason, "evidence": evidence })
        }
        Err(why) => json!({ "error": why }),
    }
}

/// The agent's lines in the system's journal, where there is one: they outlive the process.
async fn journal(draft: &mut Draft) {
    let name = "journal.log";
    let read = in_time(PATIENCE, async {
        let reading = tokio::task::spawn_blocking(|| {
            let arguments =
                ["-u", "airlift-agent", "-n", JOURNAL_LINES, "--no-pager", "-o", "short-iso", "-q"];
            Command::new("journalctl").args(arguments).stdin(Stdio::null()).output()
        });
        reading.await.map_err(|error| error.to_string())?.map_err(|error| format!("journalctl: {error}"))
    });
    match read.await {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            draft.add_text(
                name,
                "the agent's newest lines in the journal",
                &String::from_utf8_lossy(&output.stdout),
            );
        }
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            draft.miss(
                name,
                if why.trim().is_empty() { "the journal has no line of the agent" } else { why.trim() },
            );
        }
        Err(why) => draft.miss(name, why),
    }
}
