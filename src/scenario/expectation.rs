//! What is required and what is expected of verdicts.

use serde::{Deserialize, Serialize};

use crate::channel::Channel;

/// Words per key of `require` or `expect`, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Expectation(pub Vec<Rule>);

/// One entry of `require` or `expect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// "default", a channel, a neighbour, or "neighbour/series"; in `require` also "slo".
    pub key: String,
    /// What the verdict must be.
    pub word: Word,
}

/// What a verdict must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Isolated.
    Isolated,
    /// In `require`: no worse than Degraded. In `expect`: Degraded.
    Degraded,
    /// Violated.
    Violated,
    /// Degraded or Violated.
    NotIsolated,
    /// No requirement: met by everything.
    Any,
    /// Of the key `slo` alone: every objective of the panel holds, quiet and beside every neighbour.
    Met,
}

impl Expectation {
    /// The key that covers what no other key does.
    pub const DEFAULT: &'static str = "default";
    /// The key of the objectives.
    pub const SLO: &'static str = "slo";

    /// The word for one series of one cell, from the most specific key: "neighbour/series", then the neighbour, then its
    /// first channel, then "default"; `None` where no key covers it.
    ///
    /// No key can mean two things: the reader refuses a neighbour that is called like a channel, unless it is the only one
    /// that is named by it.
    pub fn word_for(&self, neighbour: &str, neighbour_channel: Channel, series: &str) -> Option<Word> {
        let word = |wanted: &dyn Fn(&str) -> bool| self.0.iter().find(|r| wanted(&r.key)).map(|r| r.word);
        word(&|key| key.split_once('/') == Some((neighbour, series)))
            .or_else(|| word(&|key| key == neighbour))
            .or_else(|| word(&|key| key == neighbour_channel.id()))
            .or_else(|| word(&|key| key == Self::DEFAULT))
    }

    /// Whether every objective of the panel must hold.
    pub fn asks_objectives(&self) -> bool {
        self.0.iter().any(|rule| rule.key == Self::SLO && rule.word == Word::Met)
    }
}

impl Word {
    /// Every word.
    pub const ALL: &[Self] = &[Self::Isolated, Self::Degraded, Self::Violated, Self::NotIsolated, Self::Any, Self::Met];

    /// The word as written.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::Degraded => "degraded",
            Self::Violated => "violated",
            Self::NotIsolated => "not-isolated",
            Self::Any => "any",
            Self::Met => "met",
        }
    }
}

impl std::str::FromStr for Word {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|w| w.id() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(of: &[(&str, Word)]) -> Expectation {
        Expectation(of.iter().map(|(key, word)| Rule { key: (*key).to_owned(), word: *word }).collect())
    }

    #[test]
    fn the_most_specific_key_wins() {
        let e = rules(&[
            ("default", Word::Isolated),
            ("membar", Word::Degraded),
            ("storm", Word::Violated),
            ("storm/strong-chase", Word::NotIsolated),
            ("storm/llm-decode/token", Word::Any),
        ]);
        let word = |neighbour, series| e.word_for(neighbour, Channel::Membar, series);
        assert_eq!(word("storm", "strong-chase"), Some(Word::NotIsolated));
        assert_eq!(word("storm", "llm-decode/token"), Some(Word::Any));
        assert_eq!(word("storm", "llm-decode"), Some(Word::Violated), "its mark has a key of its own, it has not");
        assert_eq!(word("drizzle", "strong-chase"), Some(Word::Degraded));
        assert_eq!(e.word_for("other", Channel::L2, "strong-chase"), Some(Word::Isolated));
        assert_eq!(rules(&[("membar", Word::Any)]).word_for("other", Channel::L2, "x"), None);
    }

    #[test]
    fn objectives_have_a_key_of_their_own() {
        let e = rules(&[("default", Word::Isolated), ("slo", Word::Met)]);
        assert!(e.asks_objectives());
        assert_eq!(e.word_for("hog", Channel::L2, "x"), Some(Word::Isolated));
        assert!(!rules(&[("default", Word::Isolated)]).asks_objectives());
        assert!(!rules(&[("slo", Word::Any)]).asks_objectives());
    }
}
