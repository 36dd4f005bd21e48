"""NVIDIA's compilers from PyPI, at pinned versions, in a virtual environment of their own.

The folder is $CROSSTALK_CUDA_TOOLS, or target/cuda-tools. It is made where it is missing. Where that cannot be done (no
network, no pip), a script fails if CI is set and else says so and leaves with 0.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"

# Drivers from R520 on accept what NVRTC 11.8 writes (PTX ISA 7.8), from R525 on what 12.0 writes (8.0).
NVRTC = ["nvidia-cuda-nvrtc-cu11==11.8.89", "nvidia-cuda-nvrtc-cu12==12.0.140"]
# Today's compiler and what it needs beside it, of one release.
NVCC = [
    "nvidia-cuda-nvcc==13.5.37",
    "nvidia-nvvm==13.5.37",
    "nvidia-cuda-crt==13.5.37",
    "nvidia-cuda-runtime==13.5.37",
    "nvidia-cuda-cccl==13.3.5.0.6",
    "nvidia-cuda-cuobjdump==13.5.37",
    "nvidia-cuda-nvdisasm==13.5.37",
]


def missing(why):
    """Ends the script: a failure in CI, a visible skip elsewhere."""
    if os.environ.get("CI"):
        sys.exit(f"{Path(sys.argv[0]).name}: {why}")
    print(f"SKIPPED {Path(sys.argv[0]).name}: {why}")
    sys.exit(0)


def packages(wanted):
    """The `nvidia` folder of site-packages of an environment that holds `wanted`."""
    home = Path(os.environ.get("CROSSTALK_CUDA_TOOLS") or ROOT / "target" / "cuda-tools")
    python = home / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        found = subprocess.run([str(python), "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout.split()
        absent = [w for w in wanted if w not in found]
        if absent:
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run(pip + absent, check=True)
        where = subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as e:
        missing(f"cannot install {' '.join(wanted)} into {home}: {e}")
    return Path(where.stdout.strip()) / "nvidia"


def header(source):
    """The machine-readable lines at the head of a kernel: (key, value), in order."""
    lines = []
    for line in source.read_text().splitlines():
        if not line.startswith("//"):
            return lines
        key, colon, value = line[2:].strip().partition(": ")
        if colon and key in ("ptx", "archs", "registers", "stack", "sass", "sass-not", "sass-count", "sass-chain"):
            lines.append((key, value.strip()))
    return lines


def only(source, key):
    """The value of a line that every kernel has once."""
    values = [value for k, value in header(source) if k == key]
    if len(values) != 1:
        sys.exit(f"{source.relative_to(ROOT)}: its header needs one line `// {key}: …`, and has {len(values)}")
    return values[0]


def sources():
    """Every kernel, in order of its name."""
    return sorted(KERNELS.glob("*.cu"))
