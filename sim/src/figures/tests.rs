use super::*;
use crate::scenario::Scenario;
use crate::world::World;

fn figures(name: &str, sites: u64, seeds: &[u64]) -> Figures {
    let mut collection = Collection::default();
    for seed in seeds {
        let scenario = Scenario::find(name).unwrap().with_sites(sites);
        collection.add(*seed, World::new(scenario, *seed).unwrap().run());
    }
    collection.finish()
}

#[test]
fn a_bad_release_is_counted_where_it_failed_and_was_left() {
    let figures = figures("bad-release", 4, &[1, 2]);
    assert_eq!(
        (figures.violations.len(), figures.sites, figures.seeds.as_slice()),
        (0, 4, [1, 2].as_slice())
    );
    assert_eq!((figures.failures, figures.rollbacks), (8, 8), "each site of each run once");
    let [first, bad, good] = figures.orders.as_slice() else { panic!("{:?}", figures.orders) };
    assert_eq!((first.reached.count(), bad.failed, good.reached.count()), (8, 8, 8));
    assert_eq!((first.open(), bad.open(), good.open()), (0, 0, 0));
    assert_eq!(figures.settled, 8);
    // Settling takes two minutes of soak at least.
    assert!(first.reached.numbers()[0] >= 120_000, "{:?}", first.reached);
    assert!(figures.link.numbers()[0] > 0 && figures.stick.sum() == 0);
    let [failures, rollbacks, reached] =
        figures.moments.iter().fold([0; 3], |[failures, rollbacks, reached], one| {
            [failures + one.failures, rollbacks + one.rollbacks, reached + one.reached]
        });
    assert_eq!([failures, rollbacks, reached], [8, 8, 16], "over time it is as many as in all");
}

#[test]
fn islands_get_their_bytes_by_stick_and_are_silent_between_rounds() {
    let figures = figures("usb-only", 2, &[1]);
    assert_eq!(figures.link.sum(), 0);
    assert!(figures.stick.numbers()[0] >= 400_000_000, "{:?}", figures.stick);
    assert!(figures.silence.worst() > Some(86_400_000));
    assert_eq!(figures.worst.len(), 2);
    assert!(figures.worst[0].why.contains("buoy"), "{}", figures.worst[0].why);
}

#[test]
fn percentiles_are_numbers_that_are_there() {
    let spread = Spread::new(vec![5, 1, 4, 2, 3]);
    assert_eq!((spread.median(), spread.percentile(90), spread.worst()), (Some(3), Some(5), Some(5)));
    assert_eq!(spread.percentile(0), Some(1));
    assert_eq!(Spread::default().median(), None);
}
