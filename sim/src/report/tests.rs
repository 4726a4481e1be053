use super::*;
use crate::figures::Collection;
use crate::scenario::Scenario;
use crate::world::World;

fn written(scenario: &Scenario, seeds: &[u64]) -> String {
    let mut collection = Collection::default();
    for seed in seeds {
        collection.add(*seed, World::new(scenario.clone(), *seed).unwrap().run());
    }
    let subject = Subject {
        name: &scenario.name,
        about: &scenario.about,
        duration_ms: scenario.duration.ms(),
        replay: "airlift-sim replay x",
        notes: &["sites of <b>my</b> fleet".to_owned()],
        not_modelled: &["weather"],
        scenario: &scenario.to_toml(),
    };
    page(&collection.finish(), &subject)
}

#[test]
fn the_page_needs_nothing_from_outside_and_runs_nothing() {
    let html = written(&Scenario::find("bad-release").unwrap().with_sites(3), &[1]);
    for refused in
        ["<script", " src=", "http://", "https://", "url(", "@import", "<iframe", "style=\"", " onload"]
    {
        assert!(!html.contains(refused), "{refused} in a page that must stand alone");
    }
    // The policy names the very style sheet that is there.
    let (_, style) = html.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    let hash =
        base64::engine::general_purpose::STANDARD.encode(Sha256Digest::of(style.as_bytes()).as_bytes());
    assert!(html.contains(&format!("style-src 'sha256-{hash}'")));
    // Every chart speaks to those who do not see it, and has its numbers beside it.
    assert_eq!(html.matches("<svg viewBox=\"0 0 720").count(), 5);
    assert_eq!(html.matches("role=\"img\" aria-labelledby").count(), 5);
    assert!(html.matches("<caption>").count() >= 5);
    assert!(html.contains("&lt;b&gt;my&lt;/b&gt;"), "words of others are only words");
}

#[test]
fn what_was_broken_stands_first_with_the_command_that_shows_it_again() {
    let broken = Scenario::parse(
        "name = \"x\"\nabout = \"<y>\"\nduration = \"1h\"\n[[group]]\nname = \"a\"\ncount = 2\n\
         [[release]]\napp = \"till\"\nversion = \"1.0.0\"\nseq = 1\n\
         [[expect]]\napp = \"till\"\nrunning = \"1.0.0\"\n",
    );
    let html = written(&broken.unwrap(), &[4, 5]);
    let verdict = html.split_once("id=\"verdict\"").unwrap().1;
    let (verdict, rest) = verdict.split_once("</section>").unwrap();
    assert!(verdict.contains("Broken in 2 of 2 runs") && verdict.contains("--seed 4"), "{verdict}");
    assert!(rest.contains("id=\"worst\"") && rest.contains("a-1"));
    assert!(!html.contains("<y>"));
}
