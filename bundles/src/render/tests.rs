use serde_json::json;

use super::config_hash::{CONFIG_HASH, ConfigHashes};
use super::overlay::{OverlayPatch, PatchKind};
use super::scope::check_scope;
use super::*;
use crate::document::root::{Pattern, Scope};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn web() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": "web", "image": "web:1", "env": [{"name": "A", "value": "x"}]}]}}}})
}

fn app() -> AppDescriptor {
    let target = |pointer: &str| json!([{"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "pointer": pointer}]);
    serde_json::from_value(json!({
        "app": "shop", "version": "1", "timeout_s": 20, "soak_s": 3, "objects": 1,
        "overlays": ["small", "large"],
        "parameters": {
            "replicas": {"type": "integer", "min": 0, "max": 9, "targets": target("/spec/replicas")},
            "greeting": {"type": "string", "pattern": "[a-z]+", "max_length": 9,
                "targets": target("/spec/template/spec/containers/0/env/0/value")},
            "absent": {"type": "boolean", "targets": target("/spec/paused")},
        },
    }))
    .unwrap()
}

fn overlay(kind: PatchKind, patch: Value) -> Overlay {
    let target = ObjectId::of(&web()).unwrap();
    Overlay { patches: vec![OverlayPatch { target, kind, patch }] }
}

fn render(overlays: &[(&str, Overlay)], values: &[(&str, Scalar)]) -> Result<Value, RenderError> {
    let content: BTreeMap<_, _> =
        overlays.iter().map(|(text, overlay)| (name(text), overlay.clone())).collect();
    let values = values.iter().map(|(text, value)| (name(text), value.clone())).collect();
    let chosen = content.keys().cloned().collect();
    let renderer = Renderer::new(&app(), &content, &chosen, &values, &Limits::DEFAULT)?;
    renderer.render(web()).map(|(_, value)| value)
}

#[test]
fn without_a_choice_an_object_is_rendered_as_it_stands() {
    assert_eq!(render(&[], &[]).unwrap(), web());
}

#[test]
fn overlays_come_in_the_descriptor_s_order_and_parameters_after_them() {
    let small = overlay(PatchKind::Merge, json!({"spec": {"replicas": 1, "paused": false}}));
    let large = overlay(PatchKind::Json, json!([{"op": "replace", "path": "/spec/replicas", "value": 7}]));
    let both = [("large", large), ("small", small)];
    assert_eq!(render(&both, &[]).unwrap()["spec"]["replicas"], 7);
    let chosen =
        render(&both, &[("replicas", Scalar::Integer(3)), ("absent", Scalar::Boolean(true))]).unwrap();
    assert_eq!((&chosen["spec"]["replicas"], &chosen["spec"]["paused"]), (&json!(3), &json!(true)));
}

#[test]
fn a_choice_outside_the_declarations_is_refused_with_its_code() {
    let empty = overlay(PatchKind::Merge, json!({}));
    for (overlays, values, code) in [
        (vec![("other", empty)], vec![], Code::OverlayUnknown),
        (vec![], vec![("colour", Scalar::Boolean(true))], Code::ParameterUndeclared),
        (vec![], vec![("replicas", Scalar::Integer(10))], Code::ParameterOutside),
        (vec![], vec![("replicas", Scalar::String("3".into()))], Code::ParameterOutside),
        (vec![], vec![("greeting", Scalar::String("a b".into()))], Code::ParameterOutside),
        (vec![], vec![("absent", Scalar::Boolean(true))], Code::BundleMalformed),
    ] {
        assert_eq!(render(&overlays, &values).unwrap_err().code(), code);
    }
}

#[test]
fn no_overlay_makes_an_object_another_one() {
    for patch in [
        json!({"metadata": {"name": "other"}}),
        json!({"metadata": {"namespace": "kube-system"}}),
        json!({"metadata": {"namespace": null}}),
        json!({"kind": "DaemonSet"}),
        json!({"apiVersion": "apps/v2"}),
        json!({"metadata": null}),
    ] {
        let refused = render(&[("small", overlay(PatchKind::Merge, patch.clone()))], &[]);
        assert!(matches!(refused, Err(RenderError::Identity { .. })), "{patch}: {refused:?}");
    }
}

#[test]
fn patches_that_do_not_apply_or_grow_without_bound_are_refused() {
    let missing = overlay(PatchKind::Json, json!([{"op": "replace", "path": "/spec/nothing", "value": 1}]));
    assert!(matches!(
        render(&[("small", missing)], &[]),
        Err(RenderError::Patch { source: PatchError::Apply(_), .. })
    ));
    let large = overlay(PatchKind::Merge, json!({"spec": {"x": "y".repeat(1 << 20)}}));
    assert_eq!(
        render(&[("small", large)], &[]).unwrap_err(),
        RenderError::Patch {
            id: Box::new(ObjectId::of(&web()).unwrap()),
            overlay: name("small"),
            source: PatchError::TooLarge { limit: 1 << 20 }
        }
    );
    let copy = overlay(PatchKind::Json, json!([{"op": "copy", "from": "/spec", "path": "/spec/again"}]));
    assert_eq!(copy.check(), Err(PatchError::Operation("copy".into())));
    let bytes = serde_json::to_vec(&copy).unwrap();
    assert!(Overlay::parse(&bytes, &Limits::DEFAULT).is_err());
}

#[test]
fn a_template_s_hash_follows_the_configuration_that_it_names() {
    let config = |value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"},
            "data": {"a": value}})
    };
    let hash = |value: &str, named: &str| {
        let mut hashes = ConfigHashes::default();
        let config = config(value);
        hashes.learn(&ObjectId::of(&config).unwrap(), &config);
        let mut object = web();
        object["spec"]["template"]["spec"]["volumes"] = json!([{"configMap": {"name": named}}]);
        hashes.annotate(&ObjectId::of(&web()).unwrap(), &mut object);
        let notes = object.pointer("/spec/template/metadata/annotations");
        notes.and_then(|notes| notes.get(CONFIG_HASH)).and_then(Value::as_str).map(str::to_owned)
    };
    let first = hash("1", "c").expect("a hash");
    assert_eq!(first.len(), 32);
    assert_eq!(hash("1", "c").as_ref(), Some(&first));
    assert_ne!(hash("2", "c").as_ref(), Some(&first));
    assert_eq!(hash("1", "of-another-app"), None);
}

#[test]
fn every_way_to_name_configuration_counts_and_jobs_are_left_alone() {
    let mut hashes = ConfigHashes::default();
    for (kind, own) in [("ConfigMap", "c"), ("Secret", "s")] {
        let object =
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": own, "namespace": "shop"}});
        hashes.learn(&ObjectId::of(&object).unwrap(), &object);
    }
    for spec in [
        json!({"containers": [{"envFrom": [{"configMapRef": {"name": "c"}}]}]}),
        json!({"containers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}),
        json!({"initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "c"}}}]}]}),
        json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]}),
        json!({"volumes": [{"secret": {"secretName": "s"}}]}),
        json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]}),
        json!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "c"}}]}}]}),
    ] {
        for (api, kind, marked) in
            [("apps/v1", "StatefulSet", true), ("apps/v1", "DaemonSet", true), ("batch/v1", "Job", false)]
        {
            let mut object = json!({"apiVersion": api, "kind": kind,
                "metadata": {"name": "x", "namespace": "shop"}, "spec": {"template": {"spec": spec}}});
            hashes.annotate(&ObjectId::of(&object).unwrap(), &mut object);
            assert_eq!(object.to_string().contains(CONFIG_HASH), marked, "{kind} {spec}");
        }
    }
}

#[test]
fn a_role_s_scope_holds_what_its_objects_touch() {
    let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern((*text).into())).collect::<Vec<_>>();
    let scope = Scope {
        namespaces: patterns(&["shop", "shop-*"]),
        cluster_kinds: patterns(&["/PersistentVolume", "apiextensions.k8s.io/CustomResourceDefinition"]),
        images: patterns(&["docker.io/library/web*"]),
        privileged: false,
    };
    let verdict = |object: &Value| check_scope(&ObjectId::of(object).unwrap(), object, &scope).is_ok();
    let cluster = |api: &str, kind: &str, own: &str| json!({"apiVersion": api, "kind": kind, "metadata": {"name": own}});
    assert!(verdict(&web()));
    assert!(verdict(&cluster("v1", "Namespace", "shop-2")));
    assert!(verdict(&cluster("v1", "PersistentVolume", "a")));
    assert!(!verdict(&cluster("v1", "Namespace", "kube-system")));
    assert!(!verdict(&cluster("rbac.authorization.k8s.io/v1", "ClusterRole", "a")));
    let pod = |spec: Value| {
        let mut object = web();
        for (key, value) in spec.as_object().unwrap() {
            object["spec"]["template"]["spec"][key] = value.clone();
        }
        object
    };
    let with = |rest: Value| {
        let mut container = json!({"image": "web:1"});
        json_patch::merge(&mut container, &rest);
        pod(json!({"containers": [container]}))
    };
    for outside in [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "other"}}),
        with(json!({"image": "evil.example/web:1"})),
        with(json!({"securityContext": {"privileged": true}})),
        with(json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}})),
        with(json!({"securityContext": {"procMount": "Unmasked"}})),
        with(json!({"ports": [{"hostPort": 80}]})),
        pod(json!({"hostNetwork": true})),
        pod(json!({"hostPID": true})),
        pod(json!({"volumes": [{"hostPath": {"path": "/"}}]})),
        pod(json!({"ephemeralContainers": [{"image": "web:1", "securityContext": {"privileged": true}}]})),
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "a"}, "spec": {"hostPath": {"path": "/"}}}),
    ] {
        assert!(!verdict(&outside), "{outside}");
        let free = check_scope(&ObjectId::of(&outside).unwrap(), &outside, &Scope::all());
        assert_eq!(free, Ok(()), "{outside}");
    }
    assert!(verdict(&with(json!({"securityContext": {"capabilities": {"drop": ["ALL"]}}}))));
}
