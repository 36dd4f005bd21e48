//! Orders: the handshake, loading, what is refused and in which words.

use super::*;
use crate::cuda::CudaError;

fn refused(change: impl FnOnce(&mut Load)) -> Failed {
    let mut order = load(&[("launch", &[])]);
    change(&mut order);
    let mut tenant = Controller::greeted(0);
    match tenant.ask(&Order::Load(order)) {
        Reply::Failed(failed) => failed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_speaks_another_version_or_garbage_is_told_so() {
    let mut other = Controller::start(0, fake::driver);
    let reply = other.ask(&Order::Hello { protocol: PROTOCOL + 1, crosstalk: "9".to_owned() });
    assert!(matches!(reply, Reply::Hello { protocol: PROTOCOL, .. }), "it says its own version");
    assert!(matches!(other.hang_up(), Err(TenantError::Version(v)) if v == PROTOCOL + 1));

    let mut garbage = Controller::start(0, fake::driver);
    garbage.say("GET / HTTP/1.1\n");
    let error = garbage.hang_up().unwrap_err().to_string();
    assert!(error.contains("GET / HTTP"), "{error}");

    let mut rude = Controller::start(0, fake::driver);
    rude.say("{\"quiet\":{}}\n");
    assert!(matches!(rude.hang_up(), Err(TenantError::Order(_))));
}

#[test]
fn what_is_held_is_freed_when_nobody_speaks_any_more() {
    let _fake = fake::take();
    let (tenant, loaded) = Controller::holding(0, load(&[("h2d", &[]), ("alloc", &[])]));
    let device = loaded.device.unwrap();
    assert_eq!((device.uuid.as_str(), device.sms, device.cuda), (fake::UUID, 8, 12_080));
    assert_eq!(loaded.programs.iter().map(|p| p.rows).collect::<Vec<_>>(), [1, 1]);
    assert!(loaded.programs[0].resolved.contains("copy 1.00 MiB to the device"), "{}", loaded.programs[0].resolved);
    assert_eq!(loaded.threads, 1);
    assert!(fake::state().allocated() > 0);
    tenant.hang_up().unwrap();
    assert_eq!(fake::state().allocated(), 0);
}

#[test]
fn every_workload_of_the_catalogue_loads_as_probe_and_as_noise() {
    let _fake = fake::take();
    for arena in [false, true] {
        for workload in crate::workload::CATALOGUE {
            // A cycle is made on the host, line by line.
            let small: &[(&str, &str)] = if workload.id == "hbm-chase" { &[("footprint", "256MiB")] } else { &[] };
            let mut order = load(&[(workload.id, small)]);
            order.arena = arena;
            let (mut tenant, loaded) = Controller::holding(0, order);
            assert!(!loaded.programs[0].resolved.is_empty());
            assert_eq!(tenant.ask(&Order::End {}), Reply::Ended {}, "{}", workload.id);
            tenant.hang_up().unwrap();
        }
    }
    assert_eq!(fake::state().allocated(), 0);
    let split: Vec<_> = fake::state().split.iter().copied().collect();
    assert_eq!(split, ["chase_l1", "l1_read"], "shared memory of others is not taken away");
}

#[test]
fn nothing_runs_before_the_default_stream_has_written_what_it_reads() {
    let _fake = fake::take();
    let chase: (&str, &[(&str, &str)]) = ("hbm-chase", &[("footprint", "256MiB")]);
    for arena in [false, true] {
        let mut order = load(&[chase, ("h2d", &[]), ("l2-chase", &[])]);
        order.arena = arena;
        let (tenant, _) = Controller::holding(0, order);
        tenant.hang_up().unwrap();
    }
    let state = fake::state();
    assert!(state.calls["cuMemsetD8_v2"] > 0 && state.calls["cuMemcpyHtoD_v2"] > 0);
    assert_eq!(state.raced, 0, "a fill or a copy was still under way");
}

#[test]
fn a_device_that_is_not_the_one_ordered_is_refused() {
    let _fake = fake::take();
    let other = refused(|load| load.device = Some("GPU-02020202-0202-0202-0202-020202020202".to_owned()));
    assert!(other.what.contains(fake::UUID) && other.usable, "{other:?}");
}

#[test]
fn a_driver_that_cannot_be_loaded_or_says_no_is_told_in_words() {
    let _fake = fake::take();
    let mut tenant = Controller::start(0, || Err(CudaError::other("libcuda", "no such library: install the driver")));
    tenant.ask(&Order::Hello { protocol: PROTOCOL, crosstalk: String::new() });
    let Reply::Failed(absent) = tenant.ask(&Order::Load(load(&[("launch", &[])]))) else { panic!() };
    assert!(absent.what.contains("install the driver") && absent.code.is_none());

    for (call, code, words) in [
        ("cuInit", 803, "reload the module"),
        ("cuInit", 802, "fabric manager"),
        ("cuInit", 9_999, "CUDA error 9999"),
        ("cuModuleLoadDataEx", 222, "R520"),
        ("cuMemAlloc_v2", 2, "not enough free memory"),
    ] {
        fake::state().fails = Some((call, 0, code));
        let failed = refused(|_| {});
        assert!(failed.what.contains(words) && failed.code == Some(code), "{call} {code}: {failed:?}");
    }
}

#[test]
fn a_tenant_without_a_device_takes_the_hosts_loop_alone() {
    let _fake = fake::take();
    let mut order = load(&[("idle", &[])]);
    order.device = None;
    let (_tenant, loaded) = Controller::holding(0, order);
    assert_eq!((loaded.device, loaded.tick), (None, None));
    for workload in ["launch", "alloc"] {
        let failed = refused(|load| {
            load.device = None;
            load.programs[0].workload = workload.to_owned();
        });
        assert!(failed.what.contains(workload), "{failed:?}");
    }
    assert!(fake::state().calls.is_empty(), "no call to the driver");
}

#[test]
fn a_wrong_result_of_the_first_request_is_a_failure() {
    let _fake = fake::take();
    fake::state().right = Some(1 + 64);
    let failed = refused(|load| load.programs[0].workload = "l2-chase".to_owned());
    assert!(failed.what.contains("the result is wrong"), "{failed:?}");
}

#[test]
fn nothing_loaded_runs_nothing() {
    let mut tenant = Controller::greeted(1);
    let failed = tenant.window(window()).unwrap_err();
    assert!(failed.what.contains("nothing is loaded") && failed.usable);
}
