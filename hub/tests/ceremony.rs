//! The root ceremony with the real program: no hub, no network, one process per holder.

use desk::Desk;

mod desk;

#[test]
fn two_of_three_holders_make_a_root_and_one_does_not() {
    let desk = Desk::new();
    desk.keys(&["director"]);
    desk.two_of_three("director.pub");
    desk.good("root sign root.json --key a.key");
    let told = desk.bad(7, "root finalize root.json");
    assert!(told.contains("error[AL0202]") && told.contains("1 of 2 needed signatures"), "{told}");
    assert!(told.contains("Nothing was written") && !desk.path().join("1.json").exists(), "{told}");
    desk.good("root sign root.json --key a.key"); // the same holder again counts once
    desk.bad(7, "root finalize root.json");
    desk.good("root sign root.json --key c.key");
    let said = desk.good("root finalize root.json --out roots/1.json");
    let digest = said.lines().last().unwrap().to_owned();
    assert!(desk.good(&format!("root verify roots --root-sha256 {digest}")).contains(&digest));
    let other = format!("sha256:{}", "0".repeat(64));
    assert!(desk.bad(7, &format!("root verify roots --root-sha256 {other}")).contains("error[AL0201]"));
}

#[test]
fn signatures_made_on_copies_are_merged_and_those_over_another_draft_are_not() {
    let desk = Desk::new();
    desk.keys(&["director"]);
    desk.two_of_three("director.pub");
    desk.good("root sign root.json --key a.key --out root.a.json");
    desk.good("root sign root.json --key b.key --out root.b.json");
    desk.bad(7, "root finalize root.json");
    let said = desk.good("root merge root.json root.a.json root.b.json");
    assert!(said.contains("2 of 3 keys signed, threshold 2: enough"), "{said}");
    desk.good("root finalize root.json");

    desk.good("root init other.json --fleet lab --root-key a.pub --director-key director.pub");
    desk.good("root sign other.json --key a.key");
    assert!(desk.bad(7, "root merge root.json other.json").contains("another payload"));
}

#[test]
fn a_stranger_signs_nothing_and_a_signed_draft_is_not_edited() {
    let desk = Desk::new();
    desk.keys(&["director"]);
    desk.two_of_three("director.pub");
    let told = desk.bad(7, "root sign root.json --key r1.key");
    assert!(told.contains("holds the root role of neither version"), "{told}");
    desk.good("root sign root.json --key a.key");
    let told = desk.bad(6, "root set-threshold root.json --role root 1");
    assert!(told.contains("--discard-signatures"), "{told}");
    desk.good("root set-threshold root.json --role root 1 --discard-signatures");
    desk.bad(7, "root finalize root.json");
}

#[test]
fn the_next_root_needs_the_thresholds_of_both_versions() {
    let desk = Desk::new();
    desk.keys(&["director"]);
    desk.two_of_three("director.pub");
    desk.good("root sign root.json --key a.key");
    desk.good("root sign root.json --key b.key");
    desk.good("root finalize root.json --out roots/1.json");

    desk.keys(&["d", "e"]);
    desk.good("root edit roots/1.json root-2.json");
    desk.good("root remove-key root-2.json --role root --key a.pub --key b.pub");
    desk.good("root add-key root-2.json --role root --key d.pub --key e.pub");
    desk.good("root sign root-2.json --key d.key");
    desk.good("root sign root-2.json --key e.key");
    assert!(desk.bad(2, "root finalize root-2.json").contains("--previous"));
    let told = desk.bad(7, "root finalize root-2.json --previous roots/1.json");
    assert!(told.contains("0 of 2 needed signatures"), "{told}");
    desk.good("root sign root-2.json --previous roots/1.json --key a.key");
    let said = desk.good("root sign root-2.json --previous roots/1.json --key b.key");
    assert!(said.contains("role root of version 1: 2 of 3 keys signed, threshold 2: enough"), "{said}");
    desk.good("root finalize root-2.json --previous roots/1.json --out roots/2.json");
    let said = desk.good("root verify roots -o name");
    assert_eq!(said, "1\n2\n");

    desk.good("root edit roots/2.json root-3.json");
    desk.good("root revoke root-3.json --key c.pub");
    desk.good("root raise root-3.json --app shop --min-seq 7");
    assert!(desk.bad(2, "root raise root-3.json --app shop --min-seq 6").contains("only rises"));
    desk.good("root sign root-3.json --key d.key");
    desk.good("root sign root-3.json --key e.key");
    desk.good("root finalize root-3.json --previous roots/2.json --out roots/3.json");
    let said = desk.good("root show roots/3.json");
    assert!(said.contains("revoked key") && said.contains("app shop: epoch 0, at least 7"), "{said}");
    std::fs::remove_file(desk.path().join("roots/2.json")).unwrap();
    assert!(desk.bad(7, "root verify roots").contains("error[AL0202]"));
}

#[test]
fn one_key_in_two_roles_is_refused_before_anybody_signs() {
    let desk = Desk::new();
    desk.keys(&["director"]);
    desk.two_of_three("director.pub");
    desk.good("root add-key root.json --role director --key a.pub");
    let told = desk.bad(7, "root sign root.json --key a.key");
    assert!(told.contains("error[AL0204]") && told.contains("stands in two roles"), "{told}");
}

#[test]
fn a_key_with_a_passphrase_signs_with_it_only() {
    let desk = Desk::new();
    std::fs::write(desk.path().join("word"), "correct horse\n").unwrap();
    std::fs::write(desk.path().join("wrong"), "incorrect\n").unwrap();
    assert!(desk.bad(2, "key generate a.key").contains("--passphrase-file"));
    desk.good("key generate a.key --passphrase-file word");
    desk.keys(&["director"]);
    desk.good("root init root.json --fleet lab --root-key a.pub --director-key director.pub");
    assert!(desk.bad(2, "root sign root.json --key a.key").contains("no terminal"));
    let told = desk.bad(4, "root sign root.json --key a.key --passphrase-file wrong");
    assert!(told.contains("error[AL1101]"), "{told}");
    desk.good("root sign root.json --key a.key --passphrase-file word");
    assert!(desk.bad(6, "key generate a.key --plain").contains("never overwritten"));
}

#[test]
fn help_and_errors_speak_plainly() {
    let desk = Desk::new();
    let help = desk.good("root --help");
    for verb in ["init", "edit", "add-key", "sign", "merge", "finalize", "verify"] {
        assert!(help.contains(verb), "{verb} in {help}");
    }
    assert!(desk.bad(2, "root frobnicate").contains("unrecognized subcommand"));
    assert!(desk.bad(5, "root show nowhere.json").contains("cannot read nowhere.json"));
    assert!(desk.good("explain al0202").contains("root chain is broken"));
    assert!(desk.bad(5, "explain AL9999").contains("airlift explain"));
    let codes = desk.good("explain -o json");
    let codes: serde_json::Value = serde_json::from_str(&codes).unwrap();
    assert_eq!(codes["kind"], "CodeList");
    assert!(codes["items"].as_array().unwrap().len() > 50);
}
