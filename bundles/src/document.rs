//! The signed documents, one module each: what they say, and what makes them contradict themselves.

pub mod ack;
pub mod assignment;
pub mod enrolment;
pub mod receipt;
pub mod release;
pub mod root;
pub mod status;

/// Checks that `items` are strictly ascending by `key`, so that a set has one spelling and no member twice.
fn check_ascending<T, K: Ord>(what: &str, items: &[T], key: impl Fn(&T) -> K) -> Result<(), String> {
    if items.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])) {
        Ok(())
    } else {
        Err(format!("{what} are not in ascending order without repetition"))
    }
}

/// Checks that a list is no longer than `limit`.
fn check_count(what: &str, found: usize, limit: usize) -> Result<(), String> {
    if found <= limit { Ok(()) } else { Err(format!("{found} {what}, at most {limit}")) }
}
