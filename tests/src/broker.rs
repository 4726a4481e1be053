//! mosquitto between a hub and its sites, with the settings and rights that Airlift ships.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};

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
        Self::put_before_with(hub, &[], "")
    }

    /// The same with other settings and further rights, as [`Self::set_up`] takes them.
    #[must_use]
    pub fn put_before_with(hub: &mut Hub, replaced: &[(&str, &str)], more_rights: &str) -> Self {
        hub.kill();
        let _ =
            hub.airlift(&["hub", "broker", "--data", "hub", "--host", &HUB.to_string(), "--out", "broker"]);
        let config = hub.dir().join("hub/hub.toml");
        let text = fs::read_to_string(&config).expect("hub init writes its settings");
        fs::write(&config, format!("{text}\n[broker]\nhost = \"{HUB}\"\n")).expect("it is writable");
        let mut broker = Self { process: None };
        broker.set_up(hub, replaced, more_rights);
        broker.run(hub);
        hub.run();
        broker
    }

    /// Writes settings and rights for its next start: as they are shipped, but for the settings that are replaced and
    /// the rights that are added.
    pub fn set_up(&self, hub: &Hub, replaced: &[(&str, &str)], more_rights: &str) {
        let dir = hub.dir().join("broker");
        // The place, the address behind the relay, and a user who may read its key, are always others.
        let mut settings = SETTINGS
            .replace("/etc/mosquitto/airlift", &dir.display().to_string())
            .replace("listener 8883", "listener 8883 127.0.0.1");
        for (shipped, other) in replaced {
            assert!(settings.contains(shipped), "it is not shipped with {shipped:?}");
            settings = settings.replace(shipped, other);
        }
        fs::write(dir.join("mosquitto.conf"), format!("user root\n{settings}")).expect("it is writable");
        fs::write(dir.join("rights"), format!("{RIGHTS}\n{more_rights}\n")).expect("it is writable");
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

    /// What it has logged since it was put there.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().expect("it runs").log()
    }

    /// Lets it stand still: its connections stay, and take what their buffers hold.
    pub fn freeze(&self) {
        let pid = self.process.as_ref().expect("it runs").id().to_string();
        let frozen = Command::new("kill").args(["-STOP", &pid]).status().expect("kill is installed");
        assert!(frozen.success(), "the broker was gone before it was stopped");
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Makes a client of mosquitto's beside the hub, with a certificate of the site authority for this name.
    #[must_use]
    pub fn client(hub: &Hub, program: &str, name: &str) -> Command {
        let keys = hub.dir().join(name);
        if !keys.exists() {
            fs::create_dir_all(&keys).expect("the hub's directory is writable");
            let (certificate, key) = site_certificate(hub, name);
            fs::write(keys.join("site.pem"), certificate).expect("the directory is writable");
            fs::write(keys.join("tls.pem"), key).expect("the directory is writable");
        }
        let mut command = hub.command_beside(Path::new(program));
        command.args(["-h", &HUB.to_string(), "-p", "8883", "-V", "mqttv5", "-i", name, "-c", "-x", "0"]);
        command.arg("--cafile").arg(hub.dir().join("hub/hub-ca.pem"));
        command.arg("--cert").arg(keys.join("site.pem")).arg("--key").arg(keys.join("tls.pem"));
        command
    }
}

/// A certificate of the hub's site authority, and its key.
fn site_certificate(hub: &Hub, name: &str) -> (String, String) {
    let subject = |common: &str| {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "lab");
        subject.push(DnType::CommonName, common);
        subject
    };
    let key =
        fs::read_to_string(hub.dir().join("hub/keys/site-ca.key.pem")).expect("the hub has authorities");
    let mut authority = CertificateParams::default();
    authority.distinguished_name = subject("Airlift site CA");
    let issuer = Issuer::new(authority, KeyPair::from_pem(&key).expect("the hub made it"));
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = subject(name);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("ring makes keys");
    (leaf.signed_by(&key, &issuer).expect("the parameters are valid").pem(), key.serialize_pem())
}
