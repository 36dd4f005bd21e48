//! Field descriptors: one table from which reader, `check`, JSON Schema and documentation derive.

use crate::units::{Bytes, Nanos, Rate, Share};

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
    /// Free text.
    Text,
    /// A calendar date (2027-06-30).
    Date,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A table with these keys.
    Table(&'static [Field]),
    /// A list of such values.
    List(&'static Kind),
    /// A shape of its own, read by the code named here; the schema knows it by this name.
    Special(&'static str),
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
    /// Text, or one of a list of words.
    Text(String),
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
        }
    }
}

impl Kind {
    /// Reads a scalar written as text, as in [`Field::default`] and in a stored plan.
    ///
    /// # Errors
    /// Says what was expected, with the bounds, where `text` is no such value. Tables and lists are never scalars.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        fn within<T: PartialOrd + std::fmt::Display>(value: T, min: &T, max: &T) -> Result<T, String> {
            if value < *min || value > *max { Err(format!("{value} is outside {min} … {max}")) } else { Ok(value) }
        }
        match self {
            Self::Duration { min, max } => {
                let v = text.parse::<Nanos>().map_err(|e| e.to_string())?;
                within(v, min, max).map(Value::Duration)
            }
            Self::Size { min, max } => {
                if text.ends_with('%') {
                    let v = text.parse::<Share>().map_err(|e| e.to_string())?;
                    return within(v, &Share(1), &Share::percent(100)).map(Value::Share);
                }
                let v = text.parse::<Bytes>().map_err(|_| {
                    format!("{text:?} is no size; write for example \"20GiB\" (B, KiB, MiB, GiB, TiB) or \"50%\" of the tenant's memory")
                })?;
                within(v, min, max).map(Value::Bytes)
            }
            Self::Share { min, max } => {
                let v = text.parse::<Share>().map_err(|e| e.to_string())?;
                within(v, min, max).map(Value::Share)
            }
            Self::Rate { min, max } => {
                let v = text.parse::<Rate>().map_err(|e| e.to_string())?;
                within(v, min, max).map(Value::Rate)
            }
            Self::Count { min, max } => {
                let v = text.parse::<u64>().map_err(|_| format!("{text:?} is no whole number"))?;
                within(v, min, max).map(Value::Count)
            }
            Self::Flag => text.parse().map(Value::Flag).map_err(|_| format!("{text:?} is neither true nor false")),
            Self::Text | Self::Date => Ok(Value::Text(text.to_owned())),
            Self::Word(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::Word(words) => Err(format!("{text:?} is none of {}", words.join(", "))),
            Self::Table(_) | Self::List(_) | Self::Special(_) => Err(format!("{text:?} is a single value")),
        }
    }
}
