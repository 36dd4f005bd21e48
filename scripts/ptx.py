#!/usr/bin/env python3
"""Compiles kernels/*.cu to kernels/ptx/*.ptx with NVRTC at pinned versions; --check compares instead of writing.

The output is the same byte for byte wherever it is made. A kernel's header says what it is compiled for.
"""

import argparse
import ctypes
import os
import sys

import cuda_tools

# What each target is compiled by, and the PTX ISA that this gives.
TARGETS = {
    "compute_70": ("libnvrtc.so.11.2", "7.8"),
    "compute_80": ("libnvrtc.so.11.2", "7.8"),
    "compute_90a": ("libnvrtc.so.12", "8.0"),
}


class Nvrtc:
    """One version of NVRTC."""

    def __init__(self, nvidia, name):
        folder = nvidia / "cuda_nvrtc" / "lib"
        # NVRTC opens its builtins by name: load them first, so that no search path is needed.
        for builtins in sorted(folder.glob("libnvrtc-builtins.so*")):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        try:
            self.lib = ctypes.CDLL(str(folder / name))
        except OSError as e:
            cuda_tools.missing(f"cannot load {name}: {e}")
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(self, function, *args):
        code = getattr(self.lib, function)(*args)
        return None if code == 0 else f"{function}: {self.lib.nvrtcGetErrorString(code).decode()}"

    def text(self, what, program):
        """`what` is PTX or ProgramLog."""
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer.value.decode()

    def compile(self, source, headers, target):
        program = ctypes.c_void_p()
        count = len(headers)
        texts = (ctypes.c_char_p * count)(*(h.read_bytes() for h in headers))
        names = (ctypes.c_char_p * count)(*(h.name.encode() for h in headers))
        # Sources by name and content, never by path: a path would end in the output.
        error = self.call(
            "nvrtcCreateProgram", ctypes.byref(program), source.read_bytes(), source.name.encode(), count, texts, names
        )
        options = [f"--gpu-architecture={target}", "--std=c++17"]
        array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        error = error or self.call("nvrtcCompileProgram", program, len(options), array)
        log = self.text("ProgramLog", program).strip()
        if error or log:
            sys.exit(f"kernels/{source.name}: {error or 'warnings'}\n{log}")
        return self.text("PTX", program)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed; 1 on a difference")
    check = parser.parse_args().check

    nvidia = cuda_tools.packages(cuda_tools.NVRTC)
    compilers = {}
    headers = sorted(cuda_tools.KERNELS.glob("*.cuh"))
    folder = cuda_tools.KERNELS / "ptx"
    different, made = [], set()
    for source in cuda_tools.sources():
        target = cuda_tools.only(source, "ptx")
        if target not in TARGETS:
            sys.exit(f"kernels/{source.name}: `// ptx: {target}` is none of {', '.join(TARGETS)}")
        library, isa = TARGETS[target]
        if library not in compilers:
            compilers[library] = Nvrtc(nvidia, library)
        ptx = compilers[library].compile(source, headers, target)
        if f".version {isa}\n" not in ptx:
            sys.exit(f"kernels/{source.name}: not PTX ISA {isa}: drivers that crosstalk supports would refuse it")
        path = folder / source.with_suffix(".ptx").name
        made.add(path.name)
        if not path.exists() or path.read_text() != ptx:
            different.append(path.name)
            if not check:
                path.write_text(ptx)
    stale = sorted(p.name for p in folder.glob("*.ptx") if p.name not in made)
    for name in stale:
        if not check:
            (folder / name).unlink()
    print(f"{len(made)} modules, {len(different)} different{': ' + ' '.join(different) if different else ''}", end="")
    print(f"; without a source: {' '.join(stale)}" if stale else "")
    if check and (different or stale):
        sys.exit("kernels/ptx/ is not what kernels/ compiles to: run scripts/ptx.py and commit what it writes")
    return 0


if __name__ == "__main__":
    os.chdir(cuda_tools.ROOT)
    sys.exit(main())
