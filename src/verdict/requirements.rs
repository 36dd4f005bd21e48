//! What was required and what was expected: by cell, by channel, by series.

use super::decide::overall;
use super::types::{CellVerdict, Control, Reason, RequirementState, SeriesVerdict, SloState, SloVerdict, Verdict};
use crate::channel::Channel;
use crate::plan::{Plan, PlannedArrangement};
use crate::run_dir::{Manifest, RecordedRun};
use crate::scenario::{Accept, Expectation, Word};

/// Whether anything is required of any cell of the plan.
pub(super) fn requires(plan: &Plan) -> bool {
    let decides = |word: Word| word != Word::Any;
    plan.arrangements.iter().filter(|arrangement| arrangement.density.is_none()).any(|arrangement| {
        let rules = &arrangement.require;
        if rules.asks_objectives() {
            return true;
        }
        // One that cannot run has no cells, and is asked for all the same.
        let asked = (arrangement.skipped.is_some() || arrangement.grids.is_empty())
            && rules.0.iter().any(|rule| decides(rule.word));
        asked
            || arrangement.grids.iter().any(|grid| {
                let series = || grid.probes.iter().flat_map(|probe| &plan.panel[*probe].series);
                grid.neighbours.iter().map(|neighbour| &plan.neighbours[*neighbour]).any(|neighbour| {
                    let channel = neighbour.channels.first().copied().unwrap_or(Channel::Host);
                    series().any(|series| rules.word_for(&neighbour.name, channel, series).is_some_and(decides))
                })
            })
    })
}

/// Fills in what was required and expected of `cell`, whether it holds, and what surprises.
pub(super) fn apply(manifest: &Manifest, cell: &mut CellVerdict) {
    let plan = &manifest.plan;
    let arrangement = &plan.arrangements[cell.arrangement];
    let neighbour = &plan.neighbours[cell.neighbour];
    let channel = neighbour.channels.first().copied().unwrap_or(Channel::Host);
    let word = |rules: &Expectation, series: &str| {
        rules.word_for(&neighbour.name, channel, series).filter(|word| *word != Word::Any)
    };
    for series in &mut cell.series {
        series.required = word(&arrangement.require, &series.series);
        series.expected = word(&arrangement.expect, &series.series);
    }
    let valid = |a: &&Accept| a.until >= manifest.date && names(a, cell, &arrangement.name, &neighbour.name);
    let accepts: Vec<&Accept> = plan.accepted.iter().filter(valid).collect();
    let groups = |rules: &Expectation| groups_under(plan, cell, rules);
    let requirement = asked(plan, cell, &arrangement.require, &accepts);
    // What the data show is not met for want of a control alone: say so.
    let shown = |group: &Group<'_>| {
        asks_proof(group.word) && as_far_as_known(plan, group.word, &group.series) == RequirementState::Met
    };
    let off = !plan.design.controls.again && groups(&arrangement.require).iter().any(shown);
    let surprises = groups(&arrangement.expect).iter().flat_map(|group| surprises(&cell.name, group)).collect();
    cell.requirement = requirement;
    cell.surprises = surprises;
    cell.notes.extend(off.then_some(Reason::ControlOff { control: Control::Again }));
}

/// Whether what `rules` ask of `cell` holds, where these risks of it are accepted. `NotRequired`: they ask nothing of it.
pub(crate) fn asked(plan: &Plan, cell: &CellVerdict, rules: &Expectation, accepts: &[&Accept]) -> RequirementState {
    let groups = groups_under(plan, cell, rules);
    groups.iter().map(|group| state(plan, group, accepts)).max().unwrap_or(RequirementState::NotRequired)
}

/// The series of `cell` by the rule of `rules` that applies to them, as far as one asks anything.
fn groups_under<'a>(plan: &'a Plan, cell: &'a CellVerdict, rules: &Expectation) -> Vec<Group<'a>> {
    let neighbour = &plan.neighbours[cell.neighbour];
    let channel = neighbour.channels.first().copied().unwrap_or(Channel::Host);
    let own = |series: &str| rules.0.iter().any(|rule| rule.key == format!("{}/{series}", neighbour.name));
    let word = |series: &str| rules.word_for(&neighbour.name, channel, series).filter(|word| *word != Word::Any);
    groups(plan, cell, word, own)
}

/// Whether an objective holds, where these risks of its cell are accepted.
pub(crate) fn objective(plan: &Plan, slo: &SloVerdict, accepts: &[&Accept]) -> RequirementState {
    let bare = match slo.state {
        SloState::Met => return RequirementState::Met,
        SloState::Missed => RequirementState::NotMet,
        SloState::Undecided { .. } => RequirementState::Undecided,
    };
    let channel = plan.panel.iter().find(|p| p.name == slo.probe).and_then(|p| p.channels.first());
    let covers = |a: &&Accept| a.channel.as_deref().is_none_or(|id| channel.is_some_and(|c| c.id() == id));
    if accepts.iter().any(covers) { RequirementState::Accepted } else { bare }
}

/// Fills in whether the objectives hold where they are required. Returns what an arrangement that did not run leaves open.
pub(super) fn apply_to_slos(run: &RecordedRun, slos: &mut [SloVerdict]) -> RequirementState {
    let manifest = &run.manifest;
    let plan = &manifest.plan;
    for slo in slos.iter_mut() {
        let arrangement = &plan.arrangements[slo.arrangement];
        if !arrangement.require.asks_objectives() {
            continue;
        }
        let valid = |a: &&Accept| {
            let name = slo.neighbour.map(|n| plan.neighbours[n].name.as_str());
            a.until >= manifest.date && name.is_some_and(|n| of(a, &arrangement.name, &slo.seat, n))
        };
        let accepts: Vec<&Accept> = plan.accepted.iter().filter(valid).collect();
        slo.requirement = objective(plan, slo, &accepts);
    }
    let open = |(index, a): (usize, &PlannedArrangement)| {
        a.density.is_none() && a.require.asks_objectives() && !slos.iter().any(|slo| slo.arrangement == index)
    };
    match plan.arrangements.iter().enumerate().any(open) {
        true => RequirementState::Undecided,
        false => RequirementState::NotRequired,
    }
}

/// What arrangements leave open of which a verdict is required, and that have no cell at all.
pub(super) fn without_cells(plan: &Plan, cells: &[CellVerdict]) -> RequirementState {
    let asks = |rules: &Expectation| rules.0.iter().any(|rule| !matches!(rule.word, Word::Any | Word::Met));
    let open = |(index, a): (usize, &PlannedArrangement)| {
        // Hazards are judged without cells, and say themselves what is open.
        a.density.is_none()
            && a.hazards.is_empty()
            && asks(&a.require)
            && !cells.iter().any(|cell| cell.arrangement == index)
    };
    match plan.arrangements.iter().enumerate().any(open) {
        true => RequirementState::Undecided,
        false => RequirementState::NotRequired,
    }
}

/// The series of a cell under one rule: judged together, as the cell is.
struct Group<'a> {
    word: Word,
    /// The series that has the rule for itself; `None`: all that have none.
    own: Option<&'a str>,
    series: Vec<&'a SeriesVerdict>,
}

/// The series of a cell by the rule that applies to them. One with its own key is left out of the wider one. A cell
/// without series (Skipped) has the rules of the whole panel.
fn groups<'a>(
    plan: &'a Plan,
    cell: &'a CellVerdict,
    word: impl Fn(&str) -> Option<Word>,
    own: impl Fn(&str) -> bool,
) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut put = |name: &'a str, series: Option<&'a SeriesVerdict>| {
        let Some(word) = word(name) else { return };
        let own = own(name).then_some(name);
        match groups.iter_mut().find(|group| group.own == own) {
            Some(group) => group.series.extend(series),
            None => groups.push(Group { word, own, series: series.into_iter().collect() }),
        }
    };
    if cell.series.is_empty() {
        plan.panel.iter().flat_map(|probe| &probe.series).for_each(|name| put(name, None));
    }
    for series in &cell.series {
        put(&series.series, Some(series));
    }
    groups
}

/// Whether the word of a group holds, accepted risks considered.
fn state(plan: &Plan, group: &Group<'_>, accepts: &[&Accept]) -> RequirementState {
    let bare = required(plan, group.word, &group.series);
    if bare == RequirementState::Met || accepts.is_empty() {
        return bare;
    }
    if accepts.iter().any(|accept| accept.channel.is_none()) {
        return RequirementState::Accepted;
    }
    let covered = |s: &SeriesVerdict| accepts.iter().any(|a| a.channel.as_deref() == Some(s.channel.id()));
    let rest: Vec<&SeriesVerdict> = group.series.iter().copied().filter(|s| !covered(s)).collect();
    match rest.len() {
        n if n == group.series.len() => bare,
        0 => RequirementState::Accepted,
        _ => required(plan, group.word, &rest).max(RequirementState::Accepted),
    }
}

/// Words that hold where a slowdown is proved *not* to be there.
fn asks_proof(word: Word) -> bool {
    matches!(word, Word::Isolated | Word::Degraded)
}

/// Whether the verdicts under one rule are what `require` asks. That there is no slowdown is shown by nothing but an
/// experiment that tells quiet from quiet: with A/A off it is not met. What is there, is there.
fn required(plan: &Plan, word: Word, series: &[&SeriesVerdict]) -> RequirementState {
    match as_far_as_known(plan, word, series) {
        RequirementState::Met if asks_proof(word) && !plan.design.controls.again => RequirementState::Undecided,
        state => state,
    }
}

/// The same as far as the data go. Without any (Skipped) nobody knows.
fn as_far_as_known(plan: &Plan, word: Word, series: &[&SeriesVerdict]) -> RequirementState {
    if word == Word::Degraded {
        return series.iter().map(|s| no_worse_than_degraded(plan, s)).max().unwrap_or(RequirementState::Undecided);
    }
    match overall(Verdict::Skipped { reason: String::new() }, series.iter().copied()) {
        Verdict::Inconclusive { .. } | Verdict::Skipped { .. } => RequirementState::Undecided,
        verdict if is(word, &verdict) => RequirementState::Met,
        _ => RequirementState::NotMet,
    }
}

/// Asked of every series on its own: one that cannot be told from Degraded may still be Violated, and is not covered by
/// another that is Degraded. An interval that lies below the violated margin is no worse, whichever side of the isolated
/// one it is on; but what keeps Isolated from being said makes its upper bound worth nothing here too.
fn no_worse_than_degraded(plan: &Plan, series: &SeriesVerdict) -> RequirementState {
    let violated = 1.0 + plan.design.margins.of(series.quantile).1;
    let below = series.ratio.and_then(|ratio| ratio.high).is_some_and(|high| high < violated);
    let below = below && series.blocked.is_none();
    match &series.verdict {
        Verdict::Isolated => RequirementState::Met,
        Verdict::Violated => RequirementState::NotMet,
        Verdict::Degraded | Verdict::Inconclusive { reason: Reason::Underpowered { .. } } if below => {
            RequirementState::Met
        }
        // Degraded says that it is no better; whether it is no worse, the upper bound says.
        Verdict::Degraded | Verdict::Inconclusive { .. } | Verdict::Skipped { .. } => RequirementState::Undecided,
    }
}

/// Whether one verdict is what `require` asks.
pub(super) fn bare(word: Word, verdict: &Verdict) -> RequirementState {
    match verdict {
        Verdict::Inconclusive { .. } | Verdict::Skipped { .. } => RequirementState::Undecided,
        Verdict::Isolated if word == Word::Degraded => RequirementState::Met,
        verdict if is(word, verdict) => RequirementState::Met,
        _ => RequirementState::NotMet,
    }
}

/// Whether a decided verdict is what the word says.
fn is(word: Word, verdict: &Verdict) -> bool {
    match word {
        // Of objectives, which are no verdicts.
        Word::Any | Word::Met => true,
        Word::Isolated => *verdict == Verdict::Isolated,
        Word::Degraded => *verdict == Verdict::Degraded,
        Word::Violated => *verdict == Verdict::Violated,
        Word::NotIsolated => *verdict != Verdict::Isolated,
    }
}

/// What contradicts `expect`. What could not be decided contradicts nothing.
fn surprises(cell: &str, group: &Group<'_>) -> Vec<String> {
    let found = overall(Verdict::Skipped { reason: String::new() }, group.series.iter().copied());
    let decided = matches!(found, Verdict::Isolated | Verdict::Degraded | Verdict::Violated);
    if !decided || is(group.word, &found) {
        return Vec::new();
    }
    let expected = group.word.id();
    if found == Verdict::Isolated {
        let whose = group.own.map(|series| format!("{series} ")).unwrap_or_default();
        return vec![format!("{cell}: {whose}isolated, expected {expected}")];
    }
    let same = group.series.iter().filter(|s| s.verdict == found);
    same.map(|s| format!("{cell}: {} {} {}, expected {expected}", s.series, s.quantile, s.verdict.word())).collect()
}

/// Whether an accepted risk names this cell: with its seat, or without one for all places of its arrangement.
pub(crate) fn names(accept: &Accept, cell: &CellVerdict, arrangement: &str, neighbour: &str) -> bool {
    of(accept, arrangement, &cell.seat, neighbour)
}

/// The same, of a cell that has no verdict of its own: an objective, a hazard.
pub(crate) fn of(accept: &Accept, arrangement: &str, seat: &str, neighbour: &str) -> bool {
    accept.cell == format!("{arrangement}/{neighbour}") || accept.cell == format!("{arrangement}@{seat}/{neighbour}")
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::super::synthetic::{Lab, exit_code, lognormal, rules};
    use super::super::{RunVerdict, judge};
    use super::*;
    use crate::run_dir::RecordedRun;

    /// Two probes under two neighbours over PCIe: `h2d` is slowed 1.3-fold by `dma`, nothing else is slowed.
    fn run() -> RecordedRun {
        let lab = Lab {
            blocks: 17,
            again: true,
            panel: vec![("h2d", Channel::Pcie), ("launch", Channel::Launch)],
            neighbours: vec![("dma", "d2h", Channel::Pcie), ("hog", "hbm-read", Channel::HbmBandwidth)],
            ..Lab::default()
        };
        lab.run(|stream, draw| lognormal(stream) * if draw.probe == 0 && draw.neighbour == Some(0) { 1.3 } else { 1.0 })
    }

    fn requiring(required: &[(&str, Word)]) -> RunVerdict {
        let mut run = run();
        run.manifest.plan.arrangements[0].require = rules(required);
        judge(&run)
    }

    fn states(verdict: &RunVerdict) -> [RequirementState; 2] {
        [verdict.cells[0].requirement, verdict.cells[1].requirement]
    }

    #[test]
    fn a_contrary_verdict_fails_the_run() {
        use RequirementState::{Met, NotMet, NotRequired};
        let verdict = requiring(&[("default", Word::Isolated)]);
        assert_eq!((states(&verdict), exit_code(&verdict)), ([NotMet, Met], 1));
        assert_eq!(verdict.cells[0].series[0].required, Some(Word::Isolated));
        for word in [Word::Degraded, Word::NotIsolated, Word::Any] {
            let verdict = requiring(&[("default", Word::Isolated), ("pcie", word)]);
            let of_dma = if word == Word::Any { NotRequired } else { Met };
            assert_eq!((states(&verdict), exit_code(&verdict)), ([of_dma, Met], 0), "{word:?}");
        }
        let verdict = requiring(&[("dma", Word::Violated), ("hog", Word::NotIsolated)]);
        assert_eq!(states(&verdict), [NotMet, NotMet]);
    }

    #[test]
    fn a_series_with_its_own_key_is_left_out_of_the_wider_one() {
        use RequirementState::{Met, NotMet};
        let verdict = requiring(&[("default", Word::Isolated), ("dma/h2d", Word::NotIsolated)]);
        assert_eq!(states(&verdict), [Met, Met]);
        let verdict = requiring(&[("default", Word::NotIsolated), ("dma/h2d", Word::Any), ("hog", Word::Any)]);
        assert_eq!(states(&verdict)[0], NotMet, "the degraded series no longer speaks for the cell");
        let verdict = requiring(&[("dma", Word::NotIsolated), ("dma/launch", Word::NotIsolated)]);
        assert_eq!(states(&verdict)[0], NotMet, "a key of its own is asked on its own");
    }

    #[test]
    fn what_cannot_be_decided_is_not_met_and_not_failed() {
        use RequirementState::{NotMet, Undecided};
        let undecided = |required: &[(&str, Word)]| {
            let mut run = run();
            run.manifest.plan.arrangements[0].require = rules(required);
            run.arms.retain(|key, _| key.neighbour != Some(1) || key.block < 3);
            judge(&run)
        };
        for word in [Word::Isolated, Word::Degraded, Word::Violated, Word::NotIsolated] {
            let verdict = undecided(&[("hog", word)]);
            assert_eq!((states(&verdict)[1], exit_code(&verdict)), (Undecided, 4));
        }
        let verdict = undecided(&[("default", Word::Isolated)]);
        assert_eq!((states(&verdict), exit_code(&verdict)), ([NotMet, Undecided], 1), "1 before 4");
        assert_eq!(exit_code(&undecided(&[])), 0);
    }

    #[test]
    fn an_accepted_risk_counts_until_its_day_and_for_its_channel() {
        use RequirementState::{Accepted, NotMet};
        // The run began on 2026-06-01.
        let with = |cell: &str, channel: Option<&str>, until| {
            let mut run = run();
            run.manifest.plan.arrangements[0].require = rules(&[("default", Word::Isolated)]);
            run.manifest.plan.accepted.push(Accept {
                cell: cell.to_owned(),
                channel: channel.map(str::to_owned),
                reason: "copies at start only".to_owned(),
                by: "platform team".to_owned(),
                until,
            });
            judge(&run)
        };
        let (first, before) = (date(2026, 6, 1), date(2026, 5, 31));
        let accepted = with("pair/dma", None, first);
        assert_eq!((states(&accepted)[0], exit_code(&accepted)), (Accepted, 0));
        assert_eq!(states(&with("pair@0/dma", Some("pcie"), first))[0], Accepted);
        assert_eq!(states(&with("pair/dma", Some("launch"), first))[0], NotMet);
        assert_eq!(states(&with("pair/hog", None, first))[0], NotMet);
        let expired = with("pair/dma", None, before);
        assert_eq!(exit_code(&expired), 1);
        assert!(expired.warnings.iter().any(|w| w.what == "the accepted risk for pair/dma expired on 2026-05-31"));
    }

    #[test]
    fn what_was_not_expected_is_a_sentence() {
        let expecting = |expected: &[(&str, Word)]| {
            let mut run = run();
            run.manifest.plan.arrangements[0].expect = rules(expected);
            let verdict = judge(&run);
            assert_eq!(exit_code(&verdict), 0, "a surprise is a warning");
            verdict.cells.into_iter().flat_map(|cell| cell.surprises).collect::<Vec<_>>()
        };
        assert_eq!(expecting(&[("default", Word::Isolated), ("pcie", Word::NotIsolated)]), [""; 0]);
        assert_eq!(expecting(&[("default", Word::Isolated)]), ["pair/dma: h2d p99 degraded, expected isolated"]);
        assert_eq!(expecting(&[("hog", Word::Violated)]), ["pair/hog: isolated, expected violated"]);
        assert_eq!(
            expecting(&[("dma/launch", Word::NotIsolated)]),
            ["pair/dma: launch isolated, expected not-isolated"]
        );
        assert_eq!(expecting(&[("dma", Word::Violated)]), ["pair/dma: h2d p99 degraded, expected violated"]);
    }

    /// An interval between the margins: nobody can tell Isolated from Degraded, and it is no worse than Degraded.
    #[test]
    fn an_interval_below_the_violated_margin_is_no_worse_than_degraded() {
        let mut run = Lab { blocks: 17, again: true, ..Lab::default() }
            .run(|stream, draw| lognormal(stream) * if draw.neighbour.is_some() { 1.1 } else { 1.0 });
        for (word, state) in [(Word::Degraded, RequirementState::Met), (Word::Isolated, RequirementState::Undecided)] {
            run.manifest.plan.arrangements[0].require = rules(&[("default", word)]);
            let cell = judge(&run).cells.remove(0);
            assert_eq!((cell.verdict.word(), cell.requirement), ("inconclusive", state));
        }
    }

    /// Degraded, and perhaps Violated: that it is no better says nothing of whether it is no worse.
    #[test]
    fn degraded_that_may_be_violated_is_not_no_worse_than_degraded() {
        let mut run = Lab { blocks: 17, again: true, ..Lab::default() }
            .run(|stream, draw| lognormal(stream) * if draw.neighbour.is_some() { 1.5 } else { 1.0 });
        run.manifest.plan.arrangements[0].require = rules(&[("default", Word::Degraded)]);
        let cell = judge(&run).cells.remove(0);
        assert_eq!((cell.verdict.word(), cell.requirement), ("degraded", RequirementState::Undecided));
    }

    /// A victim that is slowed 1.3-fold, of which that it is no worse than Degraded is required.
    fn no_worse(change: impl Fn(&mut RecordedRun)) -> CellVerdict {
        let mut run = Lab { blocks: 17, again: true, ..Lab::default() }
            .run(|stream, draw| lognormal(stream) * if draw.neighbour.is_some() { 1.3 } else { 1.0 });
        run.manifest.plan.arrangements[0].require = rules(&[("default", Word::Degraded)]);
        change(&mut run);
        judge(&run).cells.remove(0)
    }

    /// Degraded stands against what the neighbour can cause; that it is no worse rests on the same evidence as an Isolated.
    #[test]
    fn what_keeps_isolated_from_being_said_keeps_no_worse_from_being_met() {
        let whole = no_worse(|_| ());
        assert_eq!((whole.verdict.word(), whole.requirement), ("degraded", RequirementState::Met));
        assert_eq!((&whole.series[0].blocked, &whole.notes), (&None, &vec![]));
        let noisy = |run: &mut RecordedRun, how: fn(&mut crate::backend::ArmSummary)| {
            run.arms.iter_mut().filter(|(key, _)| key.neighbour.is_some()).for_each(|(_, arm)| how(&mut arm.summary));
        };
        type Change<'a> = &'a dyn Fn(&mut RecordedRun);
        let lost: Change<'_> = &|run| {
            let key = run.arms.keys().rfind(|key| key.neighbour.is_some()).unwrap().clone();
            run.arms.remove(&key);
            run.lost.insert(key, "the tenant hung".to_owned());
        };
        let weak: Change<'_> = &|run| noisy(run, |s| s.neighbours[0].rate = 50.0);
        let late: Change<'_> = &|run| noisy(run, |s| s.windows[0].late = 2);
        let asleep: Change<'_> = &|run| noisy(run, |s| s.sm_mhz = Some(1_800.0));
        let unshown: Change<'_> = &|run| run.manifest.plan.design.controls.sensitivity = 3;
        for (why, change) in [("lost", lost), ("weak", weak), ("late", late), ("asleep", asleep), ("unshown", unshown)]
        {
            let cell = no_worse(change);
            assert_eq!((cell.verdict.word(), cell.requirement), ("degraded", RequirementState::Undecided), "{why}");
            let blocked = cell.series[0].blocked.as_ref().unwrap();
            assert!(cell.notes.contains(blocked), "{why}: {:?}", cell.notes);
        }
        let found = no_worse(|run| {
            lost(run);
            run.manifest.plan.arrangements[0].require = rules(&[("default", Word::NotIsolated)]);
        });
        assert_eq!(found.requirement, RequirementState::Met, "that it is no better stands");
    }

    #[test]
    fn without_quiet_against_quiet_nothing_is_proved_to_be_unslowed() {
        use RequirementState::{Met, NotMet, Undecided};
        let off = |ratio: f64, word| {
            let mut run = Lab { blocks: 17, ..Lab::default() }
                .run(|stream, draw| lognormal(stream) * if draw.neighbour.is_some() { ratio } else { 1.0 });
            run.manifest.plan.arrangements[0].require = rules(&[("default", word)]);
            let verdict = judge(&run);
            let noted = verdict.cells[0].notes.contains(&Reason::ControlOff { control: Control::Again });
            let warned = verdict.warnings.iter().any(|w| w.what.starts_with("the A/A control is off"));
            (verdict.cells[0].requirement, noted, warned, exit_code(&verdict))
        };
        assert_eq!(off(1.0, Word::Isolated), (Undecided, true, true, 4));
        assert_eq!(off(1.3, Word::Degraded), (Undecided, true, true, 4));
        assert_eq!(off(2.5, Word::Isolated), (NotMet, false, true, 1));
        assert_eq!(off(2.5, Word::NotIsolated), (Met, false, false, 0));
    }

    #[test]
    fn an_arrangement_without_a_cell_meets_nothing() {
        let mut run = run();
        run.manifest.plan.arrangements[0].require = rules(&[("default", Word::Isolated)]);
        run.manifest.plan.arrangements[0].grids.clear();
        let verdict = judge(&run);
        assert!(verdict.cells.is_empty() && verdict.requires);
        assert_eq!(exit_code(&verdict), 4);
    }
}
