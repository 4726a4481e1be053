//! Label selectors, in the words that Kubernetes uses.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Longest selector and label that is read: bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Terms of one selector.
const TERMS_MAX: usize = 32;

/// A selector or label is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A term does not have its form.
    #[error("selector term {0:?} is none of key=value, key!=value, key, !key, key in (a,b), key notin (a,b)")]
    Term(String),
    /// A label's key or value has characters that labels may not have.
    #[error("{0:?} is not a label: letters, digits, '-', '_', '.' and, in keys, one '/'; at most 63 a part")]
    Label(String),
    /// Too long or too many terms.
    #[error("selector is too long")]
    TooLong,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

/// Terms that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

fn is_part(text: &str, empty: bool) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            inner(first)
                && inner(last)
                && bytes.len() <= 63
                && bytes.iter().all(|&byte| inner(byte) || matches!(byte, b'-' | b'_' | b'.'))
        }
        _ => empty,
    }
}

/// Checks a label's key and value.
///
/// # Errors
/// [`SelectorError::Label`].
pub fn check_label(key: &str, value: &str) -> Result<(), SelectorError> {
    check_key(key)?;
    if is_part(value, true) { Ok(()) } else { Err(SelectorError::Label(value.chars().take(80).collect())) }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    let good = match key.split_once('/') {
        Some((prefix, name)) => is_part(prefix, false) && is_part(name, false),
        None => is_part(key, false),
    };
    if good { Ok(()) } else { Err(SelectorError::Label(key.chars().take(80).collect())) }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(SelectorError::TooLong);
        }
        if text.trim() == "*" {
            return Ok(Self(Vec::new()));
        }
        let terms = split_terms(text);
        if terms.len() > TERMS_MAX {
            return Err(SelectorError::TooLong);
        }
        terms.into_iter().map(|term| parse_term(term.trim())).collect::<Result<_, _>>().map(Self)
    }
}

/// Splits at commas that stand outside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_term(term: &str) -> Result<Term, SelectorError> {
    let refuse = || SelectorError::Term(term.chars().take(80).collect());
    let listed = |key: &str, list: &str| {
        let list =
            list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')')).ok_or_else(refuse)?;
        let values: Vec<String> = list.split(',').map(|value| value.trim().to_owned()).collect();
        for value in &values {
            check_label(key.trim(), value)?;
        }
        Ok((key.trim().to_owned(), values))
    };
    let single = |key: &str, value: &str| {
        check_label(key.trim(), value.trim())?;
        Ok((key.trim().to_owned(), vec![value.trim().to_owned()]))
    };
    if let Some((key, list)) = term.split_once(" notin ") {
        listed(key, list).map(|(key, values)| Term::NotIn(key, values))
    } else if let Some((key, list)) = term.split_once(" in ") {
        listed(key, list).map(|(key, values)| Term::In(key, values))
    } else if let Some((key, value)) = term.split_once("!=") {
        single(key, value).map(|(key, values)| Term::NotIn(key, values))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        single(key, value).map(|(key, values)| Term::In(key, values))
    } else if let Some(key) = term.strip_prefix('!') {
        check_key(key.trim()).map(|()| Term::HasNot(key.trim().to_owned()))
    } else if term.is_empty() {
        Err(refuse())
    } else {
        check_key(term).map_err(|_| refuse()).map(|()| Term::Has(term.to_owned()))
    }
}

impl Selector {
    /// Whether a site with these labels is chosen.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| match term {
            Term::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Term::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Term::Has(key) => labels.contains_key(key),
            Term::HasNot(key) => !labels.contains_key(key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn terms_choose_as_in_kubernetes() {
        let ship = labels(&[("kind", "ship"), ("example.com/ring", "1")]);
        for (selector, chosen) in [
            ("*", true),
            ("kind=ship", true),
            ("kind==ship,example.com/ring=1", true),
            ("kind=ship,example.com/ring=2", false),
            ("kind!=ship", false),
            ("other!=x", true),
            ("kind", true),
            ("!kind", false),
            ("!other", true),
            ("kind in (shop, ship)", true),
            ("kind notin (shop,ship)", false),
            ("other in (x)", false),
        ] {
            assert_eq!(selector.parse::<Selector>().unwrap().matches(&ship), chosen, "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_rather_than_choosing_everything() {
        for bad in ["", " ", "a=b,", "=x", "a in x", "a in (b", "a b", "a=(b)", "ä=1", &"a=b,".repeat(40)] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }
}
