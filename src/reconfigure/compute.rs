//! Compute instances of a layout: what is wanted of them, and whether those that are there are it.

use serde::{Deserialize, Serialize};

use crate::nvml::ComputeInstance;

/// A compute instance of a layout. What is `None` is left to the driver, or not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// Compute slices.
    pub slices: u32,
    /// The driver's id of its profile in this GPU instance: two profiles may have as many slices.
    pub profile: Option<u32>,
    /// First compute slice within the GPU instance, and how many.
    pub place: Option<(u32, u32)>,
}

impl Compute {
    /// One of so many slices, wherever the driver likes.
    pub(crate) fn of(slices: u32) -> Self {
        Self { slices, profile: None, place: None }
    }

    /// Whether both may be the same: where one of them does not say, the other decides.
    fn fits(&self, other: &Self) -> bool {
        let agree = |a: Option<(u32, u32)>, b: Option<(u32, u32)>| a.is_none() || b.is_none() || a == b;
        let profile = |c: &Self| c.profile.map(|id| (id, 0));
        self.slices == other.slices && agree(profile(self), profile(other)) && agree(self.place, other.place)
    }
}

impl From<&ComputeInstance> for Compute {
    fn from(c: &ComputeInstance) -> Self {
        Self { slices: c.slices, profile: Some(c.profile), place: Some((c.start, c.size)) }
    }
}

impl std::fmt::Display for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}c", self.slices)?;
        self.place.map_or(Ok(()), |(start, _)| write!(f, "@{start}"))
    }
}

/// Whether these compute instances are those wanted, each one of them. Those that say most are looked for first.
pub(super) fn same(wanted: &[Compute], there: &[Compute]) -> bool {
    let mut left: Vec<&Compute> = there.iter().collect();
    let found = in_order(wanted).into_iter().all(|one| match left.iter().position(|other| one.fits(other)) {
        Some(at) => {
            left.remove(at);
            true
        }
        None => false,
    });
    found && left.is_empty()
}

/// Those with a place by their places, then the others, largest first: a small one that the driver places where it likes
/// must not lie where only a large one fits.
pub(super) fn in_order(wanted: &[Compute]) -> Vec<Compute> {
    let mut order = wanted.to_vec();
    order.sort_by_key(|c| (c.place.is_none(), c.place, std::cmp::Reverse(c.slices), c.profile));
    order
}

/// How many slices each has, whatever its place.
pub(super) fn sizes(all: &[Compute]) -> Vec<u32> {
    let mut sizes: Vec<u32> = all.iter().map(|c| c.slices).collect();
    sizes.sort_unstable();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(slices: u32, start: u32) -> Compute {
        Compute { slices, profile: Some(slices - 1), place: Some((start, slices)) }
    }

    #[test]
    fn what_is_wanted_somewhere_is_there_wherever_it_lies_and_what_is_wanted_at_a_place_only_there() {
        let there = [at(1, 0), at(1, 2)];
        assert!(same(&[Compute::of(1), Compute::of(1)], &there));
        assert!(same(&[at(1, 2), at(1, 0)], &there), "in any order");
        assert!(!same(&[at(1, 0), at(1, 1)], &there), "a gap is part of the layout");
        // The one that says where it must be is not taken by the one that does not care.
        assert!(same(&[Compute::of(1), at(1, 0)], &there));
        assert!(!same(&[Compute::of(1)], &there) && !same(&[Compute::of(2)], &there));
    }

    #[test]
    fn two_profiles_of_one_size_are_two() {
        let other = Compute { profile: Some(7), ..at(1, 0) };
        assert!(!same(&[other], &[at(1, 0)]));
        assert!(same(&[Compute::of(1)], &[other]), "as long as nobody asks for one of them");
        assert_eq!(sizes(&[other, at(2, 1)]), [1, 2]);
    }

    #[test]
    fn large_ones_go_first_where_the_driver_places_them() {
        let order = in_order(&[Compute::of(1), Compute::of(2), at(1, 3), at(1, 0)]);
        assert_eq!(order, [at(1, 0), at(1, 3), Compute::of(2), Compute::of(1)]);
    }
}
