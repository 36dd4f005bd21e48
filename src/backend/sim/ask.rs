//! What the simulator can tell of an arrangement: what follows from where the two tenants hang in the tree of domains, from
//! the model's data, and from what NVIDIA documents of its driver. Each rule names its source; what no source tells is untold,
//! and no figure is made up.

use crate::gpu::{GpuModel, capability_major};
use crate::machine::Topology;
use crate::observation::layout_change::room;
use crate::observation::{
    ACCOUNTING, ALL_REDUCE, IPC, LAYOUT_CHANGE, METRICS, Observation, Observed, PEER_ACCESS, VISIBILITY,
};
use crate::plan::{Grid, PlannedArrangement};
use crate::reconfigure::placed;
use crate::scenario::SharingMode;
use crate::sharing::{gpu_instances, one_process};

/// First generation with counters by GPU instance: GPM (NVML API reference, nvmlGpmMigSampleGet: Hopper and newer).
const GPM_FROM: u32 = 9;

/// An arrangement as asked of.
pub(super) struct Scene<'a> {
    pub(super) planned: &'a PlannedArrangement,
    pub(super) grid: &'a Grid,
    pub(super) topology: &'a Topology,
    pub(super) model: &'a GpuModel,
}

/// How near the first neighbour is to the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Near {
    /// On another GPU.
    OtherGpu,
    /// In another GPU instance.
    OtherInstance,
    /// In another compute instance of the same GPU instance.
    OtherCompute,
    /// On the same device, in a process of its own.
    SameDevice,
    /// In the same process.
    SameProcess,
}

impl Scene<'_> {
    /// `None`: the neighbour touches no GPU.
    fn near(&self) -> Option<Near> {
        let mode = self.planned.sharing;
        let neighbour = *self.grid.neighbour_seats.first()?;
        if mode == SharingMode::Exclusive {
            return None;
        }
        let context = |seat: usize| self.topology.contexts.get(seat);
        let (a, b) = (context(self.grid.victim)?, context(neighbour)?);
        let domain = |compute: usize| self.topology.computes.get(compute).map(|c| c.domain);
        let gpu = |compute: usize| domain(compute).and_then(|d| self.topology.domains.get(d)).map(|d| d.gpu);
        Some(if gpu(a.compute) != gpu(b.compute) {
            Near::OtherGpu
        } else if domain(a.compute) != domain(b.compute) {
            Near::OtherInstance
        } else if a.compute != b.compute {
            Near::OtherCompute
        } else if one_process(mode) {
            Near::SameProcess
        } else {
            Near::SameDevice
        })
    }

    /// Whether the two are clients of an MPS server.
    fn mps(&self) -> bool {
        matches!(self.planned.sharing, SharingMode::Mps | SharingMode::MigMps)
    }
}

/// What is known of `observation` there.
pub(super) fn ask(scene: &Scene<'_>, observation: &Observation) -> Observed {
    let Some(near) = scene.near() else { return observation.unknown("no neighbour is on a GPU here") };
    if observation == &PEER_ACCESS {
        peer_access(near)
    } else if observation == &IPC {
        ipc(near, scene.mps())
    } else if observation == &ALL_REDUCE {
        ALL_REDUCE.unknown(
            "the simulator has no libnccl; NCCL refuses two ranks on one GPU from 2.5 on (NVIDIA/nccl issue 418), is not supported \
             with MIG (NVIDIA MIG User Guide), and runs there in its newest releases as an experiment (issue 1716)",
        )
    } else if observation == &VISIBILITY {
        visibility(scene)
    } else if observation == &ACCOUNTING {
        accounting(scene, near)
    } else if observation == &METRICS {
        metrics(scene, near)
    } else if observation == &LAYOUT_CHANGE {
        layout_change(scene)
    } else {
        observation.unknown("this backend cannot tell")
    }
}

fn peer_access(near: Near) -> Observed {
    match near {
        Near::SameDevice | Near::SameProcess => PEER_ACCESS.told("same-device", "both seats have one device", []),
        Near::OtherInstance | Near::OtherCompute => PEER_ACCESS.unknown(
            "it depends on the driver, which is not simulated: instances of one GPU are peers from R570 on, and none are before \
             (NVIDIA MIG User Guide, Application Considerations)",
        ),
        Near::OtherGpu => PEER_ACCESS.unknown("between GPUs it depends on the node's PCIe switches and NVLink"),
    }
}

fn ipc(near: Near, mps: bool) -> Observed {
    match near {
        Near::SameProcess => IPC.unknown("victim and neighbour live in one process: to the driver they are one"),
        Near::SameDevice if mps => IPC.unknown("whether clients of an MPS server map each other's memory only a card tells"),
        Near::SameDevice => IPC.told(
            "supported",
            "processes on one device map each other's allocations (CUDA C++ Programming Guide, Interprocess Communication)",
            [],
        ),
        Near::OtherCompute => IPC.told(
            "supported",
            "CUDA IPC is supported across compute instances of a GPU instance (NVIDIA MIG User Guide, Application \
             Considerations)",
            [],
        ),
        Near::OtherInstance => IPC.told(
            "refused",
            "CUDA IPC is not supported across GPU instances (NVIDIA MIG User Guide, Application Considerations)",
            [],
        ),
        Near::OtherGpu => IPC.unknown("between GPUs it depends on whether they reach each other's memory"),
    }
}

fn visibility(scene: &Scene<'_>) -> Observed {
    if !scene.planned.sharing.needs_mig() {
        return VISIBILITY.told("whole-gpu", "without MIG a process sees the whole GPU, however it names it", []);
    }
    let most = scene.topology.computes.iter().map(|compute| compute.sms).max().map(f64::from);
    let figures = [("most_sms", most), ("gpu_sms", Some(f64::from(scene.model.sm.count)))];
    VISIBILITY.told(
        "one-instance",
        "on a GPU in MIG mode a process enumerates instances alone, and lands on one where it names none (NVIDIA MIG User Guide, \
         CUDA Visible Devices)",
        figures,
    )
}

fn accounting(scene: &Scene<'_>, near: Near) -> Observed {
    const BY_PROCESS: &str = "nvmlDeviceGetProcessUtilization";
    if scene.planned.sharing.needs_mig() {
        return ACCOUNTING.told(
            "does-not-tell",
            format!("{BY_PROCESS} is not supported on a GPU in MIG mode (NVML API reference)"),
            [],
        );
    }
    match near {
        Near::SameProcess => {
            ACCOUNTING.told("does-not-tell", "victim and neighbour live in one process, which has one account", [])
        }
        _ if scene.mps() => ACCOUNTING.unknown("whose account the work of MPS clients goes to only a card tells"),
        _ => ACCOUNTING.told(
            "tells",
            format!(
                "{BY_PROCESS} gives each process its part of the time (NVML API reference, Maxwell and newer); how well that \
                 agrees with known shares only a card tells"
            ),
            [],
        ),
    }
}

fn metrics(scene: &Scene<'_>, near: Near) -> Observed {
    if scene.planned.sharing.needs_mig() {
        let gpm = capability_major(&scene.model.compute_capability).is_some_and(|major| major >= GPM_FROM);
        return match near {
            Near::OtherInstance if gpm => METRICS.told(
                "per-tenant",
                "GPM counts each GPU instance by itself (NVML API reference, nvmlGpmMigSampleGet: Hopper and newer); NVML has no \
                 utilisation of a MIG device or of processes in one",
                [],
            ),
            _ => METRICS.told(
                "device-only",
                "NVML has no utilisation of a MIG device or of processes in one (NVML API reference), and no counters that tell \
                 these two apart; a DCGM is not simulated",
                [],
            ),
        };
    }
    match near {
        Near::OtherGpu => METRICS.told("per-tenant", "each tenant's GPU has telemetry of its own", []),
        Near::SameProcess => METRICS.told("device-only", "victim and neighbour live in one process, on one device", []),
        _ if scene.mps() => METRICS.unknown("whose account the work of MPS clients goes to only a card tells"),
        _ => METRICS.told(
            "per-tenant",
            "nvmlDeviceGetProcessUtilization gives each process its part of the time (NVML API reference); utilisation and memory \
             are of the device",
            [],
        ),
    }
}

fn layout_change(scene: &Scene<'_>) -> Observed {
    if !scene.planned.sharing.needs_mig() {
        return LAYOUT_CHANGE.unknown("MIG is off here: there is no layout to change");
    }
    let parts = gpu_instances(scene.planned.sharing, &scene.planned.layout, scene.model).ok();
    let Some(parts) = parts.and_then(|wanted| placed(scene.model, &wanted).ok()) else {
        return LAYOUT_CHANGE.unknown("the data of this model do not place the layout");
    };
    let in_use =
        "an instance with a running process is not destroyed (NVML API reference, nvmlComputeInstanceDestroy: in use)";
    match room(scene.model, &parts) {
        Some(extra) => LAYOUT_CHANGE.told(
            "in-place",
            format!(
                "there is room for {extra}, and in MIG mode instances come and go without a reset (NVIDIA MIG User Guide, \
                 Deployment Considerations); {in_use}; what the victim feels of it only a card tells"
            ),
            [],
        ),
        None => LAYOUT_CHANGE.told("refused", format!("no place is free for another instance, and {in_use}"), []),
    }
}
