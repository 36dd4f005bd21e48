//! Reading `[[hazard]]`: what neighbours may do beside slowing the victim.

use std::collections::BTreeSet;

use super::keys;
use super::model::Trial;
use super::read::{name, params};
use super::tree::{Reader, Table};
use crate::channel::Channel;
use crate::hazard::{CATALOGUE, Hazard, find};

/// Names of the hazards with what they are, where known, and the hazards that could be read.
pub(super) type Named = (Vec<(String, Option<&'static Hazard>)>, Vec<Option<Trial>>);

/// Reads all of them. `taken` holds the names of the neighbours: requirements name both.
pub(super) fn read<'t>(r: &mut Reader<'t>, top: &Table<'t>, taken: &mut BTreeSet<String>) -> Named {
    let (mut names, mut hazards): (Vec<(String, Option<&'static Hazard>)>, _) = (Vec::new(), Vec::new());
    let mut places = Vec::new();
    for t in top.tables("hazard") {
        let hazard = hazard(r, t);
        let Some(name) = name(r, t, "hazard", "neighbour or hazard", taken) else { continue };
        if let (true, Some(entry)) = (matches!(name.as_str(), "default" | "quiet" | "slo"), t.entry("name")) {
            r.mistake(&entry.span, &entry.path, format!("\"{name}\""), "expected another name: this one is reserved");
        }
        names.push((name.clone(), hazard));
        places.push(t.entry("name").or_else(|| t.entry("hazard")));
        let params = hazard.and_then(|hazard| params(r, t, hazard.params, keys::HAZARD_PARAMS.expected));
        hazards.push(hazard.zip(params).map(|(hazard, params)| Trial { name, hazard, params }));
    }
    // A name that is a channel is the key of all hazards of that channel, or of another's: `fault` alone is its own.
    for (at, ((name, hazard), place)) in names.iter().zip(&places).enumerate() {
        let (Some(channel), Some(entry)) = (Channel::ALL.iter().find(|c| c.id() == *name), place) else { continue };
        let own = hazard.is_none_or(|h| h.channel == *channel);
        let alone = !names.iter().enumerate().any(|(i, (_, h))| i != at && h.is_some_and(|h| h.channel == *channel));
        if !own || !alone {
            let found = format!("\"{name}\", which is also a channel: as a key it could mean more than this hazard");
            r.mistake(&entry.span, &entry.path, found, "expected a `name` that is no channel");
        }
    }
    (names, hazards)
}

fn hazard<'t>(r: &mut Reader<'t>, t: &Table<'t>) -> Option<&'static Hazard> {
    let (node, path) = t.special("hazard")?;
    let id = node.get_ref().as_str().unwrap_or_default();
    let found = find(id);
    if found.is_none() {
        let ids: Vec<_> = CATALOGUE.iter().map(|hazard| hazard.id).collect();
        let written = r.written(&node.span());
        r.mistake_among(&node.span(), path, written, format!("expected {}", keys::HAZARD_ID.expected), id, &ids);
    }
    found
}
