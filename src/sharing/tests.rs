use super::*;
use crate::gpu::{Instance, find_model, models, parse_layout, simulated};
use crate::machine::Policy;
use crate::scenario::SharingMode::*;
use crate::units::Share;
use proptest::prelude::*;

fn model(id: &str) -> &'static GpuModel {
    find_model(id).unwrap()
}

fn h100() -> &'static GpuModel {
    model("h100-sxm")
}

/// A simulated H100, with MIG on in this layout or off.
fn gpu(layout: Option<&str>) -> Gpu {
    let layout = layout.map(|text| parse_layout(h100(), text).unwrap());
    simulated(h100(), layout.as_deref()).gpus.remove(0)
}

fn entry(profile: &str, tenants: u32) -> LayoutEntry {
    LayoutEntry { profile: Some(profile.to_owned()), tenants, ..flat::PLAIN }
}

fn sms(percent: u32) -> LayoutEntry {
    LayoutEntry { sms: Some(Share::percent(percent)), ..flat::PLAIN }
}

fn reserved(percent: u32) -> LayoutEntry {
    LayoutEntry { reserved: true, ..sms(percent) }
}

/// Resolves a layout on an H100 and builds its tree.
fn arrange(mode: SharingMode, layout: &[LayoutEntry]) -> (Vec<LayoutEntry>, Vec<Seat>, Topology) {
    let (layout, seats) = resolve(mode, Some(layout), &gpu(None), Some(h100())).unwrap();
    let tree = topology(mode, &layout, &seats, h100()).unwrap();
    (layout, seats, tree)
}

/// What is wrong with a layout on an H100.
fn error(mode: SharingMode, layout: &[LayoutEntry]) -> String {
    resolve(mode, Some(layout), &gpu(None), Some(h100())).unwrap_err().to_string()
}

fn ids(seats: &[Seat]) -> Vec<&str> {
    seats.iter().map(|s| s.id.as_str()).collect()
}

#[test]
fn mig_3g_3g_halves_memory_and_bandwidth_and_shares_the_gpu() {
    let (layout, seats, t) = arrange(Mig, &[entry("3g.40gb", 1), entry("3g.40gb", 1)]);
    assert_eq!(ids(&seats), ["0", "1"]);
    assert_eq!((t.gpus.len(), t.domains.len(), t.contexts.len()), (1, 2, 2));
    assert!(t.gpus[0].mig);
    let d = t.domains[0];
    // 4 of 8 memory slices: half of 50 MiB, of 3 TB/s, and of 5120 B × 1980 MHz.
    assert_eq!((d.sms, d.l2_bytes, d.hbm_bandwidth), (60, 25 << 20, 1_500_000_000_000));
    assert_eq!((d.l2_bandwidth, d.copy_engines), (5_068_800_000_000, 3));
    assert_eq!(victim_places(&layout, &seats), [0]);
    assert!(own_share(Mig, &layout, &seats, 1, 0));
    let v = view(&t, 1, h100());
    assert_eq!((v.sms, v.memory), (60, Bytes::mib(40448 - 326)));
}

#[test]
fn flat_modes_default_to_two_equal_tenants() {
    for mode in [Streams, GreenContexts, TimeSlicing, Mps, SeparateGpus] {
        let (layout, seats) = resolve(mode, None, &gpu(None), Some(h100())).unwrap();
        assert_eq!((layout.len(), ids(&seats)), (2, vec!["0", "1"]), "{mode}");
        assert_eq!(victim_places(&layout, &seats), [0], "{mode}");
    }
    let (layout, _) = resolve(Mps, None, &gpu(None), Some(h100())).unwrap();
    assert_eq!(layout[1].sms, Some(Share::percent(50)));
}

#[test]
fn mps_percentages_are_caps_on_one_domain() {
    let (layout, seats, t) = arrange(Mps, &[sms(50), LayoutEntry { memory: Some(Bytes::gib(20)), ..sms(75) }]);
    assert_eq!((seats[0].share.as_str(), seats[1].share.as_str()), ("50 % of SMs", "75 % of SMs, 20GiB"));
    // Caps may sum to more than the whole.
    assert_eq!((t.contexts[0].sms, t.contexts[1].sms), (SmShare::Cap(66), SmShare::Cap(99)));
    assert_eq!(t.computes[0].policy, Policy::Concurrent);
    assert_eq!(t.contexts[0].process, t.contexts[1].process, "one server, one fault domain");
    assert_eq!((view(&t, 0, h100()).sms, view(&t, 0, h100()).memory), (66, Bytes::mib(81559 - 2 * 326)));
    assert_eq!(view(&t, 1, h100()).memory, Bytes::gib(20));
    assert!(!own_share(Mps, &layout, &seats, 1, 0), "a cap is no promise");
}

#[test]
fn static_mps_partitions_are_reserved_in_whole_chunks() {
    // 50 % of 132 is 66, in chunks of 8: 64. 25 % is 33: 32.
    let (layout, seats, t) = arrange(Mps, &[reserved(50), reserved(25)]);
    assert_eq!((t.contexts[0].sms, t.contexts[1].sms), (SmShare::Own(64), SmShare::Own(32)));
    assert!(own_share(Mps, &layout, &seats, 1, 0));
    let e = error(Mps, &[reserved(60), reserved(60)]);
    assert!(e.contains("120 %") && e.contains("for example 50%"), "{e}");
    // Rounding up to a chunk of 8 would hand out 20 × 8 of 132 SMs.
    let tiny = [LayoutEntry { tenants: 20, ..reserved(1) }];
    let (layout, seats) = resolve(Mps, Some(&tiny), &gpu(None), Some(h100())).unwrap();
    let e = topology(Mps, &layout, &seats, h100()).unwrap_err().to_string();
    assert!(e.contains("at least 7 %"), "{e}");
    assert!(error(Mps, &[reserved(50), sms(50)]).contains("for all of its clients or for none"));
    assert!(error(Mps, &[LayoutEntry { sms: None, ..reserved(50) }, reserved(50)]).contains("needs `sms`"));
}

#[test]
fn green_contexts_own_their_sms_and_share_out_the_rest() {
    let (layout, seats, t) = arrange(GreenContexts, &[sms(50), flat::PLAIN, flat::PLAIN]);
    assert_eq!(layout[1].sms, Some(Share::percent(25)));
    assert_eq!(seats[2].share, "25 % of SMs");
    assert_eq!((t.contexts[0].sms, t.contexts[2].sms), (SmShare::Own(64), SmShare::Own(32)));
    assert!(t.contexts.iter().all(|c| c.process == 0));
    assert!(one_process(GreenContexts) && one_process(Streams) && !one_process(Mps));
    assert!(error(GreenContexts, &[sms(60), sms(60)]).contains("at most 100 %"));
    assert!(error(GreenContexts, &[sms(100), flat::PLAIN]).contains("leave nothing"));
    // 5 % of 132 SMs are 6, fewer than 8.
    let (layout, seats) = resolve(GreenContexts, Some(&[sms(5), sms(95)]), &gpu(None), Some(h100())).unwrap();
    let e = topology(GreenContexts, &layout, &seats, h100()).unwrap_err().to_string();
    assert!(e.contains("at least 7 %"), "{e}");
}

#[test]
fn time_slicing_takes_turns_on_everything() {
    let (_, seats, t) = arrange(TimeSlicing, &[LayoutEntry { tenants: 4, ..flat::PLAIN }]);
    assert_eq!(ids(&seats), ["0", "1", "2", "3"]);
    assert_eq!(t.computes[0].policy, Policy::TimeSliced);
    let processes: Vec<usize> = t.contexts.iter().map(|c| c.process).collect();
    assert_eq!(processes, [0, 1, 2, 3]);
    assert_eq!((view(&t, 3, h100()).sms, view(&t, 3, h100()).memory), (132, Bytes::mib(81559 - 4 * 326)));
}

#[test]
fn exclusive_has_a_victim_and_a_host_loop() {
    let (layout, seats) = resolve(Exclusive, None, &gpu(None), Some(h100())).unwrap();
    assert_eq!(seats[1].share, "host loop only");
    assert_eq!(victim_places(&layout, &seats), [0], "the host loop is no victim");
    assert_eq!(topology(Exclusive, &layout, &seats, h100()).unwrap().contexts.len(), 2);
    assert!(error(Exclusive, &[LayoutEntry { tenants: 3, ..flat::PLAIN }]).contains("time-slicing"));
}

#[test]
fn separate_gpus_share_nothing_on_the_device() {
    let (_, seats, t) = arrange(SeparateGpus, &[flat::PLAIN]);
    assert_eq!(seats.len(), 2, "the neighbour has a GPU too");
    assert_eq!((t.gpus.len(), t.domains.len()), (2, 2));
    assert_ne!(
        t.domains[t.computes[t.contexts[0].compute].domain].gpu,
        t.domains[t.computes[t.contexts[1].compute].domain].gpu
    );
}

#[test]
fn time_slicing_nests_inside_one_instance() {
    let (layout, seats, t) = arrange(MigTimeSlicing, &[entry("3g.40gb", 2), entry("3g.40gb", 1)]);
    assert_eq!(ids(&seats), ["0.0", "0.1", "1"]);
    assert_eq!(t.domains.len(), 2);
    let computes: Vec<usize> = t.contexts.iter().map(|c| c.compute).collect();
    assert_eq!(computes, [0, 0, 1]);
    assert_eq!(t.computes[0].policy, Policy::TimeSliced);
    // Alone and in company are two kinds of place.
    assert_eq!(victim_places(&layout, &seats), [0, 2]);
    assert!(!own_share(MigTimeSlicing, &layout, &seats, 1, 0), "in turns with the victim");
    assert!(own_share(MigTimeSlicing, &layout, &seats, 2, 0), "an instance of its own");
}

#[test]
fn mps_nests_with_caps_of_its_instance_and_a_server_each() {
    let half = LayoutEntry { sms: Some(Share::percent(50)), ..entry("3g.40gb", 2) };
    let (_, seats, t) = arrange(MigMps, &[half.clone(), entry("3g.40gb", 2)]);
    assert_eq!(seats[0].share, "50 % of SMs of 3g.40gb");
    // Half of 60.
    assert_eq!((t.contexts[0].sms, t.contexts[2].sms), (SmShare::Cap(30), SmShare::All));
    let processes: Vec<usize> = t.contexts.iter().map(|c| c.process).collect();
    assert_eq!(processes, [0, 0, 1, 1]);
    let e = error(MigMps, &[LayoutEntry { memory: Some(Bytes::gib(60)), ..half }]);
    assert!(e.contains("40448MiB"), "the instance's memory, not its parent's: {e}");
}

#[test]
fn compute_instances_share_all_but_their_sms() {
    let (layout, seats, t) = arrange(MigComputeInstances, &[entry("1c.3g.40gb", 1), entry("2c.3g.40gb", 1)]);
    assert_eq!(ids(&seats), ["0", "1"]);
    assert_eq!((t.domains.len(), t.computes.len()), (1, 2));
    // One compute slice has the 16 SMs of a 1g.
    assert_eq!((t.computes[0].sms, t.computes[1].sms), (16, 32));
    assert_eq!(view(&t, 0, h100()).memory, Bytes::mib(40448 - 2 * 326));
    assert!(!own_share(MigComputeInstances, &layout, &seats, 1, 0));

    let (layout, seats, t) = arrange(MigComputeInstances, &[entry("3g.40gb", 3), entry("3g.40gb", 1)]);
    assert_eq!(ids(&seats), ["0.0", "0.1", "0.2", "1"]);
    assert_eq!((seats[0].share.as_str(), seats[3].share.as_str()), ("1c.3g.40gb", "3g.40gb"));
    assert_eq!((t.domains.len(), t.computes[3].sms), (2, 60));
    assert_eq!(victim_places(&layout, &seats), [0, 3]);

    // Two of 2c do not fit into three slices: the second begins another GPU instance.
    let (_, _, t) = arrange(MigComputeInstances, &[entry("1c.3g.40gb", 3), entry("2c.3g.40gb", 1)]);
    assert_eq!((t.domains.len(), t.computes[3].domain), (2, 1));
    assert!(error(MigComputeInstances, &[entry("5c.3g.40gb", 2)]).contains("1c, 2c, 3c"));
    assert!(error(MigComputeInstances, &[entry("1g.10gb", 2)]).contains("too few"));
    assert!(error(MigComputeInstances, &[entry("3g.40gb", 1), entry("3g.40gb", 1)]).contains("two compute instances"));
}

#[test]
fn mig_as_found_takes_the_instances_that_are_there() {
    let (layout, seats) = resolve(Mig, None, &gpu(Some("all-balanced")), Some(h100())).unwrap();
    let shares: Vec<&str> = seats.iter().map(|s| s.share.as_str()).collect();
    assert_eq!(shares, ["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"]);
    assert_eq!(victim_places(&layout, &seats), [0, 1, 2]);
    let (_, seats) = resolve(MigTimeSlicing, None, &gpu(Some("3g.40gb")), Some(h100())).unwrap();
    assert_eq!(ids(&seats), ["0.0", "0.1"]);
}

#[test]
fn what_is_missing_as_found_is_said_in_different_words() {
    let found = |mode, gpu: &Gpu| resolve(mode, None, gpu, Some(h100())).unwrap_err().to_string();
    let off = gpu(None);
    assert!(found(Mig, &off).contains("MIG is off on"));
    let mut bare = gpu(Some("3g.40gb+3g.40gb"));
    bare.instances.clear();
    assert!(found(Mig, &bare).contains("has no GPU instance"));
    let mut headless = gpu(Some("3g.40gb+3g.40gb"));
    headless.instances[1].uuid.clear();
    assert!(found(Mig, &headless).contains("no compute instance"));
    let mut twins = gpu(Some("3g.40gb+3g.40gb"));
    let first = twins.instances[0].clone();
    twins.instances[0].profile = "1c.3g.40gb".to_owned();
    twins.instances[1] = Instance { uuid: "MIG-other".to_owned(), profile: "2c.3g.40gb".to_owned(), ..first };
    assert!(found(Mig, &twins).contains("two compute instances of one GPU instance"));
    assert!(found(MigTimeSlicing, &twins).contains("mig-compute-instances"));
    let (_, seats) = resolve(MigComputeInstances, None, &twins, Some(h100())).unwrap();
    assert_eq!(seats.len(), 2);
    let elsewhere = gpu(Some("all-balanced")).instances.pop().unwrap();
    twins.instances.push(Instance { start: Some(6), ..elsewhere });
    let (_, seats) = resolve(MigComputeInstances, None, &twins, Some(h100())).unwrap();
    assert_eq!(seats.len(), 2, "one alone in its GPU instance is no compute instance beside another");
    assert!(found(MigComputeInstances, &gpu(Some("3g.40gb+3g.40gb"))).contains("use sharing = \"mig\""));
    assert!(found(Mig, &gpu(Some("3g.40gb"))).contains("two seats"));
}

#[test]
fn the_simulator_divides_the_largest_instance_where_none_is_divided() {
    let made = |layout| made_of_found(MigComputeInstances, &gpu(layout), Some(h100()));
    assert_eq!(made(Some("all-balanced")), Some(vec![entry("3g.40gb", 2)]));
    assert_eq!(made(Some("1g.10gb+1g.10gb")), None, "one compute slice cannot be divided");
    assert_eq!(made(None), None, "there is nothing to divide");
    assert_eq!(made_of_found(Mig, &gpu(Some("all-balanced")), Some(h100())), None, "instances are there or not");
}

#[test]
fn an_unknown_model_can_only_be_tested_as_found() {
    let mut found = gpu(Some("3g.40gb+3g.40gb"));
    found.model = None;
    let on = |layout: Option<&[LayoutEntry]>| resolve(Mig, layout, &found, None);
    assert_eq!(on(None).unwrap().1.len(), 2);
    assert_eq!(on(Some(&[entry("3g.40gb", 1), entry("3g.40gb", 1)])).unwrap().1.len(), 2);
    let e = on(Some(&[entry("3g.40gb", 1), entry("1g.10gb", 1)])).unwrap_err().to_string();
    assert!(e.contains("3g.40gb, 3g.40gb"), "{e}");
}

#[test]
fn keys_of_another_mode_are_refused_with_the_mode_that_takes_them() {
    assert!(error(TimeSlicing, &[entry("3g.40gb", 2)]).contains("sharing = \"mig\""));
    assert!(error(TimeSlicing, &[sms(50), sms(50)]).contains("mps, green-contexts"));
    assert!(error(GreenContexts, &[reserved(50), reserved(50)]).contains("under mps"));
    assert!(error(Streams, &[LayoutEntry { memory: Some(Bytes::gib(1)), ..flat::PLAIN }]).contains("mps and mig+mps"));
    assert!(error(Mig, &[flat::PLAIN, flat::PLAIN]).contains("needs a profile"));
    assert!(error(Mig, &[entry("3g.40gb", 2)]).contains("mig+time-slicing"));
    assert!(error(Mig, &[entry("1c.3g.40gb", 1), entry("3g.40gb", 1)]).contains("mig-compute-instances"));
    assert!(error(TimeSlicing, &[flat::PLAIN]).contains("two seats"));
    assert!(error(TimeSlicing, &[]).contains("empty"));
    assert!(error(TimeSlicing, &[LayoutEntry { tenants: 0, ..flat::PLAIN }]).contains("at least 1"));
    assert!(error(TimeSlicing, &[LayoutEntry { tenants: u32::MAX, ..flat::PLAIN }]).contains("more than 64"));
    assert!(error(Mps, &[LayoutEntry { tenants: 50, ..flat::PLAIN }]).contains("at most 48"));
    assert!(error(Mps, &[sms(150), sms(50)]).contains("at most at 100 %"));
    assert!(
        error(Mps, &[LayoutEntry { memory: Some(Bytes::gib(100)), ..flat::PLAIN }, flat::PLAIN]).contains("81559MiB")
    );
}

#[test]
fn an_illegal_mig_layout_comes_with_the_nearest_legal_one() {
    let e = error(Mig, &[entry("3g.40gb", 1), entry("3g.40gb", 1), entry("1g.10gb", 1)]);
    assert!(e.contains("3g.40gb + 2g.20gb + 1g.10gb"), "{e}");
    // Seats keep the order of the scenario; instances are created largest first.
    let (_, seats, _) =
        arrange(Mig, &[entry("1g.10gb", 1), entry("1g.10gb", 1), entry("2g.20gb", 1), entry("3g.40gb", 1)]);
    assert_eq!(seats[3].share, "3g.40gb");
    let t4 = simulated(model("t4"), None).gpus.remove(0);
    for mode in SharingMode::ALL.iter().filter(|m| m.needs_mig()) {
        for layout in [None, Some([entry("3g.40gb", 2)])] {
            let e = resolve(*mode, layout.as_ref().map(|l| l.as_slice()), &t4, Some(model("t4"))).unwrap_err();
            assert!(e.to_string().contains("has no MIG"), "{mode}: {e}");
        }
    }
}

#[test]
fn what_the_data_lack_is_said_and_not_made_up() {
    let b200 = model("b200");
    let gpu = simulated(b200, None).gpus.remove(0);
    let layout = [entry("3g.90gb", 1), entry("3g.90gb", 1)];
    let (layout, seats) = resolve(Mig, Some(&layout), &gpu, Some(b200)).unwrap();
    let e = topology(Mig, &layout, &seats, b200).unwrap_err().to_string();
    assert!(e.contains("SMs of 3g.90gb on b200 is unknown"), "{e}");
}

fn any_entry(m: &'static GpuModel) -> impl Strategy<Value = LayoutEntry> {
    let profiles: Vec<Option<String>> =
        m.mig.iter().flat_map(|mig| &mig.profiles).map(|p| Some(p.name.clone())).chain([None]).collect();
    let percent = proptest::option::of((1u32..=100).prop_map(Share::percent));
    let memory = proptest::option::of((1u64..40).prop_map(Bytes::gib));
    (proptest::sample::select(profiles), percent, any::<bool>(), memory, 1u32..4)
        .prop_map(|(profile, sms, reserved, memory, tenants)| LayoutEntry { profile, sms, reserved, memory, tenants })
}

/// A mode, a model, and a layout of which the keys that the mode refuses are left out, so that many are legal.
fn any_arrangement() -> impl Strategy<Value = (SharingMode, &'static GpuModel, Vec<LayoutEntry>)> {
    let modes = proptest::sample::select(SharingMode::ALL);
    let models = proptest::sample::select(models().iter().collect::<Vec<_>>());
    (modes, models, any::<bool>()).prop_flat_map(|(mode, m, reserved)| {
        proptest::collection::vec(any_entry(m), 1..5).prop_map(move |mut layout| {
            for e in &mut layout {
                if !mode.needs_mig() {
                    e.profile = None;
                }
                if !matches!(mode, Mps | GreenContexts | MigMps) {
                    e.sms = None;
                }
                if !matches!(mode, Mps | MigMps) {
                    e.memory = None;
                }
                if mode == Mig {
                    e.tenants = 1;
                }
                e.reserved = mode == Mps && reserved;
            }
            (mode, m, layout)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_arrangement_hands_out_more_than_there_is((mode, m, layout) in any_arrangement()) {
        let gpu = simulated(m, None).gpus.remove(0);
        let Ok((layout, seats)) = resolve(mode, Some(&layout), &gpu, Some(m)) else { return Ok(()) };
        let mut unique = ids(&seats);
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), seats.len());
        prop_assert!(seats.is_sorted_by_key(|s| s.entry));
        let places = victim_places(&layout, &seats);
        prop_assert!(!places.is_empty() && places.is_sorted());
        // What was resolved resolves to itself.
        prop_assert_eq!(&resolve(mode, Some(&layout), &gpu, Some(m)).unwrap(), &(layout.clone(), seats.clone()));

        let Ok(t) = topology(mode, &layout, &seats, m) else { return Ok(()) };
        prop_assert_eq!(t.contexts.len(), seats.len());
        for (i, _) in t.gpus.iter().enumerate() {
            let mine = || t.domains.iter().filter(|d| d.gpu == i);
            prop_assert!(mine().map(|d| d.sms).sum::<u32>() <= m.sm.count);
            prop_assert!(mine().map(|d| d.memory).sum::<u64>() <= m.memory_mib << 20);
            prop_assert!(mine().map(|d| d.l2_bytes).sum::<u64>() <= m.l2.kib << 10);
            prop_assert!(mine().map(|d| d.copy_engines).sum::<u32>() <= m.pcie.copy_engines);
        }
        for (i, d) in t.domains.iter().enumerate() {
            prop_assert!(t.computes.iter().filter(|c| c.domain == i).map(|c| c.sms).sum::<u32>() <= d.sms);
        }
        for (i, c) in t.computes.iter().enumerate() {
            let own = |x: &crate::machine::Context| match x.sms { SmShare::Own(n) if x.compute == i => n, _ => 0 };
            prop_assert!(t.contexts.iter().map(own).sum::<u32>() <= c.sms);
        }
        for seat in 0..seats.len() {
            let v = view(&t, seat, m);
            prop_assert!(v.sms > 0 && v.memory.0 > 0 && v.l2.0 > 0 && v.hbm_bandwidth > 0);
        }
    }
}
