#!/usr/bin/env python3
"""Reads the stand-in's libnvidia-ml through NVIDIA's own Python client, and says what it found.

    pip install nvidia-ml-py==13.615.71
    cargo build --examples
    scripts/check_nvml.py                      a machine of its own: an H100 and a divided A100, and what must hold there
    scripts/check_nvml.py FOLDER               whatever libraries and stand-in.toml that folder holds; prints only

Fails with a message where a call fails, or where a figure is not what the configuration says.
"""

import ctypes
import os
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = """
driver = "570.86.15"
cuda = "12.8"

[[gpu]]
model = "h100-sxm"
uuid = "GPU-11111111-2222-8333-8444-555555555555"
serial = "1650000000001"
power_w = 123.5
temperature_c = 41
sm_mhz = 1755
clock_events = 0x20
ecc_corrected = 3
pcie_width = 8
pcie_replays = 7
remapped = { corrected = 1, uncorrected = 2, pending = true }
gpm_metrics = [{ metric = 10, value = 37.5 }]
processes = [
  { pid = 4000001, name = "python3", memory_mib = 2048 },
  { pid = 4000002, name = "Xorg", memory_mib = 16, kind = "graphics" },
]

[[gpu]]
model = "a100-80gb"
mig = ["3g.40gb", "1c.3g.40gb", "2c.3g.40gb"]

[[gpu]]
model = "h100-sxm"
mig = ["4g.40gb", "3g.40gb"]
gpm_metrics = [{ metric = 10, value = 12.5, gpu_instance = 2 }]
"""


def machine(folder: pathlib.Path) -> None:
    """Libraries and configuration in `folder`."""
    built = ROOT / "target" / os.environ.get("PROFILE", "debug") / "examples" / "libnvidia_ml.so"
    if not built.exists():
        sys.exit(f"{built} is missing: run `cargo build --examples`")
    (folder / "libnvidia-ml.so.1").symlink_to(built)
    (folder / "stand-in.toml").write_text(CONFIG)


def text(value) -> str:
    return value.decode() if isinstance(value, bytes) else value


def optional(nvml, call, *args):
    """The value, or None where the library says that there is none."""
    try:
        return call(*args)
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_NO_PERMISSION):
            return None
        raise


def describe(nvml, device) -> dict:
    """Everything that an inventory and a sampler ask."""
    found = {
        "name": text(nvml.nvmlDeviceGetName(device)),
        "uuid": text(nvml.nvmlDeviceGetUUID(device)),
        "memory": nvml.nvmlDeviceGetMemoryInfo(device).total,
        "memory v2": nvml.nvmlDeviceGetMemoryInfo(device, version=nvml.nvmlMemory_v2).total,
        "used": nvml.nvmlDeviceGetMemoryInfo(device).used,
        "capability": nvml.nvmlDeviceGetCudaComputeCapability(device),
        "architecture": nvml.nvmlDeviceGetArchitecture(device),
        "bus": text(nvml.nvmlDeviceGetPciInfo(device).busId),
        "processes": [
            (p.pid, p.usedGpuMemory, text(nvml.nvmlSystemGetProcessName(p.pid)))
            for p in nvml.nvmlDeviceGetComputeRunningProcesses(device)
        ],
        "graphics": [p.pid for p in nvml.nvmlDeviceGetGraphicsRunningProcesses(device)],
        "mps": [p.pid for p in nvml.nvmlDeviceGetMPSComputeRunningProcesses(device)],
    }
    for key, call, *args in [
        ("serial", nvml.nvmlDeviceGetSerial),
        ("sm clock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
        ("memory clock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
        ("highest sm clock", nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
        ("power", nvml.nvmlDeviceGetPowerUsage),
        ("limit", nvml.nvmlDeviceGetEnforcedPowerLimit),
        ("temperature", nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
        ("events", nvml.nvmlDeviceGetCurrentClocksEventReasons),
        ("ecc", nvml.nvmlDeviceGetEccMode),
        ("corrected", nvml.nvmlDeviceGetTotalEccErrors, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_VOLATILE_ECC),
        ("remapped", nvml.nvmlDeviceGetRemappedRows),
        ("pcie", nvml.nvmlDeviceGetCurrPcieLinkGeneration),
        ("width", nvml.nvmlDeviceGetCurrPcieLinkWidth),
        ("replays", nvml.nvmlDeviceGetPcieReplayCounter),
        ("persistence", nvml.nvmlDeviceGetPersistenceMode),
        ("compute mode", nvml.nvmlDeviceGetComputeMode),
        ("mig", nvml.nvmlDeviceGetMigMode),
        ("utilization", nvml.nvmlDeviceGetUtilizationRates),
        ("minor", nvml.nvmlDeviceGetMinorNumber),
        ("affinity", nvml.nvmlDeviceGetCpuAffinity, 1),
    ]:
        found[key] = optional(nvml, call, device, *args)
    return found


def mig_devices(nvml, device) -> list:
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        try:
            mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index)
        except nvml.NVMLError_NotFound:
            continue
        attributes = nvml.nvmlDeviceGetAttributes_v2(mig)
        found.append(
            {
                "name": text(nvml.nvmlDeviceGetName(mig)),
                "uuid": text(nvml.nvmlDeviceGetUUID(mig)),
                "memory": nvml.nvmlDeviceGetMemoryInfo(mig).total,
                "sms": attributes.multiprocessorCount,
                "instance": (nvml.nvmlDeviceGetGpuInstanceId(mig), nvml.nvmlDeviceGetComputeInstanceId(mig)),
                "utilization": optional(nvml, nvml.nvmlDeviceGetUtilizationRates, mig),
            }
        )
    return found


def gpm(nvml, device, instance=None):
    """Shares in percent over a moment, by metric: of the whole GPU or of one instance; None where it has no such counters."""
    if not nvml.nvmlGpmQueryDeviceSupport(device).isSupportedDevice:
        return None
    request = nvml.c_nvmlGpmMetricsGet_t()
    request.version = nvml.NVML_GPM_METRICS_GET_VERSION
    samples = [nvml.nvmlGpmSampleAlloc() for _ in range(2)]
    request.sample1, request.sample2 = samples
    for sample in samples:
        if instance is None:
            nvml.nvmlGpmSampleGet(device, sample)
        else:
            nvml.nvmlGpmMigSampleGet(device, instance, sample)
        time.sleep(0.01)
    asked = [nvml.NVML_GPM_METRIC_SM_UTIL, nvml.NVML_GPM_METRIC_DRAM_BW_UTIL, nvml.NVML_GPM_METRIC_FP64_UTIL]
    request.numMetrics = len(asked)
    for metric, number in zip(request.metrics, asked):
        metric.metricId = number
    nvml.nvmlGpmMetricsGet(request)
    for sample in samples:
        nvml.nvmlGpmSampleFree(sample)
    return [metric.value if metric.nvmlReturn == 0 else None for metric, _ in zip(request.metrics, asked)]


def must(what: str, found, expected) -> None:
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")


def refused(nvml, what: str, error, call, *args) -> None:
    try:
        call(*args)
    except error:
        return
    sys.exit(f"{what}: was done, expected {error.__name__}")


def divide(nvml, device, instances: list) -> None:
    """Destroys the first GPU instance, and creates it again at its place."""
    profile = nvml.nvmlDeviceGetGpuInstanceProfileInfo(device, nvml.NVML_GPU_INSTANCE_PROFILE_3_SLICE)
    must("the name of a profile", text(profile.name), "MIG 3g.40gb")
    must("the driver's id of a profile", profile.id, 9)
    gi, ci = instances[0]["instance"]
    instance = nvml.nvmlDeviceGetGpuInstanceById(device, gi)
    place = nvml.nvmlGpuInstanceGetInfo(instance).placement
    create = (nvml.nvmlDeviceCreateGpuInstanceWithPlacement, device, profile.id, ctypes.byref(place))
    refused(nvml, "a third half", nvml.NVMLError_InsufficientResources, *create)
    refused(nvml, "an instance with a device", nvml.NVMLError_InUse, nvml.nvmlGpuInstanceDestroy, instance)
    nvml.nvmlComputeInstanceDestroy(nvml.nvmlGpuInstanceGetComputeInstanceById(instance, ci))
    nvml.nvmlGpuInstanceDestroy(instance)
    must("MIG devices without it", len(mig_devices(nvml, device)), len(instances) - 1)
    made = create[0](*create[1:])
    must("its place", nvml.nvmlGpuInstanceGetInfo(made).placement.start, place.start)
    compute = nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(
        made, nvml.NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE, nvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED, version=1
    )
    nvml.nvmlGpuInstanceCreateComputeInstance(made, compute.id)
    now = mig_devices(nvml, device)
    must("names", sorted(i["name"] for i in now), sorted(i["name"] for i in instances))
    must("UUIDs that are left", len({i["uuid"] for i in now} & {i["uuid"] for i in instances}), len(instances) - 1)


def main() -> None:
    given = sys.argv[1] if len(sys.argv) > 1 else None
    if "CROSSTALK_STAND_IN" not in os.environ or "LD_LIBRARY_PATH" not in os.environ:
        # The loader reads LD_LIBRARY_PATH once, so that this script starts itself anew.
        with tempfile.TemporaryDirectory() as made:
            folder = pathlib.Path(given or made)
            if given is None:
                machine(folder)
            env = dict(os.environ, CROSSTALK_STAND_IN=str(folder), LD_LIBRARY_PATH=str(folder))
            sys.exit(os.spawnve(os.P_WAIT, sys.executable, [sys.executable, *sys.argv], env))

    import pynvml as nvml

    nvml.nvmlInit()
    print("driver", text(nvml.nvmlSystemGetDriverVersion()), "cuda", nvml.nvmlSystemGetCudaDriverVersion())
    gpus = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    found = []
    for gpu in gpus:
        found.append((describe(nvml, gpu), mig_devices(nvml, gpu)))
        for key, value in found[-1][0].items():
            print(f"  {key}: {value}")
        for device in found[-1][1]:
            print(f"  {device}")
    if given is not None:
        return

    must("driver", text(nvml.nvmlSystemGetDriverVersion()), "570.86.15")
    must("CUDA", nvml.nvmlSystemGetCudaDriverVersion(), 12080)
    (h100, none), (a100, instances), (_, halves) = found
    must("MIG devices of the H100", none, [])
    expected = {
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": "GPU-11111111-2222-8333-8444-555555555555",
        "serial": "1650000000001",
        "memory": 81559 << 20,
        "memory v2": 81559 << 20,
        "used": 2064 << 20,
        "capability": (9, 0),
        "processes": [(4000001, 2048 << 20, "python3")],
        "graphics": [4000002],
        "mps": [],
        "power": 123500,
        "limit": 700000,
        "temperature": 41,
        "sm clock": 1755,
        "highest sm clock": 1980,
        "events": 0x21,
        "ecc": [1, 1],
        "corrected": 3,
        "pcie": 5,
        "width": 8,
        "replays": 7,
        "remapped": (1, 2, 1, 0),
        "mig": [0, 0],
    }
    for key, value in expected.items():
        got = h100[key]
        same = list(got) == list(value) if isinstance(value, (tuple, list)) and got is not None else got == value
        if not same:
            sys.exit(f"{key} of the H100: found {got!r}, expected {value!r}")
    must("MIG mode of the A100", list(a100["mig"]), [1, 1])
    must("utilisation under MIG", a100["utilization"], None)
    must("MIG devices", len(instances), 3)
    must("compute instances in one GPU instance", instances[1]["instance"][0], instances[2]["instance"][0])
    must("SMs", [i["sms"] for i in instances], [42, 14, 28])
    must("names", instances[1]["name"], "NVIDIA A100-SXM4-80GB MIG 1c.3g.40gb")
    if not instances[0]["memory"] < a100["memory"] / 2 + 1:
        sys.exit("the memory of an instance is its parent's")
    for device in instances:
        handle = nvml.nvmlDeviceGetHandleByUUID(device["uuid"])
        must("device by UUID", text(nvml.nvmlDeviceGetUUID(handle)), device["uuid"])
        parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        must("its parent", text(nvml.nvmlDeviceGetUUID(parent)), a100["uuid"])
    must("counters of the H100", gpm(nvml, gpus[0]), [0.0, 37.5, None])
    must("counters of the A100", gpm(nvml, gpus[1]), None)
    for half in halves:
        number = half["instance"][0]
        must(f"counters of instance {number}", gpm(nvml, gpus[2], number), [0.0, 12.5 if number == 2 else None, None])
    divide(nvml, gpus[1], instances)
    nvml.nvmlShutdown()
    print("NVIDIA's client reads what the configuration says")


if __name__ == "__main__":
    main()
