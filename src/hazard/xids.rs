//! What to expect of the driver's log and of Kubernetes before the first fault. Expectations depend on mode, part and driver:
//! they are told beforehand, and what comes is recorded.

use super::FaultKind;

/// Xids that the Kubernetes device plugin takes for a program's own: everything else leaves the GPU unhealthy, out of what
/// is handed to pods, until the plugin restarts (its default list of Xids to skip).
const SKIPPED: [u32; 6] = [13, 31, 43, 45, 68, 109];
/// Xids after which a run stops: the device is lost, or may be.
const ENDING: [u32; 5] = [79, 109, 119, 120, 154];

/// The Xids that NVIDIA's list of them has for what this fault is.
fn expected(fault: FaultKind) -> &'static [u32] {
    match fault {
        // 31: an access to memory that is not mapped.
        FaultKind::IllegalAddress => &[31],
        // 13: an exception of the SM.
        FaultKind::MisalignedAddress | FaultKind::Trap | FaultKind::StackOverflow => &[13],
        // An assertion traps; drivers call it 13, or 43, a fault that the program brought about itself.
        FaultKind::Assert => &[13, 43],
        // 45: the cleaning up after a program that ended with work in flight; 109: a context switch took too long.
        FaultKind::Endless => &[45, 109],
        FaultKind::Terminated
        | FaultKind::Interrupted
        | FaultKind::Killed
        | FaultKind::ExitDirty
        | FaultKind::ContextDestroyed => &[43, 45],
    }
}

fn meaning(xid: u32) -> &'static str {
    match xid {
        13 => "an exception of a kernel",
        31 => "an access to memory that is not mapped",
        43 => "a program's channel was reset after a fault of its own",
        45 => "what a program left in flight was cleaned up",
        _ => "a context switch took too long",
    }
}

/// Before the first of `faults`: what the GPU may report, what the Kubernetes device plugin does with each, and when the run
/// stops. A line each; none where there are no faults.
pub fn foretold(faults: &[FaultKind]) -> Vec<String> {
    let mut xids: Vec<u32> = faults.iter().flat_map(|fault| expected(*fault)).copied().collect();
    xids.sort_unstable();
    xids.dedup();
    if xids.is_empty() {
        return Vec::new();
    }
    let list = |xids: &[u32]| xids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let mut lines: Vec<String> = xids
        .iter()
        .map(|xid| {
            let of = faults.iter().filter(|fault| expected(**fault).contains(xid));
            let of: Vec<&str> = of.map(|fault| fault.id()).collect();
            let plugin = if SKIPPED.contains(xid) { "ignores it" } else { "takes the GPU for unhealthy" };
            let ends = if ENDING.contains(xid) { "; the run stops there with exit code 3" } else { "" };
            format!(
                "Xid {xid} ({}) is to be expected of {}; the Kubernetes device plugin {plugin}{ends}",
                meaning(*xid),
                of.join(", ")
            )
        })
        .collect();
    lines.push(format!(
        "any Xid but {}: the device plugin takes the GPU for unhealthy, and no pod gets it until the plugin restarts",
        list(&SKIPPED)
    ));
    lines.push(format!(
        "Xid {}, a process that no signal ends, or a driver call that hangs: the run stops with exit code 3, keeps what it \
         has, and says what the operator must do",
        list(&ENDING)
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_foretold_with_what_the_device_plugin_does() {
        for fault in FaultKind::ALL {
            let lines = foretold(&[fault]);
            assert!(lines[0].starts_with("Xid ") && lines[0].contains(fault.id()), "{lines:#?}");
            assert!(lines[0].contains("device plugin"), "{lines:#?}");
            assert!(lines.iter().any(|line| line.starts_with("any Xid but 13, 31, 43, 45, 68, 109: ")), "{lines:#?}");
        }
        assert_eq!(foretold(&[]), Vec::<String>::new());
    }

    #[test]
    fn one_line_each_for_all_faults_and_the_loss_of_the_device_is_said() {
        let lines = foretold(&FaultKind::ALL);
        assert_eq!(lines.len(), 5 + 2, "{lines:#?}");
        let of_109 = lines.iter().find(|line| line.starts_with("Xid 109 (")).unwrap();
        assert!(of_109.contains("endless") && of_109.contains("exit code 3") && of_109.contains("ignores"), "{of_109}");
        assert!(lines.last().unwrap().contains("79, 109, 119, 120, 154"), "{lines:#?}");
    }
}
