//! What must hold of every entry of the catalogue, on every size of place.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::field::Kind;
use crate::machine::LaunchDemand;
use crate::units::Rate;

const H100: GpuView = GpuView {
    sms: 132,
    memory: Bytes::gib(79),
    l2: Bytes::mib(50),
    l1: Bytes::kib(256),
    tlb_reach: Bytes::gib(8),
    sm_mhz: 1980,
    fma_per_cycle: 128,
    tensor_flop_per_cycle: 4096,
    hbm_bandwidth: 3_000_000_000_000,
    l2_bandwidth: 10_000_000_000_000,
    pcie_bandwidth: 55_000_000_000,
};

/// Places from the smallest share to the largest card.
fn places() -> Vec<(&'static str, GpuView)> {
    let h100_eighth = GpuView {
        sms: 16,
        memory: Bytes::mib(9984),
        l2: Bytes::kib(6400),
        hbm_bandwidth: 375_000_000_000,
        l2_bandwidth: 1_250_000_000_000,
        ..H100
    };
    vec![
        ("h100", H100),
        (
            "h100 3g.40gb",
            GpuView {
                sms: 60,
                memory: Bytes::mib(40448),
                l2: Bytes::mib(25),
                hbm_bandwidth: 1_500_000_000_000,
                l2_bandwidth: 5_000_000_000_000,
                ..H100
            },
        ),
        ("h100 1g.10gb", h100_eighth),
        ("half of a 1g", GpuView { sms: 7, memory: Bytes::gib(4), ..h100_eighth }),
        (
            "a100-40 1g.5gb",
            GpuView {
                sms: 14,
                memory: Bytes::mib(4864),
                l2: Bytes::mib(5),
                l1: Bytes::kib(192),
                sm_mhz: 1410,
                fma_per_cycle: 64,
                tensor_flop_per_cycle: 2048,
                hbm_bandwidth: 170_000_000_000,
                l2_bandwidth: 900_000_000_000,
                pcie_bandwidth: 25_000_000_000,
                ..H100
            },
        ),
        (
            "t4",
            GpuView {
                sms: 40,
                memory: Bytes::mib(15109),
                l2: Bytes::mib(4),
                l1: Bytes::kib(64),
                tlb_reach: Bytes::gib(2),
                sm_mhz: 1590,
                fma_per_cycle: 64,
                tensor_flop_per_cycle: 1024,
                hbm_bandwidth: 270_000_000_000,
                l2_bandwidth: 1_200_000_000_000,
                pcie_bandwidth: 12_000_000_000,
            },
        ),
        (
            "rtx-4090",
            GpuView {
                sms: 128,
                memory: Bytes::gib(24),
                l2: Bytes::mib(72),
                l1: Bytes::kib(128),
                sm_mhz: 2520,
                tensor_flop_per_cycle: 1024,
                hbm_bandwidth: 930_000_000_000,
                l2_bandwidth: 5_000_000_000_000,
                pcie_bandwidth: 25_000_000_000,
                ..H100
            },
        ),
        ("h200", GpuView { memory: Bytes::gib(140), hbm_bandwidth: 4_300_000_000_000, ..H100 }),
    ]
}

fn with_defaults(w: &Workload) -> Params {
    resolve(w, &BTreeMap::new()).expect(w.id)
}

fn build(w: &Workload, view: &GpuView) -> Program {
    (w.program)(&with_defaults(w), view).unwrap_or_else(|e| panic!("{e}"))
}

fn demands(program: &Program) -> Vec<Demand> {
    let enqueued = |op: &Op| match op {
        Op::Enqueue(enqueue, _) => Some(enqueue.demand()),
        Op::Host(_) | Op::Mark(_) => None,
    };
    program.request.iter().filter_map(enqueued).collect()
}

fn kernels(program: &Program) -> Vec<LaunchDemand> {
    demands(program).into_iter().filter_map(|d| if let Demand::Launch(l) = d { Some(l) } else { None }).collect()
}

fn only(w: &Workload, view: &GpuView) -> LaunchDemand {
    let launches = kernels(&build(w, view));
    assert_eq!(launches.len(), 1, "{} has one kernel", w.id);
    launches[0]
}

/// Whether a program asks something of `channel` at all.
fn asks(channel: Channel, program: &Program, view: &GpuView) -> bool {
    let any = |f: &dyn Fn(&LaunchDemand) -> bool| kernels(program).iter().any(f);
    let host = |f: &dyn Fn(&HostOp) -> bool| program.request.iter().any(|op| matches!(op, Op::Host(h) if f(h)));
    let allocates = host(&|h| matches!(h, HostOp::Alloc { .. }));
    let contexts = host(&|h| matches!(h, HostOp::ContextCreate));
    let moved = |l: &LaunchDemand| l.traffic.read + l.traffic.written > 0;
    match channel {
        Channel::BlockSlots => any(&|l| l.blocks > 0),
        Channel::Issue => any(&|l| l.issue_cycles > 0),
        Channel::Tensor => any(&|l| l.tensor_cycles > 0),
        Channel::L1 => any(&|l| (l.traffic.through_l1 && moved(l)) || (l.chain.through_l1 && l.chain.loads > 0)),
        Channel::L2 => any(&|l| (moved(l) && !l.traffic.through_l1) || (l.chain.loads > 0 && !l.chain.through_l1)),
        Channel::HbmBandwidth => any(&|l| {
            (moved(l) && l.traffic.footprint > view.l2.0) || (l.chain.loads > 0 && l.chain.footprint > view.l2.0)
        }),
        Channel::HbmCapacity => allocates,
        Channel::Tlb => any(&|l| l.chain.pages >= 16 && l.chain.pages * shape::LINE == l.chain.footprint),
        Channel::Membar => any(&|l| l.barriers > 0 || l.chain.strong) || allocates || contexts,
        Channel::Atomics => any(&|l| l.atomics > 0),
        Channel::Pcie | Channel::CopyEngine => {
            demands(program).iter().any(|d| matches!(d, Demand::Copy(c) if c.bytes > 0))
        }
        Channel::Launch => !kernels(program).is_empty(),
        Channel::Driver => allocates || contexts,
        Channel::Power => any(&|l| l.issue_cycles + l.tensor_cycles > 0),
        Channel::Host => host(&|h| matches!(h, HostOp::Idle { .. })),
        Channel::Fault | Channel::ResidualMemory => false,
    }
}

#[test]
fn ids_are_unique_and_found() {
    let ids: BTreeSet<_> = CATALOGUE.iter().map(|w| w.id).collect();
    assert_eq!(ids.len(), CATALOGUE.len());
    for w in CATALOGUE {
        assert!(find(w.id).is_some_and(|found| std::ptr::eq(found, *w)));
    }
    assert!(find("hbm-reed").is_none());
    assert_eq!(nearest("hbm-reed").map(|w| w.id), Some("hbm-read"));
    assert_eq!(nearest("l2chase").map(|w| w.id), Some("l2-chase"));
    assert!(nearest("banana").is_none(), "nothing is like it: no wrong hint");
}

#[test]
fn the_catalogue_has_what_the_issue_asks_for() {
    let wanted = "launch compute tensor l1-chase l2-chase hbm-chase tlb-chase strong-chase weak-chase hbm-burst h2d d2h \
                  alloc inference llm-prefill llm-decode hbm-read hbm-write hbm-copy l1-thrash l2-thrash tlb-thrash \
                  membar-storm atomics compute-burst issue-hog tensor-burst launch-storm bidirectional alloc-churn \
                  context-churn capacity-ramp idle";
    let missing: Vec<_> = wanted.split_whitespace().filter(|id| find(id).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for id in ["h2d", "d2h"] {
        assert_eq!(find(id).map(|w| w.role), Some(Role::Both));
    }
}

#[test]
fn every_entry_is_described() {
    for w in CATALOGUE {
        assert!(!w.channels.is_empty(), "{} names no channel", w.id);
        for doc in w.params.iter().map(|f| f.doc).chain([w.doc]) {
            assert!(doc.ends_with('.') && !doc.contains('|'), "{}: {doc:?} is no sentence for a table", w.id);
        }
        for f in w.params {
            assert!(f.default.is_some() || f.required || f.doc.contains("Default"), "{}: whence {}?", w.id, f.key);
            assert!(f.default.is_none_or(|d| f.kind.parse(d).is_ok()), "{}: default of {}", w.id, f.key);
        }
    }
}

#[test]
fn every_workload_builds_in_every_place_and_asks_for_what_it_names() {
    for (name, view) in places() {
        for w in CATALOGUE {
            let program = build(w, &view);
            for channel in w.channels {
                assert!(asks(*channel, &program, &view), "{} on {name} asks nothing of {channel}", w.id);
            }
            assert!(program.duration_alone(&view) > Nanos::ZERO);
        }
    }
}

/// What an executor relies on without looking.
fn well_formed(w: &Workload, program: &Program, view: &GpuView) {
    let (mut marks, held) = (BTreeSet::new(), program.buffers.iter().map(|b| b.bytes.0).sum::<u64>());
    assert!(!program.request.is_empty() && program.footprint.0 >= held && program.footprint <= view.memory, "{}", w.id);
    for op in &program.request {
        match op {
            Op::Enqueue(Enqueue::Launch { kernel, grid, block, args }, times) => {
                let types: Vec<_> = args
                    .iter()
                    .map(|a| match a {
                        Arg::U32(_) => ParamType::U32,
                        Arg::U64(_) => ParamType::U64,
                        Arg::Buffer(i) => {
                            assert!(*i < program.buffers.len(), "{}: buffer {i}", w.id);
                            ParamType::Pointer
                        }
                    })
                    .collect();
                assert_eq!(types, kernel.params, "{}: arguments of {}", w.id, kernel.symbol);
                assert!(*grid > 0 && (32..=1024).contains(block) && block % 32 == 0 && *times > 0, "{}", w.id);
            }
            Op::Enqueue(Enqueue::ToDevice { buffer, bytes, .. } | Enqueue::ToHost { buffer, bytes, .. }, times) => {
                assert!(*times > 0 && *bytes > 0 && *bytes <= program.buffers[*buffer].bytes.0, "{}", w.id);
            }
            Op::Mark(mark) => drop(marks.insert(*mark)),
            Op::Host(_) => {}
        }
    }
    assert_eq!(marks, w.marks.iter().copied().collect(), "{}: its marks are those it declares", w.id);
    for l in kernels(program) {
        assert!(l.blocks > 0 && l.blocks_per_sm > 0, "{}", w.id);
        assert_eq!(l.chain.loads > 0, l.chain.warps > 0, "{}: a chain has walkers", w.id);
        assert!(l.traffic.footprint <= held && l.chain.footprint <= held, "{}: touches what it holds", w.id);
    }
}

proptest! {
    #[test]
    fn programs_are_well_formed_anywhere(
        sms in 7u32..=192, memory in 4u64..=192, l2 in 3u64..=128, l1 in 64u64..=256, mhz in 800u32..3000,
        reach in 1u64..=64, hbm in 100u64..=8000, pcie in 3u64..=120,
    ) {
        let view = GpuView {
            sms, memory: Bytes::gib(memory), l2: Bytes::mib(l2), l1: Bytes::kib(l1), tlb_reach: Bytes::gib(reach),
            sm_mhz: mhz, hbm_bandwidth: hbm * 1_000_000_000, l2_bandwidth: 3 * hbm * 1_000_000_000,
            pcie_bandwidth: pcie * 1_000_000_000, ..H100
        };
        for w in CATALOGUE {
            well_formed(w, &build(w, &view), &view);
        }
    }
}

#[test]
fn parameters_at_their_bounds_build_or_say_what_would() {
    for (name, view) in places() {
        for (w, f) in CATALOGUE.iter().flat_map(|w| w.params.iter().map(move |f| (*w, f))) {
            let bounds = match f.kind {
                Kind::Duration { min, max } => [min.to_string(), max.to_string()],
                Kind::Size { min, max } => [min.to_string(), max.to_string()],
                Kind::Share { min, max } => [min.to_string(), max.to_string()],
                Kind::Rate { min: Rate(min), max: Rate(max) } => [Rate(min).to_string(), Rate(max).to_string()],
                Kind::Count { min, max } => [min.to_string(), max.to_string()],
                _ => panic!("{}: no test for a parameter of this kind", w.id),
            };
            for value in bounds.iter().map(String::as_str).chain(matches!(f.kind, Kind::Size { .. }).then_some("100%"))
            {
                let given = BTreeMap::from([(f.key.to_owned(), value.to_owned())]);
                let params = resolve(w, &given).unwrap_or_else(|e| panic!("{}: {e}", w.id));
                match (w.program)(&params, &view) {
                    Ok(program) => well_formed(w, &program, &view),
                    Err(e) => {
                        let text = e.to_string();
                        assert!(
                            text.starts_with(w.id)
                                && [" least ", " most ", "ask for", "between"].iter().any(|s| text.contains(s)),
                            "{name}: {text}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_place_that_is_too_small_is_told_how_large_it_must_be() {
    let tiny = GpuView { memory: Bytes::mib(64), ..H100 };
    let error = |id: &str, view: &GpuView| {
        let w = find(id).expect(id);
        (w.program)(&with_defaults(w), view).expect_err(id).to_string()
    };
    assert_eq!(
        error("hbm-chase", &tiny),
        "hbm-chase: it holds 200.00 MiB, and this tenant sees 64.00 MiB: ask for less, or give its seat a larger share"
    );
    let no_tensor = GpuView { tensor_flop_per_cycle: 0, ..H100 };
    assert!(error("tensor", &no_tensor).contains("tensor rate of this GPU is unknown"));
    assert!(error("launch", &GpuView { sms: 0, ..H100 }).contains("sees no SM"));
}

#[test]
fn every_mistake_in_parameters_is_named_at_once() {
    let given = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let w = find("hbm-chase").expect("is there");
    let error = resolve(w, &given(&[("foot", "1GiB"), ("loads", "many"), ("footprint", "2")])).expect_err("three");
    for part in [
        "no parameter \"foot\"; it has footprint, loads",
        "loads of hbm-chase: \"many\"",
        "footprint of hbm-chase: \"2\"",
    ] {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
    let params = resolve(w, &given(&[("footprint", "50%")])).expect("is right");
    assert_eq!(params.size("footprint", &H100), Some(Bytes(H100.memory.0 / 2)), "a share is of what the tenant sees");
    assert_eq!(params.count("loads"), Some(512), "the default is put in");
    assert_eq!(params.duration("loads"), None, "it is no duration");
}

#[test]
fn chases_walk_on_eight_sms_in_the_level_that_they_name() {
    for (name, view) in places() {
        for (w, least, most) in [
            (&chase::L1_CHASE, view.l1.0 / 2 + 1, view.l1.0 / 4 * 3),
            (&chase::L2_CHASE, 2 * view.l1.0, view.l2.0 / 2),
            (&order::STRONG_CHASE, 2 * view.l1.0, view.l2.0 / 2),
            (&chase::HBM_CHASE, 4 * view.l2.0, view.memory.0),
            // One line a page: so few lines that L2 holds them.
            (&translation::TLB_CHASE, 0, view.l2.0 / 2),
        ] {
            let d = only(w, &view);
            assert!((least..=most).contains(&d.chain.footprint), "{} on {name}: {}", w.id, d.chain.footprint);
            assert_eq!((d.blocks, d.chain.warps), (view.sms.min(8), view.sms.min(8)), "{} on {name}", w.id);
        }
        let tlb = only(&translation::TLB_CHASE, &view);
        assert!(tlb.chain.pages * shape::PAGE <= view.tlb_reach.0 / 2, "alone it hits");
    }
    assert_eq!(only(&translation::TLB_CHASE, &H100).chain.pages, 2048, "half of 8 GiB in pages of 2 MiB");
}

#[test]
fn the_weak_twin_differs_in_strength_alone() {
    for (_, view) in places() {
        let (mut strong, weak) = (only(&order::STRONG_CHASE, &view), only(&order::WEAK_CHASE, &view));
        assert!(strong.chain.strong && !weak.chain.strong);
        strong.chain.strong = false;
        assert_eq!(strong, weak);
    }
}

#[test]
fn probes_alone_are_short_and_chases_long_enough_to_time() {
    let micros = |w: &Workload, view: &GpuView| build(w, view).duration_alone(view).0 / 1_000;
    for (id, least, most) in [
        ("launch", 2, 20),
        ("compute", 95, 115),
        ("tensor", 95, 115),
        ("l1-chase", 100, 400),
        ("l2-chase", 100, 400),
        ("hbm-chase", 100, 400),
        ("tlb-chase", 100, 400),
        ("strong-chase", 100, 400),
        ("weak-chase", 100, 400),
        ("hbm-burst", 50, 110),
        ("h2d", 15, 60),
        ("d2h", 15, 60),
        ("alloc", 50, 500),
        ("inference", 50, 1_000),
        ("llm-prefill", 50, 1_000),
        ("llm-decode", 200, 1_000),
    ] {
        let t = micros(find(id).expect(id), &H100);
        assert!((least..=most).contains(&t), "{id} takes {t} µs alone");
    }
    // No probe needs a panel of its own by default, in the smallest MIG slice either. (On a card with much L2 and little
    // bandwidth llm-decode does: 8 × 288 MiB at 0.93 TB/s are 2 ms on an RTX 4090.)
    for (name, view) in places().into_iter().filter(|(name, _)| *name != "rtx-4090") {
        for w in CATALOGUE.iter().filter(|w| w.role != Role::Noise) {
            assert!(micros(w, &view) <= 1_000, "{} on {name} takes {} µs", w.id, micros(w, &view));
        }
    }
}

#[test]
fn queued_noise_holds_little_work() {
    // Bursts are long on purpose: two of them queued are what the drain deadline allows for.
    for (name, view) in places() {
        for w in CATALOGUE.iter().filter(|w| w.role != Role::Probe) {
            let program = build(w, &view);
            if program.has_host_ops() {
                continue;
            }
            let queued = if w.id.ends_with("-burst") { 2 } else { 8 };
            let t = program.duration_alone(&view) * queued;
            assert!(t <= Nanos::millis(50), "{queued} × {} on {name} hold {t} of work", w.id);
        }
    }
}

#[test]
fn host_bound_is_declared_exactly_where_a_request_allocates_or_makes_contexts() {
    for w in CATALOGUE {
        let program = build(w, &H100);
        let calls = |op: &Op| matches!(op, Op::Host(h) if !matches!(h, HostOp::Idle { .. } | HostOp::Synchronize));
        assert_eq!(w.host_bound(), program.request.iter().any(calls), "{}", w.id);
    }
    assert!(build(&host::IDLE, &H100).has_host_ops() && !host::IDLE.host_bound());
}

#[test]
fn noise_that_claims_block_slots_fills_every_slot() {
    for (name, view) in places() {
        for w in CATALOGUE.iter().filter(|w| w.role == Role::Noise && w.channels.contains(&Channel::BlockSlots)) {
            let d = only(w, &view);
            assert!(d.blocks >= view.sms * d.blocks_per_sm, "{} on {name}", w.id);
        }
        let hog = only(&compute::ISSUE_HOG, &view);
        assert!(hog.blocks == view.sms && hog.blocks_per_sm > 1, "the issue hog leaves room for blocks");
    }
}

#[test]
fn every_kernel_is_listed_once() {
    let listed: Vec<&str> = super::kernels().map(|k| k.symbol).collect();
    let distinct: std::collections::BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(listed.len(), distinct.len());
    let mut used: std::collections::BTreeSet<&str> = SETUP.iter().map(|k| k.symbol).collect();
    for w in CATALOGUE {
        for op in build(w, &H100).request {
            if let Op::Enqueue(Enqueue::Launch { kernel, .. }, _) = op {
                used.insert(kernel.symbol);
            }
        }
    }
    assert_eq!(distinct, used);
}

#[test]
fn demands_by_hand() {
    // 256 threads are 8 warps; 8 × 1000 pairs × 2 instructions ÷ 4 a cycle = 4000 cycles; 64 registers × 256 threads
    // are a quarter of an SM's 65 536.
    let Op::Enqueue(compute, _) = &build(&compute::COMPUTE, &H100).request[0] else { panic!("a launch") };
    let Enqueue::Launch { kernel, .. } = compute else { panic!("a launch") };
    let of =
        |kernel: &'static Kernel, grid, block, args: &[Arg]| match (kernel.demand)(&LaunchArgs { grid, block, args }) {
            Demand::Launch(l) => l,
            other => panic!("{other:?}"),
        };
    let fma = of(kernel, 10, 256, &[Arg::U32(1000)]);
    assert_eq!((fma.blocks, fma.blocks_per_sm, fma.issue_cycles), (10, 4, 4000));

    // 8 warps × 100 products × 4096 FLOP ÷ 2048 a cycle = 1600 cycles.
    let products = [Arg::Buffer(0), Arg::U64(4 << 20), Arg::U64(1 << 20), Arg::U32(100), Arg::U32(2048)];
    let tensor = of(&tensor::TENSOR_KERNEL, 3, 256, &products);
    assert_eq!((tensor.tensor_cycles, tensor.issue_cycles, tensor.traffic.pages), (1600, 200, 2));

    // 4 GiB with a line every 2 MiB: 2048 lines of 128 bytes = 256 KiB, on 2048 pages.
    let ring = [Arg::Buffer(0), Arg::U64(4 << 30), Arg::U64(2 << 20), Arg::U32(7)];
    let walk = of(&chase::CHASE, 8, 32, &ring).chain;
    assert_eq!((walk.loads, walk.warps, walk.footprint, walk.pages), (7, 8, 256 << 10, 2048));

    // 500 µs at 3 TB/s are 1.5 GB, all of it read; 132 SMs × 4 blocks.
    let read = only(&stream::HBM_READ, &H100);
    assert_eq!((read.traffic.read, read.traffic.written, read.blocks), (1_500_000_000, 0, 528));
    let copy = only(&stream::HBM_COPY, &H100);
    assert_eq!((copy.traffic.read, copy.traffic.written), (750_000_000, 750_000_000));

    // 132 SMs × 8 warps × 64 fences.
    assert_eq!(only(&order::MEMBAR_STORM, &H100).barriers, 67_584);
    // 132 SMs × 32 lanes × 512 touches, one lane in 32 of them in the chain.
    let touch = only(&translation::TLB_THRASH, &H100);
    assert_eq!(touch.traffic.page_touches + touch.chain.loads * u64::from(touch.chain.warps), 132 * 32 * 512);
    assert!(touch.chain.pages * shape::PAGE > H100.tlb_reach.0, "more pages than the TLB covers");
}

#[test]
fn examples_are_scenario_lines_with_the_defaults() {
    for w in CATALOGUE {
        let table: toml::Table = render::example(w).parse().unwrap_or_else(|e| panic!("{}: {e}", w.id));
        let panel = table.get("victim").and_then(|v| v["panel"].as_array()).into_iter().flatten();
        let neighbours = table.get("neighbour").and_then(|v| v.as_array()).into_iter().flatten();
        let entries: Vec<&toml::Value> = panel.chain(neighbours).collect();
        assert_eq!(entries.len(), if w.role == Role::Both { 2 } else { 1 });
        for entry in entries {
            let key = if entry.get("probe").is_some() { "probe" } else { "noise" };
            assert_eq!(entry[key].as_str(), Some(w.id));
            let given: BTreeMap<String, String> = entry
                .get("params")
                .and_then(|p| p.as_table())
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
                .collect();
            assert_eq!(resolve(w, &given), Ok(with_defaults(w)), "{}", w.id);
        }
    }
}

#[test]
fn the_page_of_the_catalogue_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/workloads.md");
    let page = markdown();
    for w in CATALOGUE {
        assert!(page.contains(&format!("\n## {}\n", w.id)) && page.contains(&render::example(w)), "{}", w.id);
        assert!(table().lines().any(|line| line.split_whitespace().next() == Some(w.id)));
    }
    if std::env::var_os("CROSSTALK_BLESS").is_some() {
        std::fs::write(path, &page).expect("docs/ can be written");
    }
    let found = std::fs::read_to_string(path).expect("docs/workloads.md is there");
    assert!(found == page, "docs/workloads.md is not what the catalogue says: CROSSTALK_BLESS=1 cargo test workload");
}

#[test]
fn json_names_its_format_and_every_workload() {
    let json = to_json();
    assert_eq!((json["format"].as_str(), json["version"].as_u64()), (Some("crosstalk-workloads"), Some(1)));
    let ids: Vec<_> = json["workloads"].as_array().expect("a list").iter().map(|w| w["id"].as_str()).collect();
    assert_eq!(ids, CATALOGUE.iter().map(|w| Some(w.id)).collect::<Vec<_>>());
    assert_eq!(json["workloads"][6]["channels"][0], "tlb");
}

#[test]
fn the_guide_shows_code_that_is_there() {
    let root = env!("CARGO_MANIFEST_DIR");
    let guide = std::fs::read_to_string(format!("{root}/docs/adding-a-workload.md")).expect("the guide is there");
    let sources: Vec<String> = std::fs::read_dir(format!("{root}/src/workload"))
        .expect("sources")
        .map(|entry| std::fs::read_to_string(entry.expect("entry").path()).expect("text"))
        .collect();
    let blocks: Vec<&str> = guide.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 3, "the guide shows a kernel, a workload and its line in the catalogue");
    for block in blocks {
        assert!(sources.iter().any(|source| source.contains(block)), "no source has this:\n{block}");
    }
}
