//! Tells systemd that the agent is up, still alive, or ending; without systemd nothing happens.
//!
//! The protocol is one datagram a message, so no library is needed for it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::debug;

/// Where systemd listens.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one of this process's environment, if a service manager started it.
    pub(crate) fn from_environment() -> Option<Self> {
        let address = std::env::var_os("NOTIFY_SOCKET")?;
        let watchdog = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        match Self::new(&address, watchdog.map(Duration::from_micros)) {
            Ok(notifier) => Some(notifier),
            Err(error) => {
                debug!(%error, "service manager cannot be told");
                None
            }
        }
    }

    /// `address` is a path, or `@` and an abstract name.
    fn new(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match address.as_bytes().split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, watchdog })
    }

    /// The agent serves its site.
    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    /// The agent is ending.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Feeds the watchdog for as long as this future is polled: it runs on the loop that the core runs on, so a
    /// loop that hangs is seen.
    pub(crate) async fn feed_watchdog(&self) {
        let Some(patience) = self.watchdog else { return std::future::pending().await };
        loop {
            self.send("WATCHDOG=1");
            tokio::time::sleep(patience / 2).await;
        }
    }

    fn send(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            debug!(%error, message, "service manager was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_and_watchdog_reach_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let notifier = Notifier::new(path.as_os_str(), Some(Duration::from_secs(60))).unwrap();
        notifier.ready();
        let feeding = notifier.feed_watchdog();
        assert!(tokio::time::timeout(Duration::from_millis(50), feeding).await.is_err());
        let mut buffer = [0; 64];
        for expected in ["READY=1", "WATCHDOG=1"] {
            let size = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..size], expected.as_bytes());
        }
    }
}
