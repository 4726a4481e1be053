//! The one way from the sites to their hub: counts the bytes of each site, and can be closed to it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::namespace::{HUB, Namespace};

/// The hub's two ports: HTTPS and MQTT.
pub const PORTS: [u16; 2] = [8443, 8883];

/// What passed for one site.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// Bytes from the site to the hub.
    pub to_hub: u64,
    /// Bytes from the hub to the site.
    pub to_site: u64,
    /// Connections that it opened.
    pub connections: u64,
}

#[derive(Debug, Default)]
struct State {
    passed: BTreeMap<IpAddr, Passed>,
    closed_to: Vec<IpAddr>,
    open: Vec<(IpAddr, TcpStream)>,
}

/// Listens at [`HUB`] in the hub's namespace, and passes on to the hub on loopback there.
#[derive(Clone, Debug)]
pub struct Relay {
    state: Arc<Mutex<State>>,
}

impl Relay {
    /// Opens both ports; they stay open as long as this process lives.
    ///
    /// # Panics
    /// When the hub's namespace does not have the hub's address.
    #[must_use]
    pub fn start(namespace: &Namespace) -> Self {
        let relay = Self { state: Arc::default() };
        for port in PORTS {
            let listener = namespace
                .enter(move || TcpListener::bind(SocketAddrV4::new(HUB, port)))
                .join()
                .expect("the thread only binds")
                .expect("the hub's address has a free port");
            let (relay, namespace) = (relay.clone(), namespace.clone());
            let _ = namespace.enter(move || {
                for connection in listener.incoming().flatten() {
                    relay.pass(connection, port);
                }
            });
        }
        relay
    }

    /// What passed for a site so far, by its address.
    ///
    /// # Panics
    /// When a relay thread panicked, as do the other functions.
    #[must_use]
    pub fn passed(&self, site: Ipv4Addr) -> Passed {
        self.state
            .lock()
            .expect("no relay thread panics")
            .passed
            .get(&site.into())
            .copied()
            .unwrap_or_default()
    }

    /// Ends the site's connections and refuses new ones.
    pub fn close(&self, site: Ipv4Addr) {
        let mut state = self.state.lock().expect("no relay thread panics");
        state.closed_to.push(site.into());
        for (of, connection) in &state.open {
            if *of == site {
                // It may have been closed by its own ends.
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        state.open.retain(|(of, _)| *of != site);
    }

    /// Lets the site connect again.
    pub fn open(&self, site: Ipv4Addr) {
        self.state.lock().expect("no relay thread panics").closed_to.retain(|of| *of != site);
    }

    fn pass(&self, from_site: TcpStream, port: u16) {
        let Ok(site) = from_site.peer_addr().map(|address| address.ip()) else { return };
        let mut state = self.state.lock().expect("no relay thread panics");
        if state.closed_to.contains(&site) {
            return;
        }
        state.passed.entry(site).or_default().connections += 1;
        // A hub that is not there is a connection that ends at once.
        let Ok(from_hub) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) else { return };
        let copies =
            [from_site.try_clone(), from_hub.try_clone(), from_site.try_clone(), from_hub.try_clone()];
        let [Ok(to_site), Ok(to_hub), Ok(site_end), Ok(hub_end)] = copies else { return };
        state.open.push((site, site_end));
        state.open.push((site, hub_end));
        drop(state);
        let (up, down) = (self.clone(), self.clone());
        thread::spawn(move || up.copy(from_site, to_hub, site, |passed| &mut passed.to_hub));
        thread::spawn(move || down.copy(from_hub, to_site, site, |passed| &mut passed.to_site));
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, site: IpAddr, count: fn(&mut Passed) -> &mut u64) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let mut state = self.state.lock().expect("no relay thread panics");
            *count(state.passed.entry(site).or_default()) += length as u64;
            drop(state);
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        // The other direction may have closed both already.
        let _ = to.shutdown(Shutdown::Write);
    }
}
