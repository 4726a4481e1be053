//! What runs came to, as one page of HTML that needs nothing else: verdict, counts and the worst site first, then
//! charts, each with its table.
//!
//! The page has no script and refers to nothing outside itself, and says so to the browser: its policy allows its own
//! style sheet, by hash, and nothing else. So it can be mailed, kept with a change, and opened where there is no
//! network.

mod chart;
mod charts;
mod markup;

use std::fmt::Write as _;

use airlift_bundles::ids::Sha256Digest;
use base64::Engine as _;

use crate::figures::{Figures, bytes, duration, per_cent};
use markup::{escape, table};

const STYLE: &str = include_str!("report/style.css");

/// What was run.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The scenario's name.
    pub name: &'a str,
    /// What it shows.
    pub about: &'a str,
    /// How long it is.
    pub duration_ms: u64,
    /// The command that shows a seed again, without the seed.
    pub replay: &'a str,
    /// What a reader has to know of fleet and bundles.
    pub notes: &'a [String],
    /// What the models leave out.
    pub not_modelled: &'a [&'a str],
    /// The scenario itself.
    pub scenario: &'a str,
}

/// The page.
#[must_use]
pub fn page(figures: &Figures, subject: &Subject<'_>) -> String {
    let style =
        base64::engine::general_purpose::STANDARD.encode(Sha256Digest::of(STYLE.as_bytes()).as_bytes());
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'; \
         img-src data:; base-uri 'none'; form-action 'none'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">\
         <title>{} · Airlift simulation</title><style>{STYLE}</style></head><body><main>",
        escape(subject.name)
    );
    head(&mut html, figures, subject);
    html.push_str("<div class=\"top\">");
    verdict(&mut html, figures, subject);
    tiles(&mut html, figures);
    worst(&mut html, figures, subject);
    html.push_str("</div>");
    for chart in charts::all(figures, subject.duration_ms) {
        html.push_str(&chart);
    }
    worst_sites(&mut html, figures);
    details(&mut html, figures, subject);
    html.push_str("</main></body></html>\n");
    html
}

fn head(html: &mut String, figures: &Figures, subject: &Subject<'_>) {
    let seeds = match figures.seeds.as_slice() {
        [one] => format!("seed {one}"),
        [first, .., last] => format!("{} runs, seeds {first} to {last}", figures.seeds.len()),
        [] => "no run".into(),
    };
    let sites = if figures.sites == 1 { "1 site".to_owned() } else { format!("{} sites", figures.sites) };
    let _ = write!(
        html,
        "<header><h1>{}: {sites}, {} each, {seeds}</h1><p class=\"about\">{}</p></header>",
        escape(subject.name),
        duration(subject.duration_ms),
        escape(&cut(subject.about, 240))
    );
}

fn verdict(html: &mut String, figures: &Figures, subject: &Subject<'_>) {
    let Some((seed, violation)) = figures.violations.first() else {
        let _ = write!(
            html,
            "<section class=\"verdict held\" id=\"verdict\"><strong>✓ Held</strong><p>No invariant was broken in any \
             step, and everything that the scenario expects came.</p></section>"
        );
        return;
    };
    let runs = figures.seeds.len();
    let of_runs = if runs == 1 { String::new() } else { format!(" in {} of {runs} runs", figures.broken()) };
    let (what, text) = (escape(&violation.invariant.to_string()), escape(&cut(&violation.text, 240)));
    let site = violation.site.as_ref().map_or_else(String::new, |site| format!(" at {site}"));
    let _ = write!(
        html,
        "<section class=\"verdict broken\" id=\"verdict\"><strong>✗ Broken{of_runs}: {what}</strong>\
         <p class=\"seen\">Seed {seed}, {} in{site}: {text}. A run ends there, and so do its numbers.</p>\
         <p>Again: <code>{} --seed {seed}</code></p></section>",
        duration(violation.at_ms),
        escape(subject.replay)
    );
}

fn tiles(html: &mut String, figures: &Figures) {
    let all = figures.sites * figures.seeds.len() as u64;
    let or_none = |value: Option<u64>, words: fn(u64) -> String| value.map_or_else(|| "none".into(), words);
    let settled = format!("{} of {all}", figures.settled);
    let runs =
        if figures.seeds.len() > 1 { format!(", in {} runs", figures.seeds.len()) } else { String::new() };
    let tiles = [
        ("Sites as assigned", settled, format!("{} at the end{runs}", per_cent(figures.settled, all))),
        (
            "Time to converge",
            or_none(figures.reached.median(), duration),
            format!("median; slowest {}", or_none(figures.reached.worst(), duration)),
        ),
        (
            "Bytes per site",
            or_none(figures.bytes.median(), bytes),
            format!("median; most {}", or_none(figures.bytes.worst(), bytes)),
        ),
        ("Invariants", invariants(figures), "checked at every step".into()),
        ("Failures", figures.failures.to_string(), "versions that failed at a site".into()),
        ("Rollbacks", figures.rollbacks.to_string(), "by the sites themselves".into()),
        (
            "Stale",
            per_cent(figures.stale.0, figures.stale.1),
            format!("of site time; longest silence {}", or_none(figures.silence.worst(), silence)),
        ),
        ("Receipts", figures.receipts.to_string(), "signed and chained".into()),
    ];
    html.push_str("<dl class=\"tiles\" id=\"counts\">");
    for (name, value, note) in tiles {
        let _ = write!(
            html,
            "<div class=\"tile\"><dt>{name}</dt><dd class=\"value\">{value}</dd><dd class=\"note\">{note}</dd></div>"
        );
    }
    html.push_str("</dl>");
}

fn invariants(figures: &Figures) -> String {
    let broken = figures.violations.iter().any(|(_, violation)| !violation.invariant.numbers().is_empty());
    if broken { "broken".into() } else { "all held".into() }
}

fn worst(html: &mut String, figures: &Figures, subject: &Subject<'_>) {
    let Some(site) = figures.worst.first() else { return };
    let measures = &site.measures;
    let contact = super::figures::contact(measures.contact);
    let _ = write!(
        html,
        "<section class=\"worst\" id=\"worst\"><h2>Worst site</h2><p class=\"name\">{}</p><p class=\"seen\">{}</p><dl>",
        site.site,
        escape(&cut(&site.why, 110))
    );
    let rows = [
        ("Reached by", contact.to_owned()),
        (
            "Bytes by link, by stick",
            format!("{}, {}", bytes(measures.link_bytes), bytes(measures.stick_bytes)),
        ),
        ("Failures, rollbacks", format!("{}, {}", measures.failures, measures.rollbacks)),
        ("Longest silence", silence(measures.silent_ms_max)),
    ];
    for (name, value) in rows {
        let _ = write!(html, "<dt>{name}</dt><dd>{value}</dd>");
    }
    let _ = write!(html, "</dl><code>{} --seed {}</code></section>", escape(subject.replay), site.seed);
}

fn silence(ms: u64) -> String {
    if ms == 0 { "none".into() } else { duration(ms) }
}

fn worst_sites(html: &mut String, figures: &Figures) {
    let row = |site: &crate::figures::WorstSite| {
        let measures = &site.measures;
        vec![
            site.site.to_string(),
            cut(&site.why, 160),
            site.seed.to_string(),
            bytes(measures.link_bytes + measures.stick_bytes),
            measures.failures.to_string(),
            measures.rollbacks.to_string(),
            silence(measures.silent_ms_max),
        ]
    };
    let rows: Vec<_> = figures.worst.iter().map(row).collect();
    let heads = ["Site", "What is worst", "Seed", "Bytes", "Failures", "Rollbacks", "Longest silence"];
    let caption = "Broken first, then what was never reached, then the slowest";
    let _ = write!(
        html,
        "<section class=\"more\"><h2>The sites that did worst</h2>{}</section>",
        table(caption, &heads, &rows)
    );
}

fn details(html: &mut String, figures: &Figures, subject: &Subject<'_>) {
    if figures.violations.len() > 1 {
        html.push_str("<section class=\"more\"><h2>Everything that was broken</h2><ul>");
        for (seed, violation) in figures.violations.iter().take(50) {
            let _ = write!(html, "<li>Seed {seed}: {}</li>", escape(&cut(&violation.to_string(), 300)));
        }
        html.push_str("</ul></section>");
    }
    html.push_str("<section class=\"more\"><h2>What this says, and what it does not</h2><ul>");
    for note in subject.notes {
        let _ = write!(html, "<li>{}</li>", escape(note));
    }
    html.push_str(
        "<li>Real: the agent's core, documents and signatures, how bundles are rendered, the hub's decisions. \
         Models: clusters, disks, links, sticks and clocks. Bytes are content and documents; what MQTT, TLS and TCP \
         add is not counted.</li>",
    );
    for left_out in subject.not_modelled {
        let _ = write!(html, "<li>Not modelled: {}</li>", escape(left_out));
    }
    let _ = write!(
        html,
        "</ul></section><section class=\"more\"><details><summary>The scenario</summary><pre>{}</pre></details></section>",
        escape(subject.scenario)
    );
}

/// A text's beginning, marked where it was cut.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
