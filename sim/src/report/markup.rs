//! Pieces of HTML.

use std::fmt::Write as _;

/// Text that is only text, in an element and in an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Neither has a place in HTML, nor in a terminal that shows its source.
            character if character.is_control() && character != '\n' => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

/// A table: the first column names its row, columns whose head begins with "What" are words, all others numbers.
pub(super) fn table(caption: &str, heads: &[&str], rows: &[Vec<String>]) -> String {
    let class = |place: usize| match heads.get(place) {
        _ if place == 0 => "",
        Some(head) if head.starts_with("What") => " class=\"words\"",
        _ => " class=\"number\"",
    };
    let mut text = format!("<table><caption>{}</caption><thead><tr>", escape(caption));
    for (place, head) in heads.iter().enumerate() {
        let _ = write!(text, "<th scope=\"col\"{}>{}</th>", class(place), escape(head));
    }
    text.push_str("</tr></thead><tbody>");
    for row in rows {
        text.push_str("<tr>");
        for (place, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match place {
                0 => write!(text, "<th scope=\"row\">{cell}</th>"),
                _ => write!(text, "<td{}>{cell}</td>", class(place)),
            };
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table>");
    text
}

/// What each colour stands for; colour is never alone.
pub(super) fn legend(names: &[(usize, String)]) -> String {
    let mut text = String::from("<ul class=\"legend\">");
    for (series, name) in names {
        let _ = write!(
            text,
            "<li><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\"><rect class=\"s{series}\" width=\"12\" height=\"12\"/></svg>{}</li>",
            escape(name)
        );
    }
    text.push_str("</ul>");
    text
}
