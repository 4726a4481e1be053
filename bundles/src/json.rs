//! Strict JSON for documents: one spelling per meaning, bounded before it is parsed.
//!
//! Parsers that disagree about duplicate keys, lone surrogates or large numbers let two readers see two
//! documents under one signature. [`check`] refuses all of these on the bytes; only then does serde read them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use crate::ids::INTEGER_MAX;
use crate::limits::Limits;

/// Why bytes are not a strict JSON document; `at` is a byte offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// More bytes than the limit, seen before parsing.
    #[error("document of {found} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Nested deeper than the limit.
    #[error("nesting at byte {at} is deeper than {limit}")]
    TooDeep {
        /// Where.
        at: usize,
        /// Levels allowed.
        limit: usize,
    },
    /// One object names a key twice.
    #[error("key {key:?} at byte {at} stands twice in one object")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where it stands the second time.
        at: usize,
    },
    /// A fraction, an exponent, or an integer outside ±(2^53 − 1).
    #[error("number at byte {at} is not an integer within 2^53 - 1")]
    Number {
        /// Where.
        at: usize,
    },
    /// Not JSON (RFC 8259) at all, or bytes follow the value.
    #[error("not JSON at byte {at}: {expected}")]
    Syntax {
        /// Where.
        at: usize,
        /// What should have stood there.
        expected: &'static str,
    },
    /// Well-formed, but not the shape of this document.
    #[error("unexpected shape: {0}")]
    Shape(String),
}

/// Checks `bytes` and reads them as `T`.
///
/// # Errors
/// [`JsonError`], the first fault found.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], limits: &Limits) -> Result<T, JsonError> {
    check(bytes, limits)?;
    serde_json::from_slice(bytes).map_err(|error| JsonError::Shape(error.to_string()))
}

/// Checks that `bytes` are exactly one strict JSON value.
///
/// # Errors
/// [`JsonError`], the first fault found.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<(), JsonError> {
    if bytes.len() > limits.document_bytes {
        return Err(JsonError::TooLarge { found: bytes.len(), limit: limits.document_bytes });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError::Syntax { at: error.valid_up_to(), expected: "UTF-8" })?;
    let mut scanner = Scanner { text, at: 0, depth_max: limits.json_depth };
    scanner.value(0)?;
    scanner.space();
    if scanner.at == text.len() { Ok(()) } else { Err(scanner.fault("the end of the document")) }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth_max: usize,
}

impl<'a> Scanner<'a> {
    fn fault(&self, expected: &'static str) -> JsonError {
        JsonError::Syntax { at: self.at, expected }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.fault(expected))
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let rest = &self.text[self.at..];
                let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word));
                self.at += word.ok_or_else(|| self.fault("a value"))?.len();
                Ok(())
            }
        }
    }

    fn deeper(&self, depth: usize) -> Result<(), JsonError> {
        if depth > self.depth_max {
            return Err(JsonError::TooDeep { at: self.at, limit: self.depth_max });
        }
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.deeper(depth)?;
        self.at += 1;
        let mut keys = BTreeSet::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let at = self.at;
            let key = self.string()?;
            if let Some(key) = keys.replace(key) {
                return Err(JsonError::DuplicateKey { key: key.into_owned(), at });
            }
            self.space();
            self.expect(b':', "':'")?;
            self.value(depth)?;
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
            } else {
                return self.expect(b'}', "',' or '}'");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.deeper(depth)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
            } else {
                return self.expect(b']', "',' or ']'");
            }
        }
    }

    /// Reads a string. One with escapes or control characters is unescaped by serde_json, which refuses the latter
    /// and lone surrogates; any other is what stands there.
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        self.expect(b'"', "'\"'")?;
        let mut plain = true;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => (self.at, plain) = (self.at + 2, false),
                Some(byte) => (self.at, plain) = (self.at + 1, plain && byte >= b' '),
                None => return Err(self.fault("the end of a string")),
            }
        }
        self.at += 1;
        let invalid = JsonError::Syntax { at: start, expected: "a string of valid Unicode" };
        if plain {
            return self.text.get(start + 1..self.at - 1).map(Cow::Borrowed).ok_or(invalid);
        }
        let quoted = self.text.get(start..self.at);
        quoted
            .and_then(|quoted| serde_json::from_str(quoted).ok())
            .map(|text: String| Cow::Owned(text))
            .ok_or(invalid)
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let digits = self.text[start..self.at].trim_start_matches('-');
        let leading_zero = digits.len() > 1 && digits.starts_with('0');
        let minus = self.at - start - digits.len();
        let small = digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.parse::<u64>().is_ok_and(|number| number <= INTEGER_MAX);
        if small && !leading_zero && minus <= 1 { Ok(()) } else { Err(JsonError::Number { at: start }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Result<(), JsonError> {
        check(text.as_bytes(), &Limits::DEFAULT)
    }

    #[test]
    fn plain_documents_pass() {
        for good in [
            "{}",
            " [1, -2, \"\\u00e9\\ud83d\\ude00\", null] ",
            "{\"a\":{\"a\":[true,false]}}",
            "9007199254740991",
        ] {
            assert_eq!(verdict(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        let duplicate = verdict("{\"a\":1,\"\\u0061\":2}");
        assert!(
            matches!(duplicate, Err(JsonError::DuplicateKey { ref key, .. }) if key == "a"),
            "{duplicate:?}"
        );
        for number in ["1.0", "1e3", "9007199254740992", "-9007199254740992", "01", "--1", "-", "1-1"] {
            assert!(matches!(verdict(number), Err(JsonError::Number { .. })), "{number}");
        }
        for syntax in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "\"\\ud800\"",
            "\"\\",
            "{} x",
            "nul",
            "\"a\u{1}\"",
            "\u{feff}{}",
            "\"é",
        ] {
            assert!(
                matches!(verdict(syntax), Err(JsonError::Syntax { .. })),
                "{syntax:?}: {:?}",
                verdict(syntax)
            );
        }
    }

    #[test]
    fn depth_and_size_are_bounded_before_parsing() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(verdict(&nested(32)), Ok(()));
        assert!(matches!(verdict(&nested(33)), Err(JsonError::TooDeep { .. })));
        assert!(matches!(verdict(&" ".repeat((1 << 20) + 1)), Err(JsonError::TooLarge { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_scanner_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = check(&bytes, &Limits::DEFAULT);
        }

        #[test]
        fn what_passes_is_what_serde_reads(text in "[\\[\\]{}:,\"\\\\a0-9. \\-e]{0,40}") {
            if verdict(&text).is_ok() {
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
