//! mosquitto between a hub and its sites, with the settings and rights that Airlift ships.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::clock::wait_until;
use crate::hub::Hub;
use crate::namespace::HUB;
use crate::process::Process;

const SETTINGS: &str = include_str!("../../deploy/broker/mosquitto.conf");
const RIGHTS: &str = include_str!("../../deploy/broker/rights");

/// A broker beside its hub, behind the same relay; it keeps nothing on disk, so that a kill takes all of its state.
#[derive(Debug)]
pub struct Broker {
    process: Option<Process>,
}

impl Broker {
    /// Puts a broker in the place of the hub's own endpoint. Sites that enrol from now on are sent to it.
    ///
    /// # Panics
    /// When hub or broker do not start, as do the other functions.
    #[must_use]
    pub fn put_before(hub: &mut Hub) -> Self {
        hub.kill();
        let _ =
            hub.airlift(&["hub", "broker", "--data", "hub", "--host", &HUB.to_string(), "--out", "broker"]);
        let dir = hub.dir().join("broker");
        // As it is shipped, but for the place, the address behind the relay, and a user who may read its key.
        let settings = SETTINGS
            .replace("/etc/mosquitto/airlift", &dir.display().to_string())
            .replace("listener 8883", "listener 8883 127.0.0.1");
        fs::write(dir.join("mosquitto.conf"), format!("user root\n{settings}")).expect("it is writable");
        fs::write(dir.join("rights"), RIGHTS).expect("it is writable");
        let config = hub.dir().join("hub/hub.toml");
        let text = fs::read_to_string(&config).expect("hub init writes its settings");
        fs::write(&config, format!("{text}\n[broker]\nhost = \"{HUB}\"\n")).expect("it is writable");
        let mut broker = Self { process: None };
        broker.run(hub);
        hub.run();
        broker
    }

    /// Starts it, with nothing of what it knew.
    pub fn run(&mut self, hub: &Hub) {
        let settings = hub.dir().join("broker/mosquitto.conf").display().to_string();
        let program = Path::new("/usr/sbin/mosquitto");
        let mut process = hub.start_beside("broker", program, &["-c".to_owned(), settings]);
        wait_until("the broker", Duration::from_secs(20), || {
            process.check_alive()?;
            if process.log().contains("running") { Ok(()) } else { Err(process.log()) }
        });
        self.process = Some(process);
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }
}
