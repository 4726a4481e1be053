//! The core with a scripted world around it: scenarios to read, and the laws by property test.

mod laws;
mod scenarios;
mod trust;
mod world;
