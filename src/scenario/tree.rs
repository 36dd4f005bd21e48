//! The generic reader: a table of [`Field`]s over a spanned TOML tree. Collects mistakes and goes on.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::civil::Date;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Mistakes, nearest};
use crate::field::{Field, Kind, Value};
use crate::units::{Bytes, Nanos, Rate, Share};

/// A spanned value of the tree.
pub(crate) type Node<'t> = &'t Spanned<DeValue<'t>>;

/// What is read from one text, and the mistakes found so far.
pub(crate) struct Reader<'t> {
    pub text: &'t str,
    pub mistakes: Vec<Mistake>,
    /// The text could not be parsed whole: what is absent from the tree may only be unreadable.
    pub broken: bool,
}

/// A table as read by its fields: every key that is there or has a default.
pub(crate) struct Table<'t> {
    pub path: String,
    pub span: Range<usize>,
    entries: BTreeMap<&'static str, Entry<'t>>,
}

/// One value with its place.
pub(crate) struct Entry<'t> {
    pub path: String,
    pub span: Range<usize>,
    pub content: Content<'t>,
    /// It stands in the text; else it is the default.
    pub given: bool,
}

pub(crate) enum Content<'t> {
    Value(Value),
    Table(Table<'t>),
    List(Vec<Entry<'t>>),
    /// A shape of its own, read by whoever knows it.
    Special(Node<'t>),
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, mistakes: Vec::new(), broken: false }
    }

    /// What was found, or all mistakes of the text.
    pub fn done<T>(self, source_name: &str, found: Option<T>) -> Result<T, Mistakes> {
        match found {
            Some(found) if self.mistakes.is_empty() => Ok(found),
            _ => Err(Mistakes::new(source_name, self.text, self.mistakes)),
        }
    }

    /// The text as a tree, what is no TOML noted.
    pub fn parse(&mut self) -> Spanned<DeTable<'t>> {
        let (tree, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.broken = true;
            let span = error.span().unwrap_or(0..0);
            self.mistake(&span, "", format!("this is no TOML: {}", error.message()), "here");
        }
        tree
    }

    /// Whether the text, a `what`, is of a newer version than this build reads; then that is the one mistake: its other keys
    /// are another version's.
    pub fn is_newer(&mut self, top: &'t DeTable<'t>, what: &str, version: u64) -> bool {
        let Some(node) = top.get("schema") else { return false };
        let found = node.get_ref().as_integer().and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok());
        let Some(found) = found.filter(|found| *found > version) else { return false };
        self.mistakes.clear();
        let expected = format!("this build reads version {version}; a newer crosstalk reads this one");
        self.mistake(&node.span(), "schema", format!("a {what} of version {found}"), expected);
        true
    }

    /// Notes a mistake.
    pub fn mistake(&mut self, span: &Range<usize>, path: &str, found: impl Into<String>, expected: impl Into<String>) {
        self.mistake_among(span, path, found, expected, "", &[]);
    }

    /// Notes a mistake where `choices` are valid and `written` was meant to be one of them.
    pub fn mistake_among(
        &mut self,
        span: &Range<usize>,
        path: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
        written: &str,
        choices: &[&str],
    ) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        self.mistakes.push(Mistake {
            span: span.clone(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
            path: path.to_owned(),
            found: found.into(),
            expected: expected.into(),
            nearest: nearest(written, choices.iter().copied()),
            choices: choices.iter().map(|c| (*c).to_owned()).collect(),
        });
    }

    /// Notes that something is not there, unless the text is broken and it may be there unread.
    pub fn absent(&mut self, span: &Range<usize>, path: &str, found: impl Into<String>, expected: impl Into<String>) {
        if !self.broken {
            self.mistake(span, path, found, expected);
        }
    }

    /// The text at `span` on one line, shortened.
    pub fn written(&self, span: &Range<usize>) -> String {
        const MOST: usize = 48;
        let text = self.text.get(span.clone()).unwrap_or_default();
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(MOST) {
            Some((at, _)) => format!("{}…", &line[..at]),
            None => line,
        }
    }

    /// Notes that what stands at `node` is not what `expected` says.
    pub fn unexpected(&mut self, node: Node<'t>, path: &str, expected: impl Into<String>) {
        let found = self.written(&node.span());
        self.mistake(&node.span(), path, found, format!("expected {}", expected.into()));
    }

    /// Reads `table` (or none, for its defaults) by its `fields`: unknown keys, missing keys and wrong values are mistakes.
    pub fn table(
        &mut self,
        fields: &'static [Field],
        table: Option<&'t DeTable<'t>>,
        span: Range<usize>,
        path: String,
    ) -> Table<'t> {
        let mut entries = BTreeMap::new();
        let mut misspelt = Vec::new();
        let keys: Vec<_> = fields.iter().map(|f| f.key).collect();
        for (key, value) in table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let Some(field) = fields.iter().find(|f| f.key == name) else {
                self.mistake_among(&key.span(), &path, format!("unknown key `{name}`"), "no such key", name, &keys);
                misspelt.extend(self.mistakes.last().and_then(|m| m.nearest.clone()));
                continue;
            };
            if let Some(entry) = self.value(&field.kind, value, join(&path, field.key)) {
                entries.insert(field.key, entry);
            }
        }
        for field in fields.iter().filter(|f| !table.is_some_and(|t| t.contains_key(f.key))) {
            if field.required && !misspelt.iter().any(|key| key == field.key) {
                let doc = format!("`{}` is missing: {}", field.key, lower_first(field.doc));
                self.absent(&span, &path, doc, format!("expected {} as `{}`", field.kind.expected(), field.key));
            }
            if let Some(value) = field.default.and_then(|text| field.kind.parse(text).ok()) {
                let (path, span) = (join(&path, field.key), span.clone());
                entries.insert(field.key, Entry { path, span, content: Content::Value(value), given: false });
            }
        }
        Table { path, span, entries }
    }

    /// Reads one value of this kind; `None` after a mistake.
    fn value(&mut self, kind: &'static Kind, node: Node<'t>, path: String) -> Option<Entry<'t>> {
        let span = node.span();
        let content = match (kind, node.get_ref()) {
            (Kind::Special(_), _) => Content::Special(node),
            (Kind::Table(fields), DeValue::Table(table)) => {
                Content::Table(self.table(fields, Some(table), span.clone(), path.clone()))
            }
            (Kind::List(of), DeValue::Array(items)) => {
                if items.is_empty() {
                    let expected = format!("expected at least one entry: {}", of.expected());
                    self.mistake(&span, &path, "an empty list", expected);
                    return None;
                }
                let read = |(i, item)| self.value(of, item, format!("{path}[{i}]"));
                Content::List(items.iter().enumerate().filter_map(read).collect())
            }
            (_, value) => Content::Value(self.scalar(kind, value, &span, &path)?),
        };
        Some(Entry { path, span, content, given: true })
    }

    /// Reads a scalar; a number without its unit, or a number in quotes, is a mistake.
    pub fn scalar(&mut self, kind: &Kind, value: &DeValue<'t>, span: &Range<usize>, path: &str) -> Option<Value> {
        let read = match (kind, value) {
            (Kind::Count { .. }, DeValue::Integer(i)) => {
                i128::from_str_radix(i.as_str(), i.radix()).ok().and_then(|n| kind.parse(&n.to_string()).ok())
            }
            (Kind::Flag, DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
            (Kind::Date, DeValue::Datetime(date)) => kind.parse(&date.to_string()).ok(),
            (Kind::Count { .. } | Kind::Flag | Kind::Date, _) => None,
            (_, DeValue::String(text)) => kind.parse(text).ok(),
            _ => None,
        };
        if read.is_none() {
            let (found, expected) = (self.written(span), format!("expected {}", kind.expected()));
            let (written, words) = match kind {
                Kind::Word(words) => (value.as_str().unwrap_or_default(), *words),
                _ => ("", &[][..]),
            };
            self.mistake_among(span, path, found, expected, written, words);
        }
        read
    }
}

impl<'t> Table<'t> {
    pub fn entry(&self, key: &str) -> Option<&Entry<'t>> {
        self.entries.get(key)
    }
    /// Keys that stand in the text, with their values.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &Entry<'t>)> {
        self.entries.iter().filter(|(_, e)| e.given).map(|(k, e)| (*k, e))
    }
    pub fn value(&self, key: &str) -> Option<&Value> {
        match &self.entry(key)?.content {
            Content::Value(value) => Some(value),
            _ => None,
        }
    }
    pub fn table(&self, key: &str) -> Option<&Table<'t>> {
        match &self.entry(key)?.content {
            Content::Table(table) => Some(table),
            _ => None,
        }
    }
    pub fn list(&self, key: &str) -> Option<&[Entry<'t>]> {
        match &self.entry(key)?.content {
            Content::List(list) => Some(list),
            _ => None,
        }
    }
    /// The tables of a list of tables.
    pub fn tables(&self, key: &str) -> impl Iterator<Item = &Table<'t>> {
        self.list(key).unwrap_or_default().iter().filter_map(|e| match &e.content {
            Content::Table(table) => Some(table),
            _ => None,
        })
    }
    /// A shape of its own, with its path.
    pub fn special(&self, key: &str) -> Option<(Node<'t>, &str)> {
        self.entry(key)?.special()
    }
    pub fn text(&self, key: &str) -> Option<&str> {
        self.entry(key)?.text()
    }
    pub fn owned(&self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }
    pub fn duration(&self, key: &str) -> Option<Nanos> {
        if let Value::Duration(v) = self.value(key)? { Some(*v) } else { None }
    }
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        if let Value::Bytes(v) = self.value(key)? { Some(*v) } else { None }
    }
    pub fn share(&self, key: &str) -> Option<Share> {
        if let Value::Share(v) = self.value(key)? { Some(*v) } else { None }
    }
    pub fn rate(&self, key: &str) -> Option<Rate> {
        if let Value::Rate(v) = self.value(key)? { Some(*v) } else { None }
    }
    pub fn count(&self, key: &str) -> Option<u64> {
        if let Value::Count(v) = self.value(key)? { Some(*v) } else { None }
    }
    /// A count that its field bounds to 32 bits.
    pub fn count32(&self, key: &str) -> Option<u32> {
        self.count(key).and_then(|n| u32::try_from(n).ok())
    }
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.value(key), Some(Value::Flag(true)))
    }
    pub fn date(&self, key: &str) -> Option<Date> {
        if let Value::Date(v) = self.value(key)? { Some(*v) } else { None }
    }
}

impl<'t> Entry<'t> {
    pub fn text(&self) -> Option<&str> {
        if let Content::Value(Value::Text(text)) = &self.content { Some(text) } else { None }
    }
    pub fn special(&self) -> Option<(Node<'t>, &str)> {
        if let Content::Special(node) = &self.content { Some((node, &self.path)) } else { None }
    }
}

/// `path.key`, or the key alone at the top.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A sentence as the continuation of another one: its first letter small, no full stop.
fn lower_first(sentence: &str) -> String {
    let mut chars = sentence.trim_end_matches('.').chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
