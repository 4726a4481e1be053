//! Sites in bulk: keys, requests, grants and certificates by the product's own functions, without the network.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use airlift_agent::core::write::Rows;
use airlift_agent::enrol::Identity;
use airlift_agent::enrol::grant::admit;
use airlift_agent::enrol::identity::Ask;
use airlift_agent::tls::granted;
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::ids::{FleetId, Sha256Digest, SiteId, Timestamp};
use airlift_bundles::join::JoinReply;
use airlift_hub::config::{Config, DataDir};
use airlift_hub::enrol::{EnrolError, Terms, approve, receive, reply};
use airlift_hub::server::Hub;
use airlift_tests::hub::Hub as TestHub;
use rustls::ClientConfig;

/// Sites of one commit.
const AT_ONCE: usize = 100;

/// What a site connects with.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) name: Arc<str>,
    pub(crate) tls: Arc<ClientConfig>,
    /// The address that it connects from.
    pub(crate) from: Ipv4Addr,
}

/// Enrols sites of these names; the hub does not run. Gives the digest of the key by which it is known, too.
pub(crate) async fn enrol(hub: &TestHub, names: Vec<(String, Ipv4Addr)>) -> (Vec<Party>, Sha256Digest) {
    let root: Sha256Digest = hub.root_sha256().parse().expect("it is a digest");
    let data = DataDir::new(&hub.dir().join("hub"));
    let config = Config::load(&data).expect("hub init wrote its settings");
    let opened = Hub::open(data, config).await.expect("nobody else serves it");
    // Nobody's power is cut here: in memory, keys cost no flushes of the disk.
    let sites = tempfile::tempdir_in("/dev/shm").expect("the machine has memory");
    let mut parties = Vec::new();
    for group in names.chunks(AT_ONCE) {
        let members: Vec<(SiteId, Identity)> =
            group.iter().map(|(name, _)| member(sites.path(), name)).collect();
        let requests: Vec<(SiteId, Vec<u8>)> =
            members.iter().map(|(site, identity)| (site.clone(), request(identity, site, root))).collect();
        let (granting, now) = (Arc::clone(&opened), opened.clock.now());
        let replies = opened.db.write(move |connection| {
            let granted = requests.into_iter().map(|(site, request)| {
                let terms = Terms {
                    site,
                    labels: BTreeMap::new(),
                    contact: ContactClass::Mqtt,
                    replace: false,
                    actor: "test".into(),
                };
                let waiting = receive(connection, &granting, &request, "https", &now)?;
                let row = approve(connection, &granting, waiting, &terms, &now)?;
                reply(connection, &row)
            });
            granted.collect::<Result<Vec<JoinReply>, EnrolError>>()
        });
        let replies = replies.await.expect("requests are granted");
        for (((site, identity), reply), (_, from)) in members.iter().zip(replies).zip(group) {
            let JoinReply::Granted { roots, grant, .. } = reply else { panic!("{site} is not granted") };
            let roots: Vec<Vec<u8>> = roots.iter().map(|root| root.get().as_bytes().to_vec()).collect();
            let admitted = admit(identity, &Rows::default(), &root, &roots, grant.get().as_bytes());
            let admitted = admitted.expect("the hub grants what sites admit");
            let grant = admitted.grant();
            let tls = granted(&grant.hub_ca, &grant.certificate, &identity.tls_key_pem).expect("it is TLS");
            parties.push(Party { name: site.as_str().into(), tls: Arc::new(tls), from: *from });
        }
    }
    opened.db.close();
    (parties, opened.hub_ca.key_sha256())
}

fn member(sites: &Path, name: &str) -> (SiteId, Identity) {
    let keys = sites.join(name);
    let identity = Identity::load_or_make(&keys).expect("the directory is writable");
    (SiteId::new(name).expect("it is a site's name"), identity)
}

fn request(identity: &Identity, site: &SiteId, root_sha256: Sha256Digest) -> Vec<u8> {
    let ask = Ask {
        fleet_id: FleetId::new("lab").expect("the bed's fleet"),
        root_sha256,
        site: Some(site.clone()),
        token: None,
        now: Timestamp::from_unix_s(0),
    };
    identity.request(&ask).expect("its keys are whole").1
}
