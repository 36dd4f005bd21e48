use super::*;
use crate::gpu::{find_model, parse_layout, simulated};
use crate::units::Share;

fn h100() -> &'static GpuModel {
    find_model("h100-sxm").unwrap()
}

fn gpu(layout: Option<&str>) -> Gpu {
    let layout = layout.map(|text| parse_layout(h100(), text).unwrap());
    simulated(h100(), layout.as_deref()).gpus.remove(0)
}

fn entry(profile: &str, tenants: u32) -> LayoutEntry {
    LayoutEntry { profile: Some(profile.to_owned()), tenants, ..flat::PLAIN }
}

#[test]
fn mig_3g_3g_halves_memory_and_bandwidth_and_shares_the_gpu() {
    let layout = [entry("3g.40gb", 1), entry("3g.40gb", 1)];
    let (layout, seats) = resolve(SharingMode::Mig, Some(&layout), &gpu(None), Some(h100())).unwrap();
    assert_eq!(seats.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["0", "1"]);
    let t = topology(SharingMode::Mig, &layout, &seats, h100()).unwrap();
    assert_eq!((t.gpus.len(), t.domains.len(), t.contexts.len()), (1, 2, 2));
    assert!(t.gpus[0].mig);
    let d = t.domains[0];
    // 4 of 8 memory slices.
    assert_eq!((d.sms, d.l2_bytes, d.hbm_bandwidth), (60, 25 << 20, 1_500_000_000_000));
    assert_eq!(victim_places(&layout, &seats), [0]);
    assert!(promises_own_share(SharingMode::Mig, &layout));
    let v = view(&t, 1, h100());
    assert_eq!((v.sms, v.memory), (60, Bytes::mib(40448 - 326)));
}

#[test]
fn flat_modes_default_to_two_equal_tenants() {
    let (layout, seats) = resolve(SharingMode::Mps, None, &gpu(None), Some(h100())).unwrap();
    assert_eq!(layout[1].sms, Some(Share::percent(50)));
    assert_eq!(seats[1].share, "50 % of SMs");
    let t = topology(SharingMode::Mps, &layout, &seats, h100()).unwrap();
    assert_eq!(t.contexts[1].sms, SmShare::Cap(66));
    assert_eq!(view(&t, 0, h100()).sms, 66);
    assert_eq!(view(&t, 0, h100()).memory, Bytes::mib(81559 - 2 * 326));
    let (layout, seats) = resolve(SharingMode::TimeSlicing, None, &gpu(None), Some(h100())).unwrap();
    let t = topology(SharingMode::TimeSlicing, &layout, &seats, h100()).unwrap();
    assert_eq!(t.computes[0].policy, crate::machine::Policy::TimeSliced);
    assert_eq!(view(&t, 1, h100()).sms, 132);
}
