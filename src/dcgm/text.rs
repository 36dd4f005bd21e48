//! Prometheus' text format, as far as an exporter of DCGM's uses it. What does not parse is passed over: another line may.

use std::collections::BTreeMap;

use crate::backend::{DcgmReading, DcgmValue};

/// What is kept, by DCGM's names. Parts of a whole are 0 … 1, traffic bytes/s, memory MiB, clocks MHz, power watts,
/// temperature °C (DCGM field identifiers; dcgm-exporter's default-counters.csv and dcp-metrics-included.csv).
const KEPT: [&str; 19] = [
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_PROF_SM_ACTIVE",
    "DCGM_FI_PROF_SM_OCCUPANCY",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_PROF_DRAM_ACTIVE",
    "DCGM_FI_PROF_PCIE_TX_BYTES",
    "DCGM_FI_PROF_PCIE_RX_BYTES",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_MEM_CLOCK",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE",
];

/// DCGM's values for "not there", "not supported" and the like lie from these on: 32-bit, floating, 64-bit (dcgm_fields.h,
/// DCGM_*_BLANK). Nothing that is kept comes near.
const BLANKS: [std::ops::Range<f64>; 3] =
    [2_147_483_632.0..2_147_483_648.0, 140_737_488_355_328.0..140_737_488_355_344.0, 9.2e18..f64::INFINITY];

/// Instances that a GPU can have, and then some: a text that names more is no exporter's.
const MOST: usize = 64;

/// What `body` says of the whole GPU `uuid` and of its instances, in order of their ids, the whole GPU first.
pub(super) fn readings(body: &[u8], uuid: &str) -> Vec<DcgmReading> {
    let mut found: BTreeMap<Option<u32>, BTreeMap<&str, f64>> = BTreeMap::new();
    for line in body.split(|byte| *byte == b'\n') {
        let Some(sample) = std::str::from_utf8(line).ok().and_then(sample) else { continue };
        let ours = sample.labels.iter().any(|(name, value)| *name == "UUID" && value.eq_ignore_ascii_case(uuid));
        let Some(instance) = sample.instance().filter(|_| ours) else { continue };
        if found.len() < MOST || found.contains_key(&instance) {
            // The same figure comes once for every container that has the device.
            found.entry(instance).or_default().entry(sample.name).or_insert(sample.value);
        }
    }
    let value = |(name, value): (&str, f64)| DcgmValue { name: name.to_owned(), value };
    let reading = |(gpu_instance, values): (_, BTreeMap<&str, f64>)| DcgmReading {
        gpu_instance,
        values: values.into_iter().map(value).collect(),
    };
    found.into_iter().map(reading).collect()
}

/// One line that is kept.
struct Sample<'a> {
    name: &'static str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl Sample<'_> {
    /// Whose it is: `Some(None)` is the whole GPU; `None`: nobody can tell.
    fn instance(&self) -> Option<Option<u32>> {
        match self.labels.iter().find(|(name, _)| *name == "GPU_I_ID").map(|(_, id)| id.as_str()) {
            None | Some("") => Some(None),
            Some(id) => id.parse().ok().map(Some),
        }
    }
}

/// `NAME{LABEL="VALUE",…} NUMBER [TIME]`, where the name is kept and the number is one.
fn sample(line: &str) -> Option<Sample<'_>> {
    let (name, rest) = line.trim().split_once('{')?;
    let name = KEPT.into_iter().find(|kept| *kept == name.trim_end())?;
    let (labels, rest) = labels(rest)?;
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    let known = value.is_finite() && !BLANKS.iter().any(|blanks| blanks.contains(&value));
    known.then_some(Sample { name, labels, value })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((found, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = quoted(rest.trim_start().strip_prefix('"')?)?;
        found.push((name.trim(), value));
        text = rest;
    }
}

/// The text up to the closing quotation mark, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52";

    type Values = Vec<(String, f64)>;

    fn read(body: &str) -> Vec<(Option<u32>, Values)> {
        let all = readings(body.as_bytes(), GPU);
        all.into_iter().map(|r| (r.gpu_instance, r.values.into_iter().map(|v| (v.name, v.value)).collect())).collect()
    }

    fn one(name: &str, value: f64) -> Values {
        vec![(name.to_owned(), value)]
    }

    #[test]
    fn figures_are_kept_by_gpu_and_instance() {
        let other = "GPU-00000000-d9cf-fef3-62e9-d92044ab6e52";
        let body = format!(
            "# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).\n# TYPE DCGM_FI_DEV_SM_CLOCK gauge\n\
             DCGM_FI_DEV_SM_CLOCK{{gpu=\"0\",UUID=\"{GPU}\",device=\"nvidia0\",Hostname=\"n1\"}} 1980\n\
             DCGM_FI_DEV_SM_CLOCK{{gpu=\"1\",UUID=\"{other}\",device=\"nvidia1\",Hostname=\"n1\"}} 345\n\
             DCGM_FI_PROF_SM_ACTIVE{{gpu=\"0\",UUID=\"{GPU}\",GPU_I_PROFILE=\"3g.40gb\",GPU_I_ID=\"2\"}} 0.25\n\
             DCGM_FI_PROF_SM_ACTIVE{{gpu=\"0\",UUID=\"{}\",GPU_I_PROFILE=\"3g.40gb\",GPU_I_ID=\"1\"}} 0.75 1700000000000\n\
             DCGM_FI_PROF_SM_ACTIVE{{gpu=\"0\",UUID=\"{GPU}\",GPU_I_ID=\"1\",pod=\"second\"}} 0.75\r\n\
             go_goroutines 12\n",
            GPU.to_uppercase()
        );
        assert_eq!(
            read(&body),
            [
                (None, one("DCGM_FI_DEV_SM_CLOCK", 1980.0)),
                (Some(1), one("DCGM_FI_PROF_SM_ACTIVE", 0.75)),
                (Some(2), one("DCGM_FI_PROF_SM_ACTIVE", 0.25)),
            ]
        );
    }

    #[test]
    fn what_dcgm_does_not_know_is_absent() {
        for blank in ["9223372036854775794", "140737488355328", "140737488355330.0", "2147483632", "NaN", "+Inf", "-"] {
            assert_eq!(read(&format!("DCGM_FI_DEV_FB_USED{{UUID=\"{GPU}\"}} {blank}\n")), [], "{blank}");
        }
        assert_eq!(
            read(&format!("DCGM_FI_DEV_FB_USED{{UUID=\"{GPU}\"}} 0\n")),
            [(None, one("DCGM_FI_DEV_FB_USED", 0.0))]
        );
    }

    #[test]
    fn labels_may_hold_anything() {
        let hostile = "} 7\\n\\\"quoted\\\" \\\\ = , { \u{1b}[2J ünï";
        let body = format!("DCGM_FI_DEV_FB_USED{{pod=\"{hostile}\",UUID=\"{GPU}\",GPU_I_ID=\"\"}} 5\n");
        assert_eq!(read(&body), [(None, one("DCGM_FI_DEV_FB_USED", 5.0))]);
        // A label's value is no UUID of its own, and an id that is none names nobody.
        let told = format!("DCGM_FI_DEV_FB_USED{{pod=\"UUID=\\\"{GPU}\\\"\",UUID=\"GPU-1\"}} 5\n");
        assert_eq!(read(&told), []);
        for id in ["-1", "1\\n2", "99999999999", "<<<NULL>>>"] {
            assert_eq!(read(&format!("DCGM_FI_DEV_FB_USED{{UUID=\"{GPU}\",GPU_I_ID=\"{id}\"}} 5\n")), [], "{id}");
        }
    }

    #[test]
    fn torn_lines_and_garbage_cost_nobody_else() {
        let good = format!("DCGM_FI_DEV_FB_USED{{UUID=\"{GPU}\"}} 5\n");
        for bad in [
            "DCGM_FI_DEV_FB_USED",
            "DCGM_FI_DEV_FB_USED{",
            "DCGM_FI_DEV_FB_USED{UUID",
            "DCGM_FI_DEV_FB_USED{UUID=\"GPU-604",
            "DCGM_FI_DEV_FB_USED{UUID=\"x\\",
            "DCGM_FI_DEV_FB_USED{UUID=\"x\"}",
            "DCGM_FI_DEV_FB_USED 5",
            "{}{}{}",
        ] {
            assert_eq!(read(&format!("{bad}\n{good}")).len(), 1, "{bad}");
        }
        let binary = [&b"\xff\xfe\0\n"[..], good.as_bytes()].concat();
        assert_eq!(readings(&binary, GPU).len(), 1);
        let many: String =
            (0..1_000).map(|id| format!("DCGM_FI_DEV_FB_USED{{UUID=\"{GPU}\",GPU_I_ID=\"{id}\"}} 5\n")).collect();
        assert_eq!(readings(many.as_bytes(), GPU).len(), MOST);
    }
}
