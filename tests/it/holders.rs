//! Namespaces, definitions of kinds and claims: they go only by the release's word, and when nothing of others is in
//! them.

use std::fs;
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::clock::wait_until;
use airlift_tests::hub::Hub;
use airlift_tests::namespace::HUB;
use airlift_tests::site::Site;

use crate::journey::{enrol_online, receipt, roll_out, sign, state};

const MINUTE: Duration = Duration::from_secs(60);

const KEPT: &str = "apiVersion: v1
kind: Namespace
metadata: {name: greeter}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, namespace: greeter}
data: {version: 'VERSION'}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: greeter}
provisioner: airlift.test/none
volumeBindingMode: WaitForFirstConsumer
";

const LEFT_OUT: &str = "apiVersion: v1
kind: Namespace
metadata: {name: annex}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: greeter}
spec: {accessModes: [ReadWriteOnce], storageClassName: greeter, resources: {requests: {storage: 1Mi}}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.greeter.test}
spec:
  group: greeter.test
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
---
apiVersion: greeter.test/v1
kind: Thing
metadata: {name: ours, namespace: annex}
";

const THEIRS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: theirs, namespace: annex}
---
apiVersion: greeter.test/v1
kind: Thing
metadata: {name: theirs, namespace: greeter}
---
apiVersion: v1
kind: Pod
metadata: {name: theirs, namespace: greeter}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: 'airlift.test/none:1', imagePullPolicy: Never}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";

const HOLDERS: [&str; 3] = ["namespace/annex", "crd/things.greeter.test", "persistentvolumeclaim/data"];

fn roll(hub: &Hub, seq: u32, prune: bool, with: &str) {
    let folder = hub.dir().join(format!("folder-{seq}"));
    fs::create_dir_all(folder.join("manifests")).unwrap();
    let head = format!("apiVersion: airlift.dev/v1alpha1\nkind: App\nname: greeter\nversion: {seq}.0.0\n");
    let prune = if prune { "prune: {namespaces: true, crds: true, claims: true}\n" } else { "" };
    fs::write(folder.join("airlift.yaml"), format!("{head}timeout: 60s\nsoak: 2s\n{prune}")).unwrap();
    let kept = KEPT.replace("VERSION", &seq.to_string());
    fs::write(folder.join("manifests/all.yaml"), format!("{kept}---\n{with}")).unwrap();
    roll_out(hub, &sign(hub, &folder, seq), "anna", &[]);
    let _ = receipt(hub, "anna", "healthy", &format!("{seq}.0.0"));
}

fn present(site: &Site) -> Vec<&'static str> {
    HOLDERS.into_iter().filter(|object| site.get(&["-n", "greeter", object]).is_some()).collect()
}

#[test]
fn what_may_hold_others_things_goes_only_by_the_releases_word_and_when_it_holds_none() {
    let hub = Hub::start();
    let site = Site::borrow();
    let _cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    roll(&hub, 1, false, LEFT_OUT);
    roll(&hub, 2, false, "");
    wait_until("the ordinary object to be pruned", MINUTE, || {
        match site.get(&["-n", "annex", "things.greeter.test/ours"]) {
            Some(_) => Err("it is there".to_owned()),
            None => Ok(()),
        }
    });
    assert_eq!(present(&site), HOLDERS, "the release does not permit it");

    let theirs = site.bed().dir().join("theirs.yaml");
    fs::write(&theirs, THEIRS).unwrap();
    let theirs = theirs.display().to_string();
    let _ = site.kubectl(&["create", "-f", &theirs]);
    roll(&hub, 3, true, "");
    wait_until("the agent to say what keeps them", MINUTE, || {
        let app = state(&agent)?;
        let said = app.to_string();
        let all = ["AL0717", "ConfigMap annex/theirs", "Thing greeter/theirs", "Pod greeter/theirs"];
        match all.iter().find(|words| !said.contains(**words)) {
            Some(words) => Err(format!("{words:?} is missing in {said}")),
            None => Ok(()),
        }
    });
    assert_eq!(state(&agent).unwrap()["state"], "healthy");
    assert_eq!(present(&site), HOLDERS, "others have something in each");
    let told = receipt(&hub, "anna", "refused", "3.0.0");
    assert_eq!(told["reason"], "AL0717", "{told}");

    let _ = site.kubectl(&["delete", "-f", &theirs, "--wait=true"]);
    agent.kill();
    agent.run();
    wait_until("all three to go", 2 * MINUTE, || match present(&site) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    wait_until("nothing to be said any more", MINUTE, || {
        let app = state(&agent)?;
        if app["code"].is_null() { Ok(()) } else { Err(app.to_string()) }
    });
    let again = hub.read(&["receipt", "list", "--site", "anna"]).to_string();
    assert_eq!(again.matches("AL0717").count(), 1, "told once: {again}");
    assert!(site.get(&["-n", "greeter", "configmap/kept"]).is_some());
}
