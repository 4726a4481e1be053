//! 20,000 mutants of valid sticks, documents and frames: nothing but the originals is taken, nothing panics, and memory
//! stays near where it was.
//!
//! A process of its own, with one test, because the memory of the whole process is measured. `AIRLIFT_TESTS_SEED`
//! repeats a run; `tests/run --long` makes fifty times as many.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; its seed is shown"
)]

use std::collections::BTreeSet;
use std::fs;

use airlift_fuzz::fleet::Sample;
use airlift_fuzz::mutate::{Chance, mutate_bytes, mutate_json, mutate_media};
use airlift_fuzz::receive::{Scratch, receive};
use airlift_fuzz::targets;

const MUTANTS: u64 = 20_000;
const LONG: u64 = 1_000_000;
/// What all readers together may hold beyond what the process had when it began.
const BYTES_ABOVE_IDLE: u64 = 64 << 20;

fn seed() -> u64 {
    let given = std::env::var("AIRLIFT_TESTS_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        now.bytes().fold(0, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte))
    })
}

/// A field of `/proc/self/status`, in bytes.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<u64>().unwrap() * 1024
}

/// Says which mutant it was when a reader panics.
struct Witness {
    seed: u64,
    number: u64,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("mutant {} of AIRLIFT_TESTS_SEED={}", self.number, self.seed);
        }
    }
}

#[test]
fn no_mutant_is_taken_for_what_was_signed() {
    let samples = [Sample::of(1), Sample::of(2)];
    let tars = samples.each_ref().map(Sample::to_tar);
    let mut scratch = Scratch::new().unwrap();
    let payloads: BTreeSet<_> = samples.iter().flat_map(|sample| sample.payloads.clone()).collect();
    let blobs: BTreeSet<_> = samples.iter().flat_map(|sample| sample.blobs.clone()).collect();
    for (sample, tar) in samples.iter().zip(&tars) {
        let taken = receive(&mut scratch, tar).unwrap();
        assert_eq!(taken.payloads, sample.payloads.iter().copied().collect(), "the original is taken whole");
        assert_eq!((taken.blobs.len() + 1, taken.objects), (sample.blobs.len(), 20), "all but the index");
    }

    let _ = fs::write("/proc/self/clear_refs", "5"); // where that is forbidden the peak is the process's own
    let idle = memory("VmRSS");
    let (seed, long) = (seed(), std::env::var_os("AIRLIFT_TESTS_LONG").is_some());
    let mut chance = Chance::new(seed);
    let (mut accepted, mut whole) = (0, 0);
    let mut witness = Witness { seed, number: 0 };
    let mutants = if long { LONG } else { MUTANTS };
    for number in 0..mutants {
        witness.number = number;
        let one = usize::try_from(number % 2).unwrap();
        let (sample, other) = (&samples[one], &samples[1 - one]);
        let file = &sample.files[chance.below(sample.files.len())].1;
        match number % 5 {
            // A document or blob by itself, through the readers of its kind.
            0 => targets::documents(&mutate_json(file, &mut chance)),
            1 => {
                let mutant = mutate_bytes(file.clone(), &tars[1 - one], &mut chance);
                [targets::documents, targets::bundle, targets::wire][chance.below(3)](&mutant);
            }
            // A whole stick, up to acceptance.
            kind => {
                let mutant = if kind == 2 {
                    mutate_bytes(tars[one].clone(), &tars[1 - one], &mut chance)
                } else {
                    mutate_media(sample, other, &mut chance)
                };
                let taken = receive(&mut scratch, &mutant).unwrap();
                assert!(taken.payloads.is_subset(&payloads), "a document that nobody signed: {taken:?}");
                for (named, found) in &taken.blobs {
                    assert!(named == found && blobs.contains(named), "a blob that nobody signed: {named}");
                }
                accepted += u64::from(!taken.payloads.is_empty());
                whole += u64::from(taken.objects == 20);
            }
        }
    }
    let above = memory("VmHWM").saturating_sub(idle);
    println!(
        "seed {seed}: of {mutants} mutants {accepted} had something and {whole} everything of the originals"
    );
    println!("memory: {} KiB idle, {} KiB above it at most", idle >> 10, above >> 10);
    assert!(accepted > mutants / 10 && whole > 0, "the mutants get far enough to test something");
    assert!(above <= BYTES_ABOVE_IDLE, "{above} bytes above idle");
}
