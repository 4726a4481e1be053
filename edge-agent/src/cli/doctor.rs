//! `doctor`: looks at everything that an agent needs at this site, and says for each what to mend.

use std::path::Path;

use airlift_bundles::code::Code;
use serde::Serialize;

use super::failure::{Ending, Failure};
use super::output::{self, Format, human_bytes, json_of, table_of};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::client;
use crate::control::message::{Action, Answer, StatusView};
use crate::ports::Cluster as _;
use crate::store::{Peek, put_aside};
use airlift_bundles::document::receipt::ClockQuality;

/// Free space below which images of any size will not fit.
const FREE_BYTES_MIN: u64 = 512 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Grade {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    grade: Grade,
    seen: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    next: &'static str,
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Diagnosis {
    items: Vec<Check>,
}

fn check(name: &'static str, grade: Grade, seen: impl Into<String>, next: &'static str) -> Check {
    let next = if grade == Grade::Ok { "" } else { next };
    Check { name, grade, seen: seen.into(), next }
}

/// Checks the site; a failed check makes the answer no.
pub(super) async fn doctor(config: &Config, format: Format) -> Result<(), Failure> {
    let diagnosis = diagnose(config).await;
    match format {
        Format::Json => output::show(&json_of("Diagnosis", &diagnosis)),
        Format::Table => {
            let row = |check: &Check| {
                let grade = match check.grade {
                    Grade::Ok => "ok",
                    Grade::Warn => "warn",
                    Grade::Fail => "FAIL",
                };
                vec![grade.to_owned(), check.name.to_owned(), check.seen.clone(), check.next.to_owned()]
            };
            let rows: Vec<Vec<String>> = diagnosis.items.iter().map(row).collect();
            output::show(&table_of(&["", "CHECK", "SEEN", "NEXT"], &rows));
        }
    }
    let failed = diagnosis.items.iter().filter(|check| check.grade == Grade::Fail).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(Ending::No, format!("{failed} checks failed")).next("Follow the table's last column."))
}

/// Looks at everything.
pub(super) async fn diagnose(config: &Config) -> Diagnosis {
    let status = ask_status(config).await;
    let mut items =
        vec![state_directory(config), database(config), enrolment(config), clock(), agent(&status)];
    if let Ok(status) = &status {
        items.push(hub(config, status));
    }
    items.push(cluster(config).await);
    items.push(runtime(&config.containerd.socket));
    items.extend(config.media_dirs.iter().map(|place| media_place(place)));
    Diagnosis { items }
}

async fn ask_status(config: &Config) -> Result<StatusView, String> {
    let exchange = async {
        let stream = client::connect(&config.control_socket).await?;
        client::ask(stream, Action::Status, |_| {}).await
    };
    match exchange.await {
        Ok(Answer::Status(status)) => Ok(*status),
        Ok(Answer::Refused { code, reason }) => Err(format!("{code}: {reason}")),
        Ok(_) => Err("it answers something else".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn state_directory(config: &Config) -> Check {
    let (name, dir) = ("state directory", &config.state_dir);
    let next = "Make the directory, or set `state_dir` in agent.toml.";
    match rustix::fs::statvfs(dir) {
        Err(error) => check(name, Grade::Fail, format!("{}: {error}", dir.display()), next),
        Ok(disk) => {
            let free_bytes = disk.f_bavail * disk.f_frsize;
            let seen = format!("{}: {} free", dir.display(), human_bytes(free_bytes));
            let grade = if free_bytes < FREE_BYTES_MIN { Grade::Warn } else { Grade::Ok };
            check(name, grade, seen, "Free space on this file system; transfers stop when it is full.")
        }
    }
}

fn database(config: &Config) -> Check {
    let name = "database";
    let next = Code::StoreDamaged.next_step();
    match Peek::open(&config.state_dir).and_then(|peek| peek.health()) {
        Err(error) => check(name, Grade::Fail, error.to_string(), next),
        Ok(None) => check(name, Grade::Ok, "none yet", ""),
        Ok(Some(health)) if health.integrity != ["ok"] => {
            check(name, Grade::Fail, health.integrity.join("; "), next)
        }
        Ok(Some(health)) => match put_aside(&config.state_dir).last() {
            None => check(name, Grade::Ok, format!("sound, {}", human_bytes(health.bytes)), ""),
            Some(aside) => check(
                name,
                Grade::Warn,
                format!("sound, from its backup; a damaged one is kept as {}", aside.display()),
                "Check the disk, or replace it; then remove the damaged file.",
            ),
        },
    }
}

fn enrolment(config: &Config) -> Check {
    let name = "enrolment";
    let rows = Peek::open(&config.state_dir).and_then(|peek| peek.rows());
    match rows.map(|rows| rows.meta) {
        Ok(Some(meta)) => check(name, Grade::Ok, format!("site {} of fleet {}", meta.site, meta.fleet), ""),
        Ok(None) => check(name, Grade::Fail, "not enrolled", Code::NotEnrolled.next_step()),
        Err(error) => {
            check(name, Grade::Fail, error.to_string(), "Run `airlift-agent enrol`, or mend the disk.")
        }
    }
}

fn clock() -> Check {
    match Clock::system().now().quality {
        ClockQuality::Synchronised => check("clock", Grade::Ok, "synchronised", ""),
        ClockQuality::Floor => check(
            "clock",
            Grade::Warn,
            "not synchronised; times shown are counted on from signed documents",
            "Nothing must be done: clocks refuse nothing. A time source makes the times shown right.",
        ),
    }
}

fn agent(status: &Result<StatusView, String>) -> Check {
    match status {
        Ok(status) => check("agent", Grade::Ok, format!("runs, version {}", status.agent_version), ""),
        Err(reason) => {
            check("agent", Grade::Fail, reason.clone(), "Start it: `systemctl start airlift-agent`.")
        }
    }
}

fn hub(config: &Config, status: &StatusView) -> Check {
    match (config.online, status.connected) {
        (_, true) => check("hub", Grade::Ok, "connected", ""),
        (false, false) => check("hub", Grade::Ok, "none: media alone serves this site", ""),
        (true, false) => {
            check("hub", Grade::Warn, "not connected; everything goes on from disk", "Check the network.")
        }
    }
}

async fn cluster(config: &Config) -> Check {
    let path = &config.kubernetes.kubeconfig;
    if !path.is_file() {
        let seen = format!("{} is not there", path.display());
        return check(
            "cluster",
            Grade::Fail,
            seen,
            "Start K3s, or set `kubernetes.kubeconfig` in agent.toml.",
        );
    }
    match crate::apply::KubeCluster::new(path).nodes().await {
        Ok(nodes) => {
            let ready = nodes.iter().filter(|node| node.ready).count();
            let grade = if ready == 0 { Grade::Fail } else { Grade::Ok };
            let seen = format!("answers; {ready} of {} nodes Ready", nodes.len());
            check("cluster", grade, seen, "Look at the node: `kubectl describe node`.")
        }
        Err(error) => check("cluster", Grade::Fail, error.message, "Look at K3s: `systemctl status k3s`."),
    }
}

fn runtime(socket: &Path) -> Check {
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => check("containerd", Grade::Ok, format!("answers at {}", socket.display()), ""),
        Err(error) => check(
            "containerd",
            Grade::Fail,
            format!("{}: {error}", socket.display()),
            "Start K3s, or set `containerd.socket` in agent.toml.",
        ),
    }
}

fn media_place(place: &Path) -> Check {
    if place.is_dir() {
        check("media", Grade::Ok, format!("{} is watched", place.display()), "")
    } else {
        let seen = format!("{} is not there (yet)", place.display());
        check(
            "media",
            Grade::Warn,
            seen,
            "Make the mount point, or take it out of `media_dirs` in agent.toml.",
        )
    }
}
