//! What is written reads back.

use std::fs;

use proptest::prelude::*;

use super::fixture::*;
use crate::backend::{ArmKey, ArmRecord, Outcome, Purpose};
use crate::run_dir::files::{arm_file, safe};
use crate::run_dir::samples::{self, Label};
use crate::run_dir::{ArmData, Digest, Note, RunDir, RunDirError, SeriesData, encode, load, verify};
use crate::units::Nanos;

#[test]
fn a_run_reads_back_before_and_after_its_end() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = unfinished(tmp.path());
    let before = load(tmp.path()).unwrap();
    assert!(!before.finished);
    assert_eq!(before.manifest, manifest());
    assert_eq!(before.calibrations[&(1, 0)], calibration(1));
    assert_eq!(before.arms.keys().cloned().collect::<Vec<_>>(), keys());
    for (key, data) in &before.arms {
        assert_eq!(data, &ArmData::from_record(&record(key)), "{key:?}");
    }

    dir.finish(&Digest::build(&before, &verdict()).unwrap()).unwrap();
    let after = load(tmp.path()).unwrap();
    assert!(after.finished);
    assert!(after.arms == before.arms, "histograms and samples tell different things");

    let verified = verify(tmp.path()).unwrap();
    assert_eq!((verified.arms, verified.samples), (12, 2_400));
    // Twelve arms; two series of two arrangements; manifest, events, digest, sums.
    assert_eq!(verified.files, 12 + 4 + 4);
    assert_eq!(verified.ignored, Vec::<String>::new());
    assert_eq!(verified.digest.unwrap().verdict, verdict());
}

#[test]
fn arms_of_controls_and_what_stopped_read_back_and_are_verified() {
    let tmp = tempfile::tempdir().unwrap();
    let mut dir = unfinished(tmp.path());
    let controls =
        [(Purpose::Again, None), (Purpose::Alone, None), (Purpose::Within, None), (Purpose::Within, Some(1))];
    for (purpose, neighbour) in controls {
        let key = ArmKey { arrangement: 0, grid: 0, block: 0, neighbour, purpose };
        commit(&mut dir, &key, &record(&key)).unwrap();
    }
    dir.stopped(0, 0, 1, 0).unwrap();
    dir.no_control(1, 0, Purpose::Within, "9 GiB of 8 GiB").unwrap();
    let before = load(tmp.path()).unwrap();
    let cells = Digest::build(&before, &verdict()).unwrap();
    dir.finish(&cells).unwrap();
    let after = load(tmp.path()).unwrap();
    assert!(after.arms == before.arms && after.arms.len() == 16, "histograms of controls are kept apart");
    assert_eq!((after.stopped[&(0, 0, 1)], after.runs(0, 0, 1, 1), after.runs(0, 0, 0, 1)), (0, false, true));
    assert_eq!(after.no_control[&(1, 0, Purpose::Within)], "9 GiB of 8 GiB");
    assert_eq!(verify(tmp.path()).unwrap().arms, 16);
    let files: Vec<String> = tree(tmp.path()).into_keys().collect();
    for name in ["0000-quiet#again", "0000-quiet#alone", "0000-quiet#within", "0000-..~hog%2c%2050%20%25#within"] {
        let name = name.replace("..~", "%2e.~");
        assert!(files.iter().any(|f| f.ends_with(&format!("{name}.parquet"))), "{name} is not among {files:#?}");
    }
    // Quiet arms of controls are pooled with no cell.
    assert!(cells.series.iter().all(|series| series.arms == 2), "{:?}", cells.series);
}

#[test]
fn a_stop_of_nobody_is_damage() {
    for (stop, expected) in [
        ((0, 7, 1, 0), "a grid of the plan"),
        ((0, 0, 9, 0), "a neighbour of a grid of the plan"),
        ((0, 0, 1, 1), "a look of the plan before the last one"),
    ] {
        let tmp = tempfile::tempdir().unwrap();
        let mut dir = unfinished(tmp.path());
        dir.stopped(stop.0, stop.1, stop.2, stop.3).unwrap();
        let error = load(tmp.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("events.jsonl line 16"), "{error}");
    }
}

#[test]
fn every_name_of_a_scenario_gets_a_file_of_its_own_inside_the_run() {
    let tmp = tempfile::tempdir().unwrap();
    finished(tmp.path());
    let files: Vec<String> = tree(tmp.path()).into_keys().collect();
    for expected in [
        "arms/mps%2050~50/0000-quiet.parquet",
        "arms/mps%2050~50/0000-%71uiet.parquet",
        "arms/mps%2050~50/0001-%2e.~hog%2c%2050%20%25.parquet",
        "arms/mig+mps/0001-quiet.parquet",
        "hlog/mig+mps/llm-decode~token.hlog",
    ] {
        assert!(files.iter().any(|f| f == expected), "{expected} is not among {files:#?}");
    }
    assert_eq!(files.len(), 12 + 4 + 5);
}

#[test]
fn the_usual_sha256sum_agrees() {
    let tmp = tempfile::tempdir().unwrap();
    finished(tmp.path());
    let check = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(tmp.path())
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn the_same_run_twice_is_the_same_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    finished(a.path());
    finished(&b.path().join("in/another/folder"));
    let (a, b) = (tree(a.path()), tree(&b.path().join("in/another/folder")));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (file, bytes) in &a {
        assert!(*bytes == b[file], "{file} differs");
    }
}

#[test]
fn a_directory_that_is_not_empty_is_left_alone() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("notes.txt"), "mine").unwrap();
    let error = RunDir::create(tmp.path(), &manifest()).unwrap_err();
    assert!(matches!(error, RunDirError::NotEmpty { .. }), "{error}");
    assert_eq!(tree(tmp.path()).len(), 1);
    let error = RunDir::create(&tmp.path().join("notes.txt"), &manifest()).unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");
}

#[test]
fn of_runs_that_begin_in_one_directory_at_once_one_succeeds() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let begun = std::thread::scope(|scope| {
            let create = || RunDir::create(&path, &manifest());
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            runs.into_iter().map(|run| run.join().unwrap()).filter(Result::is_ok).count()
        });
        assert!(begun <= 1, "{begun} runs own one directory");
    }
}

#[test]
fn one_process_writes_and_others_may_read() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = unfinished(tmp.path());
    assert!(matches!(RunDir::resume(tmp.path()), Err(RunDirError::Busy { .. })));
    assert_eq!(load(tmp.path()).unwrap().arms.len(), 12);
    drop(dir);
    RunDir::resume(tmp.path()).unwrap();
}

#[test]
fn a_resumed_run_goes_on_and_ends_like_any_other() {
    let tmp = tempfile::tempdir().unwrap();
    let (first, second) = (&keys()[..5], &keys()[5..]);
    let mut dir = RunDir::create(tmp.path(), &manifest()).unwrap();
    dir.calibrated(&calibration(0)).unwrap();
    for key in first {
        commit(&mut dir, key, &record(key)).unwrap();
    }
    dir.note(&Note::Interrupted {}).unwrap();
    drop(dir);

    let (mut dir, run) = RunDir::resume(tmp.path()).unwrap();
    assert_eq!(run.arms.keys().cloned().collect::<Vec<_>>(), first);
    let again = commit(&mut dir, &first[0], &record(&first[0])).unwrap_err();
    assert!(again.to_string().contains("committed once"), "{again}");
    dir.calibrated(&calibration(1)).unwrap();
    // As worker threads do it: encode beside one another, commit together.
    let encoded = second.iter().map(|key| encode(dir.manifest(), key, &record(key)).unwrap()).collect();
    let data = dir.commit_encoded(encoded).unwrap();
    assert_eq!(data.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), second);
    dir.given_up(1, "no").unwrap();
    let run = load(tmp.path()).unwrap();
    dir.finish(&Digest::build(&run, &verdict()).unwrap()).unwrap();

    let verified = verify(tmp.path()).unwrap();
    assert_eq!((verified.arms, verified.run.given_up[&1].as_str()), (12, "no"));
    let error = RunDir::resume(tmp.path()).unwrap_err();
    assert!(matches!(error, RunDirError::Finished { .. }), "{error}");

    let whole = tempfile::tempdir().unwrap();
    finished(whole.path());
    let (resumed, whole) = (tree(tmp.path()), tree(whole.path()));
    for (file, bytes) in whole.iter().filter(|(file, _)| file.contains('/')) {
        assert!(*bytes == resumed[file], "{file} depends on the interruption");
    }
}

#[test]
fn what_a_file_cannot_hold_is_refused_not_bent() {
    let tmp = tempfile::tempdir().unwrap();
    let mut dir = RunDir::create(tmp.path(), &manifest()).unwrap();
    let key = &keys()[0];
    let mut refused = |why: &str, change: &dyn Fn(&mut ArmKey, &mut ArmRecord)| {
        let (mut key, mut record) = (key.clone(), record(key));
        change(&mut key, &mut record);
        let error = commit(&mut dir, &key, &record).unwrap_err();
        assert!(matches!(error, RunDirError::NotRecordable { .. }), "{error}");
        assert!(error.to_string().contains(why), "{why:?} is not in {error}");
    };
    refused("series 9", &|_, r| r.samples[3].series = 9);
    refused("occurs twice", &|_, r| r.series[1] = r.series[0].clone());
    refused("292 years", &|_, r| r.samples[3].sent = Some(Nanos::MAX));
    refused("not finite", &|_, r| r.summary.power_w = Some(f64::NAN));
    refused("not finite", &|_, r| r.summary.neighbours[0].rate = f64::INFINITY);
    refused("no such arrangement", &|k, _| k.arrangement = 2);
    refused("no such arrangement", &|k, _| k.neighbour = Some(2));
    assert_eq!(load(tmp.path()).unwrap().arms.len(), 0);
    // And after all this the directory still takes what is right.
    commit(&mut dir, key, &record(key)).unwrap();
}

#[test]
fn the_digest_pools_and_pairs() {
    let tmp = tempfile::tempdir().unwrap();
    let run = finished(tmp.path());
    let digest = verify(tmp.path()).unwrap().digest.unwrap();
    // Two arrangements × (quiet + two neighbours) × two series.
    assert_eq!((digest.series.len(), digest.histogram_digits), (12, 3));
    let noisy = &digest.series[2];
    assert_eq!((noisy.arrangement, noisy.neighbour, noisy.series.as_str()), (0, Some(0), SERIES[0]));
    let key = |block, neighbour| ArmKey { arrangement: 0, grid: 0, block, neighbour, purpose: Purpose::Block };
    let of = |block, neighbour| &run.arms[&key(block, neighbour)].series[SERIES[0]];
    assert_eq!(noisy.completed, of(0, Some(0)).latency.len() + of(1, Some(0)).latency.len());
    // Samples 10, 19 and 28 of each arm did not end well; the first belongs to series 0 as does the last (timed out).
    assert_eq!((noisy.arms, noisy.censored, noisy.failed), (2, 2, 2));
    assert_eq!(noisy.histogram().unwrap().len(), noisy.completed);
    // p99 is judged by pooled quantiles alone: only p50 has differences, one per block.
    let [p50] = &noisy.differences[..] else { panic!("{:?}", noisy.differences) };
    assert_eq!(p50.ln_ratio_ppm.len(), 2);
    // 98 completed and one censored: the median is the 50th of 99.
    let median = |s: &SeriesData| {
        let mut all = s.latency.iter().flat_map(|(bucket, n)| std::iter::repeat_n(bucket.highest(), n as usize));
        all.nth(49).unwrap() as f64
    };
    let expected = (median(of(1, Some(0))) / median(of(1, None))).ln() * 1e6;
    assert!((p50.ln_ratio_ppm[1].unwrap() as f64 - expected).abs() < 1.0, "{p50:?} against {expected}");
    assert!(digest.series[0].differences.is_empty(), "quiet arms differ from nothing");
}

#[test]
fn a_digest_stays_below_a_megabyte_at_the_price_of_resolution() {
    let tmp = tempfile::tempdir().unwrap();
    let mut run = finished(tmp.path());
    assert_eq!(Digest::build(&run, &verdict()).unwrap().histogram_digits, 3);
    // 1 200 series of 500 requests that spread as lognormal ones do.
    let arm = run.arms.get_mut(&keys()[0]).unwrap();
    for i in 0..1_200 {
        let mut data = SeriesData::default();
        let mut stream = crate::random::Stream::new(i, &[]);
        (0..500).for_each(|_| data.latency.record((1e4 * libm::exp(stream.normal())) as u64));
        arm.series.insert(format!("series {i}"), data);
    }
    let digest = Digest::build(&run, &verdict()).unwrap();
    let bytes = digest.to_json().unwrap().len();
    assert!(digest.histogram_digits < 3 && bytes <= 1_000_000, "{} digits, {bytes} bytes", digest.histogram_digits);
    let series = digest.series.iter().find(|s| s.series == "series 7").unwrap();
    assert_eq!(series.histogram().unwrap().len(), 500, "no request is lost");
}

#[test]
fn outcomes_and_absent_times_survive() {
    let tmp = tempfile::tempdir().unwrap();
    finished(tmp.path());
    let file = arm_file(&manifest().plan, &keys()[0]).unwrap();
    let (_, samples) = samples::decode(&file, fs::read(tmp.path().join(&file)).unwrap()).unwrap();
    assert_eq!(samples, record(&keys()[0]).samples);
    assert_eq!(samples[10].outcome, Outcome::Error(u32::MAX));
    assert_eq!(samples[28].sent, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_arm_reads_back(record in any_record()) {
        let tmp = tempfile::tempdir().unwrap();
        let mut dir = RunDir::create(tmp.path(), &manifest()).unwrap();
        let key = &keys()[4];
        let data = commit(&mut dir, key, &record).unwrap();
        prop_assert_eq!(&data, &ArmData::from_record(&record));
        let run = load(tmp.path()).unwrap();
        prop_assert_eq!(&run.arms[key], &data);
        dir.finish(&Digest::build(&run, &verdict()).unwrap()).unwrap();
        prop_assert_eq!(&load(tmp.path()).unwrap().arms[key], &data);
        prop_assert_eq!(&verify(tmp.path()).unwrap().run.arms[key], &data);
    }

    #[test]
    fn samples_read_back_and_repeat(record in any_record()) {
        let label = Label::new(manifest().provenance, "x", 0, &record.series);
        let bytes = samples::encode(&label, &record.samples).unwrap();
        prop_assert_eq!(&samples::encode(&label, &record.samples).unwrap(), &bytes);
        let (read, samples) = samples::decode("x", bytes).unwrap();
        prop_assert_eq!(read, label);
        prop_assert_eq!(samples, record.samples);
    }

    #[test]
    fn names_become_safe_and_stay_apart(a in "\\PC{0,12}", b in "\\PC{0,12}") {
        let (safe_a, safe_b) = (safe(&a), safe(&b));
        prop_assert_eq!(a == b, safe_a == safe_b);
        prop_assert!(!safe_a.starts_with('.') && safe_a.bytes().all(|c| c.is_ascii_graphic() && !b"/\\\",:".contains(&c)));
    }
}
