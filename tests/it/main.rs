//! System tests on real components.
