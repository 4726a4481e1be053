//! What was kept goes through the same functions that libFuzzer calls: valid samples, and all that once failed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use airlift_fuzz::fleet::Sample;
use airlift_fuzz::targets::{self, ALL};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");

#[test]
fn every_kept_input_is_read_without_a_panic() {
    for (name, target) in ALL {
        let folder = Path::new(CORPUS).join(name);
        let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} keeps inputs");
        for input in &inputs {
            println!("{}", input.display()); // shown by libtest with an input that fails
            target(&fs::read(input).unwrap());
        }
    }
}

#[test]
fn the_kept_inputs_are_of_targets_that_exist() {
    let names: BTreeSet<String> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folders =
        fs::read_dir(CORPUS).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(folders.collect::<BTreeSet<_>>(), names);
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name} is built for libFuzzer");
    }
}

#[test]
fn every_target_takes_the_samples() {
    let sample = Sample::of(1);
    for (_, target) in ALL {
        sample.files.iter().for_each(|(name, bytes)| {
            target(name.as_bytes());
            target(bytes);
        });
    }
    [targets::bundle, targets::media].iter().for_each(|target| target(&sample.to_tar()));
}
