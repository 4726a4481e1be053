//! Charts as inline SVG: no script, no style attribute, every mark with words of its own for those who point at it.

use std::fmt::Write as _;

use super::markup::escape;

/// The drawing's size in its own units, and the frame within it.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
/// Above the frame: the name of the upward axis, and under it the words of marks.
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;

/// A place on an axis, with its words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// From 0 to 1 along the axis.
    pub(super) at: f64,
    pub(super) label: String,
}

/// A moment that is marked through the whole chart.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) label: String,
}

/// A chart's frame: axes, grid and words.
pub(super) struct Frame<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    pub(super) height: f64,
    pub(super) x: Vec<Tick>,
    pub(super) y: Vec<Tick>,
    pub(super) x_name: &'a str,
    pub(super) y_name: &'a str,
    pub(super) marks: Vec<Mark>,
}

/// One bar: its place, what is stacked in it, and its words.
pub(super) struct Bar {
    pub(super) from: f64,
    pub(super) to: f64,
    /// Heights from 0 to 1, the lowest first; each with its series.
    pub(super) parts: Vec<(usize, f64)>,
    pub(super) words: String,
}

/// A line of steps through points from 0 to 1.
pub(super) struct Line {
    pub(super) series: usize,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) words: String,
    /// The room under it is filled.
    pub(super) filled: bool,
}

fn x(at: f64) -> f64 {
    LEFT + at * (WIDTH - LEFT - RIGHT)
}

impl Frame<'_> {
    fn y(&self, at: f64) -> f64 {
        self.height - BOTTOM - at * (self.height - TOP - BOTTOM)
    }

    /// The chart with these bars and lines.
    pub(super) fn draw(&self, bars: &[Bar], lines: &[Line]) -> String {
        let mut svg = String::new();
        let (id, height) = (self.id, self.height);
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
             <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>",
            escape(self.title),
            escape(self.description)
        );
        self.draw_frame(&mut svg);
        for bar in bars {
            self.draw_bar(&mut svg, bar);
        }
        for line in lines {
            self.draw_line(&mut svg, line);
        }
        svg.push_str("</svg>");
        svg
    }

    fn draw_frame(&self, svg: &mut String) {
        let (left, right, floor) = (x(0.0), x(1.0), self.y(0.0));
        for tick in &self.y {
            let y = self.y(tick.at);
            let label = escape(&tick.label);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                left - 8.0,
                y + 4.0
            );
        }
        let last = self.x.len().saturating_sub(1);
        for (number, tick) in self.x.iter().enumerate() {
            // Words at the borders stay inside.
            let place = match number {
                0 if tick.at < 0.03 => "start",
                number if number == last && tick.at > 0.95 => "end",
                _ => "middle",
            };
            let (x, label) = (x(tick.at), escape(&tick.label));
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{floor:.1}\" y2=\"{:.1}\"/>\
                 <text class=\"tick {place}\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
                floor + 4.0,
                floor + 17.0
            );
        }
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{floor:.1}\" y2=\"{floor:.1}\"/>\
             <text class=\"name end\" x=\"{right:.1}\" y=\"{:.1}\">{}</text>\
             <text class=\"name start\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            self.height - 6.0,
            escape(self.x_name),
            left - 40.0,
            TOP - 22.0,
            escape(self.y_name)
        );
        for mark in &self.marks {
            let (x, label) = (x(mark.at), escape(&mark.label));
            let place = if mark.at > 0.85 { "end" } else { "start" };
            let _ = write!(
                svg,
                "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{floor:.1}\"/>\
                 <text class=\"tick {place}\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
                TOP - 6.0
            );
        }
    }

    fn draw_bar(&self, svg: &mut String, bar: &Bar) {
        let (left, right) = (x(bar.from) + 1.0, x(bar.to) - 1.0);
        let width = (right - left).max(1.5);
        let _ = write!(svg, "<g><title>{}</title>", escape(&bar.words));
        let mut below = 0.0;
        for (series, part) in bar.parts.iter().filter(|(_, part)| *part > 0.0) {
            let (top, foot) = (self.y(below + part), self.y(below));
            // A small count is still to be seen.
            let height = (foot - top).max(1.5);
            let _ = write!(
                svg,
                "<rect class=\"s{series}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
                foot - height
            );
            below += part;
        }
        svg.push_str("</g>");
    }

    fn draw_line(&self, svg: &mut String, line: &Line) {
        let Some((first, rest)) = line.points.split_first() else { return };
        let mut path = format!("M{:.1} {:.1}", x(first.0), self.y(first.1));
        for (at, height) in rest {
            let _ = write!(path, "H{:.1}V{:.1}", x(*at), self.y(*height));
        }
        let (words, series) = (escape(&line.words), line.series);
        if line.filled {
            let last = line.points.last().unwrap_or(first);
            let _ = write!(
                svg,
                "<path class=\"a{series}\" d=\"{path}L{:.1} {:.1}L{:.1} {:.1}Z\"/>",
                x(last.0),
                self.y(0.0),
                x(first.0),
                self.y(0.0)
            );
        }
        let solid = if line.filled { " solid" } else { "" };
        let _ = write!(svg, "<path class=\"l{series}{solid}\" d=\"{path}\"><title>{words}</title></path>");
    }
}

/// Up to six round numbers from 0 to `most`, as places and words.
pub(super) fn round_ticks(most: u64, words: impl Fn(u64) -> String) -> (u64, Vec<Tick>) {
    let mut step: u64 = 1;
    let factors = [2, 5, 10];
    let mut scale = 1;
    let mut next = factors.iter().cycle();
    while most.div_ceil(step) > 5 {
        let factor = next.next().copied().unwrap_or(10);
        step = scale * factor;
        if factor == 10 {
            scale *= 10;
        }
    }
    ticks(most, step, words)
}

/// The same for bytes, whose round numbers are powers of two.
pub(super) fn byte_ticks(most: u64, words: impl Fn(u64) -> String) -> (u64, Vec<Tick>) {
    let mut step = 1;
    while most.div_ceil(step) > 6 {
        step *= 2;
    }
    ticks(most, step, words)
}

fn ticks(most: u64, step: u64, words: impl Fn(u64) -> String) -> (u64, Vec<Tick>) {
    let top = most.div_ceil(step).max(1) * step;
    let ticks =
        (0..=top / step).map(|number| Tick { at: ratio(number * step, top), label: words(number * step) });
    (top, ticks.collect())
}

/// Round lengths of time within a story.
pub(super) fn time_ticks(whole_ms: u64, words: impl Fn(u64) -> String) -> Vec<Tick> {
    const STEPS_MIN: [u64; 14] = [1, 5, 10, 30, 60, 120, 180, 360, 720, 1_440, 2_880, 7_200, 14_400, 28_800];
    let steps = STEPS_MIN.map(|minutes| minutes * 60_000);
    let step = steps.into_iter().find(|step| whole_ms / step <= 8).unwrap_or(whole_ms.div_ceil(8).max(1));
    let all = (0..=whole_ms / step).map(|number| number * step);
    all.map(|ms| Tick { at: ratio(ms, whole_ms), label: words(ms) }).collect()
}

/// `part / whole` for drawing.
#[expect(clippy::cast_precision_loss, reason = "a drawing has no finer places than that")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The place of a time on an axis whose steps are factors.
pub(super) fn log_place(ms: u64, least_ms: u64, most_ms: u64) -> f64 {
    let log = |ms: u64| ratio(ms.max(1), 1).ln();
    let (least, most) = (log(least_ms), log(most_ms.max(least_ms + 1)));
    ((log(ms) - least) / (most - least)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_above_all_that_is_shown() {
        for most in [0, 1, 3, 7, 49, 100, 101, 99_999, 1_000_000] {
            let (top, ticks) = round_ticks(most, |number| number.to_string());
            assert!(top >= most && ticks.len() <= 7 && ticks.len() >= 2, "{most}: {ticks:?}");
            assert!((ticks.last().unwrap().at - 1.0).abs() < 1e-9);
        }
        let (top, _) = byte_ticks(20_000_000, |number| number.to_string());
        assert_eq!(top, 5 << 22);
        assert!(time_ticks(93 * 86_400_000, |ms| ms.to_string()).len() <= 9);
    }

    #[test]
    fn places_on_an_axis_of_factors_rise_from_0_to_1() {
        let places: Vec<f64> = [10, 100, 1_000].iter().map(|ms| log_place(*ms, 10, 1_000)).collect();
        assert!(places[0].abs() < 1e-9 && (places[1] - 0.5).abs() < 1e-9 && (places[2] - 1.0).abs() < 1e-9);
        assert!(log_place(5, 5, 5).is_finite());
    }

    #[test]
    fn words_in_a_drawing_cannot_become_marks() {
        let frame = Frame {
            id: "c",
            title: "<b>",
            description: "\"&",
            height: 200.0,
            x: Vec::new(),
            y: Vec::new(),
            x_name: "x",
            y_name: "y",
            marks: vec![Mark { at: 0.5, label: "</svg>".into() }],
        };
        let bar = Bar { from: 0.0, to: 0.1, parts: vec![(1, 0.5)], words: "<script>".into() };
        let svg = frame.draw(&[bar], &[]);
        assert!(
            !svg.contains("<b>") && !svg.contains("<script>") && svg.matches("</svg>").count() == 1,
            "{svg}"
        );
    }
}
