//! Comparing finished runs: a new one against a base, or one mode of sharing against another. Pure, from digests.

mod alike;
#[cfg(test)]
pub(crate) mod fixture;
mod markdown;
mod model;
mod modes;
mod modes_text;
mod runs;
mod summary;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub use alike::{Alike, Asked, Difference, Key, Layout, Model, Shares, Sizes, Unlike};
pub use model::{
    CellChange, Change, Changed, Comparison, HazardChange, Method, Outcome, QuietChange, QuietState, RunShown,
    SeriesChange, Shift, Size, Spread,
};
pub use modes::{Lone, ModeCell, ModeHazard, ModeQuantile, ModeSeries, ModeVerdict, Modes, ModesError, Side, modes};
pub use runs::{LEAST_RUNS, compare};
pub use summary::{
    Blocks, CellSummary, Evidence, Group, HazardSummary, Level, LoadError, ObservedSummary, Quiet, SeriesSummary,
    Summary,
};
pub(crate) use text::ROOT;

use serde::Serialize;

use crate::report::{Options, ReportError, document};

/// A format of comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for a terminal.
    Terminal,
    /// JSON.
    Json,
    /// Markdown.
    Markdown,
}

impl Format {
    /// Every format.
    pub const ALL: &[Self] = &[Self::Terminal, Self::Json, Self::Markdown];

    /// The name used on the command line.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Json => "json",
            Self::Markdown => "md",
        }
    }
}

impl Comparison {
    /// The comparison in `format`.
    ///
    /// # Errors
    /// Where it has no such form, which is a bug of crosstalk.
    pub fn render(&self, format: Format, options: &Options) -> Result<String, ReportError> {
        match format {
            Format::Terminal => Ok(text::render(self, options)),
            Format::Json => json(self),
            Format::Markdown => Ok(markdown::comparison(self)),
        }
    }
}

impl Modes {
    /// The comparison in `format`.
    ///
    /// # Errors
    /// Where it has no such form, which is a bug of crosstalk.
    pub fn render(&self, format: Format, options: &Options) -> Result<String, ReportError> {
        match format {
            Format::Terminal => Ok(modes_text::render(self, options)),
            Format::Json => json(self),
            Format::Markdown => Ok(markdown::modes(self)),
        }
    }
}

/// JSON Schema of a comparison, of runs or of modes.
pub fn schema() -> serde_json::Value {
    document("crosstalk comparison", |generator| {
        vec![generator.subschema_for::<Comparison>(), generator.subschema_for::<Modes>()]
    })
}

fn json<T: Serialize>(value: &T) -> Result<String, ReportError> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}
