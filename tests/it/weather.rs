//! The surroundings of a site, good and bad: what the agent says of them, and that it waits faults out.

mod faults;
mod health_rows;
mod health_table;
mod objects;
mod reversal;
mod station;
