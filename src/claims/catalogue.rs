//! The claims, in the order in which they are told.

use super::{Claim, Decided, data};

const fn by_data(
    id: &'static str,
    claimed: &'static str,
    decide: fn(&[crate::gpu::GpuModel]) -> Option<super::Finding>,
) -> Claim {
    Claim { id, claimed, decided: Decided::Data(decide), untested: None }
}

const fn by_run(id: &'static str, claimed: &'static str, on: &'static str, holds: bool, why: &'static str) -> Claim {
    Claim { id, claimed, decided: Decided::Run { on, holds, why }, untested: None }
}

/// `needs`: what its scenario runs on, for the simulator tells nothing of it.
const fn by_card(id: &'static str, claimed: &'static str, needs: &'static str) -> Claim {
    Claim { id, claimed, decided: Decided::Card, untested: Some(needs) }
}

const H100: &str = "h100-sxm";

/// Every claim.
pub const CLAIMS: &[Claim] = &[
    by_run(
        "mig-memory",
        "a leak or a hog in one instance cannot starve another",
        H100,
        true,
        "beside neighbours that fill their instance until they get no more, no attempt within the victim's budget fails",
    ),
    Claim {
        untested: Some("what a driver leaves and a card lets pass: the scenario on a card"),
        ..by_run(
            "mig-read",
            "no instance reads another's memory",
            H100,
            true,
            "the next tenant of an instance finds nothing in memory that surely held the last one's, however that ended, and \
             reads outside a tenant's own memory are refused, as the driver's documents have it",
        )
    },
    Claim {
        untested: Some("what a card lets pass: the scenario on a card"),
        ..by_run(
            "mig-write",
            "no instance writes another's memory",
            H100,
            true,
            "no word of the victim's changes, and writes outside a tenant's own memory are refused, as the driver's documents \
             have it",
        )
    },
    by_run(
        "mig-compute",
        "an instance cannot use more than its SM slices, even when the others are idle",
        H100,
        true,
        "beside busy instances 1.000 times as much per SM and cycle as beside idle ones, 99 % of what its 60 SMs can issue",
    ),
    by_run(
        "mig-l2",
        "misses in one instance do not evict another's working set",
        H100,
        true,
        "l2-chase beside l2-thrash is isolated",
    ),
    by_run(
        "mig-bandwidth",
        "memory bandwidth is guaranteed",
        H100,
        true,
        "hbm-chase and hbm-burst beside readers, writers and copiers are isolated",
    ),
    by_card(
        "mig-fault",
        "a kernel that hangs or crashes in one instance leaves the others alone",
        "a card with MIG, which its scenario runs on; the simulator has no faults",
    ),
    by_run(
        "mig-tail",
        "a traffic spike of one team is invisible in another's p99",
        H100,
        true,
        "inference beside spikes of kernels, reads and inputs is isolated",
    ),
    by_data("mig-seven", "at most seven instances", data::seven),
    Claim {
        id: "mig-7g",
        claimed: "the 7g profile is the full GPU",
        decided: Decided::Both {
            data: data::whole,
            on: H100,
            holds: true,
            why: "where it has all SMs, compute, bandwidth and latency are within 1 % of the whole GPU's",
        },
        untested: None,
    },
    by_data("mig-balanced", "all-balanced on an H100 is three 2g.20gb and one 1g.20gb", data::balanced),
    by_data("mig-double", "1g.20gb has the same compute as 1g.10gb; seven 1g.20gb per card", data::double),
    Claim {
        untested: Some("what a running victim feels of it, which takes a card"),
        ..by_run(
            "mig-static",
            "a layout cannot change without a reset that kills everything",
            H100,
            false,
            "in MIG mode instances come and go in free places; the one in use, and the mode, stay",
        )
    },
    by_run(
        "mig-whole",
        "on a MIG GPU no full-GPU work can be scheduled",
        H100,
        true,
        "a process sees one instance, however it names the GPU; a tenant that asked for another is refused",
    ),
    Claim {
        untested: Some("the all-reduce itself, which takes a card and a libnccl"),
        ..by_run(
            "mig-nccl",
            "NCCL across instances does not work, or not well",
            H100,
            true,
            "memory of one instance is not mapped by another (CUDA IPC); whether they are peers depends on the driver",
        )
    },
    by_run(
        "mig-metrics",
        "GPU-level metrics do not say which tenant uses what",
        H100,
        false,
        "GPM counts each GPU instance by itself, from Hopper on; before, without a DCGM, nothing does",
    ),
    Claim {
        untested: Some("time-slicing on an older part"),
        ..by_data("mig-ampere", "MIG needs Ampere or newer; time-slicing works on older parts", data::ampere)
    },
    by_run(
        "mig-two-gpus",
        "two instances are, for the silicon, two GPUs",
        H100,
        false,
        "two GPUs are isolated; instances share the path of memory barriers (strong-chase) and the PCIe link (h2d)",
    ),
    by_run(
        "ts-memory",
        "every tenant sees all of the memory; A takes 60 GB and B gets OOM",
        H100,
        true,
        "beside a neighbour that ramps to its end below 60 GiB, a victim that needs 24 GiB runs out of memory",
    ),
    by_run(
        "ts-incident",
        "a rare 50 GB cold start takes a service down, and looks like its own fault",
        H100,
        true,
        "a service of 32 GiB runs out of memory as a cold start of 50 GiB comes, and gets its memory no more as it starts again",
    ),
    by_run(
        "ts-compute",
        "a tenant's long kernels spike another's latency",
        H100,
        true,
        "launch and inference beside kernels of 1, 10 and 100 ms wait for turns",
    ),
    by_run(
        "ts-fairness",
        "longer kernels get more of the GPU",
        H100,
        false,
        "with queues full each of two gets 46 to 48 % whatever the lengths; one that waits for each of its kernels gets 4 % \
         with 0.1 ms and 27 % with 0.9 ms",
    ),
    by_card(
        "ts-fault",
        "a crash in one tenant can reach another (rare)",
        "a card, which its scenario runs on; the simulator has no faults",
    ),
    by_run(
        "ts-quantum",
        "tenants take turns of a few milliseconds",
        H100,
        true,
        "turns of 2.1 ms, 2.4 ms until the next, 0.16 ms for a switch",
    ),
    by_run(
        "ts-four",
        "beyond about four shares the switching hurts everyone's p99",
        H100,
        false,
        "no number holds for all: p99 leaves twice that of a lone tenant at 3 to 12 tenants, by the length of their requests \
         and their load (docs/capacity.md has the table)",
    ),
    by_run(
        "ts-alone",
        "a lone time-sliced tenant has the whole GPU",
        H100,
        true,
        "beside an idle tenant rates and medians within 1 % of those without one",
    ),
    Claim {
        untested: Some("how well the driver's account agrees with known shares, which takes a card"),
        ..by_run(
            "ts-bill",
            "per-tenant cost is impossible",
            H100,
            false,
            "NVML gives each process its part of the time; under MIG it does not, and an instance-hour is the bill",
        )
    },
    Claim {
        untested: Some("what a fault reaches, which takes a card: the scenario `faults`"),
        ..by_run(
            "mps-fair",
            "MPS helps, with complications of its own",
            H100,
            true,
            "beside long kernels half of an MPS server is isolated and a share in turns is not; together both compute 1.08 times \
             as much as in turns, and p99 is lower; memory is shared in both",
        )
    },
    by_run(
        "mig-ts",
        "time-slicing inside MIG instances: isolated between, shared within",
        H100,
        true,
        "beside tenants of the other instance isolated, beside the one in its own violated by turns",
    ),
];
