//! Text with colour in columns: escaped on entry, measured in columns of a terminal, wrapped and cut.

use std::fmt::Write as _;

use owo_colors::Style as Ansi;
use unicode_width::UnicodeWidthChar;

use super::Style;

/// What a piece of text means; colour never says anything that the words do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tint {
    /// Nothing special.
    #[default]
    Plain,
    /// A heading, or a name.
    Strong,
    /// Of lesser weight.
    Faint,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Bad.
    Bad,
    /// Undecided.
    Open,
}

impl Tint {
    fn ansi(self) -> Ansi {
        match self {
            Self::Plain => Ansi::new(),
            Self::Strong => Ansi::new().bold(),
            Self::Faint => Ansi::new().dimmed(),
            Self::Good => Ansi::new().green(),
            Self::Warn => Ansi::new().yellow(),
            Self::Bad => Ansi::new().red().bold(),
            Self::Open => Ansi::new().magenta(),
        }
    }
}

/// Whether a terminal would obey or hide the character.
pub(crate) fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Makes what a terminal would obey or hide visible: control characters, and characters that reverse, join or break
/// text without being seen. Names come from scenarios and hosts, and nobody vouches for them.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// One line: pieces of escaped text, each with its meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(Vec<(Tint, String)>);

impl Line {
    /// One piece.
    pub(crate) fn of(tint: Tint, text: &str) -> Self {
        Self::default().with(tint, text)
    }

    /// The line with another piece at its end.
    pub(crate) fn with(mut self, tint: Tint, text: &str) -> Self {
        self.push(tint, text);
        self
    }

    /// Adds a piece. The only way in: nothing unescaped gets past.
    pub(crate) fn push(&mut self, tint: Tint, text: &str) {
        if !text.is_empty() {
            self.0.push((tint, escape(text)));
        }
    }

    /// Adds another line's pieces.
    pub(crate) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Columns that it takes.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| columns(text)).sum()
    }

    /// Adds spaces up to `width` columns.
    pub(crate) fn pad(&mut self, width: usize) {
        let missing = width.saturating_sub(self.width());
        self.push(Tint::Plain, &" ".repeat(missing));
    }

    /// Cut to `width` columns, with "…" where something is missing.
    pub(crate) fn cut(self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(1);
        let mut out = Self::default();
        for (tint, text) in self.0 {
            let kept = prefix(&text, left);
            left -= columns(kept);
            let whole = kept.len() == text.len();
            if !kept.is_empty() {
                out.0.push((tint, kept.to_owned()));
            }
            if !whole {
                if width > 0 {
                    out.0.push((tint, "…".to_owned()));
                }
                break;
            }
        }
        out
    }

    /// Broken at spaces into lines of at most `width` columns, all but the first indented by `indent`; a word that is
    /// wider than a line is broken where the line ends.
    pub(crate) fn wrap(self, width: usize, indent: usize) -> Vec<Self> {
        let width = width.max(indent + 2);
        let mut lines = vec![Self::default()];
        let mut used = 0;
        let mut fresh = true;
        // Pieces that touch without a space between them form one word.
        for word in words(self) {
            let mut word = word;
            let wide = word.width();
            let gap = usize::from(!fresh);
            if !fresh && used + gap + wide > width {
                lines.push(Self::of(Tint::Plain, &" ".repeat(indent)));
                used = indent;
                fresh = true;
            }
            if !fresh {
                if let Some(line) = lines.last_mut() {
                    line.push(Tint::Plain, " ");
                }
                used += 1;
            }
            while used + word.width() > width {
                let (head, tail) = word.split(width - used);
                if let Some(line) = lines.last_mut() {
                    line.append(head);
                }
                lines.push(Self::of(Tint::Plain, &" ".repeat(indent)));
                used = indent;
                word = tail;
            }
            used += word.width();
            if let Some(line) = lines.last_mut() {
                line.append(word);
            }
            fresh = false;
        }
        lines
    }

    /// The first `width` columns and the rest; at least one character goes into the first.
    fn split(self, width: usize) -> (Self, Self) {
        let (mut head, mut tail) = (Self::default(), Self::default());
        let mut left = width;
        for (tint, text) in self.0 {
            if !tail.0.is_empty() {
                tail.0.push((tint, text));
                continue;
            }
            let mut kept = prefix(&text, left).len();
            if kept == 0 && head.0.is_empty() {
                kept = text.chars().next().map_or(0, char::len_utf8);
            }
            left = left.saturating_sub(columns(&text[..kept]));
            if kept > 0 {
                head.0.push((tint, text[..kept].to_owned()));
            }
            if kept < text.len() {
                tail.0.push((tint, text[kept..].to_owned()));
            }
        }
        (head, tail)
    }

    /// The text, with ANSI codes if `style` asks for them, without spaces at the end.
    pub(crate) fn render(&self, style: Style, out: &mut String) {
        let mut pieces: Vec<(Tint, &str)> = self.0.iter().map(|(tint, text)| (*tint, text.as_str())).collect();
        while let Some((_, last)) = pieces.last_mut() {
            *last = last.trim_end_matches(' ');
            if !last.is_empty() {
                break;
            }
            pieces.pop();
        }
        for (tint, text) in pieces {
            match style {
                Style::Ansi if tint != Tint::Plain => {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "{}", tint.ansi().style(text));
                }
                Style::Ansi | Style::Plain => out.push_str(text),
            }
        }
        out.push('\n');
    }
}

/// Columns that `text` takes. Summed by character, so that every cut of a text adds up: what joins characters on some
/// terminals is escaped before it gets here.
fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The longest prefix of at most `width` columns.
fn prefix(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > width {
            return &text[..at];
        }
    }
    text
}

/// The words of a line, keeping each piece's meaning. Leading spaces of the line stay with its first word.
fn words(line: Line) -> Vec<Line> {
    let mut out: Vec<Line> = Vec::new();
    let mut open = false;
    for (tint, text) in line.0 {
        for (at, part) in text.split(' ').enumerate() {
            if at > 0 {
                open = false;
            }
            if part.is_empty() {
                continue;
            }
            match out.last_mut() {
                Some(word) if open => word.0.push((tint, part.to_owned())),
                _ => out.push(Line(vec![(tint, part.to_owned())])),
            }
            open = true;
        }
    }
    out
}

/// Lines of a page, rendered.
#[derive(Debug)]
pub(crate) struct Page {
    /// Columns.
    pub(crate) width: usize,
    style: Style,
    text: String,
}

impl Page {
    /// An empty page.
    pub(crate) fn new(width: usize, style: Style) -> Self {
        Self { width, style, text: String::new() }
    }

    /// Adds a line as it is.
    pub(crate) fn line(&mut self, line: &Line) {
        line.render(self.style, &mut self.text);
    }

    /// Adds a paragraph, wrapped: the first line indented by `first`, the others by `rest`.
    pub(crate) fn paragraph(&mut self, line: Line, first: usize, rest: usize) {
        let shift = rest.saturating_sub(first);
        for wrapped in line.wrap(self.width.saturating_sub(first), shift) {
            let mut indented = Line::of(Tint::Plain, &" ".repeat(first));
            indented.append(wrapped);
            self.line(&indented);
        }
    }

    /// Adds an empty line, unless the page is empty.
    pub(crate) fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    /// Adds a heading.
    pub(crate) fn heading(&mut self, text: &str) {
        self.gap();
        self.paragraph(Line::of(Tint::Strong, text), 0, 2);
    }

    /// Adds a table with columns two spaces apart. The last column is wrapped; where it has too little room, the
    /// first `names` columns are cut: a number is never.
    pub(crate) fn table(&mut self, indent: usize, names: usize, rows: &[Vec<Line>]) {
        const LEAST: usize = 10;
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let Some(last) = columns.checked_sub(1) else { return };
        let mut widths: Vec<usize> =
            (0..last).map(|c| rows.iter().filter_map(|r| r.get(c)).map(Line::width).max().unwrap_or(0)).collect();
        let room = self.width.saturating_sub(indent + LEAST + 2 * last);
        // Cut column by column: two long names share the loss.
        while widths.iter().sum::<usize>() > room {
            match widths.iter_mut().take(names).max() {
                Some(widest) if *widest > 4 => *widest -= 1,
                _ => break,
            }
        }
        let at = indent + widths.iter().sum::<usize>() + 2 * last;
        for row in rows {
            let mut line = Line::of(Tint::Plain, &" ".repeat(indent));
            for (cell, width) in row.iter().zip(&widths) {
                let mut cell = cell.clone().cut(*width);
                cell.pad(width + 2);
                line.append(cell);
            }
            line.pad(at);
            let text = row.get(last).cloned().unwrap_or_default();
            for wrapped in text.wrap(self.width.saturating_sub(at), 0) {
                line.append(wrapped);
                self.line(&line);
                line = Line::of(Tint::Plain, &" ".repeat(at));
            }
        }
    }

    /// The text.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(line: &Line) -> String {
        let mut out = String::new();
        line.render(Style::Plain, &mut out);
        out.trim_end_matches('\n').to_owned()
    }

    #[test]
    fn what_a_terminal_would_obey_is_made_visible() {
        assert_eq!(escape("a\u{1b}[31mb\nc\u{202e}d\u{200d}"), "a\\u{1b}[31mb\\nc\\u{202e}d\\u{200d}");
        assert_eq!(escape("Größe 😀 漢字"), "Größe 😀 漢字");
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        let line = Line::of(Tint::Plain, "漢字漢字");
        assert_eq!(line.width(), 8);
        assert_eq!(plain(&line.clone().cut(8)), "漢字漢字");
        assert_eq!(plain(&line.cut(6)), "漢字…", "five columns hold two of them");
    }

    #[test]
    fn paragraphs_break_at_spaces_and_hang() {
        let line = Line::of(Tint::Strong, "alpha").with(Tint::Plain, ", beta gamma");
        let lines: Vec<String> = line.wrap(12, 2).iter().map(plain).collect();
        assert_eq!(lines, ["alpha, beta", "  gamma"]);
        let long: Vec<String> = Line::of(Tint::Plain, "ab abcdefghij").wrap(6, 2).iter().map(plain).collect();
        assert_eq!(long, ["ab", "  abcd", "  efgh", "  ij"]);
    }

    #[test]
    fn colour_adds_codes_and_changes_no_word() {
        let line = Line::of(Tint::Bad, "VIOLATED").with(Tint::Plain, " 1.84  ");
        let (mut ansi, mut bare) = (String::new(), String::new());
        line.render(Style::Ansi, &mut ansi);
        line.render(Style::Plain, &mut bare);
        assert!(ansi.contains('\u{1b}'));
        assert_eq!(anstream::adapter::strip_str(&ansi).to_string(), bare);
        assert_eq!(bare, "VIOLATED 1.84\n");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_asked(text in "\\PC{0,80}", width in 4usize..60) {
            for line in Line::of(Tint::Plain, &text).wrap(width, 2) {
                // A character of two columns cannot be broken.
                prop_assert!(line.width() <= width.max(4) , "{:?}", line);
            }
            prop_assert!(Line::of(Tint::Plain, &text).cut(width).width() <= width);
        }
    }
}
