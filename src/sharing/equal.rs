//! N equal tenants under a mode: the layout that gives each the same share, and their seats.

use super::instances::has_mig;
use super::{Request, SharingError, of};
use crate::gpu::{Gpu, GpuModel, MigProfile, place_layout};
use crate::plan::Seat;
use crate::scenario::{LayoutEntry, SharingMode};
use crate::units::Share;

/// Equal tenants.
#[derive(Clone, Copy, Debug)]
pub struct Equal {
    /// The sharing mode.
    pub mode: SharingMode,
    /// How many.
    pub tenants: u32,
    /// GPU instances among which they are divided, under MIG + time-slicing.
    pub instances: Option<u32>,
}

/// The layout of equal tenants with every default filled in, and a seat for each. Under MIG they have an instance each: of the
/// largest profile of which so many fit at once.
///
/// # Errors
/// Where so many cannot be: why, and how many can.
pub fn equal(equal: Equal, gpu: &Gpu, model: Option<&GpuModel>) -> Result<(Vec<LayoutEntry>, Vec<Seat>), SharingError> {
    let Equal { mode, tenants, .. } = equal;
    let layout = match mode {
        SharingMode::Mps => {
            let sms = Some(Share(Share::percent(100).0 / tenants.max(1)));
            vec![LayoutEntry { sms, tenants, ..LayoutEntry::PLAIN }]
        }
        SharingMode::Mig => instances(tenants, 1, gpu, model)?,
        SharingMode::MigTimeSlicing => {
            let among = equal.instances.unwrap_or(1).max(1);
            if tenants == 0 || !tenants.is_multiple_of(among) {
                return Err(SharingError::new(format!(
                    "{tenants} tenants cannot be divided evenly among {among} instances"
                )));
            }
            instances(among, tenants / among, gpu, model)?
        }
        SharingMode::Exclusive => Vec::new(),
        _ => vec![LayoutEntry { tenants, ..LayoutEntry::PLAIN }],
    };
    // An exclusive tenant's neighbour has no part in it.
    let given = (mode != SharingMode::Exclusive).then_some(layout.as_slice());
    let (mut layout, mut seats) = (of(mode).resolve)(&Request { mode, layout: given, gpu, model })?;
    if mode == SharingMode::Exclusive {
        layout.truncate(1);
        seats.truncate(1);
    }
    if seats.len() != tenants as usize {
        return Err(SharingError::new(format!("{mode} seats {} tenants here, not {tenants}", seats.len())));
    }
    Ok((layout, seats))
}

/// So many GPU instances of one profile, each with `tenants` in it.
fn instances(count: u32, tenants: u32, gpu: &Gpu, model: Option<&GpuModel>) -> Result<Vec<LayoutEntry>, SharingError> {
    let profile = match model {
        Some(model) => largest(count, model)?.name.clone(),
        None => alike(count, gpu)?,
    };
    Ok(vec![LayoutEntry { profile: Some(profile), tenants, ..LayoutEntry::PLAIN }; count as usize])
}

/// The largest profile of which so many fit on the model at once: by compute slices, then SMs, then memory. Profiles with media
/// extensions, with graphics or without engines are nobody's equal share.
fn largest(count: u32, model: &GpuModel) -> Result<&MigProfile, SharingError> {
    has_mig(model)?;
    let plain = || model.mig.iter().flat_map(|mig| &mig.profiles).filter(|p| !p.name.contains(['+', '-']));
    let fits =
        |profile: &MigProfile, count: u32| place_layout(model, &vec![profile.name.as_str(); count as usize]).is_ok();
    let size = |profile: &&MigProfile| (profile.slices, profile.sms.unwrap_or(0), profile.size);
    if let Some(largest) = plain().filter(|profile| fits(profile, count)).max_by_key(size) {
        return Ok(largest);
    }
    let most = |profile: &MigProfile| (1..=profile.max).rev().find(|count| fits(profile, *count)).unwrap_or(0);
    let at_most = plain().map(|profile| (most(profile), profile)).max_by_key(|(most, profile)| (*most, size(profile)));
    let at_most = at_most.map_or("none".to_owned(), |(most, profile)| format!("{most} × {} at most", profile.name));
    Err(SharingError::new(format!("no {count} instances of one profile fit on {}: {at_most}", model.name)))
}

/// On an unknown model: the profile of the instances that are there, where they are so many and all of one profile.
fn alike(count: u32, gpu: &Gpu) -> Result<String, SharingError> {
    let there: Vec<&str> = gpu.instances.iter().map(|instance| instance.profile.as_str()).collect();
    match there.first() {
        Some(first) if there.len() == count as usize && there.iter().all(|profile| profile == first) => {
            Ok((*first).to_owned())
        }
        _ => Err(SharingError::new(format!(
            "{} is no model that crosstalk knows, so only the instances that are there can be used ({}), and they are not \
             {count} of one profile",
            gpu.name,
            if there.is_empty() { "none".to_owned() } else { there.join(", ") }
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{find_model, parse_layout, simulated};

    fn of_mig(count: u32, model: &str) -> Result<Vec<String>, String> {
        let model = find_model(model).unwrap();
        let gpu = simulated(model, None).gpus.remove(0);
        let asked = Equal { mode: SharingMode::Mig, tenants: count, instances: None };
        let (layout, seats) = equal(asked, &gpu, Some(model)).map_err(|error| error.to_string())?;
        assert_eq!((layout.len(), seats.len()), (count as usize, count as usize));
        assert!(layout.iter().all(|entry| entry.tenants == 1));
        Ok(layout.into_iter().filter_map(|entry| entry.profile).collect())
    }

    /// By the tables of placements: two halves, three of two slices, four of one slice and twice the memory, seven of one.
    #[test]
    fn each_tenant_has_an_instance_of_the_largest_profile_of_which_so_many_fit() {
        let profiles = ["7g.80gb", "3g.40gb", "2g.20gb", "1g.20gb", "1g.10gb", "1g.10gb", "1g.10gb"];
        for model in ["h100-sxm", "a100-80gb"] {
            for (count, profile) in (1..).zip(profiles) {
                assert_eq!(of_mig(count, model), Ok(vec![profile.to_owned(); count as usize]), "{count} on {model}");
            }
            let why = of_mig(8, model).unwrap_err();
            assert!(why.contains("no 8 instances of one profile fit on NVIDIA"), "{why}");
            assert!(why.ends_with(": 7 × 1g.10gb at most"), "{why}");
        }
        assert_eq!(of_mig(4, "a30"), Ok(vec!["1g.6gb".to_owned(); 4]));
        assert!(of_mig(5, "a30").unwrap_err().ends_with("4 × 1g.6gb at most"));
        assert!(of_mig(2, "t4").unwrap_err().contains("has no MIG"));
    }

    #[test]
    fn tenants_in_turns_are_divided_among_equal_instances_and_one_in_each_is_plain() {
        let model = find_model("h100-sxm").unwrap();
        let gpu = simulated(model, None).gpus.remove(0);
        let of = |tenants, among| {
            let asked = Equal { mode: SharingMode::MigTimeSlicing, tenants, instances: Some(among) };
            let (layout, seats) = equal(asked, &gpu, Some(model)).map_err(|error| error.to_string())?;
            let ids: Vec<String> = seats.into_iter().map(|seat| seat.id).collect();
            Ok((layout, ids))
        };
        let entry =
            |profile: &str, tenants| LayoutEntry { profile: Some(profile.to_owned()), tenants, ..LayoutEntry::PLAIN };
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(of(6, 2), Ok((vec![entry("3g.40gb", 3); 2], ids(&["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]))));
        assert_eq!(of(2, 2), Ok((vec![entry("3g.40gb", 1); 2], ids(&["0", "1"]))));
        assert_eq!(of(2, 1), Ok((vec![entry("7g.80gb", 2)], ids(&["0.0", "0.1"]))));
        let uneven: Result<_, String> = of(5, 2);
        assert!(uneven.unwrap_err().contains("divided evenly"));
    }

    #[test]
    fn tenants_of_a_whole_gpu_are_as_many_seats_and_a_lone_one_has_it_all() {
        let model = find_model("h100-sxm").unwrap();
        let gpu = simulated(model, None).gpus.remove(0);
        let of = |mode, tenants| equal(Equal { mode, tenants, instances: None }, &gpu, Some(model));
        for tenants in [1, 2, 3, 16] {
            let (layout, seats) = of(SharingMode::Mps, tenants).unwrap();
            assert_eq!((layout[0].sms, layout[0].tenants), (Some(Share(1_000_000 / tenants)), tenants));
            assert_eq!((layout.len(), seats.len()), (1, tenants as usize));
            let (layout, seats) = of(SharingMode::TimeSlicing, tenants).unwrap();
            assert_eq!(layout, [LayoutEntry { tenants, ..LayoutEntry::PLAIN }]);
            assert_eq!(seats.len(), tenants as usize);
        }
        let (layout, seats) = of(SharingMode::Exclusive, 1).unwrap();
        assert_eq!((layout.len(), seats.len(), seats[0].share.as_str()), (1, 1, "whole GPU"));
        assert!(of(SharingMode::Exclusive, 2).is_err());
        assert!(of(SharingMode::Mps, 49).unwrap_err().to_string().contains("at most 48"));
    }

    #[test]
    fn an_unknown_model_is_used_as_it_is_divided() {
        let model = find_model("h100-sxm").unwrap();
        let placed = parse_layout(model, "3g.40gb+3g.40gb").unwrap();
        let mut gpu = simulated(model, Some(&placed)).gpus.remove(0);
        gpu.model = None;
        let of = |tenants| equal(Equal { mode: SharingMode::Mig, tenants, instances: None }, &gpu, None);
        assert_eq!(of(2).unwrap().1.len(), 2);
        assert!(of(3).unwrap_err().to_string().contains("not 3 of one profile"));
    }
}
