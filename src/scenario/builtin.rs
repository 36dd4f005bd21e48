//! The scenarios that the binary carries, and how a name or a path becomes a text.

use std::io::Read as _;

use super::mistake::nearest;

/// Largest scenario, bytes.
const LARGEST: u64 = 1 << 20;

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        /// Built-in scenarios as (name, text), in the order of `crosstalk list scenarios`.
        pub const BUILTIN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}

builtin![
    "quickstart",
    "smoke/h100-mig-off",
    "smoke/h100-mig-on",
    "smoke/a100-mig-off",
    "smoke/a100-mig-on",
    "smoke/h200-mig-off",
    "smoke/h200-mig-on",
    "smoke/a30-mig-off",
    "smoke/a30-mig-on",
    "smoke/no-mig",
    "acceptance/h100-mig-off",
    "acceptance/h100-mig-on",
    "acceptance/a100-mig-off",
    "acceptance/a100-mig-on",
    "acceptance/h200-mig-off",
    "acceptance/h200-mig-on",
    "acceptance/a30-mig-off",
    "acceptance/a30-mig-on",
    "acceptance/no-mig",
    "certify/h100-mig-off",
    "certify/h100-mig-on",
    "certify/a100-mig-off",
    "certify/a100-mig-on",
    "certify/h200-mig-off",
    "certify/h200-mig-on",
    "certify/a30-mig-off",
    "certify/a30-mig-on",
    "certify/no-mig",
    "memory",
    "incidents/training-job",
    "incidents/cold-start",
    "incidents/spike",
    "faults",
    "capacity/h100-inference",
    "capacity/h100-llm-decode",
    "capacity/a100-inference",
    "capacity/a100-llm-decode",
    "claims/mig-memory",
    "claims/mig-read",
    "claims/mig-write",
    "claims/mig-compute",
    "claims/mig-l2",
    "claims/mig-bandwidth",
    "claims/mig-fault",
    "claims/mig-tail",
    "claims/mig-7g",
    "claims/mig-static",
    "claims/mig-whole",
    "claims/mig-nccl",
    "claims/mig-metrics",
    "claims/mig-two-gpus",
    "claims/ts-memory",
    "claims/ts-incident",
    "claims/ts-compute",
    "claims/ts-fairness",
    "claims/ts-fault",
    "claims/ts-quantum",
    "claims/ts-four",
    "claims/ts-alone",
    "claims/ts-bill",
    "claims/mps-fair",
    "claims/mig-ts",
];

/// Why no scenario could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No built-in scenario has this name.
    #[error(
        "no built-in scenario is called {name:?}{}; there are: {}; a file is named with its path or its ending .toml",
        nearest.as_ref().map(|n| format!(", did you mean `{n}`?")).unwrap_or_default(),
        BUILTIN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    )]
    Unknown {
        /// The name asked for.
        name: String,
        /// The nearest one.
        nearest: Option<String>,
    },
    /// The file cannot be read.
    #[error("cannot read the scenario {path}: {source}{}", match source.kind() {
        std::io::ErrorKind::NotFound => "; `crosstalk init -o FILE` writes one, `crosstalk list scenarios` names those built in",
        _ => "",
    })]
    Unreadable {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The name and text of a scenario: a file where `name_or_path` has a path separator or ends in `.toml`, else a built-in
/// one.
///
/// # Errors
/// Where there is no such scenario, or its file cannot be read as text.
pub fn load(name_or_path: &str) -> Result<(String, String), LoadError> {
    let builtin = BUILTIN.iter().find(|(name, _)| *name == name_or_path);
    let is_path = name_or_path.contains(std::path::is_separator) || name_or_path.ends_with(".toml");
    // Names of built-in scenarios may hold a slash ("smoke/mig"): a file of that name wins.
    if let (Some((name, text)), false) = (builtin, is_path && std::path::Path::new(name_or_path).exists()) {
        return Ok(((*name).to_owned(), (*text).to_owned()));
    }
    if !is_path || !std::path::Path::new(name_or_path).exists() && looks_built_in(name_or_path) {
        let nearest = nearest(name_or_path, BUILTIN.iter().map(|(name, _)| *name));
        return Err(LoadError::Unknown { name: name_or_path.to_owned(), nearest });
    }
    match read_text(name_or_path, "a scenario") {
        Ok(text) => Ok((name_or_path.to_owned(), text)),
        Err(source) => Err(LoadError::Unreadable { path: name_or_path.to_owned(), source }),
    }
}

/// A file as text, which should be `what`. A device without an end, or a file taken for one by mistake, must not fill the
/// memory.
pub(crate) fn read_text(path: &str, what: &str) -> std::io::Result<String> {
    let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(invalid(format!("it is larger than {} MiB: is it {what}?", LARGEST >> 20)));
    }
    String::from_utf8(bytes).map_err(|e| {
        let before = e.as_bytes().iter().take(e.utf8_error().valid_up_to());
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        invalid(format!("line {line} is no UTF-8 text: save the file as UTF-8"))
    })
}

/// Whether a path that does not exist is rather a slip in the name of a built-in scenario of a folder.
fn looks_built_in(name: &str) -> bool {
    let folder = name.split_once('/').map(|(folder, _)| folder);
    !name.ends_with(".toml") && folder.is_some_and(|f| BUILTIN.iter().any(|(n, _)| n.starts_with(&format!("{f}/"))))
}

/// One line per built-in scenario: its name, and what it asks.
pub fn table() -> String {
    let width = BUILTIN.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    BUILTIN.iter().map(|(name, text)| format!("{name:width$}  {}\n", description(text))).collect()
}

/// The same as JSON.
pub fn list_json() -> serde_json::Value {
    let entry = |(name, text): &(&str, &str)| serde_json::json!({ "name": name, "description": description(text) });
    serde_json::Value::Array(BUILTIN.iter().map(entry).collect())
}

fn description(text: &str) -> String {
    let scenario = super::read("built-in", text, crate::workload::CATALOGUE).ok();
    scenario.and_then(|s| s.description).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file under scenarios/ is built in, and nothing else is.
    #[test]
    fn every_file_is_listed() {
        fn walk(folder: &std::path::Path, prefix: &str, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let name = entry.file_name().into_string().expect("unicode");
                if entry.path().is_dir() {
                    walk(&entry.path(), &format!("{prefix}{name}/"), names);
                } else if let Some(name) = name.strip_suffix(".toml") {
                    names.push(format!("{prefix}{name}"));
                }
            }
        }
        let mut files = Vec::new();
        walk(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios"), "", &mut files);
        files.sort();
        let mut listed: Vec<_> = BUILTIN.iter().map(|(name, _)| (*name).to_owned()).collect();
        listed.sort();
        assert_eq!(files, listed, "add it to `builtin!` in src/scenario/builtin.rs");
    }

    #[test]
    fn a_name_is_built_in_and_a_path_is_a_file() {
        let (name, text) = load("quickstart").expect("built in");
        assert_eq!((name.as_str(), text.as_str()), BUILTIN[0]);
        let error = load("quikstart").expect_err("a slip").to_string();
        assert!(error.contains("did you mean `quickstart`?"), "{error}");
        let error = load("no/such/file.toml").expect_err("no file").to_string();
        assert!(error.starts_with("cannot read the scenario no/such/file.toml"), "{error}");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "schema = 1").expect("written");
        let path = path.to_str().expect("unicode");
        assert_eq!(load(path).expect("a file"), (path.to_owned(), "schema = 1".to_owned()));
    }
}
