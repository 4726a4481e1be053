//! The core with a scripted world around it: scenarios to read, and the laws by property test.

mod attacks;
mod changes;
mod crew;
mod documents;
mod images;
mod laws;
mod lost;
mod outage;
mod overtaken;
mod recovery;
mod report;
mod rotation;
mod scenarios;
mod trouble;
mod trust;
mod world;
