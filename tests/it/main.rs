//! System tests: the real product on real components, started by `tests/run`.
#![expect(clippy::print_stdout, reason = "delays and counts belong to a story's protocol")]
#![expect(clippy::unwrap_used, reason = "a step of a story that fails ends it, wherever it stands")]

mod alone;
mod bed;
mod broker;
mod cluster_contract;
mod databases;
mod drift;
mod endpoint;
#[cfg(debug_assertions)] // the one hook that it needs is in no other build
mod halts;
mod holders;
mod images;
mod inside;
mod interop;
mod journey;
mod kills;
mod live;
mod matrix;
mod mqtt_fleet;
mod offline;
mod once;
mod other_processor;
mod power;
mod report;
mod rollback;
mod skopeo;
mod sources;
mod statefulset;
mod update;
mod usb_import;
mod weather;
