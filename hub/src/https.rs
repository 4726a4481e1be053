//! The HTTPS listener: takes connections in turn, serves them, and lets go of those that ask for nothing.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use http_body_util::BodyExt as _;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::lobby::{Door, Origin, Places, Turn};

/// Time for a TLS handshake, for the head of a request, and for the first request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two requests of one connection.
const IDLE: Duration = Duration::from_secs(60);
/// Time in which nothing is taken of an answer. The kernel says that there is room again after a third of its
/// buffer, 80 KB: a thin link is no idle one.
const UNREAD: Duration = Duration::from_secs(300);
/// Time that requests under way have when the hub stops.
const GRACE: Duration = Duration::from_secs(5);
/// Time between two tries to accept, after one that failed.
const RETRY: Duration = Duration::from_millis(500);

pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    places: Places,
    stopped: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let door = Door::new(places);
    let mut connections = JoinSet::new();
    let mut accept_at = Instant::now();
    let mut turned_away = 0_u64;
    let mut tell_at = Instant::now();
    let stop = crate::serve::until(stopped.clone());
    tokio::pin!(stop);
    loop {
        let accepted = async {
            sleep_until(accept_at).await;
            listener.accept().await
        };
        tokio::select! {
            () = &mut stop => break,
            accepted = accepted => match accepted {
                Ok((stream, from)) => {
                    turned_away += u64::from(door.enter(Origin::of(from.ip()), stream).is_some());
                }
                Err(error) => {
                    // Out of descriptors, or a peer that left at once: others end, so wait.
                    tracing::warn!(%error, "a connection could not be accepted");
                    accept_at = Instant::now() + RETRY;
                }
            },
            (stream, turn) = door.next() => {
                let (acceptor, router, stopped) = (acceptor.clone(), router.clone(), stopped.clone());
                connections.spawn(serve_connection(stream, turn, acceptor, router, stopped));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
        if turned_away > 0 && Instant::now() >= tell_at {
            tracing::warn!(count = turned_away, "connections were turned away unheard: too many wait");
            (turned_away, tell_at) = (0, Instant::now() + Duration::from_secs(1));
        }
    }
    drop(listener);
    let gone = timeout(GRACE, async { while connections.join_next().await.is_some() {} });
    if gone.await.is_err() {
        tracing::warn!(connections = connections.len(), "requests were cut at the end of the grace");
        connections.shutdown().await;
    }
}

/// Serves one connection; the turn ends with it.
async fn serve_connection(
    stream: TcpStream,
    _turn: Turn<TcpStream>,
    acceptor: TlsAcceptor,
    router: Router,
    stopped: watch::Receiver<bool>,
) {
    // Without it small answers wait for the peer's delayed acknowledgement; it is no error to lack it.
    drop(stream.set_nodelay(true));
    let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await else { return };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .keep_alive_interval(Some(PATIENCE * 3));
    let work = Arc::new(Work::new());
    let router = TowerToHyperService::new(router);
    let service = service_fn({
        let work = Arc::clone(&work);
        move |request| {
            let asked = Asked::begin(&work);
            let answer = router.call(request);
            async move {
                let response = answer.await?;
                let answered = asked.answered();
                // Dropped with the body.
                Ok::<_, Infallible>(response.map(|body| {
                    body.map_frame(move |frame| {
                        answered.0.touch();
                        frame
                    })
                }))
            }
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a connection ended badly");
            }
            return;
        }
        () = crate::serve::until(stopped) => connection.as_mut().graceful_shutdown(),
        () = work.rests() => {
            tracing::debug!("a connection that asks for nothing is ended");
            connection.as_mut().graceful_shutdown();
            // Whoever does not take the goodbye either is cut.
            drop(timeout(GRACE, connection).await);
            return;
        }
    }
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// What one connection has under way.
#[derive(Debug)]
struct Work {
    asked: AtomicUsize,
    answering: AtomicUsize,
    any: AtomicBool,
    touched: Mutex<Instant>,
}

impl Work {
    fn new() -> Self {
        let (asked, answering) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { asked, answering, any: AtomicBool::new(false), touched: Mutex::new(Instant::now()) }
    }

    fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing may happen; `None` while the hub itself is at work on a request, whose own limits hold.
    fn patience(&self) -> Option<Duration> {
        if self.asked.load(Ordering::Relaxed) > 0 {
            return None;
        }
        Some(match (self.answering.load(Ordering::Relaxed), self.any.load(Ordering::Relaxed)) {
            (0, false) => PATIENCE,
            (0, true) => IDLE,
            _ => UNREAD,
        })
    }

    /// Waits until nothing has happened for too long.
    async fn rests(&self) {
        loop {
            let Some(patience) = self.patience() else {
                sleep(PATIENCE).await;
                continue;
            };
            let ends_at = *self.touched.lock().unwrap_or_else(PoisonError::into_inner) + patience;
            if ends_at <= Instant::now() {
                return;
            }
            sleep_until(ends_at).await;
        }
    }
}

/// A request that the hub is at work on.
struct Asked(Arc<Work>);

/// An answer that is being sent.
struct Answering(Arc<Work>);

impl Asked {
    fn begin(work: &Arc<Work>) -> Self {
        work.asked.fetch_add(1, Ordering::Relaxed);
        work.any.store(true, Ordering::Relaxed);
        Self(Arc::clone(work))
    }

    fn answered(self) -> Answering {
        self.0.answering.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(&self.0))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.touch();
        self.0.asked.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.touch();
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_nothing_rests_soon_and_who_asked_later() {
        let work = Arc::new(Work::new());
        assert_eq!(work.patience(), Some(PATIENCE));
        let asked = Asked::begin(&work);
        assert_eq!(work.patience(), None, "the hub is at work");
        let answering = asked.answered();
        assert_eq!(work.patience(), Some(UNREAD), "the peer is to read");
        drop(answering);
        assert_eq!(work.patience(), Some(IDLE));
        drop(Asked::begin(&work));
        assert_eq!(work.patience(), Some(IDLE), "a request that was given up is over");
    }
}
