//! Charts end, and are whole, whatever they are given.

use proptest::prelude::*;

use super::*;

/// What measured data may hold.
const DEGENERATE: [&[f64]; 12] = [
    &[],
    &[5.0],
    &[5.0, 5.0, 5.0],
    &[0.0],
    &[0.0, 0.0, 1.0],
    &[f64::NAN],
    &[f64::NAN, 3.0, f64::INFINITY, f64::NEG_INFINITY],
    &[f64::INFINITY, f64::INFINITY],
    &[1e18, 1e18],
    &[1e-300, 1e300],
    &[f64::MAX, f64::MIN, f64::MIN_POSITIVE],
    &[-3.0, -1.0],
];

/// Asserts that it is one element with quoted attributes, numbers and known classes, and nothing else.
fn whole(drawn: &Drawn) {
    let svg = &drawn.svg;
    assert!(svg.starts_with("viewBox=\"0 0 "), "{svg}");
    let inner = svg.split_once('>').unwrap().1;
    let mut open: Vec<&str> = Vec::new();
    let mut rest = inner;
    while let Some((text, tag)) = rest.split_once('<') {
        assert!(!text.contains('>') && (text.is_empty() || !open.is_empty()), "{text:?} between tags");
        let (inside, after) = tag.split_once('>').unwrap();
        rest = after;
        assert_eq!(inside.matches('"').count() % 2, 0, "{inside}");
        let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !inside.ends_with('/') {
            open.push(name);
        }
        for word in ["NaN", "inf", "#0"] {
            assert!(!inside.contains(word), "{inside}");
        }
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?} {rest:?}");
    let classes = svg.split("class=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0);
    for class in classes {
        let ink: u8 = class[1..].parse().unwrap();
        assert!((1..=18).contains(&ink), "{class}");
    }
}

/// Every chart of `values`, each used wherever a number is.
fn all(values: &[f64]) {
    let at = |i: usize| values.get(i % values.len().max(1)).copied().unwrap_or(f64::NAN);
    let points: Vec<[f64; 4]> = (0..values.len()).map(|i| [at(i), at(i), at(i + 1), at(i + 2)]).collect();
    let tame: Vec<[f64; 4]> =
        (0..values.len()).map(|i| [i as f64 / values.len() as f64, at(i), at(i + 1), at(i + 2)]).collect();
    for (quiet, noisy) in [(points.clone(), tame.clone()), (tame, points)] {
        for small in [false, true] {
            let judged = vec![(0.5, None), (at(0), Some((at(1), at(2)))), (0.99, Some((at(0), at(1))))];
            let (quiet, noisy) = (quiet.clone(), noisy.clone());
            whole(&curve(&CurveChart { quiet, noisy, judged, told: vec![0.5, at(0)], small }).unwrap());
            let ratios = (0..values.len()).map(|i| (at(i), at(i + 1))).collect();
            let chart = BlockChart { ratios, estimate: [at(0), at(1), at(2)], margins: (at(0), at(1)), small };
            whole(&blocks(&chart).unwrap());
            let ratios = (0..values.len()).map(|i| (i as f64, at(i))).collect();
            let chart = BlockChart { ratios, estimate: [1.2, at(0), at(1)], margins: (0.05, 0.25), small };
            whole(&blocks(&chart).unwrap());
        }
    }
    for arms in [
        (0..values.len()).map(|i| (i as f64 / 3.0, 1.0 / 3.0, i % 2 == 1)).collect::<Vec<_>>(),
        (0..values.len()).map(|i| (at(i), at(i + 1), i % 2 == 1)).collect(),
    ] {
        let lanes =
            vec![("SM clock", "MHz", values.to_vec()), ("cap", "%", values.to_vec()), ("none", "W", Vec::new())];
        let latency = (0..values.len()).map(|i| [at(i), at(i + 1)]).collect();
        whole(&over_time(&TimeChart { arms, latency, lanes }).unwrap());
    }
    let point = |i: usize, saturated| DensityPoint { tenants: at(i), ns: at(i + 1), saturated };
    let tamely = |i: usize, saturated| DensityPoint { tenants: i as f64, ns: at(i), saturated };
    for make in [&point as &dyn Fn(usize, bool) -> DensityPoint, &tamely] {
        let curves =
            (0..8).map(|c| (c.to_string(), (0..values.len()).map(|i| make(i, i % 3 == c)).collect())).collect();
        whole(&density(&DensityChart { curves, bounds: vec![at(0), at(1)] }).unwrap());
    }
    whole(&memory(&MemoryChart { failures: values.iter().map(|v| (*v, *v > 1.0)).collect() }).unwrap());
}

#[test]
fn degenerate_data_are_drawn() {
    DEGENERATE.into_iter().for_each(all);
}

#[test]
fn ticks_are_few_and_inside() {
    for values in DEGENERATE {
        for log in [false, true] {
            let Some(axis) = Axis::over(values.iter().copied(), log, 0, 100) else { continue };
            let ticks = axis.ticks();
            assert!(ticks.len() <= MOST_TICKS + 1, "{values:?}: {ticks:?}");
            assert!(ticks.iter().all(|t| (0..=100).contains(&axis.at(*t))), "{values:?}: {ticks:?}");
        }
    }
}

#[test]
fn round_values_are_marked() {
    let ticks = |low, high, log| Axis { low, high, log, from: 0, to: 100 }.ticks();
    assert_eq!(ticks(7_000.0, 2.2e6, true), [10_000.0, 100_000.0, 1_000_000.0]);
    assert_eq!(ticks(900.0, 9_000.0, true), [1_000.0, 2_000.0, 5_000.0]);
    assert_eq!(ticks(0.0, 23.0, false), [0.0, 5.0, 10.0, 15.0, 20.0]);
}

#[test]
fn a_long_course_is_thinned_and_its_end_kept() {
    let n = 20_000;
    let quiet: Vec<[f64; 4]> = (0..n).map(|i| [i as f64 / n as f64, 1.0 + i as f64, f64::NAN, f64::NAN]).collect();
    let drawn = curve(&CurveChart { quiet, ..CurveChart::default() }).unwrap();
    let line = drawn.svg.split("<polyline class=\"s3\" points=\"").nth(1).unwrap().split_once('"').unwrap().0;
    assert!(line.split(' ').count() <= MOST_POINTS + 2);
    whole(&drawn);
}

#[test]
fn a_curve_lies_where_its_quantiles_do() {
    let side = |times: f64| vec![[0.0, 1e3, 1e3, 1e3], [0.5, 1e4 * times, 1e4, 1e4], [0.99, 1e5 * times, 1e5, 1e5]];
    let chart = CurveChart { quiet: side(1.0), noisy: side(3.0), told: vec![0.5, 0.99], ..CurveChart::default() };
    let drawn = curve(&chart).unwrap();
    let points = |class: &str| -> Vec<(i32, i32)> {
        let line = drawn.svg.split(&format!("<polyline class=\"{class}\" points=\"")).nth(1).unwrap();
        let line = line.split_once('"').unwrap().0;
        line.split(' ')
            .map(|p| p.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect()
    };
    let (quiet, noisy) = (points("s3"), points("s4"));
    assert_eq!(quiet.iter().map(|p| p.0).collect::<Vec<_>>(), noisy.iter().map(|p| p.0).collect::<Vec<_>>());
    assert_eq!(drawn.places, [quiet[1].0, quiet[2].0]);
    assert!(quiet[1].1 > noisy[1].1 && quiet[0].1 == noisy[0].1, "slower is higher");
    // On a logarithmic axis thrice as long is as far apart everywhere.
    assert!(((quiet[1].1 - noisy[1].1) - (quiet[2].1 - noisy[2].1)).abs() <= 1);
}

#[test]
fn a_density_lies_where_its_latency_does_and_what_is_saturated_stands_above() {
    let point = |tenants, ns, saturated| DensityPoint { tenants, ns, saturated };
    let slow = vec![point(1.0, 1e6, false), point(4.0, 1e8, false), point(8.0, f64::NAN, true)];
    let fast = vec![point(1.0, 1e6, false), point(4.0, 1e7, false)];
    let curves = vec![("A".to_owned(), slow), ("B".to_owned(), fast)];
    let drawn = density(&DensityChart { curves, bounds: vec![5e7] }).unwrap();
    let line = |class: &str| -> Vec<(i32, i32)> {
        let line = drawn.svg.split(&format!("<polyline class=\"{class}\" points=\"")).nth(1).unwrap();
        let points = line.split_once('"').unwrap().0.split(' ').map(|p| p.split_once(',').unwrap());
        points.map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).collect()
    };
    let (slow, fast, bound) = (line("s13"), line("s14"), line("s12"));
    assert_eq!((slow.len(), fast.len()), (2, 2), "what is saturated is no point of the line");
    assert_eq!(slow[0], fast[0]);
    assert!(slow[1].1 < bound[0].1 && bound[0].1 < fast[1].1, "beyond the objective, and within");
    assert!(drawn.svg.contains(">\nsaturated\n<") || drawn.svg.contains(">saturated<"), "{}", drawn.svg);
    assert!(drawn.svg.contains("objective ≤ 50 ms"));
    whole(&drawn);
}

proptest! {
    #[test]
    fn any_data_are_drawn(values in prop::collection::vec(prop::num::f64::ANY, 0..12)) {
        all(&values);
    }
}
