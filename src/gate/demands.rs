//! What a policy demands of cells, objectives, hazards and observations, in a run, in its retries, and in the runs before it.

use jiff::civil::Date;
use wildmatch::WildMatch;

use super::against;
use super::policy::{Demand, Must, Policy};
use super::{Finding, Judged};
use crate::channel::Channel;
use crate::plan::Plan;
use crate::report::{RequiredOf, percent};
use crate::scenario::{Accept, Expectation, Quantile, SharingMode, Word};
use crate::stats::{blocks_for_share, episode_share};
use crate::verdict::{self, CellVerdict, RequirementState, SeriesVerdict, Verdict};
use crate::workload::PLACEBO;

/// Lowest quantile that sees an episode which a part of the arms alone has.
const TAIL: Quantile = Quantile(95_000);

/// What one demand finds in one run.
pub(super) struct Found {
    pub(super) subject: String,
    pub(super) state: RequirementState,
    pub(super) text: String,
    pub(super) kind: Kind,
    /// The retry that decided it.
    pub(super) retry: Option<u32>,
}

/// What other runs of the plan have to say of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Judged with an error rate: retries may decide it, runs before confirm that it fails.
    Judged,
    /// Compared with a baseline: runs before confirm that it fails.
    Compared,
    /// A fact, such as a hazard: nothing.
    Fact,
}

/// Everything that the policy demands.
pub(super) fn of(policy: &Policy, run: &Judged, retries: &[Judged], previous: &[Judged], today: Date) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut settle = |rule: &str, find: &dyn Fn(&Judged) -> Vec<Found>| {
        let retries: Vec<Vec<Found>> = retries.iter().map(find).collect();
        let previous: Vec<Vec<Found>> = previous.iter().map(find).collect();
        let settled = find(run).into_iter().map(|found| settled(policy, found, &retries, &previous));
        findings.extend(settled.map(|found| Finding {
            rule: rule.to_owned(),
            subject: found.subject,
            state: found.state,
            text: found.text,
            retry: found.retry,
        }));
    };
    for demand in &policy.demands {
        settle(&demand.place, &|judged| find(policy, demand, judged));
    }
    if policy.scenario_requirements {
        settle("scenario_requirements", &own);
    }
    if let Some(asked) = &policy.baseline {
        settle("baseline", &|judged| against::of(asked, judged, today));
    }
    findings
}

/// What else must be known: risks that have expired, or that name nothing here.
pub(super) fn notes(policy: &Policy, run: &Judged, today: Date) -> Vec<String> {
    let mut notes = Vec::new();
    for risk in &policy.accepted {
        let glob = WildMatch::new(&risk.cell);
        let hazards = run.verdict.hazards.iter().map(|h| h.name.as_str());
        let names = run.verdict.cells.iter().map(|cell| cell.name.as_str()).chain(hazards);
        if risk.until < today {
            notes.push(format!(
                "the risk accepted for {} expired on {}: renew `until`, or remove the entry",
                risk.cell, risk.until
            ));
        } else if !names.into_iter().any(|name| glob.matches(name) || glob.matches(&seatless(name))) {
            notes.push(format!("the risk accepted for {} is of no cell of this run", risk.cell));
        }
    }
    if policy.scenario_risks {
        let expired = run.run.manifest.plan.accepted.iter().filter(|risk| risk.until < today);
        notes.extend(
            expired
                .map(|risk| format!("the risk that the scenario accepts for {} expired on {}", risk.cell, risk.until)),
        );
    }
    notes
}

/// What the run says, what a retry makes of it where it is open, and whether the runs before it confirm a failure.
fn settled(policy: &Policy, mut found: Found, retries: &[Vec<Found>], previous: &[Vec<Found>]) -> Found {
    let same = |all: &[Found]| all.iter().position(|other| other.subject == found.subject);
    let decided = |other: &Found| !matches!(other.state, RequirementState::Undecided | RequirementState::NotRequired);
    if found.state == RequirementState::Undecided && found.kind == Kind::Judged {
        let decisive = retries.iter().enumerate().find_map(|(index, all)| {
            let other = &all[same(all)?];
            decided(other).then_some((index, other))
        });
        if let Some((index, other)) = decisive {
            found.state = other.state;
            found.retry = Some(index as u32 + 1);
            found.text = format!("{} (retry {}; before it: {})", other.text, index + 1, found.text);
        }
    }
    if found.state == RequirementState::NotMet && found.kind != Kind::Fact && policy.confirm > 1 {
        let failed = |all: &Vec<Found>| same(all).is_some_and(|at| all[at].state == RequirementState::NotMet);
        let before = previous.iter().rev().take_while(|all| failed(all)).count() as u32;
        if before + 1 < policy.confirm {
            let times = match before {
                0 => "for the first time".to_owned(),
                n => format!("{} times in a row", n + 1),
            };
            found.state = RequirementState::Undecided;
            found.text = format!("not met {times}, and counts from {} on (confirm): {}", policy.confirm, found.text);
        }
    }
    found
}

/// What the scenario itself requires.
fn own(judged: &Judged) -> Vec<Found> {
    let items = &judged.report.requirements.items;
    let found = items.iter().filter(|item| item.state != RequirementState::NotRequired).map(|item| Found {
        subject: item.cell.clone(),
        state: item.state,
        text: item.text.clone(),
        kind: match item.of {
            RequiredOf::Hazard | RequiredOf::Observation => Kind::Fact,
            RequiredOf::Cell | RequiredOf::Objective | RequiredOf::Curve => Kind::Judged,
        },
        retry: None,
    });
    let found: Vec<Found> = found.collect();
    // What holds of the items and not of the whole is open without a cell.
    let worst = found.iter().map(|found| found.state).max().unwrap_or(RequirementState::NotRequired);
    let whole = judged.verdict.requirement;
    let rest = match whole {
        RequirementState::NotRequired => Some((RequirementState::Undecided, "the scenario requires nothing")),
        whole if worst < whole => Some((whole, "something that the scenario requires has no cell")),
        _ => None,
    };
    let rest = rest.map(|(state, text)| absent("the scenario", state, text.to_owned()));
    found.into_iter().chain(rest).collect()
}

/// Something that is not there, or not decided.
pub(super) fn absent(subject: &str, state: RequirementState, text: String) -> Found {
    Found { subject: subject.to_owned(), state, text, kind: Kind::Judged, retry: None }
}

/// What one demand finds in one run; never nothing.
fn find(policy: &Policy, demand: &Demand, judged: &Judged) -> Vec<Found> {
    let mut found = match &demand.must {
        Must::Cell(rules) => cells(policy, demand, rules, judged),
        Must::Objective => objectives(policy, demand, judged),
        Must::Hazard(rules) => hazards(policy, demand, rules, judged),
        Must::Observation(finding) => observations(demand, finding, judged),
    };
    if found.is_empty() {
        let under = match demand.sharing.as_slice() {
            [] => String::new(),
            modes => format!(" under {}", modes.iter().map(|mode| mode.id()).collect::<Vec<_>>().join(", ")),
        };
        let kind = demand.must.key();
        let text = format!("absent: no {kind} of this run is {:?}{under} with anything to meet", demand.name);
        found.push(absent(&demand.name, RequirementState::Undecided, text));
    }
    found
}

fn sharing(plan: &Plan, arrangement: usize) -> SharingMode {
    plan.arrangements[arrangement].sharing
}

fn cells(policy: &Policy, demand: &Demand, rules: &Expectation, judged: &Judged) -> Vec<Found> {
    let plan = &judged.run.manifest.plan;
    // No noise runs beside an exclusive victim: it is a reference, not a test.
    let covers = |cell: &CellVerdict| {
        let mode = sharing(plan, cell.arrangement);
        mode != SharingMode::Exclusive && demand.covers(&cell.name, mode)
    };
    let covered = judged.verdict.cells.iter().enumerate().filter(|(_, cell)| covers(cell));
    let covered: Vec<(usize, &CellVerdict)> = covered.collect();
    let mut found: Vec<Found> =
        covered.iter().filter_map(|(at, cell)| one_cell(policy, rules, judged, *at, cell)).collect();
    if found.is_empty() {
        return found;
    }
    let placebo = |cell: &CellVerdict| plan.neighbours[cell.neighbour].workload == PLACEBO;
    if covered.iter().all(|(_, cell)| placebo(cell)) {
        let text = format!("absent: {:?} covers the placebo alone, beside which nothing makes noise", demand.name);
        found.push(absent(&demand.name, RequirementState::Undecided, text));
    }
    let demanding = rules.0.iter().filter(|rule| rule.word != Word::Any && rule.key != Expectation::DEFAULT);
    for rule in demanding.filter(|rule| !covered.iter().any(|(_, cell)| has_key(plan, cell, &rule.key))) {
        let text = format!("absent: no cell that {:?} covers has it, {} asked", demand.name, rule.word.id());
        found.push(absent(&rule.key, RequirementState::Undecided, text));
    }
    found
}

/// Whether a key of `must` names something of the cell.
fn has_key(plan: &Plan, cell: &CellVerdict, key: &str) -> bool {
    let neighbour = &plan.neighbours[cell.neighbour];
    let mut all = plan.panel.iter().flat_map(|probe| &probe.series);
    key == neighbour.name
        || neighbour.channels.first().is_some_and(|channel| channel.id() == key)
        || key.strip_prefix(neighbour.name.as_str()).and_then(|rest| rest.strip_prefix('/')).is_some_and(|series| {
            // A cell that was skipped has the series of the whole panel.
            cell.series.iter().any(|s| s.series == series) || cell.series.is_empty() && all.any(|s| s == series)
        })
}

fn one_cell(policy: &Policy, rules: &Expectation, judged: &Judged, at: usize, cell: &CellVerdict) -> Option<Found> {
    let plan = &judged.run.manifest.plan;
    let neighbour = &plan.neighbours[cell.neighbour];
    let risks = risks(policy, judged, cell.arrangement, &cell.seat, &neighbour.name);
    let risks: Vec<&Accept> = risks.iter().collect();
    let mut state = verdict::cell_asked(plan, cell, rules, &risks);
    let channel = neighbour.channels.first().copied().unwrap_or(Channel::Host);
    let word = |series: &str| rules.word_for(&neighbour.name, channel, series).filter(|word| *word != Word::Any);
    let names = plan.panel.iter().flat_map(|probe| &probe.series);
    let mut words: Vec<&str> = names.filter_map(|series| word(series)).map(Word::id).collect();
    words.dedup();
    words.sort_unstable();
    words.dedup();
    let told = judged.report.cells.get(at).map(|cell| cell.summary.as_str()).unwrap_or_default();
    let told = if told.is_empty() { String::new() } else { format!(": {told}") };
    let mut text = format!("{}, {} asked{told}", cell.verdict.word(), words.join(" or "));
    match state {
        RequirementState::NotRequired => return None,
        RequirementState::Accepted => text.push_str(&accepted_by(&risks)),
        RequirementState::Met => {
            let rests = |s: &&SeriesVerdict| {
                s.verdict == Verdict::Isolated && matches!(word(&s.series), Some(Word::Isolated | Word::Degraded))
            };
            if let Some(short) = cell.series.iter().filter(rests).find_map(|s| short_of_scope(policy, s)) {
                state = RequirementState::Undecided;
                text = format!("isolated, {short}");
            }
        }
        RequirementState::Undecided | RequirementState::NotMet => {}
    }
    Some(Found { subject: cell.name.clone(), state, text, kind: Kind::Judged, retry: None })
}

/// What an Isolated lacks to see the episodes that the policy asks it to see.
fn short_of_scope(policy: &Policy, series: &SeriesVerdict) -> Option<String> {
    let (seen, asked) = (episode_share(series.blocks, series.level), policy.evidence.scope);
    // The millionth takes up what logarithms leave.
    if series.quantile < TAIL || seen <= asked + 1e-6 {
        return None;
    }
    let level = match policy.retries {
        0 => String::new(),
        n => format!(" at {} of the error rate each ({n} declared retries)", share_of(1 + n)),
    };
    Some(format!(
        "for episodes in {} of the arms or more, {} asked: {} blocks see them{level}, {} were run",
        percent(seen),
        percent(asked),
        blocks_for_share(asked, series.level),
        series.blocks
    ))
}

fn share_of(runs: u32) -> String {
    match runs {
        2 => "half".to_owned(),
        n => format!("1/{n}"),
    }
}

fn accepted_by(risks: &[&Accept]) -> String {
    let one = |risk: &&Accept| format!("{} (by {}, until {})", risk.reason, risk.by, risk.until);
    format!("; accepted: {}", risks.iter().map(one).collect::<Vec<_>>().join("; "))
}

/// Risks of one cell that hold today: the policy's, and the scenario's where they count.
fn risks(policy: &Policy, judged: &Judged, arrangement: usize, seat: &str, name: &str) -> Vec<Accept> {
    let manifest = &judged.run.manifest;
    let place = &manifest.plan.arrangements[arrangement].name;
    let (whole, seated) = (format!("{place}/{name}"), format!("{place}@{seat}/{name}"));
    let own = policy.accepted.iter().filter(|risk| {
        let glob = WildMatch::new(&risk.cell);
        glob.matches(&whole) || glob.matches(&seated)
    });
    // Where the scenario's do not count, the plan has none any more.
    let scenario = manifest.plan.accepted.iter().filter(|risk| verdict::accepts(risk, place, seat, name));
    own.chain(scenario).filter(|risk| risk.until >= manifest.date).cloned().collect()
}

/// `arrangement/neighbour` of `arrangement@seat/neighbour`.
fn seatless(name: &str) -> String {
    match (name.split_once('@'), name.split_once('/')) {
        (Some((place, _)), Some((_, neighbour))) => format!("{place}/{neighbour}"),
        _ => name.to_owned(),
    }
}

fn objectives(policy: &Policy, demand: &Demand, judged: &Judged) -> Vec<Found> {
    let plan = &judged.run.manifest.plan;
    let mut found = Vec::new();
    for (slo, shown) in judged.verdict.slos.iter().zip(&judged.report.objectives) {
        let beside = shown.neighbour.as_deref().unwrap_or("quiet");
        let name = format!("{}/{beside}", shown.place);
        let mode = sharing(plan, slo.arrangement);
        if !demand.covers(&name, mode) {
            continue;
        }
        let risks = match slo.neighbour {
            Some(at) => risks(policy, judged, slo.arrangement, &slo.seat, &plan.neighbours[at].name),
            None => Vec::new(),
        };
        let risks: Vec<&Accept> = risks.iter().collect();
        let state = verdict::objective_asked(plan, slo, &risks);
        let told = if shown.text.is_empty() { String::new() } else { format!(": {}", shown.text) };
        let mut text = format!("{} {}{told}", shown.objective, shown.verdict);
        if state == RequirementState::Accepted {
            text.push_str(&accepted_by(&risks));
        }
        found.push(Found { subject: format!("{name} {}", shown.probe), state, text, kind: Kind::Judged, retry: None });
    }
    // An arrangement that did not run has no objective to miss.
    for (index, arrangement) in plan.arrangements.iter().enumerate() {
        let has = judged.verdict.slos.iter().any(|slo| slo.arrangement == index);
        let name = format!("{}/quiet", arrangement.name);
        if !has && !found.is_empty() && demand.covers(&name, arrangement.sharing) {
            found.push(absent(
                &name,
                RequirementState::Undecided,
                "absent: it has no objective that was judged".to_owned(),
            ));
        }
    }
    found
}

fn hazards(policy: &Policy, demand: &Demand, rules: &Expectation, judged: &Judged) -> Vec<Found> {
    let plan = &judged.run.manifest.plan;
    let covers = |h: &&verdict::HazardVerdict| demand.covers(&h.name, sharing(plan, h.arrangement));
    let all: Vec<&verdict::HazardVerdict> = judged.verdict.hazards.iter().filter(covers).collect();
    let mut found = Vec::new();
    for hazard in &all {
        let planned = &plan.hazards[hazard.hazard];
        let word = rules.word_for(&planned.name, planned.channel, "").filter(|word| *word != Word::Any);
        let Some(word) = word else { continue };
        let risks = risks(policy, judged, hazard.arrangement, &hazard.seat, &planned.name);
        let risks: Vec<&Accept> = risks.iter().collect();
        let state = verdict::hazard_asked(word, &hazard.verdict, planned.channel, &risks);
        let mut text = format!("{}, {} asked: {}", hazard.verdict.word(), word.id(), hazard.text);
        if state == RequirementState::Accepted {
            text.push_str(&accepted_by(&risks));
        }
        found.push(Found { subject: hazard.name.clone(), state, text, kind: Kind::Fact, retry: None });
    }
    let named = |key: &str| {
        let planned = all.iter().map(|hazard| &plan.hazards[hazard.hazard]);
        planned.into_iter().any(|hazard| hazard.name == key || hazard.channel.id() == key)
    };
    let demanding = rules.0.iter().filter(|rule| rule.word != Word::Any && rule.key != Expectation::DEFAULT);
    let missing = demanding.filter(|rule| !all.is_empty() && !named(&rule.key));
    found.extend(missing.map(|rule| {
        let text = format!("absent: no hazard that {:?} covers has it, {} asked", demand.name, rule.word.id());
        absent(&rule.key, RequirementState::Undecided, text)
    }));
    found
}

fn observations(demand: &Demand, finding: &str, judged: &Judged) -> Vec<Found> {
    let plan = &judged.run.manifest.plan;
    let one = |v: &verdict::ObservedVerdict| {
        let subject = format!("{}/{}", plan.arrangements[v.arrangement].name, v.observed.id);
        if !demand.covers(&subject, sharing(plan, v.arrangement)) {
            return None;
        }
        let state = match v.observed.finding.as_deref() {
            None => RequirementState::Undecided,
            Some(found) if found == finding => RequirementState::Met,
            Some(_) => RequirementState::NotMet,
        };
        let found = v.observed.finding.as_deref().unwrap_or("untold");
        Some(Found {
            subject,
            state,
            text: format!("{found}, {finding} asked: {}", v.observed.why),
            kind: Kind::Fact,
            retry: None,
        })
    };
    judged.verdict.observed.iter().filter_map(one).collect()
}
