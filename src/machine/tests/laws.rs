//! Laws that hold for whatever is submitted.

use super::*;
use crate::machine::rates::Resource;
use proptest::prelude::*;

/// One submission: context, demand, repetitions, nanoseconds after the one before.
type Job = (usize, Demand, u32, u64);

fn launch() -> impl Strategy<Value = Demand> {
    let amounts = (1u32..60, 1u32..8, 0u64..40_000, 0u64..20_000, 0u64..20_000);
    let memory = (0u64..4_000_000, 10u32..34, 0u64..200, 10u32..34, 0u64..2_000);
    (amounts, memory, 0u64..2_000, any::<[bool; 3]>()).prop_map(|(sms, memory, barriers, [l1, strong, few])| {
        let (blocks, blocks_per_sm, issue_cycles, tensor_cycles, wait_cycles) = sms;
        let (read, footprint, loads, chained, pages) = memory;
        Demand::Launch(LaunchDemand {
            blocks,
            blocks_per_sm,
            issue_cycles,
            tensor_cycles,
            wait_cycles,
            traffic: Traffic {
                read,
                written: read / 3,
                footprint: 1 << footprint,
                page_touches: if few { 0 } else { pages },
                pages,
                through_l1: l1,
            },
            chain: Chain { loads, warps: 8, footprint: 1 << chained, pages, strong, through_l1: l1 },
            barriers: if few { 0 } else { barriers },
            atomics: if few { 0 } else { barriers },
        })
    })
}

fn demand() -> impl Strategy<Value = Demand> {
    prop_oneof![
        6 => launch(),
        1 => (0u64..400_000, any::<bool>())
            .prop_map(|(b, up)| copy(b, if up { Direction::ToHost } else { Direction::ToDevice })),
        1 => (0u64..20_000, 0u64..20_000, 0u64..500).prop_map(|(lock, outside, barriers)| {
            Demand::Host(HostDemand { lock: Nanos(lock), outside: Nanos(outside), barriers })
        }),
    ]
}

fn jobs(contexts: usize) -> impl Strategy<Value = Vec<Job>> {
    prop::collection::vec((0..contexts, demand(), 1u32..4, 0u64..60_000), 1..40)
}

fn topologies() -> Vec<Topology> {
    vec![
        shared(Policy::TimeSliced, &[SmShare::All; 2]),
        shared(Policy::Concurrent, &[SmShare::Cap(5); 2]),
        shared(Policy::Concurrent, &[SmShare::Cap(8), SmShare::All]),
        shared(Policy::Concurrent, &[SmShare::Own(3), SmShare::Cap(6)]),
        halves(),
    ]
}

/// Runs `jobs`, looking at the machine in steps of `step` nanoseconds (0: only when something is submitted).
fn run(topology: &Topology, jobs: &[Job], step: u64, mut look: impl FnMut(&Machine)) -> Vec<Done> {
    let mut hot = model();
    hot.power.cap_w = 300.0;
    let mut rig = Rig::with(&hot, topology);
    let mut at = 0;
    for (context, demand, times, wait) in jobs {
        let to = at + wait;
        while step > 0 && at + step < to {
            at += step;
            rig.advance(at);
            look(&rig.machine);
        }
        at = to;
        rig.advance(at);
        rig.submit(*context, *demand, *times, at);
    }
    if step == 0 {
        rig.advance(u64::MAX / 2);
    } else {
        while let Some(next) = rig.machine.next() {
            at = next.0.min(at + step);
            rig.advance(at);
            look(&rig.machine);
        }
    }
    rig.done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn one_step_or_many_give_the_same(jobs in jobs(2), step in 1_000u64..50_000) {
        for topology in topologies() {
            prop_assert_eq!(run(&topology, &jobs, 0, |_| ()), run(&topology, &jobs, step, |_| ()));
        }
    }

    #[test]
    fn all_work_ends_once_and_in_order(jobs in jobs(2)) {
        for topology in topologies() {
            let done = run(&topology, &jobs, 0, |_| ());
            prop_assert_eq!(done.len(), jobs.len());
            for pair in done.windows(2) {
                prop_assert!((pair[0].ended, pair[0].ticket) < (pair[1].ended, pair[1].ticket));
            }
            let mut tickets: Vec<_> = done.iter().map(|d| d.ticket).collect();
            tickets.sort_unstable();
            tickets.dedup();
            prop_assert_eq!(tickets.len(), jobs.len());
            // Each queue is first in, first out, one at a time.
            for queue in [QueueId(0), QueueId(1)] {
                let mut end = Nanos::ZERO;
                for d in done.iter().filter(|d| d.queue == queue) {
                    prop_assert!(d.started >= end && d.ended >= d.started, "{:?} after {}", d, end);
                    end = d.ended;
                }
            }
        }
    }

    #[test]
    fn no_resource_is_used_above_its_capacity(jobs in jobs(2)) {
        for topology in topologies() {
            let check = |machine: &Machine| {
                for (d, part) in topology.domains.iter().enumerate() {
                    for (resource, use_) in machine.uses(d) {
                        let capacity = match resource {
                            Resource::Slots | Resource::Issue | Resource::Tensor => f64::from(part.sms),
                            Resource::L1 => f64::from(part.sms) * 64.0,
                            Resource::L2 => part.l2_bandwidth as f64 / 1e9,
                            Resource::Hbm => part.hbm_bandwidth as f64 / 1e9,
                            Resource::Atomics => part.l2_bandwidth as f64 / 1e12,
                            _ => continue,
                        };
                        assert!(use_ <= capacity * 1.000_001, "{resource:?} of domain {d}: {use_} of {capacity}");
                    }
                }
            };
            run(&topology, &jobs, 5_000, check);
        }
    }

    #[test]
    fn another_domain_costs_nothing_but_through_the_gpu(
        mine in prop::collection::vec((launch(), 1u32..4, 0u64..60_000), 1..12),
        theirs in prop::collection::vec((launch(), 1u32..4, 0u64..60_000), 1..12),
    ) {
        // Nothing of the GPU's is touched: no page, no barrier, no strong load, and the cap is far.
        let own = |demand: &Demand| match demand {
            Demand::Launch(l) => Demand::Launch(LaunchDemand {
                barriers: 0,
                traffic: Traffic { page_touches: 0, ..l.traffic },
                chain: Chain { pages: 0, strong: false, ..l.chain },
                ..*l
            }),
            other => *other,
        };
        let run = |noise: bool| {
            let mut rig = Rig::new(&halves());
            let mut all: Vec<_> = mine.iter().scan(0, |at, (d, n, wait)| { *at += wait; Some((*at, 0, own(d), *n)) }).collect();
            if noise {
                all.extend(theirs.iter().scan(0, |at, (d, n, wait)| { *at += wait; Some((*at, 1, own(d), *n)) }));
            }
            all.sort_by_key(|(at, context, ..)| (*at, *context));
            for (at, context, demand, times) in all {
                rig.advance(at);
                rig.submit(context, demand, times, at);
            }
            rig.advance(u64::MAX / 2);
            let spans = rig.done.iter().filter(|d| d.queue == rig.queues[0]).map(|d| (d.started.0, d.ended.0));
            spans.collect::<Vec<_>>()
        };
        let (quiet, noisy) = (run(false), run(true));
        prop_assert_eq!(quiet, noisy);
    }

    #[test]
    fn bandwidth_is_used_up_while_somebody_reads(sizes in prop::collection::vec(10_000u64..3_000_000, 1..8)) {
        let mut rig = Rig::new(&shared(Policy::Concurrent, &vec![SmShare::All; sizes.len()]));
        for (context, bytes) in sizes.iter().enumerate() {
            rig.submit(context, read(*bytes), 1, 0);
        }
        rig.drain();
        // All begin at 4 µs; 100 bytes per ns whoever reads, and a nanosecond of rounding per reader.
        let total: u64 = sizes.iter().sum();
        let end = rig.done.last().map_or(0, |d| d.ended.0);
        prop_assert!((end - 4_000).abs_diff(total / 100) <= sizes.len() as u64, "{} for {}", end, total);
    }

    #[test]
    fn more_demand_on_one_resource_never_makes_a_flow_faster(
        resource in 0usize..5, mine in 1u64..1_000, theirs in 0u64..1_000, more in 0u64..1_000,
    ) {
        // Each launch waits 10 µs whatever happens, and asks for one resource within that time.
        let ask = |n: u64| {
            let mut l = LaunchDemand { blocks: 10, blocks_per_sm: 3, wait_cycles: 10_000, ..LaunchDemand::default() };
            match resource {
                0 => l.issue_cycles = n * 20,
                1 => l.tensor_cycles = n * 20,
                2 => l.traffic = Traffic { read: n * 2_000, footprint: 1 << 40, ..Traffic::default() },
                3 => l.atomics = n * 20,
                _ => l.barriers = n * 2,
            }
            Demand::Launch(l)
        };
        let length = |noise: u64| {
            let mut rig = Rig::new(&shared(Policy::Concurrent, &[SmShare::All; 2]));
            rig.submit(1, ask(noise), 50, 0);
            let ticket = rig.submit(0, ask(mine), 1, 0);
            rig.drain();
            rig.length(ticket)
        };
        prop_assert!(length(theirs + more) >= length(theirs));
    }
}
