//! The bed itself: two sites at once, real pods without a registry, and no way out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use airlift_tests::bed::Bed;
use airlift_tests::clock::wait_until;
use airlift_tests::cluster::Cluster;
use airlift_tests::image::TestImage;
use airlift_tests::namespace::{HUB, Namespace};
use airlift_tests::process::Process;
use airlift_tests::relay::Relay;
use airlift_tests::site::Site;

/// Applies a deployment of two replicas by hand.
fn deploy(site: &Cluster, image: &TestImage) {
    let manifest = format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: greeter, namespace: default}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: greeter}}}}
  template:
    metadata: {{labels: {{app: greeter}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: greeter
        image: {}
        imagePullPolicy: Never
        args: [--port, '8080']
        readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}
",
        image.name
    );
    let file = site.bed().dir().join("greeter.yaml");
    std::fs::write(&file, manifest).unwrap();
    let _ = site.kubectl(&["apply", "-f", &file.display().to_string()]);
}

#[test]
fn two_sites_at_once_run_ready_pods_from_images_that_no_registry_has() {
    let (one, other) = Site::borrow_two();
    for site in [&one, &other] {
        let image = TestImage::make(&site.bed().dir().join("greeter"), "airlift.test/greeter:1", 1 << 20);
        site.import(&image);
        deploy(site, &image);
        let pods = site.wait_for_ready_pods("default", "app=greeter", 2);
        for pod in &pods {
            let address = pod["status"]["podIP"].as_str().unwrap().to_owned();
            assert_eq!(site.ask(&address, 8080, "/"), Ok(format!("\n{}\n", image.content)));
        }
        let _ = site.kubectl(&["delete", "deployment", "greeter", "-n", "default"]);
    }
}

/// Says what became of a connection attempt from inside.
fn connect(from: &Namespace, to: SocketAddr) -> Result<(), String> {
    let attempt = move || TcpStream::connect_timeout(&to, Duration::from_millis(1500));
    from.enter(attempt).join().unwrap().map(drop).map_err(|error| error.to_string())
}

/// All addresses of the machine outside of the test's namespaces.
fn addresses_outside() -> Vec<IpAddr> {
    let output = Command::new("ip").args(["-o", "address"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let addresses =
        text.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok());
    addresses.filter(|address: &IpAddr| !address.is_loopback()).collect()
}

#[test]
fn a_site_reaches_the_two_ports_of_its_hub_and_nothing_else() {
    let site = Site::borrow();
    let hub_bed = Bed::make("hub-of-nothing-else");
    let hub = Namespace::make(hub_bed.name());
    hub.add_hub_address();
    let cable = site.namespace().connect(&hub, site.number());
    // On both of the hub's ports, and on one more of its namespace, something listens.
    let listen = "import socket, sys, time
for port in (8443, 8883): s = socket.create_server(('127.0.0.1', port)); globals()[f'p{port}'] = s
other = socket.create_server(('127.0.0.1', 9999)); time.sleep(600)";
    let _listener = Process::start(
        &hub_bed,
        &hub,
        "listener",
        std::path::Path::new("python3"),
        &["-c".to_owned(), listen.to_owned()],
        &[],
    );
    let relay = Relay::start(&hub);

    for port in [8443, 8883] {
        wait_until("the hub's port", Duration::from_secs(10), || {
            connect(site.namespace(), SocketAddr::from((HUB, port)))
        });
    }
    wait_until("both connections to be counted", Duration::from_secs(10), || {
        let passed = relay.passed(cable.site());
        if passed.connections >= 2 { Ok(()) } else { Err(format!("{passed:?}")) }
    });
    let mut refused = vec![
        SocketAddr::from((HUB, 9999)),
        SocketAddr::from((HUB, 22)),
        SocketAddr::from((HUB, 6443)),
        SocketAddr::from((Ipv4Addr::new(1, 1, 1, 1), 443)),
        SocketAddr::from((Ipv4Addr::new(10, 60, 0, 250), 8443)),
        SocketAddr::from((Ipv4Addr::new(10, 70, 250, 2), 6443)),
    ];
    let outside = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = outside.local_addr().unwrap().port();
    for address in addresses_outside() {
        let address = SocketAddr::from((address, port));
        if TcpStream::connect_timeout(&address, Duration::from_millis(1500)).is_ok() {
            refused.push(address);
        }
    }
    assert!(refused.len() > 6, "the machine has an address that only the site cannot reach");
    for address in refused {
        assert!(connect(site.namespace(), address).is_err(), "{address} was reached");
    }

    cable.cut();
    for port in [8443, 8883] {
        assert!(connect(site.namespace(), SocketAddr::from((HUB, port))).is_err(), "the cable is cut");
    }
    cable.restore();
    wait_until("the cable", Duration::from_secs(20), || {
        connect(site.namespace(), SocketAddr::from((HUB, 8443)))
    });
}
