//! Network namespaces: a site that can reach nothing, and the one cable that a test may give it.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The one address of every hub, seen from a site that is connected to it.
pub const HUB: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);

/// A network namespace; deleted by `tests/stop` together with its bed, whose name it has.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with nothing but loopback.
    ///
    /// # Panics
    /// When `ip` fails, as do all of this module's functions.
    #[must_use]
    pub fn make(name: &str) -> Self {
        ip(&["netns", "add", name]);
        let namespace = Self { name: name.to_owned() };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Gives it an address on a bridge without ports, and a default route there.
    ///
    /// Kubernetes insists on a default route; this one leads nowhere.
    pub fn add_dead_end(&self, address: Ipv4Addr, gateway: Ipv4Addr) {
        self.ip(&["link", "add", "up0", "type", "bridge"]);
        self.ip(&["address", "add", &format!("{address}/24"), "dev", "up0"]);
        self.ip(&["link", "set", "up0", "up"]);
        self.ip(&["route", "add", "default", "via", &gateway.to_string(), "dev", "up0"]);
    }

    /// Gives a hub's namespace the address at which every site looks for its hub.
    pub fn add_hub_address(&self) {
        self.ip(&["address", "add", &format!("{HUB}/32"), "dev", "lo"]);
    }

    /// Lays a cable from here, a site, to a hub's namespace: it reaches [`HUB`] and nothing else.
    ///
    /// Both ends know each other and have no IPv6, so that nothing passes but what the two say: a bench counts it.
    #[must_use]
    pub fn connect(&self, hub: &Self, site: u8) -> Cable {
        let here = Ipv4Addr::new(10, 60, 0, site + 1);
        let far_end = format!("site{site}");
        let (near_mac, far_mac) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
        ip(&[
            "link", "add", "hub0", "netns", &self.name, "address", near_mac, "type", "veth", "peer", "name",
            &far_end, "netns", &hub.name, "address", far_mac,
        ]);
        let ends = [(hub, far_end.as_str(), HUB, here, near_mac), (self, "hub0", here, HUB, far_mac)];
        for (namespace, device, own, other, other_mac) in ends {
            let (own, other) = (own.to_string(), other.to_string());
            namespace.ip(&["link", "set", device, "addrgenmode", "none"]);
            namespace.ip(&["address", "add", &own, "peer", &other, "dev", device]);
            namespace.ip(&["link", "set", device, "up"]);
            namespace.ip(&[
                "neighbour",
                "add",
                &other,
                "lladdr",
                other_mac,
                "dev",
                device,
                "nud",
                "permanent",
            ]);
        }
        Cable { hub: hub.clone(), far_end, site: here }
    }

    /// Makes a command that runs inside, with the file systems of the machine.
    ///
    /// `ip netns exec` would mount a new /sys and hide the control groups.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    /// Runs `act` on a thread inside; the sockets that it makes stay there.
    pub fn enter<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name);
        thread::spawn(move || {
            let namespace = File::open(&path).expect("the namespace still exists");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
            act()
        })
    }

    fn ip(&self, arguments: &[&str]) {
        let mut command = vec!["-n", &self.name];
        command.extend_from_slice(arguments);
        ip(&command);
    }
}

/// The cable between a site and a hub; unplugged for good when dropped.
#[derive(Debug)]
pub struct Cable {
    hub: Namespace,
    far_end: String,
    site: Ipv4Addr,
}

impl Cable {
    /// The site's address on it.
    #[must_use]
    pub fn site(&self) -> Ipv4Addr {
        self.site
    }

    /// Takes the far end down: from now on packets vanish, and nothing is told so.
    pub fn cut(&self) {
        self.hub.ip(&["link", "set", &self.far_end, "down"]);
    }

    /// Takes the far end up again.
    pub fn restore(&self) {
        self.hub.ip(&["link", "set", &self.far_end, "up"]);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The hub's namespace may be gone already, and this end with it.
        let _ = Command::new("ip").args(["-n", &self.hub.name, "link", "del", &self.far_end]).output();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
