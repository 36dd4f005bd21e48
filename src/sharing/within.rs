//! The victim in other company than its neighbours': alone, and with the noise inside its own place.

use crate::machine::{Compute, Context, Policy, SmShare, Topology};
use crate::scenario::SharingMode;

/// Whether tenants have processes of their own on the hardware, so that their mere presence can be told from their absence.
pub fn has_presence(mode: SharingMode) -> bool {
    mode != SharingMode::Exclusive && !super::one_process(mode)
}

/// Whether the mode promises a tenant something of its own, so that it must be shown what noise does inside that.
pub fn has_sensitivity(mode: SharingMode) -> bool {
    match mode {
        SharingMode::Mps
        | SharingMode::Mig
        | SharingMode::MigComputeInstances
        | SharingMode::MigTimeSlicing
        | SharingMode::MigMps => true,
        SharingMode::Exclusive
        | SharingMode::Streams
        | SharingMode::GreenContexts
        | SharingMode::TimeSlicing
        | SharingMode::SeparateGpus => false,
    }
}

/// The machine in which the tenant of `seat` has streams of its process for a second tenant: the last context, which runs
/// beside that of the seat on the SMs that the seat may use, and in its memory. All other contexts stay, so that seats keep
/// their numbers; nobody opens them.
pub fn within(topology: &Topology, seat: usize) -> Topology {
    let mut inside = topology.clone();
    let own = topology.contexts[seat];
    let compute = topology.computes[own.compute];
    let sms = match own.sms {
        SmShare::All => compute.sms,
        // A cap and a partition hold for the process: its streams have them together.
        SmShare::Cap(sms) | SmShare::Own(sms) => sms.min(compute.sms),
    };
    inside.computes[own.compute] = Compute { sms, policy: Policy::Concurrent, ..compute };
    for context in inside.contexts.iter_mut().filter(|context| context.compute == own.compute) {
        context.sms = SmShare::All;
    }
    inside.contexts.push(Context { sms: SmShare::All, ..own });
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{find_model, simulated};
    use crate::scenario::LayoutEntry;
    use crate::sharing::{resolve, topology};
    use crate::units::Share;

    #[test]
    fn two_streams_share_what_the_seat_has_and_no_more() {
        let model = find_model("h100-sxm").unwrap();
        let gpu = simulated(model, None).gpus.remove(0);
        let entry =
            |profile: &str, tenants| LayoutEntry { profile: Some(profile.to_owned()), tenants, ..LayoutEntry::PLAIN };
        let half = |reserved| LayoutEntry { sms: Some(Share::percent(50)), reserved, ..LayoutEntry::PLAIN };
        for (mode, layout, sms) in [
            (SharingMode::Mig, vec![entry("3g.40gb", 1), entry("3g.40gb", 1)], 60),
            (SharingMode::MigComputeInstances, vec![entry("3g.40gb", 2)], 16),
            (SharingMode::Mps, vec![half(false), half(false)], 66),
            (SharingMode::Mps, vec![half(true), half(true)], 64),
            (SharingMode::MigTimeSlicing, vec![entry("3g.40gb", 2)], 60),
        ] {
            let (layout, seats) = resolve(mode, Some(&layout), &gpu, Some(model)).unwrap();
            let before = topology(mode, &layout, &seats, model).unwrap();
            let inside = within(&before, 1);
            let (own, noise) = (inside.contexts[1], inside.contexts[seats.len()]);
            assert_eq!((own.compute, own.process), (noise.compute, noise.process), "{mode}");
            let compute = inside.computes[own.compute];
            assert_eq!((compute.sms, compute.policy), (sms, Policy::Concurrent), "{mode}");
            assert_eq!((own.sms, noise.sms), (SmShare::All, SmShare::All));
            assert_eq!(inside.domains, before.domains, "no memory is moved");
            crate::machine::Machine::vacant(model, &inside, &[]).unwrap();
        }
    }
}
