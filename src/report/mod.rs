//! Reports: a model built from a recorded run and its verdict, and a file per format that shows it. Pure.

mod build;
mod charts;
mod controls;
mod detail;
mod duration;
mod format;
mod hazards;
mod html;
mod json;
mod memory;
mod model;
mod observed;
mod plan;
mod terminal;
mod text;
mod words;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use hazards::{Blast, HazardHere};
pub use html::html;
pub use json::{report_schema, run_schema};
pub use memory::{MemoryHere, OutOfMemory, Took};
pub use model::{
    AcceptState, AcceptedRisk, Calibrated, Cell, Column, ControlItem, ControlShown, Expected, Header, JudgedQuantile,
    Objective, Progress, Ratio, Report, Requirement, Requirements, Row, RunReport, Scope, Series, Surprise, Turns,
    TurnsSeen, VerdictWord, Why,
};
pub use observed::ObservedHere;
pub use plan::plan_text;

/// A format of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for a terminal.
    Terminal,
    /// JSON, as described by [`report_schema`].
    Json,
    /// One self-contained page. [`html`] shows more than a report alone can.
    Html,
}

impl Format {
    /// Every format.
    pub const ALL: &[Self] = &[Self::Terminal, Self::Json, Self::Html];

    /// The name used on the command line.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Json => "json",
            Self::Html => "html",
        }
    }
}

/// Whether text carries ANSI codes. Who asks decides (terminal or file, `NO_COLOR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// None.
    Plain,
    /// Colour and weight.
    Ansi,
}

/// How a report is laid out, where its format has a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Columns of the terminal; fewer than 60 count as 60.
    pub width: usize,
    /// Whether text carries ANSI codes.
    pub style: Style,
}

impl Default for Options {
    fn default() -> Self {
        Self { width: 110, style: Style::Plain }
    }
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The model has no JSON form: a bug.
    #[error("the report has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    /// A chart could not be drawn: a bug.
    #[error("a chart of the report cannot be drawn: {0}")]
    Chart(String),
    /// The template could not be filled in: a bug.
    #[error("the page of the report cannot be written: {0}")]
    Page(#[from] askama::Error),
}

impl From<charts::Failed> for ReportError {
    fn from(failed: charts::Failed) -> Self {
        Self::Chart(failed.to_string())
    }
}

/// A report in `format`.
///
/// # Errors
/// Where the model has no such form, which is a bug of crosstalk.
pub fn render(report: &Report, format: Format, options: &Options) -> Result<String, ReportError> {
    match format {
        Format::Terminal => Ok(terminal::render(report, options)),
        Format::Json => json::render(report),
        Format::Html => html::render(report),
    }
}
