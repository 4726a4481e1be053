//! `run`: the agent's life as a process: wait for a grant, connect the ports, serve until told to end.

use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::document::enrolment::HubAddress;
use airlift_bundles::ids::RandomId;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::enrol::{grant_from, request_onto};
use super::failure::{Ending, Failure};
use super::log;
use super::state::{Enrolled, State};
use crate::World;
use crate::apply::KubeCluster;
use crate::clock::Clock;
use crate::config::Config;
use crate::control::desk::Desk;
use crate::control::server::{ControlSocket, Hands};
use crate::core::Event;
use crate::import::Containerd;
use crate::memory;
use crate::notify::Notifier;
use crate::ports::{Content, Images, Link, Store};
use crate::receive::content::DiskContent;
use crate::receive::media::{self, Loader, ReceiptWriter, find_sticks};
use crate::receive::mqtt::{MqttLink, MqttSite};
use crate::run::{Agent, EVENTS, Ports};
use crate::store::Restored;
use crate::support::ring::Ring;
use crate::tls;

/// Between two looks for a grant.
const GRANT_EVERY: Duration = Duration::from_secs(3);
/// Requests to write receipts that may wait for a slow stick.
const MEDIA_QUEUE: usize = 16;

/// Lives until a signal says end.
pub(super) async fn run(config: Config, world: World) -> Result<(), Failure> {
    memory::begin();
    let ring = log::start();
    let mut shutdown = end_on_signal()?;
    let notifier = Notifier::from_environment();
    let enrolled = tokio::select! {
        enrolled = wait_for_grant(&config, notifier.as_ref()) => enrolled?,
        _ = shutdown.wait_for(|end| *end) => return Ok(()),
    };
    let served = serve(&config, world, enrolled, ring, shutdown, notifier.as_ref()).await;
    if let Some(notifier) = &notifier {
        notifier.stopping();
    }
    served
}

/// Turns SIGTERM and SIGINT into the one shutdown signal.
fn end_on_signal() -> Result<watch::Receiver<bool>, Failure> {
    let failed = |error| Failure::new(Ending::Runtime, error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (end, ending) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = end.send(true); // nothing runs any more
    });
    Ok(ending)
}

/// Waits until the site is enrolled. Between two looks the state directory is free, so that `enrol` and
/// `media load` can do it; a stick in a watched place is asked for a grant, and given the request.
async fn wait_for_grant(config: &Config, notifier: Option<&Notifier>) -> Result<(State, Enrolled), Failure> {
    let mut said = false;
    loop {
        let mut state = State::open(config).await?;
        if let Some(enrolled) = state.enrolled(config)? {
            return Ok((state, enrolled));
        }
        if !said {
            warn!("site is not enrolled: waiting for `airlift-agent enrol`, or for a stick with its grant");
            if let Some(notifier) = notifier {
                notifier.ready(); // waiting is all that can be done now, and is done well
            }
            said = true;
        }
        for stick in find_sticks(&config.media_dirs) {
            let Some(root_sha256) = config.root_sha256 else {
                debug!("no root is pinned: sticks are not asked for a grant");
                break;
            };
            match grant_from(config, &mut state, &stick, &root_sha256).await {
                Ok(Some(grant)) => {
                    info!(site = %grant.site, media = %stick.display(), "enrolled by media");
                    break;
                }
                Ok(None) => match request_onto(config, &state, &stick, None, None, root_sha256) {
                    Ok(fingerprint) => {
                        debug!(fingerprint, media = %stick.display(), "request is on the media")
                    }
                    Err(fault) => debug!(%fault, "request was not written"),
                },
                Err(fault) => warn!(%fault, media = %stick.display(), "grant of the media is not taken"),
            }
        }
        if state.enrolled(config)?.is_none() {
            drop(state);
            tokio::time::sleep(GRANT_EVERY).await;
        }
    }
}

async fn serve(
    config: &Config,
    world: World,
    (state, enrolled): (State, Enrolled),
    log: Ring,
    shutdown: watch::Receiver<bool>,
    notifier: Option<&Notifier>,
) -> Result<(), Failure> {
    let socket = ControlSocket::bind(&config.control_socket).map_err(|error| {
        let path = config.control_socket.display();
        Failure::new(Ending::Runtime, error).next(format!("Check `control_socket` in agent.toml ({path})."))
    })?;
    let site = state.site(config);
    let store: Arc<dyn Store> = Arc::clone(&state.store) as Arc<dyn Store>;
    #[cfg(debug_assertions)]
    let store = crate::store::halt::as_wanted(store).await?;
    let content =
        DiskContent::open(config.state_dir.clone(), site.platform.clone(), Arc::clone(&store)).await?;
    let content = Arc::new(content);
    let (events, queue) = mpsc::channel(EVENTS);
    let (media_requests, media_queue) = mpsc::channel(MEDIA_QUEUE);
    let ports = Ports {
        store: Arc::clone(&store),
        content: Arc::clone(&content),
        cluster: world.cluster.unwrap_or_else(|| {
            let holder = site.key.public().key_id().to_string();
            Arc::new(KubeCluster::leased(&config.kubernetes.kubeconfig, holder, Clock::system()))
        }),
        images: world.images.map_or_else(|| containerd(config), Ok)?,
        link: link(config, &state, &enrolled, &events, Arc::clone(&content) as Arc<dyn Content>)?,
        media: media_requests,
    };
    let writer = ReceiptWriter::new(Arc::clone(&site.key), enrolled.meta.clone(), Arc::clone(&store));
    if let Some(Restored { aside, reason }) = state.store.restored() {
        let reason = format!("{reason}; its backup took its place, and it is kept as {}", aside.display());
        // The queue is new and has room; it is read as soon as the agent runs.
        let _ = events.try_send(Event::StoreRestored { reason });
    }
    let agent = Agent::load(site, ports, events.clone()).await?.when_quiet(memory::give_back);
    let desk = Desk::new(events, agent.replies());
    let loader = Loader { desk, store, content: content as Arc<dyn Content> };
    info!(site = %enrolled.meta.site, version = env!("CARGO_PKG_VERSION"), "agent starts");

    let mut aside = JoinSet::new();
    aside.spawn(writer.clone().run(media_queue));
    aside.spawn(media::watch(loader.clone(), writer.clone(), enrolled.meta.site, config.media_dirs.clone()));
    aside.spawn(socket.serve(Hands { loader, writer, log }));
    if let Some(notifier) = notifier {
        notifier.ready();
    }
    let watchdog = async {
        match notifier {
            Some(notifier) => notifier.feed_watchdog().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = agent.run(queue, shutdown) => outcome?,
        () = watchdog => {}
    }
    aside.shutdown().await;
    Ok(())
}

fn containerd(config: &Config) -> Result<Arc<dyn Images>, Failure> {
    let snapshotter = Some(config.containerd.snapshotter.clone());
    let images = Containerd::new(&config.containerd.socket, snapshotter)
        .map_err(|error| Failure::coded(Code::ConfigInvalid, error))?;
    Ok(Arc::new(images))
}

/// The way to the hub, where the site is to have one.
fn link(
    config: &Config,
    state: &State,
    enrolled: &Enrolled,
    events: &mpsc::Sender<Event>,
    content: Arc<dyn Content>,
) -> Result<Option<Arc<dyn Link>>, Failure> {
    let configured = config.hubs.iter().cloned().map(HubAddress::from).collect::<Vec<_>>();
    let hubs = if configured.is_empty() { enrolled.grant.hubs.clone() } else { configured };
    if !config.online || hubs.is_empty() {
        info!("no hub to connect to: media alone serves this site");
        return Ok(None);
    }
    let grant = &enrolled.grant;
    let settings = tls::granted(&grant.hub_ca, &grant.certificate, &state.identity.tls_key_pem)
        .map_err(|error| Failure::coded(Code::ConfigInvalid, error).ending(Ending::Runtime))?;
    let site = MqttSite {
        site: enrolled.meta.site.clone(),
        prefix: grant.topic_prefix.clone(),
        boot: RandomId::from_bytes(Clock::system().now().boot.0),
        conn_seq: enrolled.meta.conn_seq,
        hubs,
        tls: Arc::new(settings),
    };
    Ok(Some(Arc::new(MqttLink::new(site, events.clone(), content))))
}
