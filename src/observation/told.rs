//! How an observation is told.

use std::collections::BTreeMap;

use super::{Observation, Observed};

impl Observation {
    /// It came out as `finding`, one of its own, for this reason and with these figures; those that nobody knows are left
    /// out.
    pub(crate) fn told<'a>(
        &self,
        finding: &str,
        why: impl Into<String>,
        figures: impl IntoIterator<Item = (&'a str, Option<f64>)>,
    ) -> Observed {
        debug_assert!(self.findings.iter().any(|(known, _)| *known == finding), "{} has no {finding}", self.id);
        Observed { id: self.id.to_owned(), finding: Some(finding.to_owned()), why: why.into(), figures: known(figures) }
    }

    /// It could not be told, and these figures are what is known.
    pub(crate) fn untold<'a>(
        &self,
        why: impl Into<String>,
        figures: impl IntoIterator<Item = (&'a str, Option<f64>)>,
    ) -> Observed {
        Observed { figures: known(figures), ..self.unknown(why) }
    }
}

fn known<'a>(figures: impl IntoIterator<Item = (&'a str, Option<f64>)>) -> BTreeMap<String, f64> {
    let finite = |(name, value): (&str, Option<f64>)| Some((name.to_owned(), value.filter(|v| v.is_finite())?));
    figures.into_iter().filter_map(finite).collect()
}
