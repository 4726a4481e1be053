//! The simulator's report in a real browser: everything that matters is seen at once, in light and dark, and nothing is
//! asked of a network.

mod browser;

use std::path::Path;
use std::process::Command;

use airlift_tests::components::product;
use browser::Browser;

const SIZE: (u32, u32) = (1280, 600);

/// Where verdict, counts and the worst site are.
const PLACES: &str = "
    const place = id => { const r = document.getElementById(id).getBoundingClientRect();
        return {id, left: r.left, top: r.top, right: r.right, bottom: r.bottom,
            text: document.getElementById(id).innerText}; };
    return {width: innerWidth, height: innerHeight, wide: document.documentElement.scrollWidth,
        charts: document.querySelectorAll('svg[role=img]').length,
        drawn: [...document.querySelectorAll('svg[role=img]')].every(svg => svg.getBoundingClientRect().height > 80),
        places: ['verdict', 'counts', 'worst'].map(place)};";

/// The least contrast of any text with what is behind it, as WCAG counts it.
const CONTRAST: &str = "
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => { const [r, g, b] = parts(colour).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = element => { for (; element; element = element.parentElement) {
        const colour = getComputedStyle(element).backgroundColor;
        if ((parts(colour)[3] ?? 1) > 0) return colour; } return 'rgb(255, 255, 255)'; };
    let least = {ratio: 21};
    for (const element of document.querySelectorAll('h1, h2, p, strong, code, dt, dd, th, td, caption, li, text')) {
        const svg = element.tagName === 'text';
        const style = getComputedStyle(element);
        const [one, two] = [light(svg ? style.fill : style.color), light(behind(element))];
        const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        if (ratio < least.ratio) least = {ratio, what: element.outerHTML.slice(0, 80)};
    }
    return {...least, page: getComputedStyle(document.body).backgroundColor};";

/// A story that fails with many words, at a site with a long name.
const BROKEN: &str = r#"
name = "impossible"
about = "A version that crashes is expected to run, which no site can do, and the words for that are many."
duration = "3h"
[[group]]
name = "a-town-whose-name-is-as-long-as-a-group-may-have"
count = 3
[[release]]
app = "till"
version = "1.0.0"
seq = 1
[[release]]
app = "till"
version = "2.0.0"
seq = 2
works = false
[[action]]
at = "1m"
act = "assign"
app = "till"
version = "1.0.0"
[[action]]
at = "1h"
act = "assign"
app = "till"
version = "2.0.0"
[[expect]]
app = "till"
running = "2.0.0"
"#;

fn report(scenario: &str, more: &[&str], page: &Path) -> bool {
    let output = Command::new(product("airlift-sim"))
        .args(["report", scenario, "--to"])
        .arg(page)
        .args(more)
        .output()
        .expect("airlift-sim is there");
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

/// Looks at a page in both schemes of colours.
fn look(browser: &Browser, page: &Path, verdict: &str, scratch: &Path) {
    // Before it opens anything it shows a page of its own.
    browser.requests();
    let mut pages = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        browser.open(page);
        let seen = browser.run(PLACES);
        assert_eq!((&seen["width"], &seen["height"]), (&SIZE.0.into(), &SIZE.1.into()));
        assert!(seen["wide"].as_u64() <= Some(u64::from(SIZE.0)), "it must not be scrolled sideways: {seen}");
        assert_eq!((&seen["charts"], &seen["drawn"]), (&5.into(), &true.into()), "{seen}");
        for place in seen["places"].as_array().unwrap() {
            let at = |edge: &str| place[edge].as_f64().unwrap();
            let inside = at("left") >= 0.0
                && at("top") >= 0.0
                && at("right") <= f64::from(SIZE.0)
                && at("bottom") <= f64::from(SIZE.1);
            assert!(inside && at("bottom") > at("top"), "not within the first {SIZE:?}: {place}");
        }
        assert!(seen["places"][0]["text"].as_str().unwrap().contains(verdict), "{seen}");
        let contrast = browser.run(CONTRAST);
        assert!(contrast["ratio"].as_f64() >= Some(4.5), "{scheme}: {contrast}");
        pages.push(contrast["page"].clone());
        let shot = browser.screenshot();
        let number = |from: usize| u32::from_be_bytes(shot[from..from + 4].try_into().unwrap());
        assert_eq!((shot.starts_with(b"\x89PNG"), number(16), number(20)), (true, SIZE.0, SIZE.1));
        let stem = page.file_stem().unwrap().to_string_lossy();
        std::fs::write(scratch.join(format!("{stem}-{scheme}.png")), shot).unwrap();
    }
    assert_ne!(pages[0], pages[1], "both schemes have one background");
    assert_eq!(browser.console(), [] as [serde_json::Value; 0], "the page complains of something");
    let own = format!("file://{}", page.display());
    let requests = browser.requests();
    assert!(requests.contains(&own), "{requests:?}");
    let left: Vec<_> = requests.iter().filter(|url| **url != own && !url.starts_with("data:")).collect();
    assert!(left.is_empty(), "the page asked for {left:?}");
}

#[test]
fn a_report_shows_verdict_counts_and_the_worst_site_at_once_and_asks_nobody() {
    let scratch = std::env::temp_dir().join(format!("airlift-report-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let (held, broken) = (scratch.join("held.html"), scratch.join("broken.html"));
    assert!(report("chaos", &["--sites", "12", "--seeds", "1..2"], &held));
    let story = scratch.join("impossible.toml");
    std::fs::write(&story, BROKEN).unwrap();
    assert!(!report(story.to_str().unwrap(), &["--seed", "4"], &broken));
    let browser = Browser::start(&scratch, SIZE);
    look(&browser, &held, "Held", &scratch);
    look(&browser, &broken, "Broken", &scratch);
    drop(browser);
    std::fs::remove_dir_all(&scratch).unwrap();
}
