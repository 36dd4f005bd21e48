//! The GPU models that ship with crosstalk: one data file each.

use std::sync::OnceLock;

use super::model::GpuModel;

/// The data files, in the order of `crosstalk list gpus`.
const FILES: &[&str] = &[include_str!("models/h100-sxm.toml")];

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

/// The model of a product name as a driver prints it, of the card or of one of its MIG devices
/// ("NVIDIA H200 MIG 1g.18gb").
pub fn model_by_name(name: &str) -> Option<&'static GpuModel> {
    let name = name.split(" MIG ").next().unwrap_or(name).trim();
    let bare = |text: &str| text.trim_start_matches("NVIDIA ").to_lowercase();
    models().iter().find(|m| std::iter::once(&m.name).chain(&m.other_names).any(|n| bare(n) == bare(name)))
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
            assert_eq!(model_by_name(&model.name), Some(find_model(&model.id).unwrap()));
        }
        assert_eq!(models().len(), FILES.len());
        assert_eq!(find_model("h100"), None);
    }

    #[test]
    fn whatever_is_assumed_is_a_key_of_its_file() {
        for text in FILES {
            let tree: toml::Table = toml::from_str(text).unwrap();
            for key in tree.get("assumed").and_then(|a| a.as_array()).into_iter().flatten() {
                let key = key.as_str().unwrap();
                let mut parts = key.split('.');
                let mut at = tree.get(parts.next().unwrap());
                for part in parts {
                    at = at.and_then(|v| v.get(part));
                }
                assert!(at.is_some(), "{}: {key} is assumed and is no key of the file", tree["id"]);
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
                assert!(*slices <= mig.compute_slices && *max as usize <= starts.len(), "{} {name}", model.id);
            }
        }
    }

    #[test]
    fn a_power_virus_exceeds_the_cap_of_an_h100_and_plain_noise_does_not() {
        let p = &find_model("h100-sxm").unwrap().power;
        // Streams of device memory pass through L2 at about a third of its bandwidth.
        assert!(p.idle_w + p.hbm_w + 0.33 * p.l2_w < p.cap_w);
        assert!(p.idle_w + p.issue_w < p.cap_w);
        assert!(p.idle_w + p.tensor_w + p.hbm_w > p.cap_w);
    }

    #[test]
    fn a_misspelt_model_finds_its_neighbour_and_nonsense_finds_none() {
        assert_eq!(nearest_model("H100-SXM5").map(|m| m.id.as_str()), Some("h100-sxm"));
        assert_eq!(nearest_model("?"), None);
    }
}
