//! A report as OpenMetrics text, for the textfile collector of Prometheus's node exporter.
//!
//! Two parsers must take the same bytes: that of OpenMetrics and that of the older Prometheus text format, which the node
//! exporter uses. So everything is a gauge (the older format knows neither `info` nor `stateset`, and spells counters
//! otherwise), no sample has a time, and `# UNIT` and `# EOF` are comments to the older one. What is absent has no sample.
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>, <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::collections::HashSet;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::ReportError;
use super::density::{DensityHere, DensityState};
use super::escape::exact;
use super::model::{Ratio, Report, RunReport, VerdictWord};
use super::words::{outcome_id, provenance_id, requirement_id, tier};
use crate::verdict::{ControlOutcome, RequirementState};

const VERDICTS: [VerdictWord; 5] = [
    VerdictWord::Isolated,
    VerdictWord::Degraded,
    VerdictWord::Violated,
    VerdictWord::Inconclusive,
    VerdictWord::Skipped,
];
const STATES: [RequirementState; 5] = [
    RequirementState::NotRequired,
    RequirementState::Met,
    RequirementState::Accepted,
    RequirementState::Undecided,
    RequirementState::NotMet,
];
const OUTCOMES: [ControlOutcome; 5] = [
    ControlOutcome::Passed,
    ControlOutcome::Undecided,
    ControlOutcome::Impossible,
    ControlOutcome::NotMeasured,
    ControlOutcome::Failed,
];

type Labels = Vec<(&'static str, String)>;

/// One metric with its samples, in their order. The crate's own families keep them in a map without one.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    /// Its samples are times in seconds: the name gets its suffix.
    seconds: bool,
    samples: Vec<(Labels, f64)>,
    seen: HashSet<Labels>,
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let unit = family.seconds.then_some(&Unit::Seconds);
            let mut metric = encoder.encode_descriptor(family.name, family.help, unit, MetricType::Gauge)?;
            for (labels, value) in &family.samples {
                ConstGauge::new(*value).encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

/// The report as OpenMetrics text.
pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let mut families = Families(Vec::new());
    let several = report.runs.len() > 1;
    for (at, run) in report.runs.iter().enumerate() {
        // Of every sample, so that files of several scenarios and GPUs lie side by side in one folder.
        let mut common = vec![("scenario", exact(&run.header.scenario)), ("gpu_uuid", exact(&run.header.uuid))];
        common.extend(several.then(|| ("run", at.to_string())));
        let mut out = Out { families: &mut families.0, common };
        of_run(&mut out, run);
        of_cells(&mut out, run);
        of_series(&mut out, run);
        of_curves(&mut out, run);
        of_others(&mut out, run);
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

struct Out<'a> {
    families: &'a mut Vec<Family>,
    common: Labels,
}

impl Out<'_> {
    fn put(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: Option<f64>) {
        self.sample(name, help, false, labels, value);
    }

    fn seconds(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], ns: Option<f64>) {
        self.sample(name, help, true, labels, ns.map(|ns| ns / 1e9));
    }

    fn sample(
        &mut self,
        name: &'static str,
        help: &'static str,
        seconds: bool,
        labels: &[(&'static str, &str)],
        value: Option<f64>,
    ) {
        let Some(value) = value else { return };
        let mut all = self.common.clone();
        all.extend(labels.iter().map(|(key, text)| (*key, exact(text))));
        let at = self.families.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.families.push(Family { name, help, seconds, samples: Vec::new(), seen: HashSet::new() });
            self.families.len() - 1
        });
        // Two samples of one name and one set of labels would have the whole file refused: the first stands. Panels of a
        // place that differ in their neighbours alone have one load, and objectives may agree in all that is printed.
        let family = &mut self.families[at];
        if family.seen.insert(all.clone()) {
            family.samples.push((all, value));
        }
    }

    /// One sample per state: 1 for the one that holds, 0 for the others.
    fn states<'s>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        key: &'static str,
        states: impl Iterator<Item = (&'s str, bool)>,
    ) {
        for (state, holds) in states {
            self.put(name, help, &[labels, &[(key, state)]].concat(), Some(f64::from(u8::from(holds))));
        }
    }

    fn verdict(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        verdict: VerdictWord,
    ) {
        self.states(name, help, labels, "verdict", VERDICTS.iter().map(|v| (v.id(), *v == verdict)));
    }

    fn requirement(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        state: RequirementState,
    ) {
        self.states(name, help, labels, "state", STATES.iter().map(|s| (requirement_id(*s), *s == state)));
    }

    /// Estimate and bounds, those that are there.
    fn bounds(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        ratio: Option<&Ratio>,
    ) {
        let Some(r) = ratio else { return };
        for (bound, value) in [("estimate", r.estimate), ("low", r.low), ("high", r.high)] {
            self.put(name, help, &[labels, &[("bound", bound)]].concat(), value);
        }
    }
}

fn flag(holds: bool) -> Option<f64> {
    Some(f64::from(u8::from(holds)))
}

fn of_run(out: &mut Out<'_>, run: &RunReport) {
    let h = &run.header;
    let (provenance, seed) = (provenance_id(h.provenance), h.seed.to_string());
    let mut about = vec![
        ("provenance", provenance),
        ("created_by", &h.created_by),
        ("gpu", &h.gpu),
        ("tier", tier(h.tier)),
        ("seed", &seed),
    ];
    about.extend(h.driver.as_ref().map(|driver| ("driver", driver.as_str())));
    out.put("crosstalk_run_info", "What was run, and where the numbers come from.", &about, Some(1.0));
    out.put(
        "crosstalk_run_measured",
        "1 where the numbers were measured on hardware, 0 where they were simulated or taken from a stand-in driver.",
        &[],
        flag(h.banner.is_none()),
    );
    out.put(
        "crosstalk_run_finished",
        "1 where the run was finished, 0 where it was interrupted.",
        &[],
        flag(h.progress.finished),
    );
    for (state, arms) in [("recorded", h.progress.arms), ("planned", h.progress.planned)] {
        out.put("crosstalk_run_arms", "Arms of the run.", &[("state", state)], Some(arms as f64));
    }
    out.requirement(
        "crosstalk_run_requirement",
        "Worst state over everything required: 1 for the state that holds.",
        &[],
        run.requirements.state,
    );
    for state in STATES.into_iter().filter(|s| *s != RequirementState::NotRequired) {
        let n = run.requirements.items.iter().filter(|item| item.state == state).count();
        let labels = [("state", requirement_id(state))];
        out.put("crosstalk_run_requirements", "Requirements by state.", &labels, Some(n as f64));
    }
    out.put("crosstalk_run_episode_share", "Share of arms that an episode must hit to be seen.", &[], run.scope.share);
}

/// What names a cell, whole and in its parts.
fn of_cell(run: &RunReport, at: usize) -> Vec<(&'static str, &str)> {
    let mut labels: Vec<(&'static str, &str)> =
        run.cells.get(at).map(|c| ("cell", c.name.as_str())).into_iter().collect();
    if let Some((row, column)) = run.place_of(at) {
        labels.extend([
            ("arrangement", column.arrangement.as_str()),
            ("seat", &column.seat),
            ("neighbour", &row.neighbour),
        ]);
    }
    labels
}

fn of_cells(out: &mut Out<'_>, run: &RunReport) {
    for (at, cell) in run.cells.iter().enumerate() {
        let labels = of_cell(run, at);
        out.verdict(
            "crosstalk_cell_verdict",
            "1 for the verdict of the cell, 0 for the others.",
            &labels,
            cell.verdict,
        );
        out.requirement(
            "crosstalk_cell_requirement",
            "1 for the state of what the cell is required to be.",
            &labels,
            cell.requirement,
        );
        out.put(
            "crosstalk_cell_neighbour_rate_ratio",
            "Neighbour's rate in noisy arms, divided by its solo rate in the same place.",
            &labels,
            cell.neighbour_rate,
        );
    }
}

fn of_series(out: &mut Out<'_>, run: &RunReport) {
    for (at, cell) in run.cells.iter().enumerate() {
        let cell_labels = of_cell(run, at);
        let mut counted: Vec<&str> = Vec::new();
        for s in &cell.series {
            let quantile = s.quantile.to_string();
            // Not "quantile": that label is a summary's.
            let labels = [&cell_labels[..], &[("series", &s.series), ("percentile", &quantile)]].concat();
            out.bounds(
                "crosstalk_interference_ratio",
                "Latency beside the neighbour, divided by latency without it: estimate and bounds, those that exist.",
                &labels,
                s.ratio.as_ref(),
            );
            for (arm, ns) in [("quiet", s.quiet_ns), ("noisy", s.noisy_ns)] {
                let labels = [&labels[..], &[("arm", arm)]].concat();
                out.seconds("crosstalk_latency", "Latency of the victim's requests, open loop.", &labels, ns);
            }
            out.verdict(
                "crosstalk_series_verdict",
                "1 for the verdict of the series at this percentile.",
                &labels,
                s.verdict,
            );
            if counted.contains(&s.series.as_str()) {
                continue;
            }
            counted.push(&s.series);
            for (arm, requests) in [("quiet", s.quiet_requests), ("noisy", s.noisy_requests)] {
                let labels = [&cell_labels[..], &[("series", &s.series), ("arm", arm)]].concat();
                out.put("crosstalk_requests", "Requests of the victim over all arms.", &labels, Some(requests as f64));
            }
        }
    }
}

fn of_curves(out: &mut Out<'_>, run: &RunReport) {
    for c in &run.curves {
        let curve = [("curve", c.name.as_str()), ("sharing", c.sharing.id()), ("probe", &c.probe)];
        out.put(
            "crosstalk_density_tenants_met",
            "The largest number of tenants that is shown to meet every objective.",
            &curve,
            c.met.map(f64::from),
        );
        out.put(
            "crosstalk_density_tenants_missed",
            "The smallest number of tenants that is shown to miss an objective.",
            &curve,
            c.missed.map(f64::from),
        );
        out.put(
            "crosstalk_density_tenants_required",
            "Tenants that must meet their objectives.",
            &curve,
            c.at_least.map(f64::from),
        );
        out.put(
            "crosstalk_density_search_complete",
            "1 where the search for the largest number came to its end.",
            &curve,
            flag(c.complete),
        );
        out.requirement(
            "crosstalk_density_requirement",
            "1 for the state of what is required of the curve.",
            &curve,
            c.requirement,
        );
        for d in &c.densities {
            let tenants = d.tenants.to_string();
            let labels = [&curve[..], &[("tenants", &tenants)]].concat();
            of_density(out, &labels, d);
        }
    }
}

fn of_density(out: &mut Out<'_>, labels: &[(&'static str, &str)], d: &DensityHere) {
    let states = DensityState::ALL.map(|s| (s.id(), s == d.state));
    out.states(
        "crosstalk_density_verdict",
        "1 for what became of so many tenants, 0 for the others.",
        labels,
        "state",
        states.into_iter(),
    );
    if d.arms > 0 {
        out.put(
            "crosstalk_density_saturated",
            "1 where the backlog of a tenant grows: there is no latency then.",
            labels,
            flag(d.saturated.is_some()),
        );
    }
    for l in &d.worst {
        let quantile = l.quantile.to_string();
        let labels = [labels, &[("percentile", &quantile)]].concat();
        out.seconds("crosstalk_density_worst_latency", "Latency of the tenant that fares worst.", &labels, Some(l.ns));
    }
    out.put("crosstalk_density_served_per_second", "Requests that all tenants were served.", labels, d.served);
    out.put(
        "crosstalk_density_good_per_second",
        "Requests that all tenants were served within every objective's bound.",
        labels,
        d.good,
    );
    out.put(
        "crosstalk_density_memory_bytes",
        "Device memory in use on the GPU.",
        labels,
        d.memory.map(|bytes| bytes as f64),
    );
    out.bounds(
        "crosstalk_density_fairness_index",
        "Jain's index of the tenants' goodput: estimate and bounds, those that exist.",
        labels,
        d.fairness.as_ref(),
    );
    out.bounds(
        "crosstalk_density_reference_ratio",
        "Worst tenant's latency at the highest objective's quantile, divided by that of the reference.",
        labels,
        d.ratio.as_ref(),
    );
    for t in &d.each {
        let labels = [labels, &[("seat", &t.seat)]].concat();
        for l in &t.latencies {
            let quantile = l.quantile.to_string();
            let labels = [&labels[..], &[("percentile", &quantile)]].concat();
            out.seconds("crosstalk_density_latency", "Latency of each tenant's requests.", &labels, Some(l.ns));
        }
        for (rate, value) in [("arrived", t.planned), ("served", t.served), ("good", t.good)] {
            let labels = [&labels[..], &[("requests", rate)]].concat();
            out.put("crosstalk_density_tenant_per_second", "Requests of each tenant.", &labels, value);
        }
    }
}

fn of_others(out: &mut Out<'_>, run: &RunReport) {
    for o in &run.objectives {
        let mut labels = vec![("place", o.place.as_str()), ("probe", &o.probe), ("objective", &o.objective)];
        labels.extend(o.neighbour.as_deref().map(|n| ("neighbour", n)));
        let states = ["met", "missed", "undecided"].map(|word| (word, word == o.verdict));
        out.states(
            "crosstalk_objective",
            "1 for what came of the service-level objective; without a neighbour: quiet.",
            &labels,
            "state",
            states.into_iter(),
        );
        out.bounds(
            "crosstalk_objective_over_ratio",
            "Share of the requests that were over the objective's bound.",
            &labels,
            o.over.as_ref(),
        );
        out.put(
            "crosstalk_objective_allowed_ratio",
            "Share of the requests that may be over it.",
            &labels,
            Some(o.allowed),
        );
    }
    for h in &run.hazards {
        let labels = [("hazard", h.name.as_str())];
        out.verdict("crosstalk_hazard_verdict", "1 for the verdict on the hazard.", &labels, h.verdict);
        out.requirement(
            "crosstalk_hazard_requirement",
            "1 for the state of what is required of the hazard.",
            &labels,
            h.requirement,
        );
        out.put("crosstalk_hazard_hits", "How often the hazard came true.", &labels, Some(h.hits as f64));
        out.put("crosstalk_hazard_attempts", "Attempts that count.", &labels, Some(h.of as f64));
        for (bound, value) in [("low", h.at_least), ("high", h.at_most)] {
            let labels = [("hazard", h.name.as_str()), ("bound", bound)];
            out.put("crosstalk_hazard_probability", "Bounds of the hazard's probability, at 99 %.", &labels, value);
        }
    }
    for c in &run.controls {
        let labels = [("place", c.place.as_str()), ("control", c.control.words())];
        let states = OUTCOMES.map(|o| (outcome_id(o), o == c.outcome));
        out.states("crosstalk_control", "1 for what came of the control.", &labels, "outcome", states.into_iter());
    }
    for o in &run.observed {
        let labels = [("arrangement", o.arrangement.as_str()), ("observation", &o.id)];
        if let Some(finding) = &o.finding {
            let labels = [&labels[..], &[("finding", finding)]].concat();
            out.put("crosstalk_observation_info", "What an observation found.", &labels, Some(1.0));
        }
        for (figure, value) in &o.figures {
            let labels = [&labels[..], &[("figure", figure)]].concat();
            out.put(
                "crosstalk_observation_figure",
                "Figures of observations; their names end in the unit.",
                &labels,
                Some(*value),
            );
        }
    }
    for c in &run.calibration {
        out.put(
            "crosstalk_probe_requests_per_second",
            "Load of the probe, fixed before the first block; of several panels, the first one's.",
            &[("place", c.place.as_str()), ("probe", &c.probe)],
            Some(c.rate),
        );
    }
}
