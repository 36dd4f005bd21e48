//! `crosstalk list gpus` and `crosstalk list profiles`, as text and as JSON.

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::catalogue::models;
use super::model::{GpuModel, MigProfile};

/// Shown where no source gives a figure.
const UNKNOWN: &str = "unknown";

/// Every model as a table. A `*` marks what the model assumes because no source gives it.
pub fn gpus_table() -> String {
    let head = ["id", "product", "SMs", "memory", "L2", "bandwidth", "SM clock", "PCIe", "power cap", "MIG"];
    let row = |m: &GpuModel| {
        let mark = |key: &str, text: String| if m.assumed.iter().any(|a| a == key) { text + "*" } else { text };
        [
            m.id.clone(),
            m.name.clone(),
            mark("sm.count", m.sm.count.to_string()),
            mark("memory_mib", format!("{} MiB", m.memory_mib)),
            mark("l2.kib", format!("{} MiB", m.l2.kib as f64 / 1024.0)),
            mark("hbm.gb_per_s", format!("{} GB/s", m.hbm.gb_per_s)),
            mark("clock.max_mhz", format!("{} MHz", m.clock.max_mhz)),
            mark("pcie.generation", format!("gen {}", m.pcie.generation)),
            mark("power.cap_w", format!("{} W", m.power.cap_w)),
            m.mig.as_ref().map_or("no".to_owned(), |mig| format!("{} profiles", mig.profiles.len())),
        ]
    };
    let mut text = table(&head, &models().iter().map(row).collect::<Vec<_>>());
    text.push_str(
        "\nbandwidth: achievable, device memory. * assumed: no source gives it; `--format json` lists every figure\n",
    );
    text
}

/// Every MIG profile as a table, by model.
pub fn profiles_table() -> String {
    let head = ["model", "profile", "id", "max", "memory", "SMs", "CE", "DEC", "JPEG", "OFA", "slices", "starts at"];
    let rows: Vec<[String; 12]> = models().iter().flat_map(|m| profiles(m).map(|p| profile_row(m, p))).collect();
    let mut text = table(&head, &rows);
    text.push_str("\nslices: of memory. A layout is legal where every instance has slices of its own. * assumed\n");
    text
}

fn profiles(model: &GpuModel) -> impl Iterator<Item = &MigProfile> {
    model.mig.iter().flat_map(|m| &m.profiles)
}

fn profile_row(model: &GpuModel, p: &MigProfile) -> [String; 12] {
    let known = |n: Option<u32>| n.map_or(UNKNOWN.to_owned(), |n| n.to_string());
    let id = format!("mig.profiles.{}.id", p.name);
    [
        model.id.clone(),
        p.name.clone(),
        if model.assumed.contains(&id) { format!("{}*", p.id) } else { p.id.to_string() },
        p.max.to_string(),
        p.memory_mib.map_or(UNKNOWN.to_owned(), |mib| format!("{mib} MiB")),
        known(p.sms),
        known(p.copy_engines),
        known(p.decoders),
        known(p.jpeg),
        known(p.ofa),
        p.size.to_string(),
        p.starts.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
    ]
}

/// Every model with every figure; `assumed` names those that no source gives, and unknown is null.
pub fn gpus_json() -> Value {
    json!({ "format": "crosstalk-gpus", "version": 1, "gpus": models() })
}

/// Every MIG profile by model; unknown is null.
pub fn profiles_json() -> Value {
    let of = |m: &GpuModel| {
        let assumed: Vec<&String> = m.assumed.iter().filter(|key| key.starts_with("mig.")).collect();
        m.mig.as_ref().map(|mig| json!({ "model": m.id, "assumed": assumed, "mig": mig }))
    };
    json!({ "format": "crosstalk-profiles", "version": 1, "models": models().iter().filter_map(of).collect::<Vec<_>>() })
}

/// Columns as wide as their widest cell, two spaces between.
fn table<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let widths: Vec<usize> =
        (0..N).map(|i| rows.iter().map(|r| r[i].width()).chain([head[i].width()]).max().unwrap_or(0)).collect();
    let line = |cells: &[&str; N]| {
        let padded =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.width())));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let body = rows.iter().map(|row| line(&row.each_ref().map(String::as_str)));
    std::iter::once(line(head)).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(table: &str, start: &str) -> String {
        table.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start} is missing")).to_owned()
    }

    #[test]
    fn every_model_has_its_line_and_assumptions_are_marked() {
        let table = gpus_table();
        for m in models() {
            line(&table, &format!("{} ", m.id));
        }
        assert!(line(&table, "h100-sxm").contains("3000 GB/s "), "measured");
        assert!(line(&table, "h100-pcie").contains("1830 GB/s*"), "assumed");
        assert!(table.lines().all(|l| l == l.trim_end()));
    }

    #[test]
    fn unknown_is_said_and_never_zero() {
        let table = profiles_table();
        let b200 = table.lines().find(|l| l.starts_with("b200") && l.contains("3g.90gb")).unwrap();
        assert!(b200.contains("9*") && b200.contains("unknown"), "{b200}");
        let json = profiles_json();
        let of = |model: &str| json["models"].as_array().unwrap().iter().find(|m| m["model"] == model);
        let profile =
            of("b200").unwrap()["mig"]["profiles"].as_array().unwrap().iter().find(|p| p["name"] == "3g.90gb");
        assert!(profile.unwrap()["sms"].is_null());
        assert!(of("t4").is_none(), "a model without MIG has no profiles");
    }

    #[test]
    fn json_has_every_figure_and_names_the_assumed_ones() {
        let json = gpus_json();
        let h100 = json["gpus"].as_array().unwrap().iter().find(|g| g["id"] == "h100-sxm").unwrap();
        assert_eq!(h100["time_slice"]["quantum_us"], 2090);
        assert!(h100["assumed"].as_array().unwrap().iter().any(|a| a == "order.barriers_per_us"));
        assert!(json["gpus"].as_array().unwrap().iter().find(|g| g["id"] == "t4").unwrap()["mig"].is_null());
    }
}
