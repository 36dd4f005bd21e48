//! Same seed, same bytes: whatever the folder, the day, and the number of threads.

use crosstalk::backend::sim::Simulator;

use crate::support::{crosstalk, model, plan, run_in, tree};

const SCENARIO: &str = r#"
schema = 1
name = "small"
device = "sim:a30"
[design]
blocks = 6
blocks_per_generation = 2
window = "60ms"
[victim]
panel = [{ probe = "launch" }, { probe = "hbm-chase" }]
[[neighbour]]
name = "idle"
noise = "idle"
[[neighbour]]
name = "hog"
noise = "hbm-read"
[[arrangement]]
name = "ts"
sharing = "time-slicing"
"#;

#[test]
fn one_thread_or_many_write_the_same_run_directory() {
    let model = model("a30");
    let folder = tempfile::tempdir().unwrap();
    let mut trees = Vec::new();
    for sessions in [1, 2, 5] {
        let simulator = Simulator::new(model, None).with_sessions(sessions);
        let path = folder.path().join(format!("with-{sessions}"));
        run_in(&path, &simulator, &plan(SCENARIO, &simulator, model, None), SCENARIO);
        trees.push(tree(&path));
    }
    for other in &trees[1..] {
        for (a, b) in trees[0].iter().zip(other) {
            assert_eq!(a.0, b.0);
            assert!(a.1 == b.1, "{} differs", a.0);
        }
        assert_eq!(trees[0].len(), other.len());
    }
}

#[test]
fn reports_do_not_know_the_day_or_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.toml");
    std::fs::write(&file, SCENARIO).unwrap();
    let mut reports = Vec::new();
    for (out, epoch) in [("a", "0"), ("somewhere/else/b", "1893456000")] {
        std::fs::create_dir_all(folder.path().join("somewhere/else")).unwrap();
        let out = folder.path().join(out);
        let run =
            crosstalk().arg("run").arg(&file).arg("--out").arg(&out).env("SOURCE_DATE_EPOCH", epoch).assert().success();
        let json = crosstalk().arg("report").arg(&out).args(["--format", "json"]).assert().success();
        reports.push((run.get_output().stdout.clone(), json.get_output().stdout.clone()));
    }
    assert_eq!(reports[0], reports[1]);
    let other = crosstalk()
        .arg("run")
        .arg(&file)
        .args(["--seed", "2", "--out"])
        .arg(folder.path().join("c"))
        .assert()
        .success();
    assert_ne!(other.get_output().stdout, reports[0].0, "another seed draws other samples");
}
