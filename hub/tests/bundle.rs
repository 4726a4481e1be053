//! From a folder to a signed bundle with the real program, offline.

use std::fs;

use desk::Desk;

mod desk;

const APP: &str = "apiVersion: airlift.dev/v1alpha1
kind: App
name: shop
version: 1.4.2
parameters:
  greeting:
    type: string
    pattern: '[a-z]+'
    max_length: 10
    targets:
      - {apiVersion: v1, kind: ConfigMap, namespace: shop, name: shop, pointer: /data/greeting}
";

const OBJECTS: &str = "apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: shop, namespace: shop}
data: {greeting: hello}
";

fn desk_with_app() -> Desk {
    let desk = Desk::new();
    desk.keys(&["director"]);
    desk.two_of_three("director.pub");
    desk.good("root sign root.json --key a.key");
    desk.good("root sign root.json --key b.key");
    desk.good("root finalize root.json --out roots/1.json");
    fs::create_dir_all(desk.path().join("shop/manifests")).expect("the desk is writable");
    fs::write(desk.path().join("shop/airlift.yaml"), APP).expect("the desk is writable");
    fs::write(desk.path().join("shop/manifests/shop.yaml"), OBJECTS).expect("the desk is writable");
    desk
}

const BUILD: &str = "bundle build shop --fleet lab --seq 1 --issued-at 2026-11-21T12:00:00Z";

#[test]
fn a_bundle_is_good_once_two_of_two_signed_it() {
    let desk = desk_with_app();
    let said = desk.good(&format!("{BUILD} -o shop-1.tar"));
    assert!(said.contains("shop@1.4.2: 2 objects") && said.contains("shop-1.release.json"), "{said}");
    let told = desk.bad(7, "bundle verify shop-1.tar --root roots");
    assert!(told.contains("error[AL0102]"), "{told}");
    desk.good("bundle sign shop-1.tar --key r1.key --root roots");
    let output = desk.airlift("bundle verify shop-1.tar --root roots");
    let said = desk::text(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("1 of 2 keys signed, threshold 2: 1 more needed"), "{said}");
    desk.good("bundle sign shop-1.release.json --key r2.key");
    let said = desk.good("bundle verify shop-1.tar --root roots -o json");
    let verdict: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&verdict["good"], &verdict["app"]), (&true.into(), &"shop".into()));
    assert_eq!(verdict["signing"]["missing"], serde_json::json!([]));
    assert!(desk.bad(7, "bundle sign shop-1.tar --key a.key --root roots").contains("is not in role"));
}

#[test]
fn signatures_of_copies_are_merged() {
    let desk = desk_with_app();
    desk.good(&format!("{BUILD} -o shop-1"));
    desk.good("bundle sign shop-1 --key r1.key --out one.json");
    desk.good("bundle sign shop-1 --key r2.key --out two.json");
    desk.bad(7, "bundle verify shop-1 --root roots");
    desk.good("bundle merge shop-1 one.json two.json");
    desk.good("bundle verify shop-1 --root roots");
}

#[test]
fn the_same_folder_gives_the_same_bytes() {
    let desk = desk_with_app();
    desk.good(&format!("{BUILD} -o one.tar"));
    desk.good(&format!("{BUILD} -o two.tar"));
    let read = |name: &str| fs::read(desk.path().join(name)).unwrap();
    assert_eq!(read("one.tar"), read("two.tar"));
    assert_eq!(read("one.release.json"), read("two.release.json"));
    assert!(desk.bad(6, &format!("{BUILD} -o one.tar")).contains("exists already"));
}

#[test]
fn one_flipped_byte_of_content_is_refused() {
    let desk = desk_with_app();
    desk.good(&format!("{BUILD} -o shop-1"));
    desk.good("bundle sign shop-1 --key r1.key");
    desk.good("bundle sign shop-1 --key r2.key");
    desk.good("bundle verify shop-1 --root roots");
    for entry in fs::read_dir(desk.path().join("shop-1/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        desk.bad(7, "bundle verify shop-1 --root roots");
        fs::write(&path, good).unwrap();
    }
    desk.good("bundle verify shop-1 --root roots");
}

#[test]
fn faults_of_the_folder_are_named_with_file_and_line() {
    let desk = desk_with_app();
    assert!(desk.good("bundle lint shop").contains("2 objects"));
    let broken = OBJECTS.replace("name: shop, namespace: shop", "name: shop");
    fs::write(desk.path().join("shop/manifests/shop.yaml"), broken).unwrap();
    let told = desk.bad(2, "bundle lint shop");
    assert!(told.contains("manifests/shop.yaml:") && told.contains("error[AL1001]"), "{told}");
    desk.bad(2, &format!("{BUILD} -o shop-1.tar"));
    assert!(!desk.path().join("shop-1.tar").exists() && !desk.path().join("shop-1.release.json").exists());
    assert!(!desk.path().join("shop-1.tar.layout").exists());
}

#[test]
fn a_version_that_could_not_be_rolled_back_is_refused_unless_the_app_says_never() {
    let desk = desk_with_app();
    let write = |file: &str, text: &str| fs::write(desk.path().join("shop").join(file), text).unwrap();
    let binding = |role: &str| {
        format!(
            "{OBJECTS}---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
             metadata: {{name: shop, namespace: shop}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\n"
        )
    };
    write("manifests/shop.yaml", &binding("view"));
    desk.good(&format!("{BUILD} -o shop-1.tar"));
    let said = desk.good(&format!("{BUILD} --from shop-1.tar -o same.tar"));
    assert!(said.contains("\nreversible from shop@1.4.2\n") || said.starts_with("reversible from"), "{said}");
    write("manifests/shop.yaml", &binding("edit"));
    for out in ["shop-2.tar", "shop-2"] {
        let told = desk.bad(7, &format!("{BUILD} --from shop-1.tar -o {out}"));
        assert!(told.contains("error[AL0711]") && told.contains("rollback: never"), "{told}");
        assert!(!desk.path().join(out).exists() && !desk.path().join("shop-2.release.json").exists());
    }
    assert!(!desk.path().join("shop-2.tar.layout").exists());
    write("airlift.yaml", &format!("{APP}recreate: [rbac.authorization.k8s.io/RoleBinding]\n"));
    let said = desk.good(&format!("{BUILD} --from shop-1.tar -o shop-2.tar"));
    assert!(said.contains("reversible-by-recreate from shop@1.4.2"), "{said}");
    assert!(
        said.contains("RoleBinding shop/shop: /roleRef cannot change (deleted and created anew)"),
        "{said}"
    );
    write("airlift.yaml", &format!("{APP}rollback: never\n"));
    let said = desk.good(&format!("{BUILD} --from shop-1.tar -o shop-3"));
    assert!(said.contains("irreversible from shop@1.4.2"), "{said}");
}

#[test]
fn a_new_folder_lints_and_inspects() {
    let desk = Desk::new();
    desk.good("bundle init greeter");
    desk.good("bundle lint greeter");
    desk.bad(6, "bundle init greeter");
    desk.good("bundle build greeter --fleet lab --seq 3 -o g.tar");
    let said = desk.good("bundle inspect g.tar");
    assert!(
        said.contains("app        greeter@0.1.0") && said.contains("ConfigMap greeter/greeter"),
        "{said}"
    );
}

#[test]
fn commands_that_need_a_hub_say_so() {
    let desk = Desk::new();
    let told = desk.bad(4, "site list");
    assert!(told.contains("not logged in") && told.contains("airlift login"), "{told}");
    let told = desk.bad(2, "login http://hub --token-file x --hub-key sha256:00");
    assert!(told.contains("invalid value"), "{told}");
    desk.good("completion bash");
}
