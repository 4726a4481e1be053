//! Times, sizes and lines as people read them.

/// Columns of the narrowest terminal that is catered for.
pub const COLUMNS: usize = 80;

/// A duration in its two largest units: `1 min 12 s`, `3 d 4 h`.
#[must_use]
pub fn span(ms: u64) -> String {
    let s = ms / 1000;
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, size)| s >= *size) else { return "0 s".to_owned() };
    let (unit, size) = units[first];
    let mut text = format!("{} {unit}", s / size);
    if let Some((unit, small)) = units.get(first + 1)
        && s % size >= *small
    {
        text.push_str(&format!(" {} {unit}", s % size / small));
    }
    text
}

/// Bytes with one digit after the point: `1.5 MiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// Replaces control characters, so that text from elsewhere cannot steer the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Breaks text into lines of at most `width` characters, at spaces where there are any; line breaks count as spaces.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut column = 0;
    for word in text.split([' ', '\n']).filter(|word| !word.is_empty()) {
        let word: Vec<char> = printable(word).chars().collect();
        for (at, part) in word.chunks(width).enumerate() {
            let gap = usize::from(column > 0 && at == 0);
            let line = lines.last_mut().expect("a first line is always there");
            if column > 0 && (at > 0 || column + gap + part.len() > width) {
                lines.push(part.iter().collect());
                column = part.len();
            } else {
                line.extend(std::iter::repeat_n(' ', gap).chain(part.iter().copied()));
                column += gap + part.len();
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let shown: Vec<String> =
            [0, 999, 61_000, 3_600_000, 3_725_000, 100_000_000].into_iter().map(span).collect();
        assert_eq!(shown, ["0 s", "0 s", "1 min 1 s", "1 h", "1 h 2 min", "1 d 3 h"]);
    }

    #[test]
    fn bytes_have_one_digit_and_a_unit() {
        let shown: Vec<String> = [1023, 1024, 1_610_612_736, u64::MAX].into_iter().map(human_bytes).collect();
        assert_eq!(shown, ["1023 B", "1.0 KiB", "1.5 GiB", "16777216.0 TiB"]);
    }

    #[test]
    fn lines_break_at_spaces_and_long_words_where_they_must() {
        assert_eq!(wrap("one two\nthree", 8), ["one two", "three"]);
        assert_eq!(wrap("a sha256:0123456789 b", 8), ["a", "sha256:0", "12345678", "9 b"]);
        assert_eq!(wrap("esc\u{1b}[2J", 80), ["esc\u{fffd}[2J"]);
    }
}
