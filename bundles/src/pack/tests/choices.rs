//! Overlays and parameters: what the build renders, pins and refuses.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::document::release::Scalar;
use crate::ids::Name;
use crate::render::Renderer;
use crate::render::overlay::Overlay;

const TARGET: &str = "{apiVersion: apps/v1, kind: Deployment, namespace: shop, name: web}";

fn parameter(bounds: &str, pointer: &str) -> String {
    let target = TARGET.replace('}', &format!(", pointer: {pointer}}}"));
    format!("parameters:\n  p:\n{bounds}    targets: [{target}]\n")
}

fn overlay(name: &str, kind: &str) -> String {
    format!("  - name: {name}\n    patches:\n      - {{target: {TARGET}, type: {kind}, file: {name}.yaml}}\n")
}

fn fault_of(rest: &str, files: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    folder.write("airlift.yaml", &format!("{APP}{rest}"));
    for (name, text) in files {
        folder.write(name, text);
    }
    folder.faults()[0].to_string()
}

#[test]
fn declared_choices_render_at_the_site_as_they_did_at_the_build() {
    let folder = Folder::new();
    let image = "    type: string\n    enum: ['registry.example/web:1', 'web:2']\n";
    let rest = [
        "  - {name: 'web:2', from: 'oci:web'}\n",
        &parameter(image, "/spec/template/spec/containers/0/image"),
        "overlays:\n",
        &overlay("large", "merge"),
        &overlay("one", "json"),
    ]
    .concat();
    folder.write("airlift.yaml", &format!("{APP}{rest}"));
    folder.write("large.yaml", "spec: {replicas: 5}\n");
    folder.write("one.yaml", "- {op: replace, path: /spec/replicas, value: 1}\n");
    let (packed, dir) = folder.pack().unwrap();
    let bundle = read_bundle(&packed, &dir);
    let content: BTreeMap<Name, Overlay> = bundle
        .overlays()
        .iter()
        .map(|(name, blob)| {
            let bytes = dir.read_blob(&blob.digest, 1 << 20).unwrap().unwrap();
            (name.clone(), Overlay::parse(&bytes, &Limits::DEFAULT).unwrap())
        })
        .collect();
    let name = |text: &str| Name::new(text).unwrap();
    let pinned = format!("web:2@{}", bundle.images()[0].target.digest);
    let values = BTreeMap::from([(name("p"), Scalar::String(pinned.clone()))]);
    let chosen = BTreeSet::from([name("one"), name("large")]);
    let renderer = Renderer::new(bundle.app(), &content, &chosen, &values, &Limits::DEFAULT).unwrap();
    let (_, rendered) = renderer.render(objects(&bundle, &dir)[1].clone()).unwrap();
    assert_eq!(rendered["spec"]["replicas"], 1, "the later overlay wins");
    assert_eq!(rendered.pointer("/spec/template/spec/containers/0/image"), Some(&json!(pinned)));
    assert_eq!(bundle.images()[0].names.len(), 2, "one image under two names");
}

#[test]
fn parameters_that_could_introduce_content_are_refused_with_their_line() {
    let range = "    type: integer\n    min: 0\n    max: 5\n";
    let free = "    type: string\n    pattern: '[a-z]+'\n    max_length: 9\n";
    for (rest, part) in [
        (parameter(free, "/spec/template/spec/containers/0/image"), "needs an enum: image"),
        (parameter(free, "/metadata/name"), "never a parameter"),
        (parameter("    type: string\n", "/spec/x"), "needs an enum, or a pattern"),
        (parameter("    type: integer\n", "/spec/replicas"), "needs an enum, or min and max"),
        (parameter(range, "/spec/nothing"), "nothing stands at /spec/nothing"),
        (parameter(range, "/spec/selector"), "no scalar stands"),
        (parameter(free, "/spec/replicas"), "a scalar of another type"),
        (parameter(range, "/spec/replicas").replace("name: web", "name: other"), "is not in the bundle"),
        (
            parameter("    type: string\n    pattern: 'a)|(?:.*'\n    max_length: 9\n", "/metadata/labels/a"),
            "its pattern",
        ),
        (
            parameter("    type: string\n    enum: ['evil:1']\n", "/spec/template/spec/containers/0/image"),
            "image evil:1 is not in the bundle",
        ),
    ] {
        let fault = fault_of(&rest, &[]);
        assert!(fault.starts_with("airlift.yaml:9: ") && fault.contains(part), "{rest}\n{fault}");
    }
}

#[test]
fn overlays_that_do_not_fit_are_refused() {
    let one = format!("overlays:\n{}", overlay("a", "merge"));
    let json = format!("overlays:\n{}", overlay("a", "json"));
    for (rest, patch, part) in [
        (&one, "metadata: {name: other}\n", "may not change which object it is"),
        (&one, "- a\n", "a merge patch is a mapping"),
        (
            &one,
            "spec: {template: {spec: {containers: [{name: web, image: 'evil:1'}]}}}\n",
            "evil:1 is not in the bundle",
        ),
        (
            &one,
            "spec: {template: {spec: {containers: [{name: web, image: 'registry.example/web:1', imagePullPolicy: Always}]}}}\n",
            "set it to IfNotPresent",
        ),
        (
            &json,
            "- {op: replace, path: /spec/nothing, value: 1}\n",
            "with a: Deployment shop/web: overlay a: does not apply",
        ),
        (&json, "- {op: copy, from: /spec, path: /spec/again}\n", "operation copy is not allowed"),
        (&json, "a: [\n", "a.yaml:"),
        (&one.replace("name: web", "name: other"), "spec: {}\n", "is not in the bundle"),
    ] {
        let fault = fault_of(rest, &[("a.yaml", patch)]);
        assert!(fault.contains(part), "{patch}\n{fault}");
    }
}

#[test]
fn an_overlay_may_not_take_away_what_a_parameter_replaces() {
    let range = "    type: integer\n    min: 0\n    max: 5\n";
    let rest = format!("{}overlays:\n{}", parameter(range, "/spec/replicas"), overlay("a", "merge"));
    let fault = fault_of(&rest, &[("a.yaml", "spec: {replicas: null}\n")]);
    assert!(fault.contains("with a: parameter p finds no scalar"), "{fault}");
}

#[test]
fn more_than_sixty_four_renderings_are_refused() {
    let many: String = (0..7).map(|at| overlay(&format!("o{at}"), "merge")).collect();
    let files: Vec<(String, &str)> =
        (0..7).map(|at| (format!("o{at}.yaml"), "spec: {replicas: 1}\n")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let fault = fault_of(&format!("overlays:\n{many}"), &files);
    assert!(fault.contains("128 renderings, at most 64"), "{fault}");
}

#[test]
fn rules_about_objects_that_are_not_there_are_refused() {
    for (rest, part) in [
        (
            "adopt: [{apiVersion: v1, kind: ConfigMap, namespace: shop, name: a}]\n",
            "adopt: v1 ConfigMap shop/a",
        ),
        (
            "health: [{apiVersion: v1, kind: ConfigMap, namespace: shop, name: a, op: exists, pointer: /data}]\n",
            "health: v1 ConfigMap shop/a",
        ),
        (
            "ignore: [{apiVersion: v1, kind: ConfigMap, namespace: shop, name: a, pointers: [/data]}]\n",
            "ignore: v1 ConfigMap shop/a",
        ),
    ] {
        let fault = fault_of(rest, &[]);
        assert!(fault.starts_with("airlift.yaml:8: ") && fault.contains(part), "{fault}");
    }
}
