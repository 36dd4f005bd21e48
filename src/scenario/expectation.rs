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
    /// In place of a series: all series of a neighbour that have no key of their own.
    pub(super) const ALL_SERIES: &'static str = "*";

    /// The word for one series of one cell, from the most specific key: "neighbour/series", then the neighbour, then its
    /// first channel, then "default"; `None` where no key covers it.
    ///
    /// A key that names a neighbour *and* a channel is the neighbour: the reader has spelled it "neighbour/*" wherever it
    /// could be mistaken for the channel of another one.
    pub fn word_for(&self, neighbour: &str, neighbour_channel: Channel, series: &str) -> Option<Word> {
        let word = |wanted: &dyn Fn(&str) -> bool| self.0.iter().find(|r| wanted(&r.key)).map(|r| r.word);
        word(&|key| key.split_once('/') == Some((neighbour, series)))
            .or_else(|| word(&|key| key == neighbour || key.split_once('/') == Some((neighbour, Self::ALL_SERIES))))
            .or_else(|| word(&|key| key == neighbour_channel.id()))
            .or_else(|| word(&|key| key == Self::DEFAULT))
    }

    /// Whether every objective of the panel must hold.
    pub fn asks_objectives(&self) -> bool {
        self.0.iter().any(|rule| rule.key == Self::SLO && rule.word == Word::Met)
    }

    /// Spells each key that is a neighbour's name and also the first channel of *another* neighbour "neighbour/*", so that it
    /// cannot reach that other neighbour.
    pub(super) fn spelled_out(mut self, neighbours: &[(&str, Channel)]) -> Self {
        for Rule { key, .. } in &mut self.0 {
            let names_a_neighbour = neighbours.iter().any(|(name, _)| name == key);
            if names_a_neighbour && neighbours.iter().any(|(name, c)| name != key && c.id() == key) {
                *key = format!("{key}/{}", Self::ALL_SERIES);
            }
        }
        self
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

    #[test]
    fn a_name_that_is_also_a_channel_is_the_neighbour() {
        let e = rules(&[("default", Word::Isolated), ("pcie", Word::Any), ("pcie/launch", Word::Violated)]);
        let neighbours = [("pcie", Channel::Pcie), ("d2h", Channel::Pcie)];
        let e = e.spelled_out(&neighbours);
        assert_eq!(e.word_for("pcie", Channel::Pcie, "h2d"), Some(Word::Any));
        assert_eq!(e.word_for("pcie", Channel::Pcie, "launch"), Some(Word::Violated));
        assert_eq!(e.word_for("d2h", Channel::Pcie, "h2d"), Some(Word::Isolated), "the key is the neighbour's alone");
    }
}
