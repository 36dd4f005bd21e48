//! From requests per second to what a workload achieves, each figure beside what bounds it.

use serde::Serialize;

use crate::channel::Channel;
use crate::gpu::GpuModel;
use crate::tenant::protocol::{Amounts, Ceilings};
use crate::units::Nanos;
use crate::workload::{Role, Workload};

/// Warp instructions that an SM issues in a cycle (Volta to Blackwell).
const ISSUED_PER_CYCLE: f64 = 4.0;
/// A hog of bandwidth or issue slots reaches this part of its ceiling.
const HOG: f64 = 0.95;
/// A chase is this near to the figure of its GPU's model.
const NEAR: f64 = 0.10;

/// One achieved amount.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What.
    pub what: &'static str,
    /// How much, in `unit`.
    pub value: f64,
    /// GB/s are 10⁹ bytes.
    pub unit: &'static str,
    /// What bounds it, in the same unit; `None` where that is unknown.
    pub ceiling: Option<f64>,
    /// Where the ceiling comes from, or why it is unknown.
    pub ceiling_is: &'static str,
    /// `value` ÷ `ceiling`.
    pub share: Option<f64>,
    /// Least share that is in order, where one is asked for.
    pub least: Option<f64>,
    /// Greatest share that is in order, where one is asked for.
    pub most: Option<f64>,
    /// Whether the share is in order; `None` where none is asked for, or the ceiling is unknown.
    pub reached: Option<bool>,
}

/// What figures are told beside.
pub(super) struct Context<'a> {
    pub(super) workload: &'static Workload,
    pub(super) sms: Option<u32>,
    pub(super) sm_mhz: Option<f64>,
    pub(super) model: Option<&'a GpuModel>,
    pub(super) ceilings: Option<Ceilings>,
    /// Of the harness.
    pub(super) round_trip: Option<Nanos>,
}

/// What share of its ceiling is in order.
#[derive(Clone, Copy)]
enum Goal {
    None,
    AtLeast(f64),
    Within(f64),
}

fn figure(
    what: &'static str,
    (value, unit): (f64, &'static str),
    ceiling: (Option<f64>, &'static str),
    goal: Goal,
) -> Figure {
    let (ceiling, ceiling_is) = (ceiling.0.filter(|c| *c > 0.0), ceiling.1);
    let share = ceiling.map(|ceiling| value / ceiling);
    let (least, most) = match goal {
        Goal::None => (None, None),
        Goal::AtLeast(least) => (Some(least), None),
        Goal::Within(part) => (Some(1.0 - part), Some(1.0 + part)),
    };
    let asked = least.is_some() || most.is_some();
    let inside = |share: f64| least.is_none_or(|l| share >= l) && most.is_none_or(|m| share <= m);
    let reached = share.filter(|_| asked).map(inside);
    Figure { what, value, unit, ceiling, ceiling_is, share, least, most, reached }
}

/// The figures of a workload at `rate` requests per second.
pub(super) fn figures(context: &Context<'_>, each: &Amounts, rate: f64, ns_per_load: Option<f64>) -> Vec<Figure> {
    let mut all = Vec::new();
    let first = context.workload.channels.first().copied();
    let noise = context.workload.role == Role::Noise;
    let per_second = |amount: u64| amount as f64 * rate;
    let gb = |amount: u64| (per_second(amount) / 1e9, "GB/s");
    let of_copies = |pick: fn(&Ceilings) -> Option<f64>| context.ceilings.as_ref().and_then(pick).map(|c| c / 1e9);
    let hog = if noise { Goal::AtLeast(HOG) } else { Goal::None };

    if let Some(ns) = ns_per_load {
        all.push(figure("a dependent load", (ns, "ns"), context.latency(first), Goal::Within(NEAR)));
    } else if each.read + each.written > 0 && each.barriers + each.atomics + each.chain_loads == 0 {
        let (ceiling, goal) = match first {
            Some(Channel::HbmBandwidth) => ((of_copies(|c| c.device_copy), "the driver's copy within the device"), hog),
            Some(Channel::L2) => ((context.l2(), "L2 of this model, at the measured clock"), Goal::None),
            Some(Channel::L1) => ((context.l1(), "L1 of this model, at the measured clock"), Goal::None),
            _ => ((None, "reported"), Goal::None),
        };
        all.push(figure("streamed", gb(each.read + each.written), ceiling, goal));
    }
    if each.tensor_flop > 0 {
        let achieved = (per_second(each.tensor_flop) / 1e12, "TFLOP/s");
        all.push(figure("tensor products", achieved, (None, "no library asked"), Goal::None));
        let pipes = context.cycles().zip(context.model).map(|(c, m)| c * f64::from(m.sm.tensor_flop_per_cycle) / 1e12);
        all.push(figure("tensor pipes", achieved, (pipes, "their rate at the measured clock"), Goal::None));
    } else if each.issue_cycles > 0 && each.read + each.written == 0 {
        let issued = (per_second(each.issue_cycles) * ISSUED_PER_CYCLE / 1e9, "G warp instructions/s");
        let most = context.cycles().map(|cycles| cycles * ISSUED_PER_CYCLE / 1e9);
        all.push(figure("issued", issued, (most, "4 × SMs × measured clock"), hog));
    }
    if each.to_device > 0 {
        let ceiling = (of_copies(|c| c.to_device), "long copies from pinned memory");
        all.push(figure("copied to the device", gb(each.to_device), ceiling, Goal::None));
    }
    if each.to_host > 0 {
        let ceiling = (of_copies(|c| c.to_host), "long copies to pinned memory");
        all.push(figure("copied to the host", gb(each.to_host), ceiling, Goal::None));
    }
    if first == Some(Channel::Launch) {
        all.push(figure("launches", (per_second(each.launches), "/s"), (None, "reported"), Goal::None));
        if let (false, Some(round_trip)) = (noise, context.round_trip) {
            let bare = context.ceilings.map(|c| c.round_trip.0 as f64 / 1e3);
            let seen = (round_trip.0 as f64 / 1e3, "µs");
            all.push(figure("round trip, one in flight", seen, (bare, "a bare loop of the same calls"), Goal::None));
        }
    }
    for (what, amount) in [("barriers", each.barriers), ("atomic operations", each.atomics)] {
        if amount > 0 {
            all.push(figure(what, (per_second(amount) / 1e6, "M/s"), (None, "reported"), Goal::None));
        }
    }
    if each.host_calls > 0 {
        let each = (1e6 / per_second(each.host_calls), "µs");
        all.push(figure("a call of the host", each, (None, "reported"), Goal::None));
    }
    all
}

impl Context<'_> {
    /// SM cycles per second, over all SMs.
    fn cycles(&self) -> Option<f64> {
        self.sms.zip(self.sm_mhz).map(|(sms, mhz)| f64::from(sms) * mhz * 1e6)
    }

    fn l2(&self) -> Option<f64> {
        self.model.zip(self.sm_mhz).map(|(model, mhz)| f64::from(model.l2.bytes_per_cycle) * mhz / 1e3)
    }

    fn l1(&self) -> Option<f64> {
        self.model.zip(self.cycles()).map(|(model, cycles)| f64::from(model.sm.l1_bytes_per_cycle) * cycles / 1e9)
    }

    /// Nanoseconds of a dependent load in the level that a chase walks in, as the data of the GPU's model has it.
    fn latency(&self, channel: Option<Channel>) -> (Option<f64>, &'static str) {
        let Some(model) = self.model else { return (None, "no data of this model") };
        let at = |cycles: u32, mhz: Option<f64>| mhz.map(|mhz| f64::from(cycles) * 1e3 / mhz);
        match channel {
            Some(Channel::L1) => (at(model.sm.l1_latency_cycles, self.sm_mhz), "L1 of this model"),
            Some(Channel::L2 | Channel::Membar) => (at(model.l2.latency_cycles, self.sm_mhz), "L2 of this model"),
            Some(Channel::HbmBandwidth) => {
                // Its time does not follow the clock.
                let mhz = Some(f64::from(model.clock.max_mhz));
                (at(model.hbm.latency_cycles, mhz), "device memory of this model")
            }
            _ => (None, "no published figure"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::find_model;
    use crate::workload::find;

    fn context(id: &str) -> Context<'static> {
        let ceilings =
            Ceilings { device_copy: Some(3e12), to_device: Some(5e10), to_host: Some(5e10), round_trip: Nanos(4_000) };
        Context {
            workload: find(id).unwrap(),
            sms: Some(100),
            sm_mhz: Some(2_000.0),
            model: find_model("h100-sxm"),
            ceilings: Some(ceilings),
            round_trip: Some(Nanos(5_000)),
        }
    }

    fn only(id: &str, each: Amounts, rate: f64, ns_per_load: Option<f64>) -> Figure {
        let mut all = figures(&context(id), &each, rate, ns_per_load);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn hogs_of_bandwidth_are_held_against_the_copy_measured_beside_them() {
        let each = Amounts { read: 1 << 30, written: 0, launches: 1, ..Amounts::default() };
        let at = |gb: f64| gb * 1e9 / f64::from(1 << 30);
        let good = only("hbm-read", each, at(2_900.0), None);
        assert!((good.share.unwrap() - 0.967).abs() < 0.001 && good.reached == Some(true), "{good:?}");
        let poor = only("hbm-read", each, at(2_800.0), None);
        assert_eq!(poor.reached, Some(false));
        let probe = only("hbm-burst", each, at(2_000.0), None);
        assert_eq!(probe.reached, None, "a short burst owes nothing");
    }

    #[test]
    fn issue_is_held_against_four_a_cycle_of_every_sm_at_the_measured_clock() {
        // 100 SMs at 2 GHz: 200 G issue cycles a second.
        let each = Amounts { issue_cycles: 1_000_000, launches: 1, ..Amounts::default() };
        let burst = only("compute-burst", each, 198_000.0, None);
        assert!((burst.value - 792.0).abs() < 1e-6 && (burst.share.unwrap() - 0.99).abs() < 1e-9);
        assert_eq!(only("compute-burst", each, 180_000.0, None).reached, Some(false));
    }

    #[test]
    fn chases_are_held_against_the_models_figures_from_both_sides() {
        let each = Amounts { chain_loads: 1_024, launches: 1, ..Amounts::default() };
        // 219 cycles at 2 GHz.
        for (ns, reached) in [(109.5, true), (119.0, true), (125.0, false), (95.0, false)] {
            assert_eq!(only("l2-chase", each, 1.0, Some(ns)).reached, Some(reached), "{ns}");
        }
        assert_eq!(only("tlb-chase", each, 1.0, Some(500.0)).reached, None, "nobody has published it");
    }

    #[test]
    fn what_is_unknown_is_not_judged() {
        let context = Context { ceilings: None, model: None, sm_mhz: None, ..context("hbm-read") };
        let each = Amounts { read: 1, issue_cycles: 1, launches: 1, ..Amounts::default() };
        assert!(figures(&context, &each, 1.0, None).iter().all(|f| f.share.is_none() && f.reached.is_none()));
    }
}
