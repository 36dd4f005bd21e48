//! Whether a MIG layout changes beside a running tenant.

use super::{By, Observation, Observed};
use crate::gpu::GpuModel;
use crate::reconfigure::{Compute, Part};
use crate::units::Nanos;

/// `layout-change`.
pub const LAYOUT_CHANGE: Observation = Observation {
    id: "layout-change",
    what: "Whether instances are created and destroyed in a free place beside the running victim, and that its own instance \
           cannot be destroyed (needs --allow-reconfigure; the MIG mode is read, never set).",
    findings: &[
        ("in-place", "An instance came and went beside the victim, whose p99 stayed within a tenth."),
        ("refused", "The driver changes nothing while the victim runs."),
        ("disturbs", "The victim's instance was destroyed under it, or its p99 rose by more than a tenth."),
    ],
    by: By::Backend { takes: Nanos::secs(15) },
};

/// The victim's p99 may rise by so much, relatively, before a change counts as one that it feels.
const DISTURBED: f64 = 1.1;

/// What was tried beside the running victim.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tried {
    /// Destroying the victim's own compute instance: what the driver said; `Ok`: it was destroyed.
    pub(crate) destroyed: Result<(), String>,
    /// Creating and destroying an instance in a free place: which, and what the driver said; `None`: no place is free.
    pub(crate) changed: Option<(String, Result<(), String>)>,
    /// The victim's p99 before and meanwhile, nanoseconds; `None`: too few of its requests ended.
    pub(crate) p99: Option<(f64, f64)>,
}

/// Judges what became of it. `mode`: the MIG mode now and pending, in words.
pub(crate) fn judge(mode: &str, tried: &Tried) -> Observed {
    let ratio = tried.p99.and_then(|(before, meanwhile)| (before > 0.0).then(|| meanwhile / before));
    let figures = [
        ("p99_before_ns", tried.p99.map(|(before, _)| before)),
        ("p99_meanwhile_ns", tried.p99.map(|(_, meanwhile)| meanwhile)),
        ("p99_ratio", ratio),
    ];
    let busy = match &tried.destroyed {
        Ok(()) => {
            let why = format!("{mode}; the driver destroyed the victim's compute instance while it ran");
            return LAYOUT_CHANGE.told("disturbs", why, figures);
        }
        Err(why) => format!("{mode}; destroying the victim's own compute instance: {why}"),
    };
    match &tried.changed {
        None => LAYOUT_CHANGE.told("refused", format!("{busy}; no place is free for another instance"), figures),
        Some((what, Err(why))) => LAYOUT_CHANGE.told("refused", format!("{busy}; creating {what}: {why}"), figures),
        Some((what, Ok(()))) => {
            let done = format!("{busy}; {what} was created and destroyed beside it");
            match ratio {
                Some(ratio) if ratio > DISTURBED => LAYOUT_CHANGE.told("disturbs", done, figures),
                Some(_) => LAYOUT_CHANGE.told("in-place", done, figures),
                None => LAYOUT_CHANGE.told(
                    "in-place",
                    format!("{done}; whether it felt that is not known: too few of its requests"),
                    figures,
                ),
            }
        }
    }
}

/// The smallest plain instance for which there is room beside `there`: free memory slices, and compute slices enough.
pub(crate) fn room(model: &GpuModel, there: &[Part]) -> Option<Part> {
    let mig = model.mig.as_ref()?;
    let taken: u32 = there.iter().map(|part| model.profile(&part.profile).map_or(0, |profile| profile.slices)).sum();
    let free = |start: u32, size: u32| {
        start + size <= mig.memory_slices && there.iter().all(|p| start + size <= p.start || p.start + p.size <= start)
    };
    let plain = |name: &str| !name.contains(['+', '-']);
    let mut profiles: Vec<_> = mig.profiles.iter().filter(|profile| plain(&profile.name)).collect();
    profiles.sort_by_key(|profile| (profile.slices, profile.size));
    profiles.into_iter().find_map(|profile| {
        let alike = there.iter().filter(|part| part.profile == profile.name).count();
        if taken + profile.slices > mig.compute_slices || alike >= profile.max as usize {
            return None;
        }
        let start = *profile.starts.iter().find(|start| free(**start, profile.size))?;
        Some(Part {
            profile: profile.name.clone(),
            start,
            size: profile.size,
            compute: vec![Compute::of(profile.slices)],
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::find_model;
    use crate::reconfigure::placed;

    fn tried(changed: Option<Result<(), String>>, p99: Option<(f64, f64)>) -> Tried {
        Tried {
            destroyed: Err("nvmlComputeInstanceDestroy: in use".to_owned()),
            changed: changed.map(|how| ("1g.10gb at slice 6".to_owned(), how)),
            p99,
        }
    }

    #[test]
    fn a_change_is_in_place_refused_or_felt() {
        let judge = |tried: &Tried| judge("MIG is on and stays on", tried);
        let in_place = judge(&tried(Some(Ok(())), Some((20_000.0, 20_400.0))));
        assert_eq!((in_place.finding.as_deref(), in_place.figures["p99_ratio"]), (Some("in-place"), 1.02));
        assert!(in_place.why.contains("in use") && in_place.why.contains("1g.10gb at slice 6"), "{in_place:?}");
        assert_eq!(judge(&tried(Some(Ok(())), Some((20_000.0, 90_000.0)))).finding.as_deref(), Some("disturbs"));
        let unmeasured = judge(&tried(Some(Ok(())), None));
        assert!(unmeasured.finding.as_deref() == Some("in-place") && unmeasured.why.contains("not known"));
        let refused = judge(&tried(Some(Err("Insufficient Permissions".to_owned())), None));
        assert_eq!(refused.finding.as_deref(), Some("refused"));
        assert_eq!(judge(&tried(None, None)).finding.as_deref(), Some("refused"));
        let lost = Tried { destroyed: Ok(()), ..tried(None, None) };
        assert_eq!(judge(&lost).finding.as_deref(), Some("disturbs"));
    }

    #[test]
    fn there_is_room_where_memory_and_compute_slices_are_free() {
        let model = find_model("h100-sxm").unwrap();
        let of = |profiles: &[&str]| {
            let wanted: Vec<(String, Vec<u32>)> = profiles.iter().map(|p| ((*p).to_owned(), Vec::new())).collect();
            room(model, &placed(model, &wanted).unwrap()).map(|part| (part.profile.clone(), part.start))
        };
        assert_eq!(of(&["3g.40gb", "3g.40gb"]), None, "nothing else fits (gpu-facts)");
        assert_eq!(of(&["7g.80gb"]), None);
        let beside = of(&["3g.40gb", "2g.20gb"]).unwrap();
        assert_eq!(beside.0, "1g.10gb");
        let there = placed(model, &[("3g.40gb".to_owned(), Vec::new()), ("2g.20gb".to_owned(), Vec::new())]).unwrap();
        assert!(there.iter().all(|p| beside.1 < p.start || p.start + p.size <= beside.1), "{beside:?} {there:?}");
        assert_eq!(room(find_model("t4").unwrap(), &[]), None);
    }
}
