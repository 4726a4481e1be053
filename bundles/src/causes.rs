//! What is told of an error, wherever it is told: itself and everything that caused it.

use std::error::Error;

/// An error and its causes in one line, the outermost first: `cannot read shop.tar: permission denied`.
#[must_use]
pub fn in_one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Step(&'static str, #[source] Option<Box<Step>>);

    #[test]
    fn every_cause_is_told_outermost_first() {
        let inner = Step("the disk is gone", None);
        assert_eq!(in_one_line(&inner), "the disk is gone");
        let outer = Step("cannot start", Some(Box::new(Step("cannot read", Some(Box::new(inner))))));
        assert_eq!(in_one_line(&outer), "cannot start: cannot read: the disk is gone");
    }
}
