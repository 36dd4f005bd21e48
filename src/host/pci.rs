//! What two PCI devices share on their way to the processors.

use std::path::Path;

/// What two PCI devices have in common, by sysfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Common {
    /// The last bridge that both are behind: a switch, or a root port; `None`: they meet at the root complex or beyond.
    pub(crate) bridge: Option<String>,
    /// Both hang on one root complex.
    pub(crate) root: bool,
    /// Their NUMA nodes, where the machine tells.
    pub(crate) nodes: [Option<u32>; 2],
}

/// What the devices at the addresses `a` and `b` share, below `sys` (`/sys`); `None` where it does not list both.
pub(crate) fn common(sys: &Path, a: &str, b: &str) -> Option<Common> {
    let device = |address: &str| sys.join("bus/pci/devices").join(address);
    // The real path names every bridge: /sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0.
    let steps = |address: &str| -> Option<Vec<String>> {
        let path = device(address).canonicalize().ok()?;
        let names = path.components().map(|c| c.as_os_str().to_string_lossy().into_owned());
        Some(names.skip_while(|name| !name.starts_with("pci")).collect())
    };
    let (first, second) = (steps(a)?, steps(b)?);
    let shared: Vec<&String> = first.iter().zip(&second).take_while(|(x, y)| x == y).map(|(x, _)| x).collect();
    let node = |address: &str| {
        let text = std::fs::read_to_string(device(address).join("numa_node")).ok()?;
        // −1: the firmware does not say.
        text.trim().parse().ok()
    };
    Some(Common {
        bridge: shared.get(1..).and_then(<[_]>::last).map(|name| (*name).clone()),
        root: !shared.is_empty(),
        nodes: [node(a), node(b)],
    })
}

impl std::fmt::Display for Common {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.bridge, self.root) {
            (Some(bridge), _) => write!(f, "both behind the PCI bridge {bridge}")?,
            (None, true) => f.write_str("on one PCIe root complex, behind no common switch")?,
            (None, false) => f.write_str("on different PCIe root complexes")?,
        }
        match self.nodes {
            [Some(a), Some(b)] if a == b => write!(f, ", on NUMA node {a}"),
            [Some(a), Some(b)] => write!(f, ", on NUMA nodes {a} and {b}"),
            _ => f.write_str(", on NUMA nodes that the machine does not tell"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A /sys with devices at these paths below /sys/devices.
    fn machine(devices: &[(&str, &str)]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let links = sys.path().join("bus/pci/devices");
        std::fs::create_dir_all(&links).unwrap();
        for (path, node) in devices {
            let device = sys.path().join("devices").join(path);
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("numa_node"), node).unwrap();
            std::os::unix::fs::symlink(&device, links.join(device.file_name().unwrap())).unwrap();
        }
        sys
    }

    #[test]
    fn a_switch_a_root_complex_and_nothing_are_told_apart() {
        let sys = machine(&[
            ("pci0000:40/0000:40:01.1/0000:41:00.0/0000:42:00.0/0000:43:00.0", "1\n"),
            ("pci0000:40/0000:40:01.1/0000:41:00.0/0000:42:01.0/0000:44:00.0", "1\n"),
            ("pci0000:40/0000:40:03.1/0000:45:00.0", "1\n"),
            ("pci0000:80/0000:80:01.1/0000:81:00.0", "-1\n"),
        ]);
        let say = |a, b| common(sys.path(), a, b).map(|c| c.to_string());
        assert_eq!(
            say("0000:43:00.0", "0000:44:00.0").as_deref(),
            Some("both behind the PCI bridge 0000:41:00.0, on NUMA node 1")
        );
        assert!(say("0000:43:00.0", "0000:45:00.0").is_some_and(|s| s.starts_with("on one PCIe root complex")));
        assert_eq!(
            say("0000:43:00.0", "0000:81:00.0").as_deref(),
            Some("on different PCIe root complexes, on NUMA nodes that the machine does not tell")
        );
        assert_eq!(say("0000:43:00.0", "0000:99:00.0"), None);
    }
}
