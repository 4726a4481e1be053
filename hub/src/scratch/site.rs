//! A scratch site: its keys, how it joins, and a real MQTT client that speaks as an agent does.

use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::document::ack::Ack;
use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::document::enrolment::{EnrolmentRequest, Grant, TokenProof};
use airlift_bundles::document::receipt::{ClockQuality, Counts, Outcome, Receipt, RootMark};
use airlift_bundles::document::status::{OutboxRow, StatusBatch};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{FleetId, Name, RandomId, Sha256Digest, SiteId, Timestamp};
use airlift_bundles::join::{EnrolmentToken, JoinReply};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{self, Desired, Part, Topic, Wanted, WantedItem};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::{Method, StatusCode};
use rcgen::{KeyPair, PublicKeyData as _};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, PubAckReason, Publish};
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::ScratchHub;

/// Longest that anything in these tests may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn read_pem(pem: &str) -> CertificateDer<'static> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(body).unwrap().into()
}

fn limits() -> &'static Limits {
    &Limits::DEFAULT
}

pub(crate) struct ScratchSite {
    pub(crate) key: SecretKey,
    pub(crate) chain_id: RandomId,
    tls_key: KeyPair,
    pub(crate) grant: Option<Grant>,
    link: Option<(AsyncClient, mpsc::UnboundedReceiver<Incoming>)>,
    last: Option<(u64, Sha256Digest)>,
}

impl ScratchSite {
    pub(crate) fn new(seed: u8) -> Self {
        Self {
            key: SecretKey::from_seed(&[seed; 32]),
            chain_id: RandomId::from_bytes([seed; 16]),
            tls_key: KeyPair::generate().unwrap(),
            grant: None,
            link: None,
            last: None,
        }
    }

    /// The request that it would send, with a proof of `token`.
    pub(crate) fn request(&self, root_sha256: Sha256Digest, token: Option<&EnrolmentToken>) -> Vec<u8> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let mut request = EnrolmentRequest {
            fleet_id: FleetId::new("fleet").unwrap(),
            root_sha256,
            site_key: self.key.public(),
            chain_id: self.chain_id.clone(),
            age_recipient: None,
            tls_key: BASE64.encode(self.tls_key.subject_public_key_info()),
            nonce: RandomId::from_bytes(nonce),
            site: None,
            machine: vec![(Name::new("hostname").unwrap(), "test".into())],
            token: None,
            issued_at: Timestamp::from_unix_s(0),
            crit: vec![],
        };
        request.token =
            token.map(|token| TokenProof { id: token.id.clone(), hmac: request.prove(&token.secret) });
        super::signed(&request, &self.key)
    }

    /// Joins by token, over the network.
    pub(crate) async fn enrol(&mut self, hub: &ScratchHub, token: &str) {
        let token = EnrolmentToken::parse(token).unwrap();
        let request = self.request(token.root_sha256, Some(&token));
        let (status, _, body) = hub.request(Method::POST, airlift_bundles::join::PATH, None, request).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let JoinReply::Granted { grant, roots, .. } = serde_json::from_slice(&body).unwrap() else {
            panic!("not granted: {}", String::from_utf8_lossy(&body))
        };
        assert_eq!(roots.len(), 1);
        self.take_grant(grant.get());
    }

    pub(crate) fn take_grant(&mut self, envelope: &str) {
        let envelope = Envelope::parse(envelope.as_bytes(), limits()).unwrap();
        self.grant = Some(envelope.read_unverified(limits()).unwrap());
    }

    pub(crate) fn name(&self) -> SiteId {
        self.grant.as_ref().unwrap().site.clone()
    }

    /// Connects with the granted certificate and subscribes as an agent does.
    pub(crate) async fn connect(&mut self, hub: &ScratchHub) {
        let grant = self.grant.clone().unwrap();
        let key = PrivateKeyDer::try_from(self.tls_key.serialize_der()).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(hub.trusted())
            .with_client_auth_cert(vec![read_pem(&grant.certificate)], key)
            .unwrap();
        let mut options = MqttOptions::new(grant.site.as_str(), "localhost", grant.hubs[0].mqtt_port);
        let tls = rumqttc::TlsConfiguration::Rustls(Arc::new(tls));
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
        let (client, mut poll) = AsyncClient::new(options, 10);
        let (sender, incoming) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = poll.poll().await {
                if let Event::Incoming(packet) = event
                    && sender.send(packet).is_err()
                {
                    return;
                }
            }
        });
        self.link = Some((client, incoming));
        self.until(|packet| matches!(packet, Incoming::ConnAck(_)).then_some(())).await;
        self.subscribe(Topic::downward_filter(&grant.site, &grant.topic_prefix)).await;
    }

    pub(crate) fn disconnect(&mut self) {
        self.link = None;
    }

    pub(crate) async fn subscribe(&mut self, filter: String) {
        self.link.as_ref().unwrap().0.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    }

    /// Waits for a packet that `pick` likes, and lets the others go.
    async fn until<T>(&mut self, pick: impl Fn(&Incoming) -> Option<T>) -> T {
        let incoming = &mut self.link.as_mut().unwrap().1;
        let picked = async {
            loop {
                let packet = incoming.recv().await.expect("the connection ended");
                if let Some(picked) = pick(&packet) {
                    return picked;
                }
            }
        };
        timeout(PATIENCE, picked).await.expect("it did not come in time")
    }

    /// Waits for a message of this kind.
    pub(crate) async fn message<T>(&mut self, pick: impl Fn(&Topic, &Publish) -> Option<T>) -> T {
        let prefix = self.grant.as_ref().unwrap().topic_prefix.clone();
        self.until(|packet| match packet {
            Incoming::Publish(publish) => {
                let topic = Topic::parse(std::str::from_utf8(&publish.topic).unwrap(), &prefix).unwrap();
                pick(&topic, publish)
            }
            _ => None,
        })
        .await
    }

    /// Waits for an assignment that is newer than `after`.
    pub(crate) async fn assignment(&mut self, after: u64) -> Assignment {
        self.message(|topic, publish| {
            let Topic::Desired(_) = topic else { return None };
            let desired: Desired = wire::decode(&publish.payload, limits()).unwrap();
            let envelope = desired.envelope?;
            let envelope = Envelope::parse(envelope.get().as_bytes(), limits()).unwrap();
            let assignment: Assignment = envelope.read_unverified(limits()).unwrap();
            (assignment.assignment_seq > after).then_some(assignment)
        })
        .await
    }

    pub(crate) async fn say(&mut self, topic: Topic, payload: Vec<u8>) -> PubAckReason {
        let prefix = self.grant.as_ref().unwrap().topic_prefix.clone();
        let client = self.link.as_ref().unwrap().0.clone();
        client.publish(topic.name(&prefix), QoS::AtLeastOnce, false, payload).await.unwrap();
        self.until(|packet| match packet {
            Incoming::PubAck(ack) => Some(ack.reason),
            _ => None,
        })
        .await
    }

    /// The next receipt of the site's chain, signed.
    pub(crate) fn receipt(&mut self, outcome: Outcome) -> Vec<u8> {
        let seq = self.last.map_or(1, |(seq, _)| seq + 1);
        let receipt = self.receipt_at(seq, self.last.map(|(_, sha256)| sha256), outcome);
        let envelope = super::signed(&receipt, &self.key);
        self.last = Some((seq, Envelope::parse(&envelope, limits()).unwrap().digest()));
        envelope
    }

    pub(crate) fn receipt_at(
        &self,
        seq: u64,
        prev_sha256: Option<Sha256Digest>,
        outcome: Outcome,
    ) -> Receipt {
        let grant = self.grant.as_ref().unwrap();
        Receipt {
            fleet_id: grant.fleet_id.clone(),
            site: grant.site.clone(),
            incarnation: grant.incarnation,
            chain_id: self.chain_id.clone(),
            receipt_seq: seq,
            prev_sha256,
            root: RootMark { version: 1, sha256: Sha256Digest::of(b"root") },
            assignment: None,
            app: None,
            release: None,
            generation: None,
            outcome,
            reason: None,
            counts: Counts::default(),
            evidence: vec![],
            known_time: Timestamp::from_unix_s(1_800_000_000),
            clock_quality: ClockQuality::Floor,
            crit: vec![],
        }
    }

    /// A signed batch of rows that hold receipts.
    pub(crate) fn batch(&self, from: u64, receipts: &[Vec<u8>]) -> Vec<u8> {
        let raw = |bytes: &[u8]| RawValue::from_string(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
        let row = |(at, bytes): (usize, &Vec<u8>)| OutboxRow {
            seq: from + at as u64,
            receipt: Some(raw(bytes)),
            status: None,
        };
        self.batch_of(receipts.iter().enumerate().map(row).collect())
    }

    pub(crate) fn batch_of(&self, rows: Vec<OutboxRow>) -> Vec<u8> {
        let grant = self.grant.as_ref().unwrap();
        let batch = StatusBatch {
            fleet_id: grant.fleet_id.clone(),
            site: grant.site.clone(),
            incarnation: grant.incarnation,
            outbox_epoch: RandomId::from_bytes([5; 16]),
            rows,
            crit: vec![],
        };
        super::signed(&batch, &self.key)
    }

    /// Sends a batch and waits for the director's ack.
    pub(crate) async fn send(&mut self, batch: &[u8]) -> Ack {
        let site = self.name();
        let reason = self.say(Topic::Status(site), wire::frame(batch, limits()).unwrap()).await;
        assert_eq!(reason, PubAckReason::Success);
        self.ack().await
    }

    pub(crate) async fn ack(&mut self) -> Ack {
        let payload = self
            .message(|topic, publish| matches!(topic, Topic::Ack(_)).then(|| publish.payload.clone()))
            .await;
        let envelope = wire::unframe(&payload, limits()).unwrap();
        Envelope::parse(&envelope, limits()).unwrap().read_unverified(limits()).unwrap()
    }

    pub(crate) async fn want(&mut self, item: WantedItem, pieces: bool, count: u64) {
        let site = self.name();
        let get = wire::Get { want: vec![Wanted { item, pieces, from: 0, count, bitmap: None }] };
        self.say(Topic::Get(site), wire::encode(&get, limits()).unwrap()).await;
    }

    /// Gathers the parts of an item into its bytes.
    pub(crate) async fn fetch_parts(&mut self, item: WantedItem) -> Vec<u8> {
        self.want(item.clone(), false, 256).await;
        let mut bytes = Vec::new();
        loop {
            let wanted = item.clone();
            let part = self
                .message(move |topic, publish| {
                    let Topic::Content(_) = topic else { return None };
                    Part::decode(&publish.payload).filter(|part| part.item == wanted)
                })
                .await;
            bytes.extend_from_slice(&part.bytes);
            if part.part + 1 == part.parts {
                return bytes;
            }
        }
    }
}
