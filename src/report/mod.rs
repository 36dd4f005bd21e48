//! Reports: a model built from a recorded run and its verdict, and a file per format that shows it. Pure.

mod build;
mod charts;
mod controls;
mod csv;
mod curves_planned;
mod density;
mod detail;
mod duration;
mod escape;
mod format;
mod hazards;
mod html;
mod json;
mod junit;
mod markdown;
mod memory;
mod model;
mod observed;
mod openmetrics;
mod plan;
mod terminal;
mod text;
mod words;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod tests;

pub use density::{
    Bound, CurveHere, DensityHere, DensityState, Latency, Lone, LoneRatio, Multiple, Overload, TenantHere,
    TenantObjective,
};
pub(crate) use format::{NONE, count, nine_digits, percent, rate, ratio, ratio_interval, time};
pub use hazards::{Blast, HazardHere};
pub use html::html;
pub(crate) use json::document;
pub use json::{report_schema, run_schema};
pub use junit::{Inconclusive, render as junit};
pub(crate) use markdown::prose;
pub use memory::{MemoryHere, OutOfMemory, Took};
pub use model::{
    AcceptState, AcceptedRisk, Calibrated, Cell, Column, ControlItem, ControlShown, Expected, Header, JudgedQuantile,
    Objective, Progress, Ratio, Report, RequiredOf, Requirement, Requirements, Row, RunReport, Scope, Series, Surprise,
    Turns, TurnsSeen, VerdictWord, Why,
};
pub use observed::ObservedHere;
pub use plan::plan_text;
pub(crate) use terminal::verdict_word;
pub(crate) use text::{Line, Page, Tint, escape};

/// A format of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for a terminal.
    Terminal,
    /// JSON, as described by [`report_schema`].
    Json,
    /// Markdown for a pull request or a job's summary.
    Markdown,
    /// JUnit XML.
    Junit,
    /// OpenMetrics text that the Prometheus text format reads too.
    Openmetrics,
    /// Comma-separated values, a row per cell, series and quantile, and per figure of a density.
    Csv,
    /// One self-contained page. [`html`] shows more than a report alone can.
    Html,
}

impl Format {
    /// Every format.
    pub const ALL: &[Self] =
        &[Self::Terminal, Self::Json, Self::Html, Self::Markdown, Self::Junit, Self::Openmetrics, Self::Csv];

    /// The name used on the command line.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Json => "json",
            Self::Markdown => "md",
            Self::Junit => "junit",
            Self::Openmetrics => "openmetrics",
            Self::Csv => "csv",
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
    /// It has no XML form: a bug.
    #[error("the report has no JUnit form: {0}")]
    Junit(#[from] quick_junit::SerializeError),
    /// It has no OpenMetrics form: a bug.
    #[error("the report has no OpenMetrics form: {0}")]
    Openmetrics(#[from] std::fmt::Error),
    /// It has no CSV form: a bug.
    #[error("the report has no CSV form: {0}")]
    Csv(String),
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
        Format::Markdown => Ok(markdown::render(report)),
        Format::Junit => junit::render(report, Inconclusive::default()),
        Format::Openmetrics => openmetrics::render(report),
        Format::Csv => csv::render(report),
        Format::Html => html::render(report),
    }
}
