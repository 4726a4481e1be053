//! The Lease `airlift-system/agent`: only its holder writes to the cluster.
//!
//! Two agents can believe that a cluster is theirs: a cloned disk, a site that moved to another node. The Lease
//! decides. Whether another holder is gone is seen by our own monotonic clock: its record has not changed for as
//! long as it says that it lasts. The times in the record are for people.

use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::Timestamp;
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Ask, Connection, WHOLE};
use super::refusal::{unavailable, unusable};
use crate::clock::Clock;
use crate::core::api::{ApiError, ApiErrorClass};

/// How long a record counts without a change. Longer than an API server's restart, so that we do not lose it then.
const DURATION_S: u64 = 60;
/// Each renewal is a write to the cluster's disk: four a minute would be too many for an SD card, two are not.
const RENEW_EVERY: Duration = Duration::from_secs(25);
/// A lease that could not be renewed for so long is given up, well before another may take it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(50);
/// Pause while another holds it, or the API server does not answer.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a write waits for a Lease that is about to be ours, as at every start.
const TAKE_WITHIN: Duration = Duration::from_secs(5);

const NAMESPACE: &str = "airlift-system";
const NAMESPACE_PATH: &str = "/api/v1/namespaces/airlift-system?fieldManager=airlift-agent&force=true";
const COLLECTION: &str = "/apis/coordination.k8s.io/v1/namespaces/airlift-system/leases";
const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/airlift-system/leases/agent";

/// The Lease as those who write see it; the keeper ends with it.
#[derive(Debug)]
pub(super) struct Lease {
    held: watch::Receiver<bool>,
    keeper: AbortHandle,
}

impl Lease {
    /// Begins to take and keep the Lease in the name `me`.
    pub(super) fn keep(connection: Arc<Connection>, me: String, clock: Clock) -> Self {
        let (tell, held) = watch::channel(false);
        let keeper = tokio::spawn(keep(connection, me, clock, tell)).abort_handle();
        Self { held, keeper }
    }

    /// Waits until the Lease is ours, but not for long.
    pub(super) async fn must_be_held(&self) -> Result<(), ApiError> {
        let mut held = self.held.clone();
        let outcome = timeout(TAKE_WITHIN, held.wait_for(|held| *held)).await;
        match outcome {
            Ok(Ok(_)) => Ok(()),
            _ => Err(unavailable("the Lease airlift-system/agent is not ours: another agent may hold it")),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// What a look at the Lease found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    /// Who holds it; empty after an orderly release.
    holder: String,
    /// Changes with every write.
    resource_version: String,
    /// How long it counts without a change.
    duration: Duration,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// Write our name into it.
    Take,
    /// Another holds it: look again later.
    Wait,
}

/// What we know of the Lease, by our own monotonic clock.
#[derive(Debug, Default)]
struct Observer {
    /// The version last seen of another holder's record, and when it was first seen.
    seen: Option<(String, Duration)>,
}

impl Observer {
    /// Decides what to do about a record that was read at `now`, counted from any fixed moment.
    fn look(&mut self, me: &str, record: &Record, now: Duration) -> Move {
        if record.holder == me || record.holder.is_empty() {
            self.seen = None;
            return Move::Take;
        }
        match &self.seen {
            Some((version, since)) if *version == record.resource_version => {
                if now.saturating_sub(*since) > record.duration { Move::Take } else { Move::Wait }
            }
            _ => {
                self.seen = Some((record.resource_version.clone(), now));
                Move::Wait
            }
        }
    }
}

/// Takes and keeps the Lease, and says through `held` whether we have it; never ends by itself.
async fn keep(connection: Arc<Connection>, me: String, clock: Clock, held: watch::Sender<bool>) {
    let start = Instant::now();
    let mut observer = Observer::default();
    let mut renewed: Option<Instant> = None;
    loop {
        let outcome = turn(&connection, &me, &clock, &mut observer, start.elapsed()).await;
        let pause = match outcome {
            Ok(Move::Take) => {
                renewed = Some(Instant::now());
                RENEW_EVERY
            }
            Ok(Move::Wait) => {
                renewed = None;
                LOOK_EVERY
            }
            Err(error) => {
                tracing::debug!(%error, "lease could not be renewed");
                LOOK_EVERY
            }
        };
        let ours = renewed.is_some_and(|renewed| renewed.elapsed() < GIVE_UP_AFTER);
        let changed = held.send_if_modified(|held| std::mem::replace(held, ours) != ours);
        if changed && ours {
            tracing::info!("lease taken: this agent writes to the cluster");
        } else if changed {
            tracing::warn!("lease lost: nothing is written to the cluster until it is ours again");
        }
        sleep(pause).await;
    }
}

async fn turn(
    connection: &Connection,
    me: &str,
    clock: &Clock,
    observer: &mut Observer,
    now: Duration,
) -> Result<Move, ApiError> {
    let body = match connection.send(&Ask::get(PATH.into(), WHOLE)).await {
        Err(error) if error.class == ApiErrorClass::NotFound => {
            ensure_namespace(connection).await?;
            let body = written(json!({"metadata": {}}), me, clock);
            let ask = Ask::with_body(Method::POST, COLLECTION.into(), "application/json", bytes(&body));
            return connection.send(&ask).await.map(|_| Move::Take);
        }
        other => other?,
    };
    let live: Value =
        serde_json::from_slice(&body).map_err(|error| unusable(&format!("Lease cannot be read: {error}")))?;
    let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let seconds = live.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64).unwrap_or(DURATION_S);
    let record = Record {
        holder: text("/spec/holderIdentity"),
        resource_version: text("/metadata/resourceVersion"),
        duration: Duration::from_secs(seconds),
    };
    if observer.look(me, &record, now) == Move::Wait {
        return Ok(Move::Wait);
    }
    // The resourceVersion in it makes the write fail where another was faster.
    let ask = Ask::with_body(Method::PUT, PATH.into(), "application/json", bytes(&written(live, me, clock)));
    match connection.send(&ask).await {
        Ok(_) => Ok(Move::Take),
        Err(error) if error.status == 409 => Ok(Move::Wait),
        Err(error) => Err(error),
    }
}

async fn ensure_namespace(connection: &Connection) -> Result<(), ApiError> {
    let body = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": "airlift-agent"}}});
    let content_type = "application/apply-patch+yaml";
    let ask = Ask::with_body(Method::PATCH, NAMESPACE_PATH.into(), content_type, bytes(&body));
    connection.send(&ask).await.map(drop)
}

/// The Lease with our name in it.
fn written(mut lease: Value, me: &str, clock: &Clock) -> Value {
    lease["apiVersion"] = json!("coordination.k8s.io/v1");
    lease["kind"] = json!("Lease");
    lease["metadata"]["name"] = json!("agent");
    lease["metadata"]["namespace"] = json!(NAMESPACE);
    let time = micro_time(clock);
    let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_u64).unwrap_or(0);
    if lease.pointer("/spec/holderIdentity").and_then(Value::as_str) != Some(me) {
        lease["spec"]["leaseTransitions"] = json!(transitions + 1);
        lease["spec"]["acquireTime"] = json!(time);
    }
    lease["spec"]["holderIdentity"] = json!(me);
    lease["spec"]["leaseDurationSeconds"] = json!(DURATION_S);
    lease["spec"]["renewTime"] = json!(time);
    lease
}

/// The wall clock as Kubernetes writes it with microseconds; for people.
fn micro_time(clock: &Clock) -> String {
    let wall_ms = clock.now().wall_ms.unwrap_or(0);
    let seconds = Timestamp::from_unix_s(i64::try_from(wall_ms / 1000).unwrap_or(0)).to_string();
    format!("{}.{:03}000Z", seconds.trim_end_matches('Z'), wall_ms % 1000)
}

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, version: &str) -> Record {
        Record { holder: holder.into(), resource_version: version.into(), duration: Duration::from_secs(60) }
    }

    #[test]
    fn our_own_and_a_released_lease_are_taken_at_once() {
        let mut observer = Observer::default();
        assert_eq!(observer.look("me", &record("me", "1"), Duration::ZERO), Move::Take);
        assert_eq!(observer.look("me", &record("", "2"), Duration::ZERO), Move::Take);
    }

    #[test]
    fn anothers_lease_is_taken_only_after_its_record_stood_still_for_its_whole_time() {
        let mut observer = Observer::default();
        let at = Duration::from_secs;
        assert_eq!(observer.look("me", &record("other", "1"), at(100)), Move::Wait);
        assert_eq!(observer.look("me", &record("other", "1"), at(160)), Move::Wait);
        assert_eq!(observer.look("me", &record("other", "2"), at(161)), Move::Wait);
        assert_eq!(observer.look("me", &record("other", "2"), at(221)), Move::Wait);
        assert_eq!(observer.look("me", &record("other", "2"), at(222)), Move::Take);
    }

    #[test]
    fn a_taken_lease_counts_the_change_of_hands_and_a_renewed_one_does_not() {
        let clock = Clock::system();
        let lease = json!({"metadata": {"resourceVersion": "7"},
            "spec": {"holderIdentity": "other", "leaseTransitions": 3, "acquireTime": "then"}});
        let taken = written(lease, "me", &clock);
        assert_eq!(taken["spec"]["leaseTransitions"], 4);
        assert_eq!(taken["metadata"]["resourceVersion"], "7");
        let renewed = written(taken.clone(), "me", &clock);
        assert_eq!(renewed["spec"]["leaseTransitions"], 4);
        assert_eq!(renewed["spec"]["acquireTime"], taken["spec"]["acquireTime"]);
    }
}
