//! Lengths of time as people write them: `250ms`, `30s`, `10m`, `24h`, `90d`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    ms: u64,
}

/// Not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time such as 250ms, 30s, 10m, 24h or 90d")]
pub struct NotASpan(String);

/// Unit and its milliseconds, the longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// A hundred years.
const MOST_MS: u64 = 100 * 366 * 86_400_000;

impl Span {
    /// So many milliseconds.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// In milliseconds.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.ms
    }
}

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let refuse = || NotASpan(text.chars().take(40).collect());
        let digits = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(refuse)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
        let ms = number.checked_mul(*unit_ms).filter(|ms| *ms <= MOST_MS).ok_or_else(refuse)?;
        Ok(Self { ms })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit_ms): &&(&str, u64)| self.ms > 0 && self.ms.is_multiple_of(*unit_ms);
        let (unit, unit_ms) = UNITS.iter().find(fits).unwrap_or(&("s", 1_000));
        f.pad(&format!("{}{unit}", self.ms / unit_ms))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_alike() {
        for text in ["250ms", "30s", "10m", "24h", "90d"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{text}");
        }
        assert_eq!("90m".parse::<Span>().unwrap().ms(), 5_400_000);
        assert_eq!(Span::default().to_string(), "0s");
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in ["", "10", "s", "-1s", "1.5h", "1 h", "1w", "99999999999999999999s", "40000d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
