//! `airlift doctor` at a mosquitto with the rights that are shipped, and with rights that somebody spoilt.

use std::collections::BTreeMap;
use std::time::Duration;

use airlift_tests::broker::Broker;
use airlift_tests::clock::wait_until;
use airlift_tests::hub::Hub;
use serde_json::Value;

use super::connections;

/// A client that may read everything, to see what stays.
const INSPECTOR: &str = "user _inspector\ntopic read #\n";

#[test]
fn the_doctor_proves_the_shipped_rights_and_finds_each_wrong_one() {
    let mut hub = Hub::start();
    let mut broker = Broker::put_before(&mut hub);
    begin_with(&mut broker, &mut hub, &[], INSPECTOR);
    let shown = hub.airlift(&["doctor"]);
    println!("{shown}");
    assert!(!shown.contains("FAILED") && shown.contains("a site reads nothing of others"), "{shown}");
    nothing_is_left(&hub);

    begin_with(&mut broker, &mut hub, &[], "pattern read airlift/v1/s/+/d/#\npattern read $SYS/#");
    let told = failed(&hub);
    expect(
        &told,
        &[("a site reads nothing of others", "AL0810"), ("a site reads nothing of the broker", "AL0810")],
    );
    let reads = &told["a site reads nothing of others"];
    assert!(reads["found"].as_str().unwrap().contains("/d/"), "it names what was heard: {reads}");

    let rights =
        "pattern write airlift/v1/s/+/u/#\npattern write airlift/v1/s/%u/d/#\npattern write airlift/v1/b/#";
    begin_with(&mut broker, &mut hub, &[], rights);
    expect(
        &failed(&hub),
        &[
            ("a site writes for no other", "AL0810"),
            ("a site writes nothing of the hub's", "AL0810"),
            ("a site leaves no will for another", "AL0810"),
        ],
    );

    let settings = [
        ("use_username_as_clientid true", "use_username_as_clientid false"),
        ("message_size_limit 131584", "message_size_limit 20000"),
    ];
    begin_with(&mut broker, &mut hub, &settings, "");
    expect(
        &failed(&hub),
        &[("broker takes 128 KiB at once", "AL0809"), ("no client id but one's own", "AL0811")],
    );

    let settings = [
        ("require_certificate true", "require_certificate false"),
        ("allow_anonymous false", "allow_anonymous true"),
        ("use_identity_as_username true", "use_identity_as_username false"),
        ("use_username_as_clientid true", "use_username_as_clientid false"),
        ("acl_file", "# acl_file"),
    ];
    begin_with(&mut broker, &mut hub, &settings, "");
    let told = failed(&hub);
    for (check, code) in [
        ("a site reads nothing of others", "AL0810"),
        ("a site writes for no other", "AL0810"),
        ("a site writes nothing of the hub's", "AL0810"),
        ("nobody gets in without certificate", "AL0811"),
        ("no other authority's certificate", "AL0811"),
        ("no client id but one's own", "AL0811"),
    ] {
        assert_eq!(told.get(check).map(|row| &row["code"]), Some(&Value::from(code)), "{check}: {told:?}");
    }

    broker.kill();
    expect(&failed(&hub), &[("hub is at the broker", "AL0809")]);
}

/// Starts the broker anew, and waits until the hub is back at it.
fn begin_with(broker: &mut Broker, hub: &mut Hub, settings: &[(&str, &str)], rights: &str) {
    let before = connections(hub);
    broker.kill();
    broker.set_up(hub, settings, rights);
    broker.run(hub);
    wait_until("the hub to be back at its broker", Duration::from_secs(30), || {
        if connections(hub) > before { Ok(()) } else { Err(broker.log()) }
    });
}

/// The checks that fail, by what should be true; each says what it means, what to do, and the answer is no.
fn failed(hub: &Hub) -> BTreeMap<String, Value> {
    let output = hub.try_airlift(&["doctor", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = said["items"].as_array().unwrap().iter().filter(|row| row["ok"] == false);
    failed
        .map(|row| {
            for field in ["found", "means", "fix", "code"] {
                assert!(row[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {row}");
            }
            (row["check"].as_str().unwrap().to_owned(), row.clone())
        })
        .collect()
}

/// Says that these checks failed, with these codes, and no other.
fn expect(told: &BTreeMap<String, Value>, wanted: &[(&str, &str)]) {
    let found: BTreeMap<&str, &str> =
        told.iter().map(|(check, row)| (check.as_str(), row["code"].as_str().unwrap())).collect();
    assert_eq!(found, wanted.iter().copied().collect(), "{told:?}");
}

/// Nothing that a probe said is retained, and no probe is a site.
fn nothing_is_left(hub: &Hub) {
    let mut inspector = Broker::client(hub, "mosquitto_sub", "_inspector");
    let kept = inspector.args(["-t", "airlift/#", "-v", "--retained-only", "-W", "1"]).output().unwrap();
    let kept = String::from_utf8_lossy(&kept.stdout);
    assert!(kept.contains("airlift/v1/h/state"), "what the hub retains is to be seen: {kept}");
    assert!(!kept.contains("probe"), "{kept}");
    let sites = hub.airlift(&["site", "list"]);
    assert!(!sites.contains("probe"), "{sites}");
}
