#!/usr/bin/env python3
"""Compiles every kernel with today's nvcc and holds it to its header; --emulate runs it on the host instead.

For each architecture that a header names: the source by nvcc and the committed PTX by ptxas compile without a warning or a
spill, in as many registers as the header says, and the machine code of the source is what the header promises:

    // archs: 75 80 …              sm_75, sm_80, …
    // registers: 57..64           of a thread
    // stack: yes                  it calls itself: it has a stack frame, and may spill
    // sass: PATTERN               an instruction matches (a regular expression, from its start)
    // sass-not: PATTERN           none does
    // sass-count: PATTERN >= 64   so many do within one loop
    // sass-chain: PATTERN         in a loop, the address of such a load comes from what it loaded the time before
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cuda_tools

INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;")


class Instruction:
    """One line of SASS: address, predicate, name, operands."""

    def __init__(self, address, text):
        self.address = address
        self.predicate, rest = re.match(r"(@!?U?P\w+\s+)?(.*)", text).groups()
        self.name, _, operands = rest.partition(" ")
        self.operands = operands.strip()

    def writes(self):
        """General registers that it writes: those of its first operand, as many as its width says."""
        if re.match(r"(ST|RED|BRA|ISETP|FSETP|EXIT|BAR|MEMBAR)", self.name):
            return set()
        first = re.match(r"R(\d+)\b", self.operands)
        if not first:
            return set()
        width = 4 if ".128" in self.name else 2 if ".64" in self.name or ".WIDE" in self.name else 1
        return {int(first.group(1)) + i for i in range(width)}

    def reads(self):
        """General registers among its other operands; a register that holds 64 bits counts as two."""
        _, _, rest = self.operands.partition(",")
        found = set()
        for number, wide in re.findall(r"\bR(\d+)(\.64)?", rest):
            found |= {int(number)} | ({int(number) + 1} if wide else set())
        return found

    def conditional(self):
        """Whether it is done on a condition: a predicate before it, or a uniform one among its operands (BRA.U UP0, …)."""
        return bool(self.predicate or re.match(r"!?U?P\d", self.operands))

    def target(self):
        """Where it branches to."""
        where = re.search(r"(0x[0-9a-f]+)\s*$", self.operands) if self.name.startswith("BRA") else None
        return int(where.group(1), 16) if where else None


def loops(code):
    """The instructions from each backward branch's target to the branch. A branch without a condition is none: it returns
    from a path that the compiler put out of line."""
    found = []
    for end, instruction in enumerate(code):
        target = instruction.target()
        if instruction.conditional() and target is not None and target < instruction.address:
            found.append([i for i in code[: end + 1] if i.address >= target])
    return found


def chained(loop, pattern):
    """Whether a load of the loop depends, around the loop, on what it loaded itself."""
    for load in (i for i in loop if re.match(pattern, i.name)):
        start = loop.index(load)
        tainted = load.writes()
        for instruction in loop[start + 1 :] + loop[: start + 1]:
            if instruction is load:
                address = " ".join(re.findall(r"\[(.*?)\]", instruction.operands))
                if tainted & {int(n) for n in re.findall(r"\bR(\d+)", address)}:
                    return True
                break
            if tainted & instruction.reads():
                tainted |= instruction.writes()
            else:
                # A conditional write may leave the old value.
                tainted -= set() if instruction.predicate else instruction.writes()
    return False


def broken_promises(source, code):
    """What the header promises and the machine code does not hold."""
    names = [i.name for i in code]
    for key, value in cuda_tools.header(source):
        if key == "sass" and not any(re.match(value, n) for n in names):
            yield f"no instruction matches {value}"
        elif key == "sass-not":
            for name in sorted({n for n in names if re.match(value, n)}):
                yield f"{name} matches {value}"
        elif key == "sass-count":
            pattern, least = re.fullmatch(r"(.*) >= (\d+)", value).groups()
            count = max((sum(1 for i in loop if re.match(pattern, i.name)) for loop in loops(code)), default=0)
            if count < int(least):
                yield f"at most {count} instructions of a loop match {pattern}, {least} are promised"
        elif key == "sass-chain" and not any(chained(loop, value) for loop in loops(code)):
            yield f"no loop in which {value} depends on itself"


def broken_build(source, log):
    """What ptxas said that must not be."""
    stack = ("stack", "yes") in cuda_tools.header(source)
    for line in log.splitlines():
        if stack and "cannot be statically determined" in line:
            continue
        if "warning" in line.lower() or "error" in line.lower():
            yield line.strip()
    for count, what in re.findall(r"(\d+) bytes (stack frame|spill stores|spill loads)", log):
        if int(count) and not stack:
            yield f"{count} bytes {what}"
    used = re.search(r"Used (\d+) registers", log)
    least, most = (int(n) for n in cuda_tools.only(source, "registers").split(".."))
    if not used:
        yield "ptxas did not say how many registers it used"
    elif not least <= int(used.group(1)) <= most:
        yield f"{used.group(1)} registers, and {least} to {most} are promised"


def check(source, arch, toolkit, folder):
    """One kernel for one architecture: what is wrong with it."""
    cubin = folder / f"{source.stem}.{arch}.cubin"
    wrong = []
    ptx = cuda_tools.KERNELS / "ptx" / source.with_suffix(".ptx").name
    builds = {
        "nvcc": [toolkit / "nvcc", "-std=c++17", "-cubin", f"-arch=sm_{arch}", "-Xptxas", "-v", "-o", cubin, source],
        "ptxas of the committed PTX": [toolkit / "ptxas", "-v", f"-arch=sm_{arch}", ptx, "-o", folder / "ptx.out"],
    }
    builds["ptxas of the committed PTX"][-1] = folder / f"{source.stem}.{arch}.ptx.cubin"
    for by, command in builds.items():
        built = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        log = built.stdout + built.stderr
        wrong += [f"{by}: {w}" for w in (broken_build(source, log) if built.returncode == 0 else [log.strip()])]
    if cubin.exists():
        shown = subprocess.run([str(toolkit / "cuobjdump"), "-sass", str(cubin)], capture_output=True, text=True)
        lines = (INSTRUCTION.match(line) for line in shown.stdout.splitlines())
        code = [Instruction(int(m.group(1), 16), m.group(2)) for m in lines if m]
        wrong += broken_promises(source, code) if code else [f"no machine code: {shown.stderr.strip()}"]
    return [f"kernels/{source.name} for sm_{arch}: {w}" for w in wrong]


def compile_all(sources, only):
    if not shutil.which("gcc"):
        cuda_tools.missing("nvcc needs gcc on PATH")
    toolkit = cuda_tools.packages(cuda_tools.NVCC) / "cu13" / "bin"
    jobs = [(s, arch) for s in sources for arch in cuda_tools.only(s, "archs").split()]
    jobs = [(s, arch) for s, arch in jobs if not only or arch in only]
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: check(*job, toolkit, Path(folder)), jobs))
    return [w for result in results for w in result], f"{len(jobs)} builds of {len(sources)} kernels"


def emulate(sources):
    """Every kernel as plain C++ against the checksums that src/workload says."""
    compiler = shutil.which("g++")
    if not compiler:
        cuda_tools.missing("g++ is not on PATH")
    cases = cuda_tools.ROOT / "tests" / "fixtures" / "kernel_references.txt"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "emulate"
        command = [compiler, "-std=c++20", "-O1", "-Wall", "-Wno-unknown-pragmas", "-Werror", "-fno-strict-aliasing"]
        command += ["-DCROSSTALK_EMULATE", "-I", str(cuda_tools.KERNELS), "-o", str(program)]
        built = subprocess.run(command + [str(cuda_tools.KERNELS / "emulate" / "main.cpp")], capture_output=True, text=True)
        if built.returncode != 0:
            return [built.stderr.strip()], ""
        ran = subprocess.run([str(program)], stdin=cases.open(), capture_output=True, text=True, timeout=300)
    wrong = [line for line in ran.stdout.splitlines() if line.startswith("WRONG")]
    if ran.returncode != 0 and not wrong:
        wrong = [f"the emulation ended with {ran.returncode}: {ran.stdout[-500:]} {ran.stderr[-500:]}"]
    text = (cuda_tools.KERNELS / "emulate" / "main.cpp").read_text()
    wrong += [f"kernels/emulate/main.cpp does not include {s.name}" for s in sources if f'"{s.name}"' not in text]
    return wrong, (ran.stdout.splitlines() or [""])[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulate", action="store_true", help="run the kernels on the host instead")
    parser.add_argument("--arch", action="append", help="only for this architecture; may be repeated")
    parser.add_argument("kernel", nargs="*", help="only these")
    args = parser.parse_args()
    sources = [s for s in cuda_tools.sources() if not args.kernel or s.stem in args.kernel]
    start = time.monotonic()
    wrong, done = emulate(sources) if args.emulate else compile_all(sources, args.arch)
    for line in wrong:
        print(line)
    print(f"{done}: {len(wrong)} wrong, {time.monotonic() - start:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
