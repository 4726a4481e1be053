//! One connection to the hub, and MQTT packets byte by byte, right and wrong.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use airlift_tests::namespace::HUB;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::roster::Party;

pub(crate) const HTTPS: u16 = 8443;
pub(crate) const MQTT: u16 = 8883;

/// A TCP connection from this address to the hub.
pub(crate) async fn tcp(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Ports are shared between destinations, so that one address is good for thousands of connections.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

pub(crate) async fn tls(
    from: Ipv4Addr,
    port: u16,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = tcp(from, port).await?;
    stream.set_nodelay(true)?;
    // The certificate is for the address that sites know.
    let name = ServerName::from(IpAddr::from(HUB));
    TlsConnector::from(config).connect(name, stream).await
}

/// One packet: its first byte, and what follows the length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

impl Packet {
    /// The reason of a CONNACK, PUBACK or DISCONNECT.
    pub(crate) fn reason(&self) -> u8 {
        let at = match self.first {
            0x20 => 1,
            0x40 => 2,
            _ => 0,
        };
        self.body.get(at).copied().unwrap_or(0)
    }
}

/// A line that speaks MQTT.
pub(crate) struct Line {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl Line {
    /// TLS, and nothing said yet.
    pub(crate) async fn open(party: &Party) -> io::Result<Self> {
        let stream = tls(party.from, MQTT, Arc::clone(&party.tls)).await?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// TLS and CONNECT; the reason of CONNACK, or none where the hub only closed.
    pub(crate) async fn connect(party: &Party, keep_alive_s: u16) -> io::Result<(Self, Option<u8>)> {
        let mut line = Self::open(party).await?;
        line.send(&connect(&party.name, keep_alive_s)).await?;
        let reason = line.next().await?.map(|packet| packet.reason());
        Ok((line, reason))
    }

    /// A connected site.
    pub(crate) async fn welcome(party: &Party, keep_alive_s: u16) -> Self {
        let (line, reason) = Self::connect(party, keep_alive_s).await.expect("the hub is there");
        assert_eq!(reason, Some(0), "{} is let in", party.name);
        line
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next packet; none at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Packet>> {
        loop {
            if let Some((packet, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Ok(Some(packet));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads until the hub says DISCONNECT, and gives its reason; none where it only closed.
    pub(crate) async fn goodbye(&mut self) -> Option<u8> {
        while let Ok(Some(packet)) = self.next().await {
            if packet.first == 0xe0 {
                return Some(packet.reason());
            }
        }
        None
    }
}

fn parse(bytes: &[u8]) -> Option<(Packet, usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = usize::from(*bytes.get(at)?);
        length |= (byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte < 0x80 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?.to_vec();
    Some((Packet { first: bytes[0], body }, at + length))
}

/// A packet's first bytes, which announce so many more.
pub(crate) fn head(first: u8, mut length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    loop {
        let (low, more) = (length & 0x7f, length >> 7);
        bytes.push(u8::try_from(low).expect("seven bits") | if more > 0 { 0x80 } else { 0 });
        length = more;
        if more == 0 {
            return bytes;
        }
    }
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&head(first, body.len()), body].concat()
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("texts here are short").to_be_bytes();
    [&length, text.as_bytes()].concat()
}

/// CONNECT of a session that is kept for an hour.
pub(crate) fn connect(name: &str, keep_alive_s: u16) -> Vec<u8> {
    let keep_alive = keep_alive_s.to_be_bytes();
    let properties = [5, 0x11, 0, 0, 0x0e, 0x10];
    let body = [&text("MQTT")[..], &[5, 0], &keep_alive, &properties, &text(name)].concat();
    packet(0x10, &body)
}

pub(crate) fn own(site: &str, topic: &str) -> String {
    format!("airlift/v1/s/{site}/{topic}")
}

pub(crate) fn subscribe(filters: &[&str], quality: u8) -> Vec<u8> {
    let filters = filters.iter().flat_map(|filter| [text(filter), vec![quality]].concat());
    packet(0x82, &[0, 1, 0].into_iter().chain(filters).collect::<Vec<u8>>())
}

/// PUBLISH; of quality 1 where it has a number.
pub(crate) fn publish(topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let (first, number) = match id {
        Some(id) => (0x32, id.to_be_bytes().to_vec()),
        None => (0x30, Vec::new()),
    };
    packet(first, &[&text(topic)[..], &number, &[0], payload].concat())
}

pub(crate) fn puback(id: [u8; 2]) -> Vec<u8> {
    packet(0x40, &id)
}
