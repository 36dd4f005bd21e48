//! Reading what is to be observed of an arrangement, and against which other one.

use super::keys;
use super::model::{Arrangement, SharingMode};
use super::tree::{Reader, Table, join};
use crate::observation::{ANY, Asked, CATALOGUE, find};

/// `observe`: observations by their id, each with the finding that must come out. In the order of the catalogue.
pub(super) fn read<'t>(r: &mut Reader<'t>, t: &Table<'t>) -> Vec<Asked> {
    let Some((node, path)) = t.special("observe") else { return Vec::new() };
    let Some(table) = node.get_ref().as_table().filter(|table| !table.is_empty()) else {
        r.unexpected(node, path, keys::OBSERVE.expected);
        return Vec::new();
    };
    let mut asked = Vec::new();
    for (key, value) in table {
        let id = key.get_ref().as_ref();
        let Some(place) = CATALOGUE.iter().position(|observation| observation.id == id) else {
            let ids: Vec<_> = CATALOGUE.iter().map(|observation| observation.id).collect();
            let found = format!("no observation is called `{id}`");
            r.mistake_among(&key.span(), path, found, "expected the id of an observation", id, &ids);
            continue;
        };
        let words: Vec<_> = CATALOGUE[place].words().collect();
        let text = value.get_ref().as_str().unwrap_or_default();
        if !words.contains(&text) {
            let found = r.written(&value.span());
            let expected = format!("expected what may come out of {id}, or \"{ANY}\"");
            r.mistake_among(&value.span(), &join(path, id), found, expected, text, &words);
            continue;
        }
        asked.push((place, Asked { id: id.to_owned(), required: (text != ANY).then(|| text.to_owned()) }));
    }
    asked.sort_by_key(|(place, _)| *place);
    asked.into_iter().map(|(_, asked)| asked).collect()
}

/// Notes an `against` that names no other arrangement, that nothing needs, or that is missing.
pub(super) fn check_against(
    r: &mut Reader<'_>,
    t: &Table<'_>,
    here: Option<&Arrangement>,
    all: &[Option<Arrangement>],
) {
    let read: Option<Vec<&Arrangement>> = all.iter().map(Option::as_ref).collect();
    let (Some(here), Some(all)) = (here, read) else { return };
    let compared: Vec<&str> = here.observe.iter().map(|a| a.id.as_str()).filter(|id| compares(id)).collect();
    // Equal tenants have no victim that anything could be compared with.
    let others: Vec<&Arrangement> = all.into_iter().filter(|a| a.name != here.name && a.density.is_none()).collect();
    let exclusive = others.iter().any(|a| a.sharing == SharingMode::Exclusive);
    let others: Vec<&str> = others.into_iter().map(|a| a.name.as_str()).collect();
    if let (Some(entry), Some(name)) = (t.entry("against"), here.against.as_deref()) {
        if !others.contains(&name) && !r.broken {
            let found = format!("\"{name}\"");
            let expected = match others.as_slice() {
                [] => "expected none: there is no other arrangement to compare with",
                _ => "expected another arrangement",
            };
            r.mistake_among(&entry.span, &entry.path, found, expected, name, &others);
        } else if compared.is_empty() {
            let comparing: Vec<_> = CATALOGUE.iter().filter(|o| o.compares()).map(|o| o.id).collect();
            let expected = format!(
                "expected one of the observations that compare beside it ({}), or no `against`",
                comparing.join(", ")
            );
            r.mistake(&entry.span, &entry.path, "`against`, and nothing that is observed here is compared", expected);
        }
    } else if let (Some(entry), Some(id)) = (t.entry("observe"), compared.first())
        && !exclusive
    {
        let found = format!("{id}, without anything to compare with");
        let expected = match others.as_slice() {
            [] => "expected another arrangement in this scenario, and `against = \"…\"` beside it",
            _ => "expected `against = \"…\"` beside it: the arrangement that this one is compared with",
        };
        if !r.broken {
            r.mistake_among(&entry.span, &entry.path, found, expected, "", &others);
        }
    }
}

/// Whether an observation compares its arrangement with another one.
fn compares(id: &str) -> bool {
    find(id).is_some_and(|observation| observation.compares())
}
