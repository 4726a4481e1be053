//! System tests: the real product on real components, started by `tests/run`.

mod bed;
mod cluster_contract;
mod skopeo;
