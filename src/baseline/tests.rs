//! Baselines: what is kept, what is refused, and that nothing depends on the order of adding.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::compare::fixture::{quiet, run};

fn of(numbers: impl IntoIterator<Item = u64>) -> Baseline {
    let mut baseline = Baseline::new(Provenance::Measured);
    numbers.into_iter().for_each(|number| baseline.add(run(number)).unwrap());
    baseline
}

fn read(text: &str) -> Result<Baseline, BaselineError> {
    Baseline::read(Path::new("b.json"), text.as_bytes())
}

#[test]
fn what_is_written_is_read_back() {
    let baseline = of(0..5);
    let text = baseline.to_json().unwrap();
    assert_eq!(read(&text).unwrap(), baseline);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value, serde_json::to_value(&baseline).unwrap());
    assert_eq!(baseline.sets.len(), 1);
    assert!(!text.contains("noisy"), "levels beside neighbours are not kept");
    // A series of a cell is one line, so that a changed one is one line of a diff.
    assert_eq!(text.matches("\n        {\"series\": \"chase\", \"quantile\": \"p99\"").count(), 5, "{text}");
}

#[test]
fn a_run_is_kept_once() {
    let mut baseline = of(0..3);
    let refused = baseline.add(run(1)).unwrap_err().to_string();
    assert!(refused.contains("in the baseline already") && refused.contains(&format!("{:064x}", 1)), "{refused}");
    assert_eq!(baseline, of(0..3));
    let text = baseline.to_json().unwrap().replace(&format!("{:064x}", 1), &format!("{:064x}", 2));
    assert!(read(&text).unwrap_err().to_string().contains("is in it twice"));
}

#[test]
fn what_was_measured_and_what_was_not_share_no_baseline() {
    let mut simulated = run(7);
    simulated.alike.provenance = Provenance::Simulated;
    let refused = of(0..1).add(simulated.clone()).unwrap_err().to_string();
    assert!(refused.contains("the run is Simulated and the baseline Measured"), "{refused}");
    let mut baseline = Baseline::new(Provenance::Simulated);
    assert!(baseline.add(run(1)).is_err());
    baseline.add(simulated).unwrap();
    let text = baseline.to_json().unwrap();
    assert!(text.starts_with("{\n \"banner\": \"SIMULATED: nothing below was measured on hardware\""), "{text}");
    assert!(baseline.text(&Options::default()).starts_with("SIMULATED"));
    // By hand: what was simulated does not become measured by three words.
    let forged = text.replacen("\"banner\": \"SIMULATED: nothing below was measured on hardware\",\n ", "", 1);
    assert!(read(&forged).unwrap_err().to_string().contains("its banner"));
    let forged = forged.replacen("\"provenance\": \"simulated\"", "\"provenance\": \"measured\"", 1);
    assert!(read(&forged).unwrap_err().to_string().contains("holds runs of another provenance"));
}

#[test]
fn what_is_not_known_here_is_refused_loudly() {
    let text = of(0..2).to_json().unwrap();
    for (from, to, says) in [
        ("\"version\": 1", "\"version\": 2", "is version 2 of its format, this crosstalk reads up to 1"),
        ("\"version\": 1", "\"version\": 0", "expected \"version\": 1, found 0"),
        ("\"crosstalk-baseline\"", "\"crosstalk-digest\"", "expected \"format\": \"crosstalk-baseline\""),
        ("\"seed\": 1", "\"seed\": 1, \"luck\": 7", "unknown field `luck`"),
        ("\"uuid\": ", "\"uid\": ", "unknown field `uid`"),
        ("\"quantile\": \"p99\"", "\"quantile\": \"99\"", "is no quantile"),
    ] {
        let bent = text.replacen(from, to, 1);
        assert_ne!(bent, text, "{from}");
        let refused = read(&bent).unwrap_err().to_string();
        assert!(refused.contains(says) && refused.contains("b.json"), "{refused}");
    }
    for bad in ["", "[]", "{}", "not JSON", "{\"format\": \"crosstalk-baseline\", \"version\": 1}"] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
    let empty = Baseline::new(Provenance::Measured).to_json().unwrap();
    assert!(read(&empty).unwrap_err().to_string().contains("holds no runs"));
}

#[test]
fn cards_and_layouts_are_kept_apart() {
    let mut baseline = of(0..5);
    let mut other = run(9);
    other.alike.uuid = "GPU-0".to_owned();
    baseline.add(other.clone()).unwrap();
    assert_eq!(
        baseline.sets.iter().map(|set| (set.alike.uuid.as_str(), set.runs.len())).collect::<Vec<_>>(),
        [("GPU-0", 1), ("GPU-1", 5)]
    );
    assert_eq!(baseline.reference(&run(3).alike, &[]).unwrap().runs.len(), 5);
    assert_eq!(baseline.reference(&other.alike, &[]).unwrap().runs.len(), 1);
    // A third card: the nearest is named, and taken where that is allowed.
    other.alike.uuid = "GPU-3".to_owned();
    other.alike.tier.blocks = 7;
    let refused = baseline.reference(&other.alike, &[Key::Uuid]).unwrap_err().to_string();
    assert!(refused.contains("tier blocks: base 24, new 7") && !refused.contains("uuid"), "{refused}");
    assert!(baseline.reference(&other.alike, &[Key::Uuid, Key::Tier]).is_ok());
}

#[test]
fn showing_says_what_it_takes_to_judge_quiet_levels() {
    let four = of(0..4).text(&Options::default());
    assert!(four.contains("4 runs of 5: quiet levels of a new run are shown, and not judged"), "{four}");
    let mut five = of(0..4);
    let mut slow = run(4);
    slow.run.quiet = vec![quiet("mig", "chase", 11_000.0)];
    five.add(slow).unwrap();
    let five = five.text(&Options::default());
    assert!(five.contains("5 runs: quiet levels of a new run are judged"), "{five}");
    assert!(
        five.contains("chase p99") && five.contains("10 µs") && five.contains("11 µs") && five.contains("10 %"),
        "{five}"
    );
}

proptest! {
    #[test]
    fn the_order_of_adding_makes_no_difference(numbers in Just((0..6u64).collect::<Vec<_>>()).prop_shuffle()) {
        let with_cards = |numbers: &[u64]| {
            let mut baseline = Baseline::new(Provenance::Measured);
            for number in numbers {
                let mut evidence = run(*number);
                evidence.alike.uuid = format!("GPU-{}", number % 2);
                baseline.add(evidence).unwrap();
            }
            baseline.to_json().unwrap()
        };
        prop_assert_eq!(with_cards(&numbers), with_cards(&[0, 1, 2, 3, 4, 5]));
    }
}
