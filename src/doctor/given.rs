//! What a container runtime, a device plugin or a scheduler gave this process, against what the driver shows.
//!
//! NVIDIA_VISIBLE_DEVICES is read by NVIDIA's container runtime when it builds the container: a list of indices (of the
//! node, renumbered inside), UUIDs, MIG devices (UUID, or GPU:INDEX), or all, none, void. The device plugin puts UUIDs
//! into it, or, by volume mounts, a file for each below /var/run/nvidia-container-devices. Devices that come by CDI (a DRA
//! claim, podman, the plugin's CDI strategies) leave `void` there and no list (nvidia-container-toolkit,
//! internal/config/image; k8s-device-plugin, internal/plugin/server.go; dra-driver-nvidia-gpu, gpu-kubelet-plugin/cdi.go).
//! CUDA_VISIBLE_DEVICES is read by libcuda in every process (CUDA Programming Guide, "CUDA Environment Variables").

mod asked;

use std::collections::BTreeSet;

pub(crate) use asked::Asked;
use asked::{Entry, Wish, gpu_uuid};

use super::probe::CudaSurvey;
use super::trouble::branch;
use crate::gpu::{Gpu, Inventory, MigUuid, parse_mig_uuid};
use crate::nvml::Survey;

/// The branch from which a process sees one compute instance of each of several GPU instances.
const SEVERAL_INSTANCES: u32 = 570;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// What was asked for, and what is there. `None`: nobody asked for anything.
    pub(crate) summary: Option<String>,
    /// What looks odd and is as it should be.
    pub(crate) notes: Vec<String>,
    /// How many cards the given MIG devices belong to, where these are several.
    pub(crate) parents: Option<usize>,
    /// What cannot both be meant.
    pub(crate) contradictions: Vec<Contradiction>,
}

/// What was asked for is not what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction {
    /// Whether ordinals were used where MIG is on.
    pub(crate) ordinals: bool,
    /// What was asked for, and what is there.
    pub(crate) what: String,
    /// What mends it.
    pub(crate) cure: String,
}

/// A GPU of the inventory, and a MIG device of it where one is meant.
type Found = (usize, Option<usize>);

fn gpu_named(gpus: &[Gpu], beginning: &str) -> Option<usize> {
    gpus.iter().position(|g| g.uuid.to_ascii_lowercase().starts_with(beginning))
}

fn mig_named(gpus: &[Gpu], uuid: &MigUuid) -> Option<Found> {
    gpus.iter().enumerate().find_map(|(g, gpu)| Some((g, Some(gpu.instance(uuid)?))))
}

/// The GPU or the MIG device that CUDA gives this UUID, which comes without its prefix.
fn located(gpus: &[Gpu], bare: &str) -> Option<Found> {
    let is = |full: &str| full.get(4..).is_some_and(|u| u.eq_ignore_ascii_case(bare));
    gpus.iter().enumerate().find_map(|(g, gpu)| {
        let instance = gpu.instances.iter().position(|i| is(&i.uuid));
        (instance.is_some() || is(&gpu.uuid)).then_some((g, instance))
    })
}

fn uuid(gpus: &[Gpu], (gpu, instance): Found) -> &str {
    let gpu = &gpus[gpu];
    instance.map_or(&gpu.uuid, |i| &gpu.instances[i].uuid)
}

/// A MIG device with the card that it belongs to.
fn with_parent(gpus: &[Gpu], found: Found) -> String {
    let parent = found.1.map_or(String::new(), |_| format!(" of {}", gpus[found.0].uuid));
    format!("{}{parent}", uuid(gpus, found))
}

/// Every device that a process could be given: MIG devices where MIG is on, else the GPU.
fn devices(gpus: &[Gpu]) -> Vec<Found> {
    let of = |(g, gpu): (usize, &Gpu)| -> Vec<Found> {
        let instances = gpu.instances.iter().enumerate().filter(|(_, i)| !i.uuid.is_empty());
        if gpu.mig == Some(true) { instances.map(|(i, _)| (g, Some(i))).collect() } else { vec![(g, None)] }
    };
    gpus.iter().enumerate().flat_map(of).collect()
}

fn list(gpus: &[Gpu], found: impl IntoIterator<Item = Found>, or: &str) -> String {
    let names: Vec<&str> = found.into_iter().map(|f| uuid(gpus, f)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(or) }
}

/// Compares what was asked for with what NVML lists and CUDA sees.
pub(crate) fn compare(asked: &Asked, survey: &Survey, cuda: &CudaSurvey) -> Given {
    let gpus = &survey.inventory.gpus;
    // A driver that lists nothing is its own trouble.
    if gpus.is_empty() || cuda.devices.is_empty() {
        return Given::default();
    }
    let mut comparison = Comparison { asked, survey, cuda, gpus, given: Given::default() };
    comparison.runtime();
    comparison.libcuda();
    let Comparison { mut given, .. } = comparison;
    if asked.container.is_some() || asked.visible.is_some() || asked.cuda.is_some() || !asked.mounted.is_empty() {
        let sees = cuda.devices.iter().map(|d| located(gpus, &d.uuid).map_or(d.uuid.as_str(), |f| uuid(gpus, f)));
        let here = asked.container.map_or(String::new(), |c| format!("this is {c}; "));
        given.summary = Some(format!(
            "{here}asked for: {}; NVML lists {}; CUDA sees {}",
            asked.words(),
            list(gpus, devices(gpus), ", "),
            sees.collect::<Vec<_>>().join(", ")
        ));
    }
    given
}

struct Comparison<'a> {
    asked: &'a Asked,
    survey: &'a Survey,
    cuda: &'a CudaSurvey,
    gpus: &'a [Gpu],
    given: Given,
}

impl Comparison<'_> {
    fn contradicts(&mut self, what: String, cure: String) {
        self.given.contradictions.push(Contradiction { ordinals: false, what, cure });
    }

    fn missing(&mut self, what: String) {
        let cure = match self.asked.container {
            Some(_) => {
                "ask for devices that this node has (`nvidia-smi -L` there), of NVIDIA's runtime (docker: --gpus \
                 '\"device=UUID\"'; pod: runtimeClassName: nvidia and resources.limits), and let the plugin set \
                 NVIDIA_VISIBLE_DEVICES, not the manifest"
            }
            None => {
                "unset NVIDIA_VISIBLE_DEVICES: only a container runtime obeys it; CUDA_VISIBLE_DEVICES chooses here"
            }
        };
        self.contradicts(what, cure.to_owned());
    }

    fn surplus(&mut self, what: String) {
        let cure = match self.asked.container {
            Some(_) => {
                "take `privileged: true` (docker: --privileged) and mounts of /dev out of the manifest: they show every GPU \
                 of the node; or ask for all: NVIDIA_VISIBLE_DEVICES=all"
            }
            None => {
                "unset NVIDIA_VISIBLE_DEVICES: only a container runtime obeys it; CUDA_VISIBLE_DEVICES chooses here"
            }
        };
        self.contradicts(what, cure.to_owned());
    }

    /// NVIDIA_VISIBLE_DEVICES and the mounts, against NVML.
    fn runtime(&mut self) {
        let words = self.asked.words();
        match self.asked.wish() {
            Wish::Unset | Wish::All => return,
            Wish::Void => self.given.notes.push(
                "NVIDIA_VISIBLE_DEVICES=void: the devices here came by CDI (a DRA claim, podman --device, docker's CDI mode), \
                 which leaves no list of them inside; compare with `kubectl get resourceclaim -o yaml`"
                    .to_owned(),
            ),
            Wish::Nothing => {
                let visible = list(self.gpus, devices(self.gpus), ", ");
                self.surplus(format!("no GPU was asked for ({words}), and yet {visible} is visible"));
            }
            Wish::Devices(entries) if entries.is_empty() => {
                self.given.notes.push(format!("{words}, and nothing is mounted there: what was given is unknown"));
            }
            Wish::Devices(entries) => self.listed(&entries, &words),
        }
        let parents: BTreeSet<usize> =
            devices(self.gpus).into_iter().filter(|f| f.1.is_some()).map(|(gpu, _)| gpu).collect();
        self.given.parents = Some(parents.len()).filter(|n| *n > 1 && !self.asked.monitor);
    }

    fn listed(&mut self, entries: &[Entry], words: &str) {
        let gpus = self.gpus;
        let (mut found, mut missing) = (BTreeSet::new(), Vec::new());
        let (mut indices, mut mig_indices, mut others) = (BTreeSet::new(), BTreeSet::new(), 0);
        for entry in entries {
            let (named, name) = match entry {
                Entry::Gpu(beginning) => (gpu_named(gpus, beginning).map(|g| (g, None)), beginning.clone()),
                Entry::Mig(uuid) => (mig_named(gpus, uuid), uuid.to_string()),
                Entry::Index(n) => {
                    indices.insert(*n);
                    continue;
                }
                Entry::MigIndex(gpu, device) => {
                    mig_indices.insert((*gpu, *device));
                    continue;
                }
                Entry::Other(_) => {
                    others += 1;
                    continue;
                }
            };
            match named {
                Some(device) => _ = found.insert(device),
                None => missing.push(name),
            }
        }
        if others > 0 {
            self.given
                .notes
                .push(format!("{words}: not every entry is an index or a UUID, so not all could be compared"));
        }
        let visible = list(gpus, devices(gpus), ", ");
        // What a lost GPU carried cannot be told from what was never given.
        let complete = self.survey.unreadable.is_empty();
        if complete && !missing.is_empty() {
            let missing = missing.join(", ");
            self.missing(format!("{missing} was asked for ({words}) and is not visible; visible: {visible}"));
            return;
        }
        let exact = indices.is_empty() && mig_indices.is_empty() && others == 0;
        if exact {
            self.nothing_else(&found, words);
        } else if complete && found.is_empty() && others == 0 && mig_indices.is_empty() {
            self.counted("GPU(s)", indices.len(), gpus.len(), words, &visible);
        } else if complete && found.is_empty() && others == 0 && indices.is_empty() {
            let parents: BTreeSet<u32> = mig_indices.iter().map(|(gpu, _)| *gpu).collect();
            let seen = devices(gpus).iter().filter(|f| f.1.is_some()).count();
            if parents.len() != gpus.len() {
                self.counted("GPU(s) with MIG devices", parents.len(), gpus.len(), words, &visible);
            } else if !(self.asked.monitor && seen > mig_indices.len()) {
                self.counted("MIG device(s)", mig_indices.len(), seen, words, &visible);
            }
        }
        let several = mig_indices.len().max(found.iter().filter(|f| f.1.is_some()).count());
        if several > 1 && self.asked.cuda.is_none() && self.cuda.devices.len() == 1 {
            self.one_of_several(several);
        }
    }

    /// Indices are the node's and are renumbered inside: only their number can be compared.
    fn counted(&mut self, kind: &str, asked: usize, seen: usize, words: &str, visible: &str) {
        let what = format!("{asked} {kind} asked for ({words}) and {seen} visible: {visible}");
        match asked.cmp(&seen) {
            std::cmp::Ordering::Less => self.surplus(what),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => self.missing(what),
        }
    }

    /// Nothing but these is visible, and all of these are visible to CUDA.
    fn nothing_else(&mut self, found: &BTreeSet<Found>, words: &str) {
        let gpus = self.gpus;
        let covered = |(gpu, instance): Found| found.contains(&(gpu, None)) || found.contains(&(gpu, instance));
        let (watched, surplus): (Vec<Found>, Vec<Found>) = devices(gpus)
            .into_iter()
            .filter(|device| !covered(*device))
            // With the monitor's rights NVML lists every MIG device of a card; they are no one's to use.
            .partition(|(gpu, instance)| {
                self.asked.monitor && instance.is_some() && found.iter().any(|(given, _)| given == gpu)
            });
        if !watched.is_empty() {
            let names = list(gpus, watched, ", ");
            self.given.notes.push(format!("NVIDIA_MIG_MONITOR_DEVICES=all shows {names} too, which are others'"));
        }
        if !surplus.is_empty() {
            let names: Vec<String> = surplus.into_iter().map(|f| with_parent(gpus, f)).collect();
            self.surplus(format!("{} is visible and was not asked for ({words})", names.join(", ")));
            return;
        }
        if self.asked.cuda.is_some() {
            return;
        }
        let seen: Vec<Found> = self.cuda.devices.iter().filter_map(|d| located(gpus, &d.uuid)).collect();
        if let Some(stranger) = seen.iter().find(|device| !covered(**device)) {
            let stranger = with_parent(gpus, *stranger);
            self.surplus(format!("CUDA sees {stranger}, which was not asked for ({words})"));
        }
        let mig = gpus.iter().any(|g| g.mig == Some(true));
        let unseen: Vec<Found> = found.iter().copied().filter(|f| !seen.contains(f)).collect();
        if !mig && !unseen.is_empty() {
            let unseen = list(gpus, unseen, ", ");
            self.missing(format!("{unseen} was asked for ({words}), and NVML lists it and CUDA does not see it"));
        }
    }

    fn one_of_several(&mut self, several: usize) {
        let branch = self.survey.inventory.driver.as_deref().and_then(branch);
        let why = match branch {
            Some(branch) if branch >= SEVERAL_INSTANCES => "of one GPU instance a process sees one compute instance",
            _ => "before driver R570 a process sees one MIG device in all",
        };
        self.given
            .notes
            .push(format!("{several} MIG devices were given and CUDA sees one: {why}; each tenant gets its own"));
    }

    /// CUDA_VISIBLE_DEVICES, against NVML and CUDA.
    fn libcuda(&mut self) {
        let Some(value) = self.asked.cuda.clone() else { return };
        let gpus = self.gpus;
        let uuids = list(gpus, devices(gpus), " or ");
        let tokens: Vec<&str> = value.split(',').map(str::trim).collect();
        let mig = gpus.iter().any(|g| g.mig == Some(true));
        let is_ordinal = |t: &&str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if mig && devices(gpus).len() != 1 && tokens.iter().any(is_ordinal) {
            self.given.contradictions.push(Contradiction {
                ordinals: true,
                what: format!("CUDA_VISIBLE_DEVICES={value:?} names ordinals, and MIG is on"),
                cure: format!("export CUDA_VISIBLE_DEVICES with one UUID: {uuids}"),
            });
            return;
        }
        let mut named = Vec::new();
        for token in &tokens {
            // What ends a list on purpose.
            if ["-1", "NoDevFiles"].contains(token) {
                break;
            }
            let Some(device) = resolve(gpus, token) else {
                let what = format!(
                    "CUDA_VISIBLE_DEVICES={value:?}: {token:?} names nothing that is visible here, and CUDA hides it and all \
                     that follows it"
                );
                return self.contradicts(what, format!("export CUDA_VISIBLE_DEVICES={uuids}, or unset it"));
            };
            named.push(device);
        }
        let instances = || named.iter().filter_map(|d| d.filter(|f| f.1.is_some()));
        let seen: Vec<Option<Found>> = self.cuda.devices.iter().map(|d| located(gpus, &d.uuid)).collect();
        let sees = || {
            let name = |(found, device): (&Option<Found>, &crate::doctor::probe::CudaDevice)| {
                found.map_or_else(|| device.uuid.clone(), |f| with_parent(gpus, f))
            };
            seen.iter().zip(&self.cuda.devices).map(name).collect::<Vec<_>>().join(", ")
        };
        let first = instances().next();
        let what = if let Some(first) = first {
            let wholes = named.iter().any(|d| d.is_none_or(|f| f.1.is_none()));
            if wholes {
                format!("names {} beside whole GPUs, and CUDA shows that alone", uuid(gpus, first))
            } else if seen.first() != Some(&Some(first)) {
                format!("names {} first, and CUDA sees {}", with_parent(gpus, first), sees())
            } else {
                let several = instances().count();
                if several > 1 && seen.len() == 1 {
                    self.one_of_several(several);
                }
                return;
            }
        } else if mig {
            // A whole GPU in MIG mode stands for one instance of it.
            return;
        } else if named.len() != seen.len() {
            format!("names {} device(s), and CUDA sees {}: {}", named.len(), seen.len(), sees())
        } else if named.iter().zip(&seen).any(|(named, seen)| named.is_some() && named != seen) {
            format!("is in another order than what CUDA sees: {}", sees())
        } else {
            return;
        };
        let cure = format!("export CUDA_VISIBLE_DEVICES={uuids} before the process starts, or unset it");
        self.contradicts(format!("CUDA_VISIBLE_DEVICES={value:?} {what}"), cure);
    }
}

/// What an entry of CUDA_VISIBLE_DEVICES names: `Some(None)` for an index, which is one in an order of CUDA's own.
fn resolve(gpus: &[Gpu], token: &str) -> Option<Option<Found>> {
    if let Ok(uuid) = parse_mig_uuid(token) {
        return mig_named(gpus, &uuid).map(Some);
    }
    match token.parse::<usize>() {
        Ok(index) => (index < gpus.len()).then_some(None),
        Err(_) => gpu_named(gpus, &gpu_uuid(token)?).map(|gpu| Some((gpu, None))),
    }
}

/// Why a GPU, or an instance of it, is not this process's to take although NVML lists it: CUDA_VISIBLE_DEVICES leaves it
/// out. A tenant's own CUDA_VISIBLE_DEVICES would show it all the same.
pub(crate) fn withheld(
    asked: &Asked,
    inventory: &Inventory,
    cuda: &CudaSurvey,
    gpu: usize,
    instance: Option<usize>,
) -> Option<Contradiction> {
    let value = asked.cuda.as_deref()?;
    let gpus = &inventory.gpus;
    let given = if gpus.iter().any(|g| g.mig == Some(true)) {
        let named: Vec<Option<Found>> = value.split(',').filter_map(|t| resolve(gpus, t.trim())).collect();
        // An index stands for the only device that there is.
        named.iter().any(|d| d.is_none_or(|(g, i)| g == gpu && (i.is_none() || instance.is_none() || i == instance)))
    } else {
        cuda.devices.iter().any(|d| located(gpus, &d.uuid) == Some((gpu, None)))
    };
    let name = uuid(gpus, (gpu, instance));
    (!given).then(|| Contradiction {
        ordinals: false,
        what: format!("{name} is not among the devices that this process was given: CUDA_VISIBLE_DEVICES={value:?}"),
        cure: format!("take one that was given, or export CUDA_VISIBLE_DEVICES={name}"),
    })
}

#[cfg(test)]
mod tests;
