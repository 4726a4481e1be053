//! The charts of a report: how long it took, what it cost, what failed when, how much the hub did not know.

use airlift_bundles::document::enrolment::ContactClass;

use super::chart::{Bar, Frame, Line, Mark, Tick, byte_ticks, log_place, ratio, round_ticks, time_ticks};
use super::markup::{escape, legend, table};
use crate::figures::{Figures, OrderFigures, Spread, bytes, duration, per_cent};
use crate::world::FleetMoment;

/// Lines that can be told apart.
const LINES: usize = 4;
/// Bars of a spread, and rows of a table over time.
const BARS: u64 = 24;
const ROWS: usize = 8;
const HEIGHT: f64 = 280.0;

/// All charts, as sections.
pub(super) fn all(figures: &Figures, duration_ms: u64) -> [String; 4] {
    [converge(figures), cost(figures), failures(figures, duration_ms), staleness(figures, duration_ms)]
}

fn section(title: &str, about: &str, drawing: &str, beside: &str) -> String {
    format!(
        "<section class=\"chart\"><div class=\"head\"><h2>{}</h2><p class=\"soft\">{}</p></div>\
         <div class=\"drawing\">{drawing}</div><div class=\"beside\">{beside}</div></section>",
        escape(title),
        escape(about)
    )
}

fn or_dash(value: Option<u64>, words: impl Fn(u64) -> String) -> String {
    value.map_or_else(|| "–".into(), words)
}

fn name(order: &OrderFigures) -> String {
    format!("{} {}", order.app, order.version)
}

/// What share of its sites had each order after which time.
fn converge(figures: &Figures) -> String {
    let reached = figures.reached.numbers();
    let (least, most) =
        (reached.first().copied().unwrap_or(1_000), reached.last().copied().unwrap_or(60_000));
    // The newest orders that anybody reached.
    let shown: Vec<&OrderFigures> =
        figures.orders.iter().rev().filter(|order| order.reached.count() > 0).take(LINES).collect();
    let shown: Vec<&OrderFigures> = shown.into_iter().rev().collect();
    let lines: Vec<Line> =
        shown.iter().enumerate().map(|(place, order)| steps(place + 1, order, least, most)).collect();
    let drawing = Frame {
        id: "converge",
        title: "Share of sites that are healthy on a version, by time since it was assigned",
        description: &spoken(&shown),
        height: HEIGHT,
        x: factor_ticks(least, most),
        y: percent_ticks(),
        x_name: "since it was assigned",
        y_name: "healthy on it",
        marks: Vec::new(),
    }
    .draw(&[], &lines);
    let names: Vec<_> = shown.iter().enumerate().map(|(place, order)| (place + 1, name(order))).collect();
    let row = |order: &OrderFigures| {
        vec![
            name(order),
            format!("{} of {}", order.reached.count(), order.sites),
            or_dash(order.reached.median(), duration),
            or_dash(order.reached.percentile(90), duration),
            or_dash(order.reached.worst(), duration),
            order.failed.to_string(),
            (order.open() + order.replaced).to_string(),
        ]
    };
    let rows: Vec<_> = figures.orders.iter().map(row).collect();
    let heads = ["Version", "Healthy", "Median", "90 %", "Slowest", "Failed", "Not reached"];
    let drawing = drawing + &legend(&names);
    let about = "From the order to a healthy version that stayed so for its soak time, site by site.";
    section("Time to converge", about, &drawing, &table("All that was assigned", &heads, &rows))
}

fn spoken(orders: &[&OrderFigures]) -> String {
    let one = |order: &&OrderFigures| {
        let median = or_dash(order.reached.median(), duration);
        format!("{}: {} of {} sites, median {median}", name(order), order.reached.count(), order.sites)
    };
    let all: Vec<String> = orders.iter().map(one).collect();
    if all.is_empty() { "No site reached anything.".into() } else { all.join("; ") + "." }
}

fn steps(series: usize, order: &OrderFigures, least: u64, most: u64) -> Line {
    let numbers = order.reached.numbers();
    let mut points = vec![(0.0, 0.0)];
    // A hundred steps are as fine as the drawing.
    let stride = numbers.len().div_ceil(100).max(1);
    for place in (0..numbers.len()).filter(|place| place % stride == 0 || place + 1 == numbers.len()) {
        let share = ratio(place as u64 + 1, order.sites);
        points.push((log_place(numbers[place], least, most), share));
    }
    let last = points.last().map_or(0.0, |point| point.1);
    points.push((1.0, last));
    Line { series, points, words: spoken(&[order]), filled: false }
}

fn percent_ticks() -> Vec<Tick> {
    let tick = |quarter: u64| Tick { at: ratio(quarter, 4), label: format!("{} %", quarter * 25) };
    (0..=4).map(tick).collect()
}

/// Lengths of time that people know, within these.
fn factor_ticks(least: u64, most: u64) -> Vec<Tick> {
    const KNOWN_S: [u64; 20] = [
        1, 5, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400, 172_800,
        432_000, 864_000, 1_728_000, 4_320_000,
    ];
    let mut ticks: Vec<Tick> = Vec::new();
    for seconds in KNOWN_S.into_iter().filter(|seconds| (least..=most).contains(&(seconds * 1000))) {
        let at = log_place(seconds * 1000, least, most);
        // Words need room.
        if ticks.last().is_none_or(|last| at - last.at > 0.1) {
            ticks.push(Tick { at, label: duration(seconds * 1000) });
        }
    }
    if ticks.len() >= 3 {
        return ticks;
    }
    let between = |fifth: u64| least + (most.max(least + 5) - least) * fifth / 5;
    (0..=5).map(between).map(|ms| Tick { at: log_place(ms, least, most), label: duration(ms) }).collect()
}

/// How many sites got how many bytes, by the way that brought most of them.
fn cost(figures: &Figures) -> String {
    let most = figures.bytes.worst().unwrap_or(0);
    let (top, x) = byte_ticks(most, bytes);
    let width = top.div_ceil(BARS).max(1);
    let count = |spread: &Spread, from: u64, to: u64| {
        let (after, before) = (|below: u64| spread.numbers().partition_point(|number| *number < below), from);
        (after(to) - after(before)) as u64
    };
    let ways = [(1, "by link", &figures.link_sites), (2, "by stick", &figures.stick_sites)];
    let columns: Vec<(u64, u64, Vec<u64>)> = (0..BARS)
        .map(|bar| {
            let (from, to) = (bar * width, if bar + 1 == BARS { u64::MAX } else { (bar + 1) * width });
            (
                bar * width,
                (bar + 1) * width,
                ways.iter().map(|(_, _, spread)| count(spread, from, to)).collect(),
            )
        })
        .collect();
    let tallest = columns.iter().map(|(_, _, counts)| counts.iter().sum::<u64>()).max().unwrap_or(0);
    let (height, y) = round_ticks(tallest, |sites| sites.to_string());
    let bars: Vec<Bar> = columns
        .iter()
        .filter(|(_, _, counts)| counts.iter().any(|count| *count > 0))
        .map(|(from, to, counts)| Bar {
            from: ratio(*from, top),
            to: ratio(*to, top).min(1.0),
            parts: ways
                .iter()
                .zip(counts)
                .map(|((series, ..), count)| (*series, ratio(*count, height)))
                .collect(),
            words: format!("{} to {}: {} sites", bytes(*from), bytes(*to), counts.iter().sum::<u64>()),
        })
        .collect();
    let description = format!(
        "Median {}, most {}, all together {}.",
        or_dash(figures.bytes.median(), bytes),
        or_dash(figures.bytes.worst(), bytes),
        bytes(figures.bytes.sum())
    );
    let drawing = Frame {
        id: "cost",
        title: "Number of sites by bytes that they took",
        description: &description,
        height: HEIGHT,
        x,
        y,
        x_name: "bytes per site and run",
        y_name: "sites",
        marks: Vec::new(),
    }
    .draw(&bars, &[]);
    let shown: Vec<_> = ways
        .iter()
        .filter(|(_, _, spread)| spread.count() > 0)
        .map(|(series, name, _)| (*series, format!("sites served mostly {name}")))
        .collect();
    let row = |name: &str, spread: &Spread| {
        vec![
            name.to_owned(),
            or_dash(spread.median(), bytes),
            or_dash(spread.percentile(90), bytes),
            or_dash(spread.worst(), bytes),
            bytes(spread.sum()),
        ]
    };
    let rows = [row("Link", &figures.link), row("Stick", &figures.stick), row("Both", &figures.bytes)];
    let heads = ["Way", "Median", "90 %", "Most", "Together"];
    let about = "Content and documents that reached each site or left it; interrupted transfers count as far as they came.";
    section("Bytes per site", about, &(drawing + &legend(&shown)), &table("Per site and run", &heads, &rows))
}

fn marks(figures: &Figures, duration_ms: u64) -> Vec<Mark> {
    let mut marks: Vec<Mark> = Vec::new();
    for order in &figures.orders {
        let at = ratio(order.at_ms, duration_ms).min(1.0);
        // Orders that are close share the room of their words; the first one speaks.
        let crowded = marks.iter().any(|mark| (mark.at - at).abs() < 0.09);
        marks.push(Mark { at, label: if crowded { String::new() } else { name(order) } });
    }
    marks
}

fn clock(ms: u64) -> String {
    if ms == 0 { "0".into() } else { duration(ms) }
}

/// Counts over time as bars, with the same scale for both rows.
fn failures(figures: &Figures, duration_ms: u64) -> String {
    let most = figures.moments.iter().map(|moment| moment.failures.max(moment.rollbacks)).max().unwrap_or(0);
    let (top, y) = round_ticks(u64::from(most), |count| count.to_string());
    let draw = |id: &str, series: usize, word: &str, pick: fn(&FleetMoment) -> u32, all: u64| {
        let bars: Vec<Bar> = figures
            .moments
            .iter()
            .enumerate()
            .filter(|(_, moment)| pick(moment) > 0)
            .map(|(place, moment)| {
                let from_ms = place as u64 * figures.moment_ms;
                Bar {
                    from: ratio(from_ms, duration_ms).min(1.0),
                    to: ratio(from_ms + figures.moment_ms, duration_ms).min(1.0),
                    parts: vec![(series, ratio(u64::from(pick(moment)), top))],
                    words: format!(
                        "{} after {}: {} {word}",
                        clock(figures.moment_ms),
                        clock(from_ms),
                        pick(moment)
                    ),
                }
            })
            .collect();
        Frame {
            id,
            title: &format!("Number of {word} over time"),
            description: &format!("{all} {word} in all."),
            height: 170.0,
            x: time_ticks(duration_ms, clock),
            y: y.clone(),
            x_name: "since the beginning",
            y_name: word,
            marks: marks(figures, duration_ms),
        }
        .draw(&bars, &[])
    };
    let drawing = draw("failures", 2, "failures", |moment| moment.failures, figures.failures)
        + &draw("rollbacks", 4, "rollbacks", |moment| moment.rollbacks, figures.rollbacks);
    let rows = over_time(figures, |part| {
        let sum =
            |pick: fn(&FleetMoment) -> u32| part.iter().map(|moment| u64::from(pick(moment))).sum::<u64>();
        let counts =
            [sum(|moment| moment.failures), sum(|moment| moment.rollbacks), sum(|moment| moment.reached)];
        counts.iter().any(|count| *count > 0).then(|| counts.iter().map(u64::to_string).collect())
    });
    let beside = if rows.is_empty() {
        "<p class=\"soft\">Nothing failed, and nothing was reached.</p>".to_owned()
    } else {
        table(
            "Parts of the time in which there was any",
            &["Time", "Failures", "Rollbacks", "Reached"],
            &rows,
        )
    };
    let about = "A failure is a version that a site gave up; a rollback is a site that went back by itself.";
    section("Failures and rollbacks", about, &drawing, &beside)
}

fn staleness(figures: &Figures, duration_ms: u64) -> String {
    let points = figures.moments.iter().enumerate().map(|(place, moment)| {
        let at = ratio((place as u64) * figures.moment_ms, duration_ms).min(1.0);
        (at, ratio(u64::from(moment.stale), figures.sites).min(1.0))
    });
    let mut points: Vec<(f64, f64)> = points.collect();
    // The last moment lasts as well.
    let end = ratio(figures.moments.len() as u64 * figures.moment_ms, duration_ms).min(1.0);
    points.extend(points.last().map(|last| (end, last.1)));
    let worst = figures.moments.iter().map(|moment| u64::from(moment.stale)).max().unwrap_or(0);
    let description = format!(
        "At most {} of {} sites at once; {} of all site time.",
        worst,
        figures.sites,
        per_cent(figures.stale.0, figures.stale.1)
    );
    let line = Line { series: 3, points, words: description.clone(), filled: true };
    let drawing = Frame {
        id: "stale",
        title: "Share of sites of which the hub had not heard for too long",
        description: &description,
        height: 260.0,
        x: time_ticks(duration_ms, clock),
        y: percent_ticks(),
        x_name: "since the beginning",
        y_name: "stale sites",
        marks: marks(figures, duration_ms),
    }
    .draw(&[], &[line]);
    let rows = over_time(figures, |part| {
        let most = part.iter().map(|moment| u64::from(moment.stale)).max().unwrap_or(0);
        Some(vec![most.to_string(), per_cent(most, figures.sites)])
    });
    let about = format!(
        "Stale is what the hub calls a site after {} without a word by {}, {} by {}. The longest silence was {}.",
        duration(600_000),
        crate::figures::contact(ContactClass::Mqtt),
        duration(14 * 86_400_000),
        crate::figures::contact(ContactClass::Media),
        or_dash(figures.silence.worst(), duration)
    );
    let heads = ["Time", "Stale at most", "Of all"];
    section("Staleness", &about, &drawing, &table("The worst moment of each part of the time", &heads, &rows))
}

/// A row for each of some parts of the time, where `cells` has something to say.
fn over_time(figures: &Figures, cells: impl Fn(&[FleetMoment]) -> Option<Vec<String>>) -> Vec<Vec<String>> {
    let size = figures.moments.len().div_ceil(ROWS).max(1);
    let parts = figures.moments.chunks(size).enumerate();
    parts
        .filter_map(|(number, part)| {
            let from_ms = (number * size) as u64 * figures.moment_ms;
            let to_ms = from_ms + part.len() as u64 * figures.moment_ms;
            let mut row = vec![format!("{} – {}", clock(from_ms), clock(to_ms))];
            row.extend(cells(part)?);
            Some(row)
        })
        .collect()
}
