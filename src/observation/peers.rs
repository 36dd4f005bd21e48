//! Whether the devices of two tenants reach each other's memory.

use super::{By, Observation, Observed};
use crate::tenant::question::{DeviceLine, PeersSeen};
use crate::units::Nanos;

/// `peer-access`.
pub const PEER_ACCESS: Observation = Observation {
    id: "peer-access",
    what: "Whether one process may copy between the devices of the victim's and the first neighbour's seat directly.",
    findings: &[
        ("supported", "The driver lets one device reach the memory of the other."),
        ("refused", "It does not, or shows a process one of the two devices only."),
        ("same-device", "Both seats have the same device."),
    ],
    by: By::Backend { takes: Nanos::secs(5) },
};

/// Judges what a process saw that was given both devices, `given`, by their UUIDs.
pub(crate) fn judge(given: &[String; 2], seen: &PeersSeen) -> Observed {
    let devices = || seen.devices.iter().map(DeviceLine::words).collect::<Vec<_>>().join(" and ");
    let [victim, neighbour] = given;
    let Some([to, back]) = seen.can else {
        return PEER_ACCESS.told(
            "refused",
            format!(
                "a process that was given {victim} and {neighbour} sees {} of them ({}): nothing reaches what it cannot see",
                seen.devices.len(),
                devices()
            ),
            [("devices", Some(seen.devices.len() as f64))],
        );
    };
    let figures = [("devices", Some(seen.devices.len() as f64)), ("rate_gb_s", seen.bytes_per_second.map(|b| b / 1e9))];
    match (to && back, &seen.refused) {
        (true, None) => {
            PEER_ACCESS.told("supported", format!("each of {} reaches the memory of the other", devices()), figures)
        }
        (_, Some(refusal)) => PEER_ACCESS.told("refused", refusal.words(), figures),
        (false, None) => PEER_ACCESS.told(
            "refused",
            format!(
                "cuDeviceCanAccessPeer says {} from the victim's device to the neighbour's, and {} back",
                yes(to),
                yes(back)
            ),
            figures,
        ),
    }
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Both seats have the device `uuid`.
pub(crate) fn same(uuid: &str) -> Observed {
    PEER_ACCESS.told("same-device", format!("both seats have {uuid}"), [])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::question::Refusal;

    fn line(uuid: &str) -> DeviceLine {
        DeviceLine { uuid: uuid.to_owned(), name: "NVIDIA A30".to_owned(), sms: 56, memory: 1 << 30 }
    }

    #[test]
    fn two_devices_reach_each_other_or_do_not_and_one_that_is_not_seen_is_not_reached() {
        let given = ["GPU-a".to_owned(), "GPU-b".to_owned()];
        let seen = |can, refused, rate| PeersSeen {
            devices: vec![line("GPU-a"), line("GPU-b")],
            can,
            refused,
            bytes_per_second: rate,
        };
        let supported = judge(&given, &seen(Some([true, true]), None, Some(25e9)));
        assert_eq!((supported.finding.as_deref(), supported.figures["rate_gb_s"]), (Some("supported"), 25.0));
        let one_way = judge(&given, &seen(Some([true, false]), None, None));
        assert_eq!(one_way.finding.as_deref(), Some("refused"));
        assert!(one_way.why.contains("and no back") && !one_way.figures.contains_key("rate_gb_s"), "{one_way:?}");
        let call =
            Refusal { call: "cuCtxEnablePeerAccess".to_owned(), what: "CUDA error 217".to_owned(), code: Some(217) };
        let refused = judge(&given, &seen(Some([true, true]), Some(call), None));
        assert!(refused.finding.as_deref() == Some("refused") && refused.why.contains("217"), "{refused:?}");
        let unseen = PeersSeen { devices: vec![line("MIG-a")], can: None, refused: None, bytes_per_second: None };
        let unseen = judge(&given, &unseen);
        assert!(unseen.finding.as_deref() == Some("refused") && unseen.why.contains("sees 1 of them"), "{unseen:?}");
        assert_eq!(same("GPU-a").finding.as_deref(), Some("same-device"));
    }
}
