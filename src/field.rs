//! Field descriptors: one table from which reader, `check`, JSON Schema and documentation derive.

use jiff::civil::Date;

use crate::units::{Bytes, Nanos, Rate, Share};
use crate::workload::Workload;

/// One key of a table in a scenario, or one parameter of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The key as written.
    pub key: &'static str,
    /// What its value must be.
    pub kind: Kind,
    /// The default, spelled as a user would; `None`: there is none, see `required`.
    pub default: Option<&'static str>,
    /// Whether the key must be there.
    pub required: bool,
    /// One sentence for `check`, schema and documentation.
    pub doc: &'static str,
}

/// What the value of a [`Field`] must be. Bounds are inclusive.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A length of time ("2ms").
    Duration {
        /** Least. */
        min: Nanos,
        /** Most. */
        max: Nanos,
    },
    /// An amount of memory ("20GiB"), or a share of the tenant's memory ("50%").
    Size {
        /** Least, for an amount in bytes. */
        min: Bytes,
        /** Most, for an amount in bytes. */
        max: Bytes,
    },
    /// An amount of memory in bytes only ("20GiB").
    Bytes {
        /** Least. */
        min: Bytes,
        /** Most. */
        max: Bytes,
    },
    /// A part of a whole ("50%").
    Share {
        /** Least. */
        min: Share,
        /** Most. */
        max: Share,
    },
    /// Events per second ("20/s").
    Rate {
        /** Least. */
        min: Rate,
        /** Most. */
        max: Rate,
    },
    /// A whole number.
    Count {
        /** Least. */
        min: u64,
        /** Most. */
        max: u64,
    },
    /// `true` or `false`.
    Flag,
    /// Free text, not empty.
    Text,
    /// A name: letters, digits, `.`, `_` and `-`, no `.` first, [`LONGEST_NAME`] at most, for names become file names.
    Name,
    /// A calendar date (2027-06-30).
    Date,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A table with these keys.
    Table(&'static [Field]),
    /// A list of such values.
    List(&'static Kind),
    /// A shape of its own: not one scalar, or one that only the catalogue can check.
    Special(&'static Shape),
}

/// A shape that no other [`Kind`] describes.
pub struct Shape {
    /// Its name in the schema.
    pub name: &'static str,
    /// What is expected, as a noun phrase.
    pub expected: &'static str,
    /// Its JSON Schema, given the catalogue.
    pub schema: fn(&[&'static Workload]) -> serde_json::Value,
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A value read by a [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A length of time.
    Duration(Nanos),
    /// An amount of memory.
    Bytes(Bytes),
    /// A part of a whole.
    Share(Share),
    /// Events per second.
    Rate(Rate),
    /// A whole number.
    Count(u64),
    /// True or false.
    Flag(bool),
    /// Text, a name, or one of a list of words.
    Text(String),
    /// A calendar date.
    Date(Date),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Duration(v) => v.fmt(f),
            Self::Bytes(v) => v.fmt(f),
            Self::Share(v) => v.fmt(f),
            Self::Rate(v) => v.fmt(f),
            Self::Count(v) => v.fmt(f),
            Self::Flag(v) => v.fmt(f),
            Self::Text(v) => v.fmt(f),
            Self::Date(v) => v.fmt(f),
        }
    }
}

/// Longest name, bytes. A file name holds two of them and what parts them; file systems take 255 bytes.
pub const LONGEST_NAME: usize = 64;

/// Whether `text` can be a name: it becomes part of file names and of the names of cells.
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl Field {
    /// A key that must be there.
    pub const fn required(key: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { key, kind, default: None, required: true, doc }
    }

    /// A key that may be left out; `doc` says what then holds.
    pub const fn optional(key: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { key, kind, default: None, required: false, doc }
    }

    /// A key with a default.
    pub const fn with_default(key: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { key, kind, default: Some(default), required: false, doc }
    }
}

impl Kind {
    /// What is expected, as a noun phrase with bounds and an example of the unit.
    pub fn expected(&self) -> String {
        fn bounds(min: &dyn std::fmt::Display, max: &dyn std::fmt::Display, endless: bool) -> String {
            if endless { format!("{min} or more") } else { format!("{min} … {max}") }
        }
        match self {
            Self::Duration { min, max } => {
                format!("a duration with its unit (ns, us, ms, s, min, h), {}", bounds(min, max, *max == Nanos::MAX))
            }
            Self::Size { min, max } => format!(
                "a size with its unit (B, KiB, MiB, GiB, TiB), {}, or a share of the tenant's memory (\"50%\")",
                bounds(min, max, max.0 == u64::MAX)
            ),
            Self::Bytes { min, max } => {
                format!("a size with its unit (B, KiB, MiB, GiB, TiB), {}", bounds(min, max, max.0 == u64::MAX))
            }
            Self::Share { min, max } => {
                format!("a share such as \"50%\", {}", bounds(min, max, max.0 == u32::MAX))
            }
            Self::Rate { min, max } => {
                format!("a rate such as \"20/s\", {}", bounds(min, max, max.0 == u64::MAX))
            }
            Self::Count { min, max } => format!("a whole number, {}", bounds(min, max, *max == u64::MAX)),
            Self::Flag => "true or false".to_owned(),
            Self::Text => "text in quotes".to_owned(),
            Self::Name => {
                format!("a name of at most {LONGEST_NAME} letters, digits, \".\", \"_\" and \"-\", with no \".\" first")
            }
            Self::Date => "a date without quotes, such as 2027-06-30".to_owned(),
            Self::Word(words) => match words {
                [one] => format!("\"{one}\""),
                _ => "one of the words listed below".to_owned(),
            },
            Self::Table(_) => "a table".to_owned(),
            Self::List(of) => format!("a list; each entry: {}", of.expected()),
            Self::Special(shape) => shape.expected.to_owned(),
        }
    }

    /// Reads a scalar written as text, as in [`Field::default`] and in a stored plan.
    ///
    /// # Errors
    /// Says what was expected, with the bounds, where `text` is no such value. Tables and lists are never scalars.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        fn within<T: PartialOrd>(value: T, min: &T, max: &T) -> Option<T> {
            (value >= *min && value <= *max).then_some(value)
        }
        let value = match self {
            Self::Duration { min, max } => {
                text.parse().ok().and_then(|v: Nanos| within(v, min, max)).map(Value::Duration)
            }
            Self::Size { .. } if text.ends_with('%') => {
                text.parse().ok().and_then(|v| within(v, &Share(1), &Share::percent(100))).map(Value::Share)
            }
            Self::Size { min, max } | Self::Bytes { min, max } => {
                text.parse().ok().and_then(|v: Bytes| within(v, min, max)).map(Value::Bytes)
            }
            Self::Share { min, max } => text.parse().ok().and_then(|v| within(v, min, max)).map(Value::Share),
            Self::Rate { min, max } => text.parse().ok().and_then(|v| within(v, min, max)).map(Value::Rate),
            Self::Count { min, max } => text.parse().ok().and_then(|v| within(v, min, max)).map(Value::Count),
            Self::Flag => text.parse().ok().map(Value::Flag),
            Self::Text => (!text.is_empty()).then(|| Value::Text(text.to_owned())),
            Self::Name => is_name(text).then(|| Value::Text(text.to_owned())),
            Self::Date => text.parse().ok().map(Value::Date),
            Self::Word(words) => words.contains(&text).then(|| Value::Text(text.to_owned())),
            Self::Table(_) | Self::List(_) | Self::Special(_) => None,
        };
        value.ok_or_else(|| match (self, self.expected().strip_prefix("a ")) {
            (Self::Word(words), _) => format!("{text:?} is none of {}", words.join(", ")),
            (_, Some(noun)) => format!("{text:?} is no {noun}"),
            (_, None) => format!("{text:?} is not {}", self.expected()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_file_names() {
        for good in ["a", "mig-3g-3g", "A.b_c", "1"] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a@b", "a b", "é", "a\n"] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_name(&"a".repeat(LONGEST_NAME)) && !is_name(&"a".repeat(LONGEST_NAME + 1)));
    }

    #[test]
    fn bounds_are_inclusive_and_named() {
        let kind = Kind::Duration { min: Nanos::millis(1), max: Nanos::secs(1) };
        assert_eq!(kind.parse("1ms"), Ok(Value::Duration(Nanos::millis(1))));
        assert_eq!(kind.parse("1000ms"), Ok(Value::Duration(Nanos::secs(1))));
        let message = kind.parse("1001ms").expect_err("outside");
        assert!(message.contains("1ms … 1s"), "{message}");
        assert!(Kind::Size { min: Bytes(1), max: Bytes(u64::MAX) }.parse("0%").is_err());
        assert!(Kind::Bytes { min: Bytes(1), max: Bytes(u64::MAX) }.parse("50%").is_err());
    }
}
