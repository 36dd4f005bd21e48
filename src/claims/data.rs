//! Claims about MIG profiles, decided from the data of GPU models.

use std::collections::BTreeMap;

use super::Finding;
use crate::gpu::{GpuModel, MigProfile, capability_major, parse_layout, place_layout};

/// The card that the claims about profiles are made of.
const CARD: &str = "h100-sxm";
const BY: &str = "profile data, no card asked";

/// What the data say; claims of which they say nothing have no finding.
fn finding(holds: bool, why: String) -> Option<Finding> {
    Some(Finding { holds, why, by: BY.to_owned() })
}

fn profiles(model: &GpuModel) -> &[MigProfile] {
    model.mig.as_ref().map(|mig| mig.profiles.as_slice()).unwrap_or_default()
}

/// "at most seven instances": the most that can be placed of any one profile, on each model.
pub(super) fn seven(models: &[GpuModel]) -> Option<Finding> {
    let most = |model: &GpuModel| {
        let placed = |p: &MigProfile, n: usize| place_layout(model, &vec![p.name.as_str(); n]).is_ok();
        let of = |p: &MigProfile| (1..=p.max as usize + 1).take_while(|n| placed(p, *n)).last().unwrap_or(0);
        profiles(model).iter().map(of).max().unwrap_or(0)
    };
    let mut by_count: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for model in models.iter().filter(|model| model.mig.is_some()) {
        by_count.entry(most(model)).or_default().push(&model.id);
    }
    if by_count.is_empty() {
        return None;
    }
    let words: Vec<String> =
        by_count.iter().rev().map(|(count, models)| format!("{count} on {}", models.join(", "))).collect();
    finding(by_count.keys().all(|count| *count <= 7), words.join("; "))
}

/// "the 7g profile is the full GPU": the SMs of the largest profile.
pub(super) fn whole(models: &[GpuModel]) -> Option<Finding> {
    let (mut all, mut less) = (Vec::new(), Vec::new());
    for model in models {
        let Some(sms) = profiles(model).iter().max_by_key(|p| p.slices).and_then(|p| p.sms) else { continue };
        if sms == model.sm.count {
            all.push(model.id.clone());
        } else {
            less.push(format!("{sms} of {} on {}", model.sm.count, model.id));
        }
    }
    if all.is_empty() && less.is_empty() {
        return None;
    }
    let mut why = format!("the largest profile has all SMs on {}", all.join(", "));
    if !less.is_empty() {
        why.push_str(&format!("; {}", less.join(", ")));
    }
    finding(less.is_empty() && !all.is_empty(), why)
}

/// "all-balanced on H100 is three 2g.20gb and one 1g.20gb".
pub(super) fn balanced(models: &[GpuModel]) -> Option<Finding> {
    all_balanced_is(models, &[("1g.20gb", 1), ("2g.20gb", 3)])
}

/// Whether mig-parted's all-balanced is this, on the card of the claim.
fn all_balanced_is(models: &[GpuModel], claimed: &[(&str, usize)]) -> Option<Finding> {
    let card = models.iter().find(|model| model.id == CARD)?;
    let placed = parse_layout(card, "all-balanced").ok()?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for placement in &placed {
        *counts.entry(&placement.profile).or_default() += 1;
    }
    let words: Vec<String> = counts.iter().map(|(profile, count)| format!("{profile} × {count}")).collect();
    finding(counts == claimed.iter().copied().collect(), format!("it is {}", words.join(", ")))
}

/// "1g.20gb has the same compute as 1g.10gb", "seven 1g.20gb per card".
pub(super) fn double(models: &[GpuModel]) -> Option<Finding> {
    let card = models.iter().find(|model| model.id == CARD)?;
    let (single, double) = (card.profile("1g.10gb")?, card.profile("1g.20gb")?);
    let (one, two) = (single.sms?, double.sms?);
    finding(one == two && double.max == 7, format!("{two} against {one} SMs, and {} per card", double.max))
}

/// "MIG needs Ampere or newer; time-slicing works on older parts".
pub(super) fn ampere(models: &[GpuModel]) -> Option<Finding> {
    let major = |model: &&GpuModel| capability_major(&model.compute_capability);
    let (mut with, mut older) = (Vec::new(), Vec::new());
    for model in models {
        if model.mig.is_some() {
            with.push(model);
        } else if major(&model).is_some_and(|major| major < 8) {
            older.push(model);
        }
    }
    if with.is_empty() || older.is_empty() {
        return None;
    }
    let ids = |models: &[&GpuModel]| {
        models.iter().map(|m| format!("{} ({})", m.id, m.compute_capability)).collect::<Vec<_>>().join(", ")
    };
    let holds = with.iter().all(|model| major(model).is_some_and(|major| major >= 8));
    finding(holds, format!("MIG on {}; none on {}", ids(&with), ids(&older)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::models;

    fn changed(id: &str, change: impl Fn(&mut GpuModel)) -> Vec<GpuModel> {
        let mut all = models().to_vec();
        all.iter_mut().filter(|model| model.id == id).for_each(change);
        all
    }

    fn set(model: &mut GpuModel, name: &str, change: impl Fn(&mut MigProfile)) {
        let mig = model.mig.as_mut().expect("MIG");
        mig.profiles.iter_mut().filter(|p| p.name == name).for_each(change);
    }

    /// Each claim with data under which it comes out the other way.
    #[test]
    fn each_can_come_out_either_way() {
        let all = models();
        let [seven, whole, balanced, double, ampere] =
            [seven, whole, balanced, double, ampere].map(|decide| move |data: &[GpuModel]| decide(data).unwrap());
        assert!(seven(all).holds, "{:?}", seven(all));
        let more = changed("a30", |m| {
            m.mig.iter_mut().for_each(|mig| (mig.memory_slices, mig.compute_slices) = (8, 8));
            set(m, "1g.6gb", |p| (p.max, p.starts) = (8, (0..8).collect()));
        });
        assert!(!seven(&more).holds, "{:?}", seven(&more));

        assert!(!whole(all).holds && whole(all).why.contains("98 of 108 on a100-40gb"), "{:?}", whole(all));
        let hopper: Vec<GpuModel> = all.iter().filter(|m| m.id == "h100-sxm").cloned().collect();
        assert!(whole(&hopper).holds);

        assert!(!balanced(all).holds);
        assert_eq!(balanced(all).why, "it is 1g.10gb × 2, 2g.20gb × 1, 3g.40gb × 1");
        let truth = [("1g.10gb", 2), ("2g.20gb", 1), ("3g.40gb", 1)];
        assert!(all_balanced_is(all, &truth).unwrap().holds);

        assert_eq!((double(all).holds, double(all).why.as_str()), (false, "26 against 16 SMs, and 4 per card"));
        let same = changed(CARD, |m| set(m, "1g.20gb", |p| (p.sms, p.max) = (Some(16), 7)));
        assert!(double(&same).holds);

        assert!(ampere(all).holds, "{:?}", ampere(all));
        let volta = changed("a30", |m| m.compute_capability = "7.0".to_owned());
        assert!(!ampere(&volta).holds);
    }

    #[test]
    fn what_the_data_do_not_tell_is_no_finding() {
        let decided = [seven, whole, balanced, double, ampere].map(|decide| decide(&[]));
        assert!(decided.iter().all(Option::is_none), "{decided:?}");
        let hidden = changed(CARD, |m| set(m, "1g.20gb", |p| p.sms = None));
        assert_eq!(double(&hidden), None);
    }
}
