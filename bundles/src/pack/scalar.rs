//! What a plain YAML scalar means to `kubectl` (YAML 1.1 as Go reads it), and where other readers disagree.
//!
//! The table of words and the order of attempts are those of the Go library behind kubectl: words first, then
//! integers in Go's notation with underscores removed, then floats, else text.

use serde_json::Value;

/// How a scalar is read, and why somebody else may read it otherwise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) value: Value,
    pub(crate) doubt: Option<Doubt>,
}

/// Another reader takes the same scalar for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// A word that is a boolean to kubectl and text to newer readers: nearly always a mistake, so an error.
    BooleanWord,
    /// A leading zero with digits that are not octal: 8 to kubectl, text or 8.0 elsewhere; an error.
    BrokenOctal,
    /// `0644` and the like: 420 to kubectl, 644 to newer readers.
    Octal,
    /// Hexadecimal, `0o` or binary notation.
    OtherBase,
    /// Digits with underscores: a number to kubectl, text to newer readers; an error.
    Underscores,
    /// An exponent, such as a commit id `1234e56` that turns into a number.
    Exponent,
    /// Looks like a number or time to others, text to kubectl.
    TextHere,
    /// An integer that readers with 53-bit numbers cannot hold.
    LargeInteger,
    /// A float without digits before or after the point, or a leading plus.
    OddNumber,
}

impl Doubt {
    /// Whether the build stops for it; the others are warnings.
    pub(crate) fn is_error(self) -> bool {
        matches!(self, Self::BooleanWord | Self::BrokenOctal | Self::Underscores)
    }

    pub(crate) fn explain(self) -> &'static str {
        match self {
            Self::BooleanWord => "a boolean to kubectl, text to YAML 1.2; write true or false, or quote it",
            Self::BrokenOctal => "a number to kubectl, text to others; quote it, or drop the leading zero",
            Self::Octal => "octal to kubectl, decimal to YAML 1.2; write it in decimal",
            Self::OtherBase => "read as a number here, as text by some; write it in decimal, or quote it",
            Self::Underscores => "a number to kubectl, text to YAML 1.2; write it plainly, or quote it",
            Self::Exponent => "read as a number with an exponent; quote it if it is a name",
            Self::TextHere => "text to kubectl, a number or time to others; quote it",
            Self::LargeInteger => {
                "an integer beyond 2^53, which some readers round; quote it if it is a name"
            }
            Self::OddNumber => {
                "a number that some readers take for text; write digits on both sides, no plus"
            }
        }
    }
}

/// A float that JSON has no notation for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotInJson;

/// Reads a plain (unquoted, untagged) scalar.
pub(crate) fn read_plain(text: &str) -> Result<Reading, NotInJson> {
    let sure = |value| Ok(Reading { value, doubt: None });
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return sure(Value::Null),
        "true" | "True" | "TRUE" => return sure(Value::Bool(true)),
        "false" | "False" | "FALSE" => return sure(Value::Bool(false)),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Ok(Reading { value: Value::Bool(true), doubt: Some(Doubt::BooleanWord) });
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Ok(Reading { value: Value::Bool(false), doubt: Some(Doubt::BooleanWord) });
        }
        ".nan" | ".NaN" | ".NAN" => return Err(NotInJson),
        _ => {}
    }
    if matches!(text.trim_start_matches(['+', '-']), ".inf" | ".Inf" | ".INF") && text.len() <= 5 {
        return Err(NotInJson);
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return sure(Value::String(text.to_owned()));
    }
    Ok(read_number(text).unwrap_or_else(|| {
        let doubt = looks_numeric(text).then_some(Doubt::TextHere);
        Reading { value: Value::String(text.to_owned()), doubt }
    }))
}

fn read_number(text: &str) -> Option<Reading> {
    let digits = text.replace('_', "");
    let underscores = digits.len() != text.len();
    let magnitude = digits.trim_start_matches(['+', '-']);
    if digits.len() - magnitude.len() > 1 || magnitude.is_empty() {
        return None;
    }
    let (value, mut doubt) = match read_integer(&digits, magnitude) {
        Some((value, doubt)) => (value, doubt),
        None => read_float(&digits, magnitude)?,
    };
    if underscores {
        doubt = Some(Doubt::Underscores);
    } else if doubt.is_none() && text.starts_with('+') {
        doubt = Some(Doubt::OddNumber);
    }
    Some(Reading { value, doubt })
}

fn read_integer(digits: &str, magnitude: &str) -> Option<(Value, Option<Doubt>)> {
    let lower = magnitude.to_ascii_lowercase();
    let (radix, body, doubt) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex, Some(Doubt::OtherBase))
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal, Some(Doubt::OtherBase))
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary, Some(Doubt::OtherBase))
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..], Some(Doubt::Octal))
    } else {
        (10, lower.as_str(), None)
    };
    if !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let number = u64::from_str_radix(body, radix).ok()?;
    let negative = digits.starts_with('-');
    if negative && number > 1 << 63 {
        return None;
    }
    let large = number > crate::ids::INTEGER_MAX;
    let value = if negative { 0_i64.wrapping_sub_unsigned(number).into() } else { Value::from(number) };
    Some((value, doubt.or(large.then_some(Doubt::LargeInteger))))
}

fn read_float(digits: &str, magnitude: &str) -> Option<(Value, Option<Doubt>)> {
    let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (magnitude, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let odd = mantissa.starts_with('.') || mantissa.ends_with('.');
    if whole.is_empty() && fraction.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    if exponent.is_some_and(|text| {
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        text.is_empty() || !all_digits(text)
    }) {
        return None;
    }
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite())?;
    let doubt = if exponent.is_some() {
        Some(Doubt::Exponent)
    } else if whole.len() > 1 && whole.starts_with('0') {
        Some(Doubt::BrokenOctal)
    } else if fraction.is_empty() && !odd {
        Some(Doubt::LargeInteger)
    } else {
        odd.then_some(Doubt::OddNumber)
    };
    Some((serde_json::from_str(&format_float(number)).ok()?, doubt))
}

/// Writes a float as Go's JSON does, so that a manifest gives the bytes that kubectl would send.
fn format_float(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) {
        format!("{number}")
    } else {
        let text = format!("{number:e}");
        if text.contains("e-") { text } else { text.replace('e', "e+") }
    }
}

/// Whether a text starts like a number all the way: digits with time, date or exponent marks only.
fn looks_numeric(text: &str) -> bool {
    let marks = |byte: u8| matches!(byte, b':' | b'-' | b'+' | b'.' | b'_' | b'e' | b'E' | b'T' | b'Z');
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let points = text.bytes().filter(|&byte| byte == b'.').count();
    digits > 0
        && points < 2
        && text.bytes().all(|byte| byte.is_ascii_digit() || marks(byte))
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> (Value, Option<Doubt>) {
        let reading = read_plain(text).unwrap();
        (reading.value, reading.doubt)
    }

    /// The cases in which YAML readers were seen to differ from kubectl.
    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        for (text, value, doubt) in [
            ("yes", json!(true), Some(Doubt::BooleanWord)),
            ("Off", json!(false), Some(Doubt::BooleanWord)),
            ("y", json!(true), Some(Doubt::BooleanWord)),
            ("0644", json!(420), Some(Doubt::Octal)),
            ("08", json!(8), Some(Doubt::BrokenOctal)),
            ("0o17", json!(15), Some(Doubt::OtherBase)),
            ("0x1F", json!(31), Some(Doubt::OtherBase)),
            ("-0b11", json!(-3), Some(Doubt::OtherBase)),
            ("1_000", json!(1000), Some(Doubt::Underscores)),
            ("1_0.5", json!(10.5), Some(Doubt::Underscores)),
            ("12e12345", json!("12e12345"), Some(Doubt::TextHere)),
            ("1234e5", json!(123400000), Some(Doubt::Exponent)),
            ("12:30", json!("12:30"), Some(Doubt::TextHere)),
            ("2001-01-01", json!("2001-01-01"), Some(Doubt::TextHere)),
            ("9007199254740993", json!(9_007_199_254_740_993_u64), Some(Doubt::LargeInteger)),
            (".5", json!(0.5), Some(Doubt::OddNumber)),
            ("+1", json!(1), Some(Doubt::OddNumber)),
            ("", json!(null), None),
            ("~", json!(null), None),
            ("True", json!(true), None),
            ("0", json!(0), None),
            ("-0", json!(0), None),
            ("-9223372036854775808", json!(i64::MIN), Some(Doubt::LargeInteger)),
            ("1.10", json!(1.1), None),
            ("1.0", json!(1), None),
            ("10.0.0.1", json!("10.0.0.1"), None),
            ("1.2.3", json!("1.2.3"), None),
            ("100m", json!("100m"), None),
            ("-", json!("-"), None),
            ("--flag", json!("--flag"), None),
            ("Yes please", json!("Yes please"), None),
        ] {
            assert_eq!(read(text), (value, doubt), "{text}");
        }
    }

    #[test]
    fn an_integer_over_64_bits_is_the_float_that_kubectl_sends() {
        assert_eq!(read("18446744073709551616").0.to_string(), "18446744073709552000");
        assert_eq!(read("1e21").0.to_string(), "1e+21");
        assert_eq!(read("1e-7").0.to_string(), "1e-7");
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        for text in [".inf", "-.Inf", "+.INF", ".nan"] {
            assert_eq!(read_plain(text), Err(NotInJson), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_scalar_makes_the_reader_panic(text in "[-+.0-9eExob_a-f:~ynosNY]{0,14}") {
            let _ = read_plain(&text);
        }
    }
}
