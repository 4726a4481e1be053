//! One site's connection, from CONNECT to its end.

use super::frame::{Frame, Refusal, forbidden};
use super::ingest::{Accepted, InProgress, Ingest, Refused};
use super::limits::Limits;
use super::outbox::Outbox;
use super::packet::{Connect, Packet, Publish};
use super::publisher::{Core, Counters, Presence};
use super::rates::Units;
use super::reason::Reason;
use super::registry::Ending;
use super::reply::{connack_refused, disconnect, pingresp, puback};
use super::wire::{Wire, WireEnd};
use airlift_bundles::ids::SiteId;
use bytes::Bytes;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{debug, info};

/// Time for a last word, and for messages that the ingest still has.
const FAREWELL: Duration = Duration::from_secs(5);
/// Time and bytes for a refused peer to notice that it was.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// What all connections share.
pub(super) struct Shared<I> {
    pub(super) core: Arc<Core>,
    pub(super) ingest: Arc<I>,
    pub(super) limits: Arc<Limits>,
    /// Places of those who are connected.
    pub(super) places: Arc<Semaphore>,
}

/// Why a connection ended, and what its site is told.
struct End {
    cause: WireEnd,
    /// The client's own DISCONNECT.
    goodbye: Option<(Reason, Option<u32>)>,
}

impl From<WireEnd> for End {
    fn from(cause: WireEnd) -> Self {
        Self { cause, goodbye: None }
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        WireEnd::from(refusal).into()
    }
}

/// Serves one authenticated stream until it ends; `site` is who the certificate says. `turn` is given back once the
/// site is let in, or gone.
pub(super) async fn serve<S, I, T>(
    shared: Arc<Shared<I>>,
    stream: S,
    site: SiteId,
    connect_by: Instant,
    turn: T,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    I: Ingest,
{
    let outbox = Arc::new(Outbox::new(&shared.limits, shared.core.now_ms()));
    let mut wire = Wire::new(stream, shared.limits.clone(), outbox.clone());
    let client: Arc<str> = site.as_str().into();
    let connect = match timeout_at(connect_by, read_connect(&mut wire)).await {
        Ok(Ok(connect)) => check_connect(&shared, &site, connect),
        Ok(Err(WireEnd::Refused(refusal))) => Err(refused(&shared, refusal)),
        Ok(Err(_)) | Err(_) => {
            Counters::add(&shared.core.counters.handshake);
            debug!(%site, "no connect packet came");
            return;
        }
    };
    let admitted = match connect {
        Ok(connect) => admit(&shared, &client, connect_by).await.map(|admitted| (connect, admitted)),
        Err(turned_away) => Err(turned_away),
    };
    let (connect, Admitted { units, place }) = match admitted {
        Ok(admitted) => admitted,
        Err((refusal, counter)) => {
            Counters::add(counter);
            info!(%site, %refusal, "connect refused");
            return part(wire, Some(connack_refused(refusal.reason)), true).await;
        }
    };
    drop(turn);
    let now = Instant::now();
    let welcome = shared.core.with(|registry| {
        // Under the lock, so that events of one site come in the order of its connections.
        shared.core.tell(Presence::Connected { site: site.clone() });
        registry.attach(&client, connect, outbox.clone(), now)
    });
    shared.core.fire(welcome.due);
    Counters::add(&shared.core.counters.connected);
    let mut connection = Connection {
        limits: shared.limits.clone(),
        units,
        resume_at: now,
        // One and a half keep-alives, as the standard says.
        silence_max: Duration::from_millis(u64::from(welcome.keep_alive_s) * 1_500),
        shared,
        site,
        client,
        number: welcome.connection,
        outbox,
        in_progress: InProgress::default(),
    };
    let end = connection.run(&mut wire).await;
    connection.end(wire, end).await;
    drop(place);
}

async fn read_connect<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> Result<Connect, WireEnd> {
    let frame = wire.next(true).await?;
    match Packet::read(frame)? {
        Packet::Connect(connect) => Ok(*connect),
        _ => Err(forbidden("a first packet that is not connect").into()),
    }
}

/// Checks what CONNECT claims against what the certificate says.
fn check_connect<'a, I>(
    shared: &'a Shared<I>,
    site: &SiteId,
    connect: Connect,
) -> Result<Connect, TurnedAway<'a>> {
    if connect.client_id != site.as_str() {
        let fault = "a client id that is not the certificate's name";
        return Err(refused(shared, Refusal { reason: Reason::CLIENT_ID_INVALID, fault }));
    }
    if let Some(will) = &connect.will
        && shared.core.with(|registry| registry.topics.upward(site.as_str(), &will.topic)).is_none()
    {
        let fault = "a will on another's topic";
        return Err(refused(shared, Refusal { reason: Reason::NOT_AUTHORIZED, fault }));
    }
    Ok(connect)
}

/// A refusal of CONNECT, and where it is counted.
type TurnedAway<'a> = (Refusal, &'a AtomicU64);

fn refused<I>(shared: &Shared<I>, refusal: Refusal) -> TurnedAway<'_> {
    (refusal, &shared.core.counters.connect_refused)
}

/// What a site has once it is let in.
struct Admitted {
    units: Units,
    place: OwnedSemaphorePermit,
}

/// Lets a site in, unless it comes too often or there is no place; one that is connected may take its own place over.
async fn admit<'a, I>(
    shared: &'a Shared<I>,
    client: &Arc<str>,
    by: Instant,
) -> Result<Admitted, TurnedAway<'a>> {
    let (limits, counters) = (&shared.limits, &shared.core.counters);
    let units = shared.core.with(|registry| registry.rates.connect(client, limits, Instant::now()));
    let Some(units) = units else {
        let reason = Reason::CONNECTION_RATE_EXCEEDED;
        return Err((Refusal { reason, fault: "the site connects too often" }, &counters.too_often));
    };
    if let Ok(place) = shared.places.clone().try_acquire_owned() {
        return Ok(Admitted { units, place });
    }
    let takes_over = shared.core.with(|registry| {
        registry.close(Some(client), Reason::SESSION_TAKEN_OVER);
        registry.is_attached(client)
    });
    if takes_over && let Ok(Ok(place)) = timeout_at(by, shared.places.clone().acquire_owned()).await {
        return Ok(Admitted { units, place });
    }
    let fault = "as many sites are connected as may be";
    Err((Refusal { reason: Reason::SERVER_BUSY, fault }, &counters.no_place))
}

struct Connection<I> {
    shared: Arc<Shared<I>>,
    limits: Arc<Limits>,
    site: SiteId,
    client: Arc<str>,
    number: u64,
    outbox: Arc<Outbox>,
    in_progress: InProgress,
    units: Units,
    resume_at: Instant,
    silence_max: Duration,
}

impl<I: Ingest> Connection<I> {
    /// Carries packets both ways until something ends it.
    ///
    /// Reading stops while the ingest is behind, while the site is over its rate, and while it leaves its
    /// answers unread. Only the last is the site's fault, and only then may silence end the connection.
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &mut Wire<S>) -> End {
        let mut silent_since = Instant::now();
        loop {
            let now = Instant::now();
            let paused = self.resume_at > now;
            let behind = self.in_progress.len() >= 2 * usize::from(self.limits.ingest_in_flight_max);
            if wire.take_heard() {
                self.outbox.hear(self.shared.core.now_ms());
                silent_since = now;
            }
            if paused || behind {
                silent_since = now;
            }
            let read = !paused && !behind && !self.outbox.is_unread();
            let resume_at = self.resume_at;
            let full_since = wire.full_since();
            let cut_at = full_since.unwrap_or(now) + self.limits.stalled;
            tokio::select! {
                biased;
                (packet_id, answer) = poll_fn(|cx| self.in_progress.poll_next(cx)),
                    if !self.in_progress.is_empty() => self.answer(packet_id, answer),
                frame = wire.next(read) => match frame {
                    Ok(frame) => {
                        let units = 1 + u32::try_from(frame.body.len() / 4096).unwrap_or(u32::MAX);
                        self.pay(now, units);
                        if let Err(end) = self.act(frame) {
                            return end;
                        }
                    }
                    Err(cause) => return cause.into(),
                },
                () = sleep_until(resume_at), if paused => {}
                () = sleep_until(cut_at), if full_since.is_some() => {
                    // It may have taken something since, while this task had no reason to look.
                    if wire.full_since() == full_since {
                        Counters::add(&self.shared.core.counters.stalled);
                        return WireEnd::Stalled.into();
                    }
                }
                () = sleep_until(silent_since + self.silence_max), if !paused && !behind => {
                    if !wire.take_heard() {
                        return WireEnd::Asked(Reason::KEEP_ALIVE_TIMEOUT).into();
                    }
                    self.outbox.hear(self.shared.core.now_ms());
                    silent_since = Instant::now();
                }
            }
        }
    }

    /// Takes units for what came; beyond the rate the site is not read from for a while.
    fn pay(&mut self, now: Instant, units: u32) {
        self.resume_at = self.resume_at.max(now + self.units.take(now, units));
    }

    /// Acts on one packet.
    fn act(&mut self, frame: Frame) -> Result<(), End> {
        let Self { site, client, number, .. } = self;
        match Packet::read(frame)? {
            Packet::Publish(publish) => self.take(publish)?,
            Packet::PubAck { packet_id, reason } => {
                if reason.0 >= Reason::UNSPECIFIED.0 {
                    info!(%site, %reason, "the site refused a message");
                }
                self.shared.core.with(|registry| registry.acknowledge(client, *number, packet_id));
            }
            Packet::Subscribe { packet_id, filters } => {
                self.shared.core.with(|registry| registry.subscribe(client, *number, packet_id, &filters));
            }
            Packet::Unsubscribe { packet_id, filters } => {
                self.shared.core.with(|registry| registry.unsubscribe(client, *number, packet_id, &filters));
            }
            Packet::PingReq => self.outbox.push_answer(pingresp()),
            Packet::Connect(_) => return Err(forbidden("a second connect").into()),
            Packet::Disconnect { reason, session_expiry_s } => {
                return Err(End { cause: WireEnd::Closed, goodbye: Some((reason, session_expiry_s)) });
            }
        }
        Ok(())
    }

    /// Hands a message to the ingest, or refuses it.
    fn take(&mut self, publish: Publish) -> Result<(), End> {
        let Publish { topic, packet_id, payload } = publish;
        if let Some(packet_id) = packet_id {
            if self.in_progress.holds(packet_id) {
                return Err(forbidden("a packet identifier that is in use").into());
            }
            if self.in_progress.unacknowledged() >= usize::from(self.limits.ingest_in_flight_max) {
                let reason = Reason::RECEIVE_MAXIMUM_EXCEEDED;
                return Err(Refusal { reason, fault: "more publishes at once than announced" }.into());
            }
        }
        let upward = self.shared.core.with(|registry| registry.topics.upward(&self.client, &topic));
        match (upward, packet_id) {
            (Some(topic), _) => {
                let (ingest, site) = (self.shared.ingest.clone(), self.site.clone());
                let running = Box::pin(async move { ingest.publish(&site, topic, payload).await });
                self.in_progress.push(packet_id, running);
            }
            (None, Some(packet_id)) => self.in_progress.push_refused(packet_id, Refused::Forbidden),
            (None, None) => {
                let fault = "a publish on another's topic";
                return Err(Refusal { reason: Reason::NOT_AUTHORIZED, fault }.into());
            }
        }
        Ok(())
    }

    /// Passes the ingest's answer on.
    fn answer(&mut self, packet_id: Option<u16>, answer: Result<Accepted, Refused>) {
        let counters = &self.shared.core.counters;
        let reason = match answer {
            Ok(Accepted) => {
                Counters::add(&counters.accepted);
                Reason::SUCCESS
            }
            Err(refused) => {
                Counters::add(&counters.refused);
                info!(site = %self.site, %refused, "message of a site refused");
                if matches!(refused, Refused::Forbidden | Refused::Malformed) {
                    self.pay(Instant::now(), self.limits.refused_units);
                }
                refused.reason()
            }
        };
        if let Some(packet_id) = packet_id {
            self.outbox.push_answer(puback(packet_id, reason));
        }
    }

    /// Leaves: finishes what the ingest has, so that what was said before a goodbye counts, then lets the
    /// session go, then says the last word.
    async fn end<S: AsyncRead + AsyncWrite + Unpin>(mut self, wire: Wire<S>, end: End) {
        let drained = timeout(FAREWELL, async {
            while !self.in_progress.is_empty() {
                let (packet_id, answer) = poll_fn(|cx| self.in_progress.poll_next(cx)).await;
                self.answer(packet_id, answer);
            }
        });
        if drained.await.is_err() {
            info!(site = %self.site, "connection ended before the ingest answered");
        }
        let stopping = matches!(end.cause, WireEnd::Asked(Reason::SHUTTING_DOWN));
        let clean = end.goodbye.is_some_and(|(reason, _)| reason == Reason::SUCCESS);
        let ending = Ending {
            without_will: clean || stopping,
            session_expiry_s: end.goodbye.and_then(|(_, session_expiry_s)| session_expiry_s),
        };
        let (site, client, number) = (&self.site, &self.client, self.number);
        let core = &self.shared.core;
        let due = core.with(|registry| {
            let due = registry.detach(client, number, ending, Instant::now())?;
            core.tell(Presence::Disconnected { site: site.clone(), clean });
            due
        });
        core.fire(due);
        let last = match end.cause {
            WireEnd::Closed | WireEnd::Broken(_) => {
                debug!(%site, clean, cause = %end.cause, "connection ended");
                None
            }
            WireEnd::Stalled => {
                // There is no telling it.
                info!(%site, cause = %end.cause, "connection ended by the hub");
                None
            }
            WireEnd::Refused(Refusal { reason, .. }) | WireEnd::Asked(reason) => {
                info!(%site, cause = %end.cause, "connection ended by the hub");
                Some(reason)
            }
        };
        if !stopping {
            self.outbox.clear();
        }
        let refused = matches!(end.cause, WireEnd::Refused(_));
        part(wire, last.map(disconnect), refused).await;
    }
}

/// Says the last word and closes. A peer that was refused may be in mid-packet, so it is heard out a little.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(mut wire: Wire<S>, last: Option<Bytes>, refused: bool) {
    // A peer that is gone, or does not read, ends the wait; there is nobody else to tell.
    let said = timeout(FAREWELL, wire.finish(last)).await;
    if refused && matches!(said, Ok(Ok(()))) {
        drop(timeout(LINGER, wire.linger(LINGER_BYTES_MAX)).await);
    }
}
