//! The policies that the binary carries, and how a name or a path becomes a text.

use crate::scenario::{nearest, read_text};

/// The one that holds where none is named: the strictest.
pub const DEFAULT: &str = "multi-tenant-production";

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        /// Ready-made policies as (name, text).
        pub const BUILTIN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../policies/", $name, ".toml")))),*];
    };
}

builtin!["multi-tenant-production", "dev-cluster", "ci-regression"];

/// Why no policy could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No ready-made policy has this name.
    #[error(
        "no ready-made policy is called {name:?}{}; there are: {}; a file is named with its path or its ending .toml",
        nearest(name, BUILTIN.iter().map(|(name, _)| *name)).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default(),
        BUILTIN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    )]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read the policy {path}: {source}{}", match source.kind() {
        std::io::ErrorKind::NotFound => "; `crosstalk list policies` names those ready-made",
        _ => "",
    })]
    Unreadable {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The name and text of a policy: a file where `name_or_path` has a path separator or ends in `.toml`, else a ready-made one.
///
/// # Errors
/// Where there is no such policy, or its file cannot be read as text.
pub fn load(name_or_path: &str) -> Result<(String, String), LoadError> {
    if let Some((name, text)) = BUILTIN.iter().find(|(name, _)| *name == name_or_path) {
        return Ok(((*name).to_owned(), (*text).to_owned()));
    }
    if !name_or_path.contains(std::path::is_separator) && !name_or_path.ends_with(".toml") {
        return Err(LoadError::Unknown { name: name_or_path.to_owned() });
    }
    match read_text(name_or_path, "a policy") {
        Ok(text) => Ok((name_or_path.to_owned(), text)),
        Err(source) => Err(LoadError::Unreadable { path: name_or_path.to_owned(), source }),
    }
}

/// One line per ready-made policy: its name, and what it is for.
pub fn table() -> String {
    let width = BUILTIN.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    BUILTIN.iter().map(|(name, text)| format!("{name:width$}  {}\n", description(name, text))).collect()
}

/// The same as JSON.
pub fn list_json() -> serde_json::Value {
    let entry =
        |(name, text): &(&str, &str)| serde_json::json!({ "name": name, "description": description(name, text) });
    serde_json::Value::Array(BUILTIN.iter().map(entry).collect())
}

fn description(name: &str, text: &str) -> String {
    super::read(name, text).ok().and_then(|policy| policy.description).unwrap_or_default()
}
