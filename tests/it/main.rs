//! System tests: the real product on real components, started by `tests/run`.

mod bed;
mod cluster_contract;
mod interop;
mod journey;
mod mqtt_fleet;
mod skopeo;
mod usb_import;
