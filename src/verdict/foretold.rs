//! What is known of a curve of densities before anything is measured: whether its requests can decide it, and whether what is
//! required of it can come out.

use super::types::Warning;
use crate::plan::{Curve, Plan};
use crate::scenario::{Arrivals, FALSE_PASS, Slo};
use crate::stats::planned_requests;
use crate::units::Nanos;

/// What each density of a curve is decided with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Foretold {
    /// The rate of errors that falls to each density: the whole ÷ those that are measured at most.
    pub(crate) alpha: f64,
    /// Length of a window.
    pub(crate) window: Nanos,
    /// Requests of a tenant that are expected in an arm.
    pub(crate) arm: u64,
    /// The same over all arms.
    pub(crate) all: u64,
    /// The objectives, each with the requests of a tenant that "met" takes at least, if none of them is over its bound.
    pub(crate) least: Vec<(Slo, u64)>,
}

impl Foretold {
    /// Of a curve; `None` where it has no density at all.
    pub(crate) fn of(plan: &Plan, curve: &Curve) -> Option<Self> {
        let level = curve.levels.first()?;
        let window = plan.arrangements[level.arrangement].density?.window;
        let probe = &plan.panel[curve.probe];
        let (Arrivals::Poisson(rate) | Arrivals::Fixed(rate)) = probe.arrivals else { return None };
        let alpha = FALSE_PASS / f64::from(curve.most.max(1));
        // Thousandths per second × nanoseconds, rounded down.
        let within =
            |windows: u64| (u128::from(rate.0) * u128::from(window.0) * u128::from(windows) / 1_000_000_000_000) as u64;
        Some(Self {
            alpha,
            window,
            arm: within(1),
            all: within(plan.design.blocks.into()),
            least: probe.slos.iter().map(|slo| (*slo, planned_requests(slo.quantile, 0, alpha))).collect(),
        })
    }

    /// The objectives for which there are too few requests, whatever comes out.
    pub(crate) fn too_few(&self) -> impl Iterator<Item = &(Slo, u64)> {
        self.least.iter().filter(|(_, least)| self.all < *least)
    }
}

/// What is risky about the curves of a plan, in their order.
pub(super) fn of(plan: &Plan) -> Vec<Warning> {
    plan.curves.iter().flat_map(|curve| of_curve(plan, curve)).collect()
}

fn of_curve(plan: &Plan, curve: &Curve) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |what: String, advice: &str| warnings.push(Warning { what, advice: advice.to_owned() });
    let foretold = Foretold::of(plan, curve);
    for (slo, least) in foretold.iter().flat_map(Foretold::too_few) {
        let all = foretold.as_ref().map_or(0, |foretold| foretold.all);
        warn(
            format!(
                "{}: {} ≤ {} will be met by no density: a tenant has {all} requests over all arms, and it takes {least} at least",
                curve.name,
                slo.quantile,
                slo.bound.for_people()
            ),
            "lengthen `window`, or leave it out: it is then as long as the objective takes",
        );
    }
    let can_be = |tenants: u32| {
        let mut enough = curve.levels.iter().filter(|level| level.tenants >= tenants);
        enough.any(|level| plan.arrangements[level.arrangement].skipped.is_none())
    };
    if let Some(least) = curve.at_least.filter(|least| !can_be(*least)) {
        warn(
            format!(
                "{}: {least} tenants are required, and no density of so many can be here (exit code 4)",
                curve.name
            ),
            "run it where they fit, or require fewer",
        );
    } else if !can_be(0) {
        warn(format!("{}: none of its densities can be here", curve.name), "see why below each in `crosstalk check`");
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{find_model, simulated};
    use crate::workload::CATALOGUE;

    fn plan(design: &str, sharing: &str, tenants: &str) -> Plan {
        let text = format!(
            "schema = 1\nname = \"t\"\n[design]\n{design}\n[victim]\npanel = [{{ probe = \"inference\", arrivals = {{ poisson = \
             \"20/s\" }}, slo = {{ p99 = \"50ms\" }} }}]\n[[arrangement]]\nname = \"c\"\nsharing = \"{sharing}\"\ntenants = {{ \
             {tenants}, all = \"inference\" }}\n"
        );
        let model = find_model("h100-sxm").unwrap();
        let scenario = crate::scenario::read("t", &text, CATALOGUE).unwrap_or_else(|m| panic!("{}", m.render(false)));
        Plan::resolve(&scenario, &simulated(model, None), 0, Some(model)).unwrap()
    }

    fn told(plan: &Plan) -> Vec<String> {
        of(plan).into_iter().map(|warning| warning.what).collect()
    }

    /// Sixteen densities: α is a seventh of 1 %, at which p99 takes ln (0.01 ÷ 7) ÷ ln 0.99 = 651.8 requests.
    #[test]
    fn requests_that_can_show_nothing_are_told_beforehand() {
        let long = plan("blocks = 20", "time-slicing", "count = [1, 16]");
        let foretold = Foretold::of(&long, &long.curves[0]).unwrap();
        assert_eq!((foretold.window, foretold.arm, foretold.all), (Nanos::secs(20), 400, 8_000));
        assert!((foretold.alpha - 0.01 / 7.0).abs() < 1e-12);
        assert_eq!(foretold.least.iter().map(|(_, least)| *least).collect::<Vec<_>>(), [652]);
        assert_eq!(told(&long), [""; 0]);
        let of =
            |window| told(&plan(&format!("blocks = 20\nwindow = \"{window}\""), "time-slicing", "count = [1, 16]"));
        assert_eq!(of("1631ms"), [""; 0], "652.4 requests");
        assert_eq!(
            of("1540ms"),
            [
                "c: p99 ≤ 50 ms will be met by no density: a tenant has 616 requests over all arms, and it takes 652 at least"
            ]
        );
    }

    #[test]
    fn tenants_that_are_required_and_cannot_be_are_told_beforehand() {
        let of = |tenants| told(&plan("", "mig", tenants));
        assert_eq!(of("count = [1, 8], at_least = 7"), [""; 0]);
        let why = of("count = [1, 8], at_least = 8");
        assert!(why[0].starts_with("c: 8 tenants are required, and no density of so many can be here"), "{why:?}");
        assert_eq!(of("count = [8, 9]"), ["c: none of its densities can be here"]);
    }
}
