//! Reading `[[hazard]]`: what neighbours may do beside slowing the victim.

use super::keys;
use super::model::Trial;
use super::read::{Keyed, name, params};
use super::tree::{Reader, Table};
use crate::hazard::{CATALOGUE, Hazard, find};

/// Names of the hazards with what they are, where known, and the hazards that could be read.
pub(super) type Named = (Vec<(String, Option<&'static Hazard>)>, Vec<Option<Trial>>);

/// Reads all of them. `keyed` holds the neighbours: requirements name both.
pub(super) fn read<'e, 't>(r: &mut Reader<'t>, top: &'e Table<'t>, keyed: &mut Vec<Keyed<'e, 't>>) -> Named {
    let (mut names, mut hazards) = (Vec::new(), Vec::new());
    let mut taken = keyed.iter().map(|neighbour| neighbour.name.clone()).collect();
    for t in top.tables("hazard") {
        let hazard = hazard(r, t);
        let Some(name) = name(r, t, "hazard", "neighbour or hazard", &mut taken) else { continue };
        keyed.push(Keyed::of(r, t, "hazard", &name, hazard.map(|hazard| hazard.channel)));
        names.push((name.clone(), hazard));
        let params = hazard.and_then(|hazard| params(r, t, hazard.params, keys::HAZARD_PARAMS.expected));
        hazards.push(hazard.zip(params).map(|(hazard, params)| Trial { name, hazard, params }));
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
