//! The GPU models that ship with crosstalk: one data file each.

use std::sync::OnceLock;

use super::model::GpuModel;

/// The data files, in the order of `crosstalk list gpus`.
const FILES: &[&str] = &[
    include_str!("models/a30.toml"),
    include_str!("models/a100-40gb.toml"),
    include_str!("models/a100-80gb.toml"),
    include_str!("models/h100-pcie.toml"),
    include_str!("models/h100-sxm.toml"),
    include_str!("models/h100-nvl.toml"),
    include_str!("models/gh200.toml"),
    include_str!("models/h200.toml"),
    include_str!("models/b200.toml"),
    include_str!("models/rtx-pro-6000.toml"),
    include_str!("models/t4.toml"),
    include_str!("models/rtx-4090.toml"),
];

/// Every GPU model that crosstalk knows. A file that does not parse would be left out; a test parses each of them.
pub fn models() -> &'static [GpuModel] {
    static MODELS: OnceLock<Vec<GpuModel>> = OnceLock::new();
    MODELS.get_or_init(|| FILES.iter().filter_map(|text| toml::from_str(text).ok()).collect())
}

/// The model with this id ("h100-sxm").
pub fn find_model(id: &str) -> Option<&'static GpuModel> {
    models().iter().find(|m| m.id == id)
}

/// The model whose id is nearest to a misspelt one, for messages; `None` where none is near.
pub fn nearest_model(id: &str) -> Option<&'static GpuModel> {
    let id = id.to_lowercase();
    nearest(&id, models().iter(), |m| &m.id)
}

/// The candidate whose key is nearest to `text`, if it is near at all (Jaro–Winkler ≥ 0.7).
pub(super) fn nearest<'a, T>(
    text: &str,
    candidates: impl Iterator<Item = &'a T>,
    key: impl Fn(&T) -> &str,
) -> Option<&'a T> {
    candidates
        .map(|c| (strsim::jaro_winkler(text, key(c)), c))
        .filter(|(likeness, _)| *likeness >= 0.7)
        // The first of equals wins: `max_by` would take the last.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::MigProfile;

    #[test]
    fn every_file_parses_and_is_found() {
        for text in FILES {
            let model: GpuModel = toml::from_str(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(find_model(&model.id), Some(&model));
        }
        assert_eq!(models().len(), FILES.len());
        assert_eq!(find_model("h100"), None);
    }

    /// The value behind a dotted key; profiles go by their names, dots and all ("mig.profiles.3g.90gb.id").
    fn lookup<'t>(tree: &'t toml::Table, key: &str) -> Option<&'t toml::Value> {
        if let Some((profile, field)) = key.strip_prefix("mig.profiles.").and_then(|rest| rest.rsplit_once('.')) {
            let profiles = tree.get("mig")?.get("profiles")?.as_array()?;
            return profiles.iter().find(|p| p.get("name").and_then(|n| n.as_str()) == Some(profile))?.get(field);
        }
        let mut parts = key.split('.');
        let first = tree.get(parts.next()?);
        parts.fold(first, |at, part| at?.get(part))
    }

    #[test]
    fn whatever_is_assumed_is_a_key_of_its_file_and_says_why() {
        for text in FILES {
            let tree: toml::Table = toml::from_str(text).unwrap();
            let assumed = tree["assumed"].as_array().unwrap();
            for key in assumed {
                let key = key.as_str().unwrap();
                assert!(lookup(&tree, key).is_some(), "{}: {key} is assumed and is no key of the file", tree["id"]);
            }
            let figures = assumed.iter().filter(|k| !k.as_str().unwrap().starts_with("mig.")).count();
            assert_eq!(text.matches("# assumed: ").count(), figures, "{}: reasons and keys differ", tree["id"]);
        }
    }

    #[test]
    fn every_figure_names_its_source() {
        for text in FILES {
            let body = text.split_once("\n]\n").unwrap().1.split("[mig]").next().unwrap();
            for line in body.lines().filter(|l| l.contains(" = ")) {
                assert!(line.contains("# "), "no source: {line}");
            }
        }
    }

    #[test]
    fn every_profile_fits_its_gpu() {
        for model in models() {
            let Some(mig) = &model.mig else { continue };
            for MigProfile { name, sms, memory_mib, size, starts, slices, max, .. } in &mig.profiles {
                assert!(sms.is_none_or(|n| n <= model.sm.count), "{} {name}: more SMs than the GPU", model.id);
                assert!(memory_mib.is_none_or(|n| n <= model.memory_mib), "{} {name}: more memory", model.id);
                assert!(starts.iter().all(|s| s + size <= mig.memory_slices), "{} {name}: placement", model.id);
                assert!(starts.is_sorted(), "{} {name}: placements rise", model.id);
                assert!(*slices <= mig.compute_slices && *max as usize <= starts.len(), "{} {name}", model.id);
            }
        }
    }

    /// A few lines of driver output, to catch a slip of the pen: name, id, GiB as printed, SMs.
    #[test]
    fn profiles_print_as_drivers_print_them() {
        for (model, name, id, gib, sms) in [
            ("a30", "4g.24gb", 0, "23.44", 56),
            ("a100-40gb", "1g.10gb", 15, "9.62", 14),
            ("a100-80gb", "7g.80gb", 0, "79.00", 98),
            ("h100-sxm", "1g.20gb", 15, "19.62", 26),
            ("h100-pcie", "3g.40gb", 9, "39.50", 46),
            ("h100-nvl", "7g.94gb", 0, "93.12", 132),
            ("gh200", "3g.48gb", 9, "46.50", 60),
            ("h200", "2g.35gb", 14, "32.25", 32),
            ("b200", "2g.45gb", 14, "44.25", 36),
            ("rtx-pro-6000", "2g.48gb-me", 66, "47.38", 94),
        ] {
            let mig = find_model(model).unwrap().mig.as_ref().unwrap();
            let p = mig.profiles.iter().find(|p| p.name == name).unwrap();
            let printed = format!("{:.2}", p.memory_mib.unwrap() as f64 / 1024.0);
            assert_eq!((p.id, printed.as_str(), p.sms), (id, gib, Some(sms)), "{model} {name}");
        }
        assert_eq!(find_model("b200").unwrap().mig.as_ref().unwrap().profiles[4].sms, None, "unknown stays unknown");
    }

    #[test]
    fn a_power_virus_exceeds_the_cap_and_plain_noise_does_not() {
        for m in models() {
            let p = &m.power;
            // Streams of device memory pass through L2 as well.
            let l2 = f64::from(m.l2.bytes_per_cycle) * f64::from(m.clock.max_mhz) * 1e6;
            let stream = p.idle_w + p.hbm_w + m.hbm.gb_per_s * 1e9 / l2 * p.l2_w;
            assert!(stream < p.cap_w, "{}: streams alone draw {stream} W", m.id);
            assert!(p.idle_w + p.issue_w < p.cap_w, "{}: arithmetic alone", m.id);
            assert!(p.idle_w + p.tensor_w < p.cap_w, "{}: tensor cores alone", m.id);
            assert!(p.idle_w + p.tensor_w + p.hbm_w > p.cap_w, "{}: tensor cores and memory", m.id);
        }
    }

    #[test]
    fn a_misspelt_model_finds_its_neighbour_and_nonsense_finds_none() {
        assert_eq!(nearest_model("H100-SXM5").map(|m| m.id.as_str()), Some("h100-sxm"));
        assert_eq!(nearest_model("rtx4090").map(|m| m.id.as_str()), Some("rtx-4090"));
        assert_eq!(nearest_model("?"), None);
    }
}
