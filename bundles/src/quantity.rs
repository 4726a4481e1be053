//! Quantities of Kubernetes (`10Gi`, `1.5T`, `500m`), as far as comparing and counting needs.

use serde_json::Value;

/// Digits that are read; storage of 99,999,999,999 exbibytes is beyond every cluster.
const DIGITS_MAX: usize = 11;

/// Billionths of one.
const ONE: u128 = 1_000_000_000;

/// A quantity in billionths, or `None` where the value is none that can be compared.
#[must_use]
pub fn billionths(value: &Value) -> Option<u128> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.len() > DIGITS_MAX {
        return None;
    }
    let mantissa: u128 = digits.parse().ok()?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(mantissa * unit_billionths(unit)? / scale)
}

/// A quantity of bytes, rounded down.
#[must_use]
pub fn bytes(value: &Value) -> Option<u64> {
    u64::try_from(billionths(value)? / ONE).ok()
}

fn unit_billionths(unit: &str) -> Option<u128> {
    let (base, power) = match unit {
        "n" => return Some(1),
        "u" => return Some(1_000),
        "m" => return Some(1_000_000),
        "" => return Some(ONE),
        "k" => (1000, 1),
        "M" => (1000, 2),
        "G" => (1000, 3),
        "T" => (1000, 4),
        "P" => (1000, 5),
        "E" => (1000, 6),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        _ => {
            let exponent: u32 = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
            return 10_u128.checked_pow(exponent.min(18))?.checked_mul(ONE);
        }
    };
    Some(u128::pow(base, power) * ONE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_compare_by_value() {
        let same =
            |one: Value, other: Value| assert_eq!(billionths(&one), billionths(&other), "{one} {other}");
        same(json!("1Gi"), json!("1024Mi"));
        same(json!("1.5k"), json!(1500));
        same(json!("500m"), json!("0.5"));
        same(json!("2e3"), json!("2k"));
        assert_eq!(bytes(&json!("1.5Ki")), Some(1536));
        assert!(billionths(&json!("1G")) < billionths(&json!("1Gi")));
        for none in [json!("big"), json!("1Zi"), json!(""), json!(null), json!("123456789012")] {
            assert_eq!(billionths(&none), None, "{none}");
        }
    }
}
