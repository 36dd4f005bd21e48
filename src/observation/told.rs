//! How an observation is told in one go.

use super::{Observation, Observed};

impl Observation {
    /// It came out as `finding`, for this reason and with these figures; those that nobody knows are left out.
    pub(crate) fn told<'a>(
        &self,
        finding: &str,
        why: impl Into<String>,
        figures: impl IntoIterator<Item = (&'a str, Option<f64>)>,
    ) -> Observed {
        with(self.found(finding, why), figures)
    }

    /// It could not be told, and these figures are what is known.
    pub(crate) fn untold<'a>(
        &self,
        why: impl Into<String>,
        figures: impl IntoIterator<Item = (&'a str, Option<f64>)>,
    ) -> Observed {
        with(self.unknown(why), figures)
    }
}

fn with<'a>(observed: Observed, figures: impl IntoIterator<Item = (&'a str, Option<f64>)>) -> Observed {
    figures.into_iter().fold(observed, |observed, (name, value)| match value {
        Some(value) => observed.with(name, value),
        None => observed,
    })
}
