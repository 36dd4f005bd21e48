//! Every sharing mode from a scenario to a verdict.

use std::fmt::Write;

use crosstalk::backend::sim::Simulator;
use crosstalk::experiment::planned_arms;
use crosstalk::scenario::SharingMode;

use crate::support::{entries, model, plan, run_in, scenario_text, simulate};

/// Each mode with a layout of `half` instances.
fn scenario(modes: &[&str], half: &str) -> String {
    let mut text = r#"schema = 1
name = "modes"
[design]
blocks = 3
window = "30ms"
[victim]
panel = [{ probe = "launch" }, { probe = "hbm-chase" }, { probe = "h2d" }, { probe = "alloc" }]
[[neighbour]]
noise = "idle"
[[neighbour]]
noise = "hbm-read"
params = { footprint = "20%" }
[[neighbour]]
noise = "alloc-churn"
"#
    .to_owned();
    for mode in modes {
        let layout = match *mode {
            "mig" => format!("layout = [\"{half}\", \"{half}\"]"),
            "mig-compute-instances" => format!("layout = [{{ profile = \"{half}\", tenants = 2 }}]"),
            "mig+time-slicing" | "mig+mps" => {
                format!("layout = [{{ profile = \"{half}\", tenants = 2 }}, \"{half}\"]")
            }
            _ => String::new(),
        };
        let _ = write!(text, "[[arrangement]]\nname = \"{}\"\nsharing = \"{mode}\"\n{layout}\n", name(mode));
    }
    text
}

fn name(mode: &str) -> String {
    mode.replace('+', "-with-")
}

fn runs_to_its_end(id: &str, modes: &[&str], half: &str) {
    let model = model(id);
    let simulator = Simulator::new(model, None);
    let text = scenario(modes, half);
    let plan = plan(&text, &simulator, model, None);
    let folder = tempfile::tempdir().unwrap();
    let (run, verdict) = run_in(&folder.path().join("run"), &simulator, &plan, &text);
    assert!(run.skipped.is_empty(), "{id}: {:?}", run.skipped);
    let arms: u64 = (0..plan.arrangements.len()).map(|a| planned_arms(&plan, a)).sum();
    assert_eq!(run.arms.len() as u64, arms);
    for mode in modes {
        let cells: Vec<_> = verdict
            .cells
            .iter()
            .filter(|c| {
                c.name.starts_with(&format!("{}/", name(mode))) || c.name.starts_with(&format!("{}@", name(mode)))
            })
            .collect();
        assert!(cells.len() >= 3, "{id}, {mode}");
        for s in cells.iter().flat_map(|c| &c.series) {
            assert!(s.requests.0 > 0 && s.requests.1 > 0, "{id}, {mode}: {s:#?}");
        }
    }
}

#[test]
fn all_modes_run_on_an_h100() {
    let modes: Vec<String> = SharingMode::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(modes.len(), 10);
    runs_to_its_end("h100-sxm", &modes.iter().map(String::as_str).collect::<Vec<_>>(), "3g.40gb");
}

#[test]
fn mig_modes_run_on_an_a30() {
    runs_to_its_end("a30", &["mig", "mig-compute-instances", "mig+time-slicing", "mig+mps"], "2g.12gb");
}

#[test]
fn the_clock_of_the_victim_is_that_of_its_own_gpu() {
    // A power virus on one GPU throttles that one: whoever sits on the other must not be charged with it.
    let text = scenario_text(
        // Cells alone: in windows so short an A/A control decides nothing.
        "blocks = 17\nwindow = \"100ms\"\ncontrols = { again = false, presence = 0, sensitivity = 0, delay = 0, sampler = 0 }",
        &entries("probe", &["launch", "compute"]),
        &entries("noise", &["idle", "tensor-burst"]),
        "sharing = \"separate-gpus\"\nvictim_at = [\"0\", \"1\"]",
    );
    let model = model("h100-pcie");
    let (run, verdict) = simulate(&text, &Simulator::new(model, None), model, None);
    for cell in &verdict.cells {
        assert_eq!(cell.verdict.word(), "isolated", "{}: {:#?}", cell.name, cell.series);
    }
    assert!(run.arms.values().all(|arm| arm.summary.throttled == Some(0.0)));
}
