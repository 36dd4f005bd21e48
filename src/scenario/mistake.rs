//! The mistakes of a file: each with its place, what stood there, what was expected, and what was probably meant.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands in the text, in bytes.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The keys that lead there (`neighbour[1].noise`).
    pub path: String,
    /// What stood there, in words.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// The nearest valid name.
    pub nearest: Option<String>,
    /// Every valid name, where they can be listed.
    pub choices: Vec<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.found)
    }
}

impl std::error::Error for Mistake {}

impl Diagnostic for Mistake {
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new(Some(self.expected.clone()), self.span.start, self.span.len());
        Some(Box::new(std::iter::once(label)))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let nearest = self.nearest.as_ref().map(|name| format!("did you mean `{name}`?"));
        let choices = (!self.choices.is_empty()).then(|| wrapped("valid here:", &self.choices));
        let lines: Vec<_> = nearest.into_iter().chain(choices).collect();
        if lines.is_empty() { None } else { Some(Box::new(lines.join("\n"))) }
    }
}

/// All mistakes of a scenario, in the order of the text.
#[derive(Debug)]
pub struct Mistakes {
    source: NamedSource<String>,
    /// The mistakes; at least one.
    pub all: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new(source_name: &str, text: &str, mut all: Vec<Mistake>) -> Self {
        all.sort_by(|a, b| (a.span.start, &a.path).cmp(&(b.span.start, &b.path)));
        Self { source: NamedSource::new(source_name, text.to_owned()), all }
    }

    /// The whole diagnostic as text; `colour` adds terminal escapes.
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut text = String::new();
        let handler = GraphicalReportHandler::new_themed(theme).with_wrap_lines(false).with_links(false);
        match handler.render_report(&mut text, self) {
            Ok(()) => text,
            Err(fmt::Error) => self.all.iter().map(|m| format!("{m}: expected {}\n", m.expected)).collect(),
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.source.name();
        match self.all.len() {
            1 => write!(f, "{name}: 1 mistake"),
            n => write!(f, "{name}: {n} mistakes"),
        }
    }
}

impl std::error::Error for Mistakes {}

impl Diagnostic for Mistakes {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.all.iter().map(|m| m as &dyn Diagnostic)))
    }
}

/// `words` after `head`, in lines that a terminal does not break inside a word.
fn wrapped(head: &str, words: &[String]) -> String {
    const WIDTH: usize = 90;
    let (mut text, mut column) = (head.to_owned(), head.len());
    for (i, word) in words.iter().enumerate() {
        let comma = if i + 1 < words.len() { "," } else { "" };
        if column + word.len() + 2 > WIDTH {
            text.push_str("\n ");
            column = 1;
        }
        text.push_str(&format!(" {word}{comma}"));
        column += word.len() + 1 + comma.len();
    }
    text
}

/// The valid name that `written` was probably meant to be, if one is near enough to say so.
pub(crate) fn nearest<'a>(written: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let written = written.to_ascii_lowercase();
    let reach = (written.chars().count() / 3).max(2);
    choices
        .into_iter()
        .map(|choice| {
            let lower = choice.to_ascii_lowercase();
            let distance = strsim::damerau_levenshtein(&written, &lower);
            let near = distance <= reach || strsim::jaro_winkler(&written, &lower) >= 0.88;
            (distance, near && distance < lower.chars().count(), choice)
        })
        .filter(|(_, near, _)| *near)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(_, _, choice)| choice.to_owned())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let names = ["hbm-read", "hbm-write", "launch", "h2d"];
        assert_eq!(nearest("hbm-raed", names).as_deref(), Some("hbm-read"));
        assert_eq!(nearest("Launch", names).as_deref(), Some("launch"));
        assert_eq!(nearest("hbm_write", names).as_deref(), Some("hbm-write"));
        assert_eq!(nearest("d2h", names).as_deref(), Some("h2d"));
        assert_eq!(nearest("zzzzzzzz", names), None);
    }
}
