//! Numbers as people read them.

/// A length of time, in at most two units: `35 s`, `4 h 12 min`, `3 d 2 h`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let two = |first: u64, unit: &str, second: u64, part: &str| match second {
        0 => format!("{first} {unit}"),
        _ => format!("{first} {unit} {second} {part}"),
    };
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

/// Bytes with one place after the point: `19.1 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scale: u64 = 1024;
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        scale *= 1024;
        unit += 1;
    }
    format!("{}.{} {}", bytes / scale, bytes % scale * 10 / scale, UNITS[unit])
}

/// A part of a whole, as a percentage with one place; a part that is not nothing does not show as nothing, nor one
/// that is not all as all.
#[must_use]
pub fn per_cent(part: u64, whole: u64) -> String {
    let per_mille = part * 1000 / whole.max(1);
    match (part, per_mille) {
        (1.., 0) => "< 0.1 %".into(),
        _ => format!("{}.{} %", per_mille / 10, per_mille % 10).replace(".0 %", " %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_not_rounded_to_nothing_or_all() {
        assert_eq!(
            [0, 999, 35_000, 61_000, 15_120_000, 266_400_000].map(duration),
            ["0 ms", "999 ms", "35 s", "1 min 1 s", "4 h 12 min", "3 d 2 h"]
        );
        assert_eq!(
            [0, 1023, 1536, 20_000_000, 3 << 40].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "19.0 MiB", "3.0 TiB"]
        );
        assert_eq!(per_cent(0, 7), "0 %");
        assert_eq!(per_cent(1, 100_000), "< 0.1 %");
        assert_eq!(per_cent(99_999, 100_000), "99.9 %");
        assert_eq!(per_cent(7, 7), "100 %");
        assert_eq!(per_cent(0, 0), "0 %");
    }
}
