//! What the kernel has counted: processor time, memory, bytes on a wire.

use std::fs;

use airlift_tests::process::Process;
use serde_json::{Value, json};

/// The kernel's clock ticks in `/proc`: `USER_HZ` is 100 on every platform that Rust knows.
const TICKS_PER_S: f64 = 100.0;
/// Bytes of an Ethernet header, which the counters of a `veth` device include.
const ETHERNET_BYTES: u64 = 14;

/// Processor seconds that a process has used.
pub(crate) fn cpu_s(process: &Process) -> f64 {
    ticks(&format!("/proc/{}/stat", process.id()), [13, 14])
}

/// Processor seconds of all children of this process that have ended.
pub(crate) fn children_cpu_s() -> f64 {
    ticks("/proc/self/stat", [15, 16])
}

/// Fields are counted from 0; the second one, a program's name, may hold spaces.
fn ticks(stat: &str, fields: [usize; 2]) -> f64 {
    let text = fs::read_to_string(stat).expect("the process runs");
    let after_name = text.rsplit(") ").next().expect("rsplit gives at least one part");
    let read =
        |field: usize| after_name.split(' ').nth(field - 2).and_then(|field| field.parse::<f64>().ok());
    fields.into_iter().filter_map(read).sum::<f64>() / TICKS_PER_S
}

/// A line of a process's `status`, such as `VmRSS` or `VmHWM`, in MB of 1,048,576 bytes.
pub(crate) fn memory_mb(process: &Process, line: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("the process runs");
    let value = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kb = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kb.unwrap_or_else(|| panic!("{line} is in kB")) / 1024.0
}

/// Packets and bytes of IP that have passed a network device, both ways.
pub(crate) fn ip_bytes(counters: &str) -> (u64, u64) {
    // /proc/net/dev: NAME: bytes packets errs drop fifo frame compressed multicast, and the same for sending.
    let fields: Vec<u64> = counters.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [bytes_in, packets_in, bytes_out, packets_out] =
        [fields.first(), fields.get(1), fields.get(8), fields.get(9)]
            .map(|field| *field.expect("a device has 16 counters"));
    let packets = packets_in + packets_out;
    (packets, bytes_in + bytes_out - packets * ETHERNET_BYTES)
}

/// The middle one; of an even number, the greater of both.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Two decimals are more than any of this is good for.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// What was measured on, and how busy it was.
pub(crate) fn machine() -> Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models = || cpus.lines().filter_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    json!({ "cpus": models().count(), "model": models().next(), "load": load.join(" ") })
}
