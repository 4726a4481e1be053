//! The picture of the fleet while the demo runs, and the table at its end; text only.

use super::seen::Seen;
use super::story::Progress;

/// One site on the board.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub site: String,
    /// By which way it is reached.
    pub route: &'static str,
    /// The last look at it.
    pub seen: Seen,
    /// How far it is.
    pub progress: Progress,
}

/// The board as lines, widest 100 columns.
#[must_use]
pub fn draw(rows: &[Row]) -> Vec<String> {
    let head = ["", "SITE", "ROUTE", "STATE", "VERSION", "PODS", ""].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let mark = match row.progress {
            Progress::Met => "✓",
            Progress::Pending => "·",
            Progress::Broken(_) => "✗",
        };
        let seen = &row.seen;
        let pods = match &seen.pods {
            Some((version, ready, wanted)) if *wanted > 0 => format!("{ready}/{wanted} of {version}"),
            Some(_) => "none".to_owned(),
            None => "real".to_owned(),
        };
        [
            mark.to_owned(),
            row.site.clone(),
            row.route.to_owned(),
            state(seen),
            or_dash(&seen.version),
            pods,
            note(row),
        ]
    });
    columns(std::iter::once(head).chain(cells).collect())
}

/// How many sites are in which state, in one line: what is printed where nothing can be redrawn.
#[must_use]
pub fn summarise(rows: &[Row]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for row in rows {
        let what = [state(&row.seen), row.seen.version.clone()].join(" ").trim().to_owned();
        match counts.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += 1,
            None => counts.push((what, 1)),
        }
    }
    counts.sort();
    let parts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    parts.join(", ")
}

/// Lines up the cells of a table; the last column is left as long as it is.
#[must_use]
pub fn columns<const N: usize>(rows: Vec<[String; N]>) -> Vec<String> {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn state(seen: &Seen) -> String {
    match (seen.answers, seen.state.as_str()) {
        (false, _) => "down".to_owned(),
        (true, "") => "enrolled".to_owned(),
        (true, state) => state.to_owned(),
    }
}

fn note(row: &Row) -> String {
    if let Progress::Broken(why) = &row.progress {
        return why.clone();
    }
    let seen = &row.seen;
    let mut parts = Vec::new();
    if let (Some((have, want @ 1..)), "fetching") = (seen.fetched, seen.state.as_str()) {
        parts.push(format!("{} of {} KiB", have >> 10, want >> 10));
    }
    if seen.state == "healthy" && seen.failed && seen.target != seen.version {
        parts.push(format!("{} failed, went back", seen.target));
    }
    if seen.answers && row.route == "mqtt" && !seen.connected {
        parts.push("no hub".to_owned());
    }
    match seen.receipts_waiting {
        0 => {}
        1 => parts.push("1 receipt waiting".to_owned()),
        count => parts.push(format!("{count} receipts waiting")),
    }
    parts.join(", ")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(site: &str, state: &str, version: &str) -> Row {
        let seen = Seen {
            answers: true,
            connected: true,
            state: state.into(),
            version: version.into(),
            pods: Some((version.into(), 1, 2)),
            ..Seen::default()
        };
        Row { site: site.into(), route: "mqtt", seen, progress: Progress::Pending }
    }

    #[test]
    fn sites_line_up_under_their_heads() {
        let lines = draw(&[row("north-1", "settling", "2.0.0"), row("n", "healthy", "1.0.0")]);
        assert_eq!(
            lines,
            [
                "   SITE     ROUTE  STATE     VERSION  PODS",
                "·  north-1  mqtt   settling  2.0.0    1/2 of 2.0.0",
                "·  n        mqtt   healthy   1.0.0    1/2 of 1.0.0",
            ]
        );
    }

    #[test]
    fn a_summary_counts_equal_sites_once() {
        let mut down = row("c", "healthy", "");
        down.seen.answers = false;
        let rows = [row("a", "healthy", "1.0.0"), down, row("b", "healthy", "1.0.0")];
        assert_eq!(summarise(&rows), "1 down, 2 healthy 1.0.0");
    }

    #[test]
    fn what_is_wrong_or_missing_is_said() {
        let mut back = row("a", "healthy", "2.0.0");
        back.seen =
            Seen { connected: false, failed: true, target: "3.0.0".into(), receipts_waiting: 2, ..back.seen };
        assert!(draw(&[back])[1].ends_with("3.0.0 failed, went back, no hub, 2 receipts waiting"));
        let broken = Row { progress: Progress::Broken("why".into()), ..row("b", "failed", "1.0.0") };
        assert!(draw(&[broken])[1].ends_with("why"));
    }
}
