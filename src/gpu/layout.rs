//! Which MIG layouts are legal, why another is not, and which legal one is nearest.
//!
//! A layout is a list of profiles. It is legal where each can be given a placement of its own. Whoever creates the
//! instances is free to create them in any order, and [`place_layout`] searches all of them; a driver asked for one
//! order takes what is free at that moment, which is what [`create_in_order`] says.

use super::catalogue::{models, nearest};
use super::model::{GpuModel, MigModel, MigProfile};

/// One GPU instance of a layout, where it sits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Profile name.
    pub profile: String,
    /// First memory slice.
    pub start: u32,
    /// Memory slices.
    pub size: u32,
}

/// What is wrong with a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutProblem {
    /// The model has no MIG.
    NoMig,
    /// Nothing was asked for.
    Empty,
    /// A profile that the model does not have.
    UnknownProfile,
    /// More instances of a profile than the model allows.
    TooMany,
    /// Legal, but not when created in this order.
    Order,
    /// The model has too few slices, placements or media engines, whatever the order.
    Capacity,
}

/// Why a layout is illegal, and the nearest legal one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}{}", nearest_text(nearest))]
pub struct LayoutError {
    /// What is wrong.
    pub problem: LayoutProblem,
    /// The same in words.
    pub text: String,
    /// The nearest legal layout, largest first; empty where none is.
    pub nearest: Vec<String>,
}

fn nearest_text(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; the nearest legal layout is {}", nearest.join(" + ")) }
}

/// Placements for `profiles`, in the order given, where some order of creation makes them legal.
///
/// # Errors
/// Where no order does: why, and the nearest legal layout.
pub fn place_layout<S: AsRef<str>>(model: &GpuModel, profiles: &[S]) -> Result<Vec<Placement>, LayoutError> {
    let (mig, wanted) = known(model, profiles)?;
    if let Some((problem, text)) = shortage(model, mig, &wanted) {
        return Err(illegal(model, mig, problem, text, profiles));
    }
    match search(mig, &wanted) {
        Some(starts) => Ok(placements(&wanted, &starts)),
        None => {
            let text = format!("{} has no disjoint placements for {}", model.id, joined(profiles));
            Err(illegal(model, mig, LayoutProblem::Capacity, text, profiles))
        }
    }
}

/// Placements that a driver gives when asked for `profiles` in this very order: each takes its last free placement.
/// (So the drivers that were seen do: `9,9` lands at 4 and 0, `19,19,14,9` fails, `9,19,14,19` works.)
///
/// # Errors
/// As [`place_layout`]; besides, [`LayoutProblem::Order`] where another order would be legal.
pub fn create_in_order<S: AsRef<str>>(model: &GpuModel, profiles: &[S]) -> Result<Vec<Placement>, LayoutError> {
    place_layout(model, profiles)?;
    let (mig, wanted) = known(model, profiles)?;
    match last_free(mig, &wanted) {
        Ok(starts) => Ok(placements(&wanted, &starts)),
        Err(stuck) => Err(LayoutError {
            problem: LayoutProblem::Order,
            text: format!(
                "order, not capacity: after {} there is no placement left for {}; create the largest first",
                joined(&profiles[..stuck]),
                wanted[stuck].name
            ),
            nearest: largest_first(&wanted).into_iter().map(|p| p.name.clone()).collect(),
        }),
    }
}

/// Reads a layout: profiles joined by `+` ("3g.40gb+1g.10gb+me"), or a name of mig-parted's default configuration
/// ("all-balanced", "all-1g.10gb").
///
/// # Errors
/// Where the text names no legal layout of this model.
pub fn parse_layout(model: &GpuModel, text: &str) -> Result<Vec<Placement>, LayoutError> {
    let text = text.trim();
    match text.strip_prefix("all-") {
        Some(name) => place_layout(model, &named(model, name)?),
        None => place_layout(model, &split(text)),
    }
}

/// Profiles of mig-parted's `all-…`. Its file says `.me` where drivers say `+me`.
fn named(model: &GpuModel, name: &str) -> Result<Vec<String>, LayoutError> {
    let mig = mig_of(model)?;
    if name == "balanced" {
        let plain = |slices: u32| {
            mig.profiles.iter().filter(move |p| p.slices == slices && is_plain(&p.name)).min_by_key(|p| p.size)
        };
        // Two of one slice and one of two; parts with seven slices have room for one of three besides.
        let three = if mig.compute_slices >= 7 { plain(3) } else { None };
        return Ok(three.into_iter().chain(plain(2)).chain(plain(1)).chain(plain(1)).map(|p| p.name.clone()).collect());
    }
    let profile = driver_name(name);
    match mig.profiles.iter().find(|p| p.name == profile) {
        Some(p) => Ok(vec![p.name.clone(); p.max as usize]),
        None => Err(unknown(model, mig, &profile, &[&profile])),
    }
}

/// "1g.10gb.me" → "1g.10gb+me"; other names stay as they are.
fn driver_name(name: &str) -> String {
    match name.find(".me") {
        Some(at) => format!("{}+{}", &name[..at], &name[at + 1..]),
        None => name.to_owned(),
    }
}

/// Splits at the `+` before a digit: the `+` of "+me" or "+gfx" belongs to its profile.
fn split(text: &str) -> Vec<String> {
    let mut profiles: Vec<String> = Vec::new();
    for part in text.split('+') {
        let part = part.trim();
        match profiles.last_mut() {
            Some(last) if !part.starts_with(|c: char| c.is_ascii_digit()) => {
                last.push('+');
                last.push_str(part);
            }
            _ if part.is_empty() => {}
            _ => profiles.push(driver_name(part)),
        }
    }
    profiles
}

/// A profile without media extensions, graphics or exclusions.
fn is_plain(name: &str) -> bool {
    !name.contains(['+', '-'])
}

fn mig_of(model: &GpuModel) -> Result<&MigModel, LayoutError> {
    model.mig.as_ref().ok_or_else(|| LayoutError {
        problem: LayoutProblem::NoMig,
        text: format!("{} has no MIG", model.name),
        nearest: Vec::new(),
    })
}

/// Finds the profiles in the model's table.
fn known<'m, S: AsRef<str>>(
    model: &'m GpuModel,
    profiles: &[S],
) -> Result<(&'m MigModel, Vec<&'m MigProfile>), LayoutError> {
    let mig = mig_of(model)?;
    if profiles.is_empty() {
        return Err(LayoutError {
            problem: LayoutProblem::Empty,
            text: "the layout is empty".to_owned(),
            nearest: Vec::new(),
        });
    }
    let find = |name: &S| {
        let name = name.as_ref();
        mig.profiles.iter().find(|p| p.name == name).ok_or_else(|| unknown(model, mig, name, profiles))
    };
    Ok((mig, profiles.iter().map(find).collect::<Result<_, _>>()?))
}

fn unknown<S: AsRef<str>>(model: &GpuModel, mig: &MigModel, name: &str, profiles: &[S]) -> LayoutError {
    let owners: Vec<&str> = models().iter().filter(|m| m.profile(name).is_some()).map(|m| m.id.as_str()).collect();
    let hint = match (owners.is_empty(), stand_in(mig, name)) {
        (false, Some(here)) => {
            format!(": that is the name on {}; the one of that shape here is {}", owners.join(", "), here.name)
        }
        (false, None) => format!(": that is the name on {}", owners.join(", ")),
        (true, Some(near)) => format!("; the nearest name is {}", near.name),
        (true, None) => String::new(),
    };
    let text = format!("{} has no profile {name:?}{hint}", model.id);
    illegal(model, mig, LayoutProblem::UnknownProfile, text, profiles)
}

/// What somebody who wrote an unknown name may have meant here: the profile of the same shape as its namesakes on
/// other models, else the nearest name. Where namesakes differ in shape (1g.10gb), most of them decide.
fn stand_in<'m>(mig: &'m MigModel, name: &str) -> Option<&'m MigProfile> {
    let extension = |p: &MigProfile| p.name.find(['+', '-']).map(|at| p.name[at..].to_owned());
    let mut votes = vec![0; mig.profiles.len()];
    for model in models() {
        let (Some(profile), Some(other)) = (model.profile(name), &model.mig) else { continue };
        let same_shape = |p: &MigProfile| {
            p.slices == profile.slices
                // The same part of the memory, in slices of either model.
                && p.size * other.memory_slices == profile.size * mig.memory_slices
                && extension(p) == extension(profile)
        };
        if let Some(at) = mig.profiles.iter().position(same_shape) {
            votes[at] += 1;
        }
    }
    let most = votes.iter().copied().max().filter(|most| *most > 0);
    let namesake = most.and_then(|most| votes.iter().position(|v| *v == most)).map(|at| &mig.profiles[at]);
    namesake.or_else(|| nearest(name, mig.profiles.iter(), |p| &p.name))
}

/// What the wanted profiles ask beyond what the model has, whatever their placements.
fn shortage(model: &GpuModel, mig: &MigModel, wanted: &[&MigProfile]) -> Option<(LayoutProblem, String)> {
    let capacity = |text| Some((LayoutProblem::Capacity, text));
    for p in wanted {
        let count = wanted.iter().filter(|q| q.name == p.name).count();
        if count > p.max as usize {
            let text = format!("{count} × {} on {}: at most {} are possible", p.name, model.id, p.max);
            return Some((LayoutProblem::TooMany, text));
        }
    }
    let memory: u32 = wanted.iter().map(|p| p.size).sum();
    if memory > mig.memory_slices {
        return capacity(format!("the layout needs {memory} memory slices, {} has {}", model.id, mig.memory_slices));
    }
    let compute: u32 = wanted.iter().map(|p| p.slices).sum();
    if compute > mig.compute_slices {
        return capacity(format!("the layout needs {compute} compute slices, {} has {}", model.id, mig.compute_slices));
    }
    // The whole-GPU profile holds every engine; what is unknown is not held against a layout.
    let whole = mig.profiles.iter().find(|p| p.size == mig.memory_slices && p.slices == mig.compute_slices)?;
    let engines = |what: &str, count: fn(&MigProfile) -> Option<u32>| {
        let needed: u32 = wanted.iter().map(|p| count(p)).sum::<Option<u32>>()?;
        let there = count(whole)?;
        let text = format!("the layout needs {needed} {what}, {} has {there}", model.id);
        (needed > there).then_some((LayoutProblem::Capacity, text))
    };
    engines("JPEG engines", |p| p.jpeg).or_else(|| engines("optical-flow engines", |p| p.ofa))
}

/// Bits of the memory slices from `start` on.
fn mask(start: u32, size: u32) -> u64 {
    ((1u64 << size) - 1) << start
}

/// Disjoint starts for all of `wanted`, in its order, where there are any: largest first, last placement first, with
/// backtracking.
fn search(mig: &MigModel, wanted: &[&MigProfile]) -> Option<Vec<u32>> {
    fn go(order: &[(usize, &MigProfile)], used: u64, starts: &mut [u32]) -> bool {
        let Some(((index, profile), rest)) = order.split_first() else { return true };
        profile.starts.iter().rev().any(|&start| {
            let slices = mask(start, profile.size);
            used & slices == 0 && {
                starts[*index] = start;
                go(rest, used | slices, starts)
            }
        })
    }
    debug_assert!(mig.memory_slices < 64);
    let mut order: Vec<(usize, &MigProfile)> = wanted.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, p)| rank(p));
    let mut starts = vec![0; wanted.len()];
    go(&order, 0, &mut starts).then_some(starts)
}

/// Sorts larger profiles first, and those with fewer placements before others of their size.
fn rank(p: &MigProfile) -> (std::cmp::Reverse<u32>, usize, std::cmp::Reverse<u32>) {
    (std::cmp::Reverse(p.size), p.starts.len(), std::cmp::Reverse(p.slices))
}

fn largest_first<'m>(wanted: &[&'m MigProfile]) -> Vec<&'m MigProfile> {
    let mut sorted = wanted.to_vec();
    sorted.sort_by_key(|p| rank(p));
    sorted
}

/// Starts as a driver gives them in order; `Err`: the index of the one that finds none.
fn last_free(mig: &MigModel, wanted: &[&MigProfile]) -> Result<Vec<u32>, usize> {
    debug_assert!(mig.memory_slices < 64);
    let mut used = 0;
    let mut starts = Vec::with_capacity(wanted.len());
    for (index, p) in wanted.iter().enumerate() {
        let start = p.starts.iter().rev().find(|&&s| used & mask(s, p.size) == 0).ok_or(index)?;
        used |= mask(*start, p.size);
        starts.push(*start);
    }
    Ok(starts)
}

fn placements(wanted: &[&MigProfile], starts: &[u32]) -> Vec<Placement> {
    let one = |(p, start): (&&MigProfile, &u32)| Placement { profile: p.name.clone(), start: *start, size: p.size };
    wanted.iter().zip(starts).map(one).collect()
}

fn joined<S: AsRef<str>>(profiles: &[S]) -> String {
    profiles.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" + ")
}

fn illegal<S: AsRef<str>>(
    model: &GpuModel,
    mig: &MigModel,
    problem: LayoutProblem,
    text: String,
    profiles: &[S],
) -> LayoutError {
    let nearest = nearest_legal(model, mig, profiles).into_iter().map(|p| p.name.clone()).collect();
    LayoutError { problem, text, nearest }
}

/// The legal layout that differs least from `profiles`: as many instances if possible, then the fewest slices more or
/// less, instance by instance from the largest on.
fn nearest_legal<'m, S: AsRef<str>>(model: &GpuModel, mig: &'m MigModel, profiles: &[S]) -> Vec<&'m MigProfile> {
    let wanted: Vec<&MigProfile> = profiles
        .iter()
        .filter_map(|name| {
            let name = name.as_ref();
            mig.profiles.iter().find(|p| p.name == name).or_else(|| stand_in(mig, name))
        })
        .collect();
    let wanted = largest_first(&wanted);
    if wanted.is_empty() {
        return Vec::new();
    }
    // Special profiles are no substitute for plain ones: they are offered only to who asked for them.
    let mut candidates: Vec<&MigProfile> =
        mig.profiles.iter().filter(|p| is_plain(&p.name) || wanted.iter().any(|w| w.name == p.name)).collect();
    candidates.sort_by_key(|p| rank(p));
    let mut best: Option<(u32, Vec<&MigProfile>)> = None;
    extend(model, mig, &candidates, &wanted, &mut Vec::new(), &mut best);
    best.map(|(_, layout)| layout).unwrap_or_default()
}

/// Tries every legal layout over `candidates` with at most as many instances as wanted.
fn extend<'m>(
    model: &GpuModel,
    mig: &'m MigModel,
    candidates: &[&'m MigProfile],
    wanted: &[&'m MigProfile],
    layout: &mut Vec<&'m MigProfile>,
    best: &mut Option<(u32, Vec<&'m MigProfile>)>,
) {
    if !layout.is_empty() {
        let cost = distance(wanted, layout);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            *best = Some((cost, layout.clone()));
        }
    }
    if layout.len() == wanted.len() {
        return;
    }
    for (i, p) in candidates.iter().enumerate() {
        layout.push(p);
        if shortage(model, mig, layout).is_none() && search(mig, layout).is_some() {
            extend(model, mig, &candidates[i..], wanted, layout, best);
        }
        layout.pop();
    }
}

/// A missing instance weighs more than any difference in slices; another profile of the same shape weighs least.
fn distance(wanted: &[&MigProfile], layout: &[&MigProfile]) -> u32 {
    let missing = (wanted.len() - layout.len()) as u32;
    let differing: u32 = wanted
        .iter()
        .zip(layout)
        .map(|(w, l)| 2 * (w.slices.abs_diff(l.slices) + w.size.abs_diff(l.size)) + u32::from(w.name != l.name))
        .sum();
    1_000 * missing + differing
}

#[cfg(test)]
mod tests;
