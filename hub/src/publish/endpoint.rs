//! The hub's built-in MQTT v5 server.
//!
//! Not a broker: sites write to the hub, the hub writes to sites, and nothing goes from site to site. A
//! publish of a site is acknowledged after the hub's commit; a publish of the hub is stored before it is
//! sent. `hub/DESIGN.md` says why each part is as it is.

mod bucket;
mod connection;
mod frame;
mod identity;
mod ingest;
mod limits;
mod outbox;
mod packet;
mod property;
mod publisher;
mod rates;
mod reason;
mod registry;
mod reply;
mod route;
mod rows;
mod session;
pub mod store;
mod topic;
mod wire;

pub use frame::Refusal;
pub use identity::{Identify, PeerCertificate};
pub use ingest::{Accepted, Ingest, Refused};
pub use limits::Limits;
pub use packet::Qos;
pub use publisher::{Connected, Counts, Presence, PresenceEvents, PublishError, Publisher, TurnedAway};
pub use reason::Reason;
pub use route::Fanout;
pub use rows::{
    InFlightRow, RetainedRow, Row, RowKey, RowWrite, Rows, SessionRow, Sessions, SessionsFailed,
    SubscriptionRow,
};
pub use topic::NotHubTopic;

#[cfg(test)]
mod tests;

use crate::lobby::{Door, Origin, Places, Turn};
use airlift_bundles::ids::Name;
use bucket::Bucket;
use connection::Shared;
use publisher::{Core, Counters};
use registry::{DueWill, Registry};
use rustix::net::sockopt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use topic::Topics;
use tracing::{debug, error, warn};

/// Wills that the ingest has at once, when a whole network of sites is lost.
const WILLS_AT_ONCE: usize = 64;
/// Time between two tries to commit rows, and after an accept that failed.
const RETRY: Duration = Duration::from_millis(500);

/// The endpoint, loaded from its rows; sites can be published to before it listens.
pub struct Endpoint<I> {
    shared: Arc<Shared<I>>,
    wills: mpsc::Receiver<DueWill>,
    committer: JoinHandle<()>,
}

impl<I: Ingest> Endpoint<I> {
    /// Loads sessions and retained messages; topics are `prefix/v1/…`.
    pub async fn open<S: Sessions>(
        prefix: Name,
        limits: Limits,
        sessions: S,
        ingest: I,
    ) -> Result<Self, SessionsFailed> {
        let topics = Topics::new(prefix);
        let limits = Arc::new(limits);
        let rows = sessions.load().await?;
        let now = Instant::now();
        let registry = Registry::load(limits.clone(), topics, rows, now);
        // One for each site, should all be lost at once.
        let (wills_sender, wills) = mpsc::channel(limits.connections_max.max(1));
        let core = Arc::new(Core::new(registry, now, wills_sender));
        let committer = tokio::spawn(commit_rows(core.clone(), sessions));
        let places = Arc::new(Semaphore::new(limits.connections_max));
        let shared = Shared { core, ingest: Arc::new(ingest), limits, places };
        Ok(Self { shared: Arc::new(shared), wills, committer })
    }

    /// Returns the hub's handle.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        // A topic has at most 256 bytes, and 32 hold all else of a head.
        let payload_bytes_max = self.shared.limits.packet_bytes_max.saturating_sub(256 + 32) as usize;
        Publisher { core: self.shared.core.clone(), payload_bytes_max }
    }

    /// Serves sites on `listener` until `shutdown` resolves; then tells them, and leaves when they are
    /// gone, or the grace is over, and the last rows are committed.
    ///
    /// `tls` must ask for client certificates and refuse those that the hub's site CA did not issue.
    pub async fn serve<D: Identify>(
        mut self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        identify: D,
        shutdown: impl Future<Output = ()>,
    ) {
        let limits = self.shared.limits.clone();
        let acceptor = TlsAcceptor::from(tls);
        let identify = Arc::new(identify);
        bound_buffers(&listener, limits.socket_buffer_bytes);
        let door = Door::new(Places {
            waiting_max: limits.waiting_max,
            turns_max: limits.handshakes_max,
            turns_per_origin_max: limits.handshakes_per_address_max,
        });
        let mut bucket = Bucket::new(Instant::now(), limits.connects_per_s, limits.connects_burst);
        let mut connections = JoinSet::new();
        let mut wills = JoinSet::new();
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut accept_at, mut begin_at) = (Instant::now(), Instant::now());
        let mut told = Counts::default();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&listener, accept_at) => match accepted {
                    Ok((stream, from)) => {
                        if door.enter(Origin::of(from.ip()), stream).is_some() {
                            Counters::add(&self.shared.core.counters.no_room_to_wait);
                        }
                    }
                    Err(failure) => {
                        // Out of descriptors or memory, or a peer that left at once: others end, so wait.
                        warn!(%failure, "a connection could not be accepted");
                        accept_at = Instant::now() + RETRY;
                    }
                },
                (stream, turn) = next_turn(&door, begin_at) => {
                    let now = Instant::now();
                    begin_at = now + bucket.take(now, 1);
                    let (shared, acceptor, identify) =
                        (self.shared.clone(), acceptor.clone(), identify.clone());
                    connections.spawn(welcome(shared, acceptor, identify, stream, turn));
                }
                Some(due) = self.wills.recv(), if wills.len() < WILLS_AT_ONCE => {
                    wills.spawn(hand_over(self.shared.clone(), due));
                }
                Some(_) = wills.join_next(), if !wills.is_empty() => {}
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                _ = second.tick() => {
                    self.expire();
                    told = self.tell_limits(&told);
                }
            }
        }
        drop(listener);
        self.stop(connections, wills).await;
    }

    fn expire(&self) {
        let now = Instant::now();
        for due in self.shared.core.with(|registry| registry.expire(now)) {
            self.shared.core.fire(Some(due));
        }
    }

    /// Says, at most once a second, which bounds turned peers away since they were `told` of.
    fn tell_limits(&self, told: &Counts) -> Counts {
        let counts = self.shared.core.counters.read();
        let (now, before) = (&counts.turned_away, &told.turned_away);
        if now.no_room_to_wait > before.no_room_to_wait {
            let count = now.no_room_to_wait - before.no_room_to_wait;
            warn!(count, "connections were turned away unheard: too many wait for their handshake");
        }
        if now.no_place > before.no_place {
            let count = now.no_place - before.no_place;
            warn!(
                count,
                max = self.shared.limits.connections_max,
                "sites were turned away: no place is free"
            );
        }
        counts
    }

    async fn stop(self, mut connections: JoinSet<()>, mut wills: JoinSet<()>) {
        let Self { shared, committer, .. } = self;
        shared.core.with(|registry| registry.close(None, Reason::SHUTTING_DOWN));
        let gone = timeout(shared.limits.shutdown_grace, async {
            while connections.join_next().await.is_some() {}
            while wills.join_next().await.is_some() {}
        });
        if gone.await.is_err() {
            warn!(connections = connections.len(), "connections were cut at the end of the grace");
            connections.shutdown().await;
        }
        shared.core.stop_commits();
        if let Err(failure) = committer.await {
            error!(%failure, "the endpoint's rows were not committed at the end");
        }
    }
}

/// Accepts the next connection, not before `at`.
async fn accept(listener: &TcpListener, at: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    sleep_until(at).await;
    listener.accept().await
}

/// Waits for the next peer's turn to shake hands, not before `at`: beyond the rate, peers wait.
async fn next_turn(door: &Arc<Door<TcpStream>>, at: Instant) -> (TcpStream, Turn<TcpStream>) {
    sleep_until(at).await;
    door.next().await
}

/// Bounds what the kernel keeps for each connection that this listener accepts.
fn bound_buffers(listener: &TcpListener, bytes: u32) {
    let bytes = bytes as usize;
    let bounded = sockopt::set_socket_send_buffer_size(listener, bytes)
        .and_then(|()| sockopt::set_socket_recv_buffer_size(listener, bytes));
    if let Err(failure) = bounded {
        warn!(%failure, "the kernel's buffers stay as they are");
    }
}

/// Shakes hands, asks who it is, and serves the connection.
async fn welcome<I: Ingest, D: Identify>(
    shared: Arc<Shared<I>>,
    acceptor: TlsAcceptor,
    identify: Arc<D>,
    stream: TcpStream,
    turn: Turn<TcpStream>,
) {
    let connect_by = Instant::now() + shared.limits.handshake;
    let turned_away = || Counters::add(&shared.core.counters.handshake);
    // Without it small answers wait for the peer's delayed acknowledgement; it is no error to lack it.
    drop(stream.set_nodelay(true));
    // Boxed, because each async function that a stream of 1.2 KB moves through keeps a copy's room.
    let handshake = Box::pin(acceptor.accept(stream));
    let stream = match timeout_at(connect_by, handshake).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(failure)) => {
            debug!(%failure, "tls handshake failed");
            return turned_away();
        }
        Err(_) => return turned_away(),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let Some(site) = certificate.and_then(|der| identity::identify(&*identify, der)) else {
        debug!("a certificate of nobody known");
        return turned_away();
    };
    connection::serve(shared, stream, site, connect_by, turn).await;
}

/// Hands a due will to the ingest. It is a hint, so one that is refused is not kept.
async fn hand_over<I: Ingest>(shared: Arc<Shared<I>>, due: DueWill) {
    let DueWill { client, will } = due;
    let upward = shared.core.with(|registry| registry.topics.upward(&client, &will.topic));
    let Some(topic) = upward else { return };
    let site = publisher::site_id(&client);
    if let Err(refused) = shared.ingest.publish(&site, topic, will.payload).await {
        warn!(%site, %refused, "the will of a site was refused");
    }
    shared.core.tell(Presence::Will { site });
}

/// Commits changed rows, batch after batch, until told to stop and nothing is left.
///
/// While one batch commits, the next gathers: one row is written once, however often it changed. A batch
/// that fails is tried again, and what waits for it is not sent.
async fn commit_rows<S: Sessions>(core: Arc<Core>, sessions: S) {
    while commit_next(&core, &sessions).await.is_continue() {}
    core.committed.send_modify(|committed| committed.stopped = true);
}

async fn commit_next<S: Sessions>(core: &Core, sessions: &S) -> ControlFlow<()> {
    let stopping = core.is_stopping();
    let Some((batch, writes)) = core.with(Registry::take_batch) else {
        if stopping {
            return ControlFlow::Break(());
        }
        core.rows_changed.notified().await;
        return ControlFlow::Continue(());
    };
    while let Err(failure) = sessions.commit(writes.clone()).await {
        error!(%failure, "the endpoint's rows were not committed");
        if core.is_stopping() {
            return ControlFlow::Break(());
        }
        sleep(RETRY).await;
    }
    core.with(|registry| registry.commit(batch));
    core.committed.send_modify(|committed| committed.upto = batch);
    ControlFlow::Continue(())
}
