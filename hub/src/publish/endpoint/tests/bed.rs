//! A scratch endpoint over TCP and TLS, sites that are real rumqttc clients, and sites that send bytes.

use super::*;
use crate::publish::endpoint::frame::Frame;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData};
use rumqttc::v5::mqttbytes::v5::{Connect, ConnectProperties, LastWill};
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, mqttbytes::v5::Packet as Theirs};
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Longest that anything in these tests may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Fails a test that waits for what does not come.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it did not come in time")
}

/// The site CA, which signs the hub here too, and the keys that the hub knows.
#[derive(Clone)]
pub(super) struct Fleet {
    ca: Arc<CertifiedIssuer<'static, KeyPair>>,
    known: Arc<Mutex<BTreeMap<Vec<u8>, SiteId>>>,
}

impl Fleet {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { ca: Arc::new(ca), known: Arc::default() }
    }

    /// Issues a certificate; the hub knows its key as `known_as`.
    pub(super) fn issue(&self, name: &str, known_as: Option<&str>) -> Arc<ClientConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        if let Some(site) = known_as {
            self.known.lock().unwrap().insert(key.subject_public_key_info(), super::site(site));
        }
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = self.client_builder().with_client_auth_cert(vec![certificate.der().clone()], key);
        Arc::new(config.unwrap())
    }

    pub(super) fn anonymous(&self) -> Arc<ClientConfig> {
        Arc::new(self.client_builder().with_no_client_auth())
    }

    fn client_builder(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        roots
    }

    fn server(&self) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        let roots = Arc::new(self.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.unwrap())
    }
}

impl Identify for Fleet {
    fn identify(&self, certificate: PeerCertificate<'_>) -> Option<SiteId> {
        self.known.lock().unwrap().get(certificate.spki).cloned()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a site said, as the ingest heard it.
pub(super) type Said = (SiteId, Topic, Bytes);

/// Hears everything; answers while the gate is open, and refuses the payload `nonsense`.
struct Ears {
    said: mpsc::UnboundedSender<Said>,
    gate: watch::Receiver<bool>,
}

impl Ingest for Ears {
    async fn publish(&self, from: &SiteId, topic: Topic, payload: Bytes) -> Result<Accepted, Refused> {
        let refused = &payload[..] == b"nonsense";
        self.said.send((from.clone(), topic, payload)).unwrap();
        self.gate.clone().wait_for(|open| *open).await.unwrap();
        if refused { Err(Refused::Malformed) } else { Ok(Accepted) }
    }
}

pub(super) struct Server {
    pub(super) fleet: Fleet,
    pub(super) database: Database,
    pub(super) publisher: Publisher,
    pub(super) said: mpsc::UnboundedReceiver<Said>,
    pub(super) gate: watch::Sender<bool>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_on(Fleet::new(), Database::new(), Limits::default()).await
    }

    pub(super) async fn start_on(fleet: Fleet, database: Database, limits: Limits) -> Self {
        let (said_sender, said) = mpsc::unbounded_channel();
        let (gate, gate_receiver) = watch::channel(true);
        let ears = Ears { said: said_sender, gate: gate_receiver };
        let endpoint = Endpoint::open(prefix(), limits, database.clone(), ears).await.unwrap();
        let publisher = endpoint.publisher();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let served = tokio::spawn(endpoint.serve(listener, fleet.server(), fleet.clone(), shutdown));
        Self { fleet, database, publisher, said, gate, address, stop, served }
    }

    /// Stops the hub as a service manager does, and starts it again on the same rows.
    pub(super) async fn restart(self) -> Self {
        self.stop.send(()).unwrap();
        soon(self.served).await.unwrap();
        Self::start_on(self.fleet, self.database, Limits::default()).await
    }

    pub(super) async fn stop(self) {
        self.stop.send(()).unwrap();
        soon(self.served).await.unwrap();
    }

    /// Connects a real client that keeps a session, and waits for its CONNACK.
    pub(super) async fn site(&self, name: &str) -> Site {
        self.site_with(name, |_| {}).await
    }

    pub(super) async fn site_with(&self, name: &str, change: impl FnOnce(&mut MqttOptions)) -> Site {
        let tls = self.fleet.issue(name, Some(name));
        let mut options = MqttOptions::new(name, "localhost", self.address.port());
        let tls = rumqttc::TlsConfiguration::Rustls(tls);
        options
            .set_transport(rumqttc::Transport::tls_with_config(tls))
            .set_clean_start(false)
            .set_outgoing_inflight_upper_limit(8)
            .set_connect_properties(ConnectProperties {
                session_expiry_interval: Some(3600),
                receive_maximum: Some(16),
                max_packet_size: Some(131_584),
                ..ConnectProperties::new()
            });
        change(&mut options);
        let (client, poll) = AsyncClient::new(options, 10);
        let (sender, incoming) = mpsc::unbounded_channel();
        let task = tokio::spawn(carry(poll, sender));
        let mut site = Site { client, incoming, task, session_present: false };
        site.session_present = site
            .until(|packet| match packet {
                Incoming::ConnAck(ack) => Some(ack.session_present),
                _ => None,
            })
            .await;
        site
    }

    /// Opens TLS as `tls` and speaks no MQTT yet. What is not read soon fills its socket.
    pub(super) async fn raw(&self, tls: Arc<ClientConfig>) -> io::Result<Raw> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(64 << 10)?;
        let tcp = socket.connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(tls).connect(name, tcp).await?;
        Ok(Raw { stream, received: BytesMut::new() })
    }

    /// Opens a connection and says nothing.
    pub(super) async fn stranger(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Connects a site that sends bytes; it has been accepted.
    pub(super) async fn raw_site(&self, name: &str, keep_alive_s: u16, will: Option<LastWill>) -> Raw {
        let mut raw = self.raw(self.fleet.issue(name, Some(name))).await.unwrap();
        raw.write(&connect_bytes(name, keep_alive_s, will)).await;
        assert_eq!(soon(raw.frame()).await.unwrap().body[1], 0, "connack");
        raw
    }
}

pub(super) fn connect_bytes(name: &str, keep_alive_s: u16, will: Option<LastWill>) -> Vec<u8> {
    let properties = ConnectProperties { session_expiry_interval: Some(60), ..ConnectProperties::new() };
    let connect = Connect {
        keep_alive: keep_alive_s,
        client_id: name.into(),
        clean_start: true,
        properties: Some(properties),
    };
    let mut bytes = BytesMut::new();
    Theirs::Connect(connect, will, None).write(&mut bytes, None).unwrap();
    bytes.to_vec()
}

/// Polls until the connection ends; these tests reconnect by hand.
async fn carry(mut poll: EventLoop, incoming: mpsc::UnboundedSender<Incoming>) {
    while let Ok(event) = poll.poll().await {
        if let Event::Incoming(packet) = event
            && incoming.send(packet).is_err()
        {
            return;
        }
    }
}

/// A real client.
pub(super) struct Site {
    pub(super) client: AsyncClient,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    task: JoinHandle<()>,
    pub(super) session_present: bool,
}

impl Site {
    /// Waits for a packet that `pick` likes, and lets the others go.
    pub(super) async fn until<T>(&mut self, pick: impl Fn(&Incoming) -> Option<T>) -> T {
        soon(async {
            loop {
                let packet = self.incoming.recv().await.expect("the connection ended");
                if let Some(picked) = pick(&packet) {
                    return picked;
                }
            }
        })
        .await
    }

    pub(super) async fn subscribe(
        &mut self,
        filter: &str,
    ) -> rumqttc::v5::mqttbytes::v5::SubscribeReasonCode {
        let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
        self.client.subscribe(filter, qos).await.unwrap();
        self.until(|packet| match packet {
            Incoming::SubAck(ack) => Some(ack.return_codes[0]),
            _ => None,
        })
        .await
    }

    pub(super) async fn message(&mut self) -> rumqttc::v5::mqttbytes::v5::Publish {
        self.until(|packet| match packet {
            Incoming::Publish(publish) => Some(publish.clone()),
            _ => None,
        })
        .await
    }

    pub(super) async fn puback(&mut self) -> rumqttc::v5::mqttbytes::v5::PubAckReason {
        self.until(|packet| match packet {
            Incoming::PubAck(ack) => Some(ack.reason),
            _ => None,
        })
        .await
    }

    /// Looks whether anything came, without waiting.
    pub(super) fn heard_nothing(&mut self) -> bool {
        self.incoming.try_recv().is_err()
    }

    /// Waits until the connection is over.
    pub(super) async fn ended(mut self) {
        soon(async { while self.incoming.recv().await.is_some() {} }).await;
    }

    /// Goes as a machine goes whose cable is cut: no DISCONNECT, no TLS goodbye.
    pub(super) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

/// A peer that sends bytes of its own choice.
pub(super) struct Raw {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
}

impl Raw {
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Writes to a peer that may be gone.
    pub(super) async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Subscribes at quality 0, and waits for the answer.
    pub(super) async fn subscribe(&mut self, filter: &str) {
        let length = u8::try_from(filter.len()).unwrap();
        let head = [0x82, 6 + length, 0, 1, 0, 0, length];
        self.write(&[&head, filter.as_bytes(), &[0]].concat()).await;
        assert_eq!(soon(self.frame()).await.unwrap().body[..], [0, 1, 0, 0], "it is granted");
    }

    /// Returns the next packet of the hub; `None` is the end of the connection.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let [first, len, rest @ ..] = &self.received[..] {
                assert!(*len < 128, "these tests read short packets only");
                if rest.len() >= usize::from(*len) {
                    let (first, whole) = (*first, 2 + usize::from(*len));
                    let body = self.received.split_to(whole).freeze().slice(2..);
                    return Some(Frame { first, body });
                }
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Expects DISCONNECT with `reason`, and then the end.
    pub(super) async fn expect_goodbye(mut self, reason: Reason) {
        let frame = soon(self.frame()).await.expect("no disconnect came");
        assert_eq!((frame.first, frame.body.first()), (0xe0, Some(&reason.0)));
        assert_eq!(soon(self.frame()).await, None);
    }
}
