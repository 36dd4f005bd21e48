#!/usr/bin/env bash
# Accepts crosstalk on a machine with one NVIDIA GPU: doctor, self-check, the tensor rate of whatever library is there, a
# run under time-slicing, one under streams, green contexts and MPS, memory and faults under time-slicing and MPS, and their
# reports. What the machine cannot arrange (MPS without its control daemon) is skipped there, with the reason. Needs a prebuilt
# binary, bash and coreutils; takes less than 10 minutes. It only measures: clocks, power, MIG, compute and persistence mode stay
# as found. FAULTS=no leaves out what provokes faults of the GPU (kernels that crash, processes that are killed at work).
# Every step has a limit, and what fails is told in the summary while the rest goes on.
# Usage: scripts/gpu-acceptance.sh CROSSTALK [FOLDER]
#   CROSSTALK  the binary
#   FOLDER     where everything is written, summary.md first of all (default: crosstalk-acceptance-DATE)
#   DEVICE     environment: which GPU, as for `crosstalk run --device` (default: cuda)
#   GPU_IS_MINE  environment: UUID of a GPU that is yours alone, where nobody but you can know
# Exit codes: 0 every step passed, 1 a step failed, 2 usage, 3 there is no GPU that can be used.
set -uo pipefail

crosstalk=${1:-}
[ -n "$crosstalk" ] && [ -x "$crosstalk" ] || { echo "usage: $0 CROSSTALK [FOLDER]: the binary, ready to run" >&2; exit 2; }
crosstalk=$(realpath "$crosstalk")
out=${2:-crosstalk-acceptance-$(date -u +%Y%m%d-%H%M%S)}
mkdir -p "$out" || exit 2
[ -z "$(ls -A "$out")" ] || { echo "$0: $out holds something already: name a new folder" >&2; exit 2; }
cd "$out" || exit 2

device=${DEVICE:-cuda}
rights=()
[ -z "${GPU_IS_MINE:-}" ] || rights=(--gpu-is-mine "$GPU_IS_MINE")
export NO_COLOR=1 COLUMNS=120

# All of it ends within this many seconds; what is kept back is for verify and the reports.
readonly total=565 kept=25
steps=() failed=0

left() { echo $((total - SECONDS)); }

# step NAME LIMIT OUTPUT COMMAND…: at most LIMIT seconds of what is left. Standard output goes to OUTPUT, errors beside it.
# judged=yes: what it says of the hardware (1 not met, 4 inconclusive) is no failure of the step.
step() {
    local name=$1 limit=$2 output=$3 begin=$SECONDS code=0 what
    shift 3
    [ "$limit" -le "$(left)" ] || limit=$(left)
    if [ "$limit" -le 0 ]; then
        code=124
    else
        echo "== $name (at most $limit s)" >&2
        # One signal lets a run end cleanly. Its direct child gets two of timeout, hence the shell between.
        # shellcheck disable=SC2016
        timeout --signal=INT --kill-after=20 "$limit" bash -c 'trap : INT; "$@"; exit $?' - "$@" \
            > "$output" 2> "$output.err" || code=$?
    fi
    case $code${judged:-} in
        1yes | 4yes)
            what="passed; its verdict is $code"
            code=0
            ;;
        0*) what=passed ;;
        124* | 137*) what="OUT OF TIME" ;;
        *) what="FAILED (exit $code)" ;;
    esac
    if [ "$code" -ne 0 ]; then
        failed=1
        echo "   $what: see $output.err" >&2
        [ ! -e "$output.err" ] || tail -n 3 "$output.err" >&2
    fi
    [ -s "$output.err" ] || rm -f "$output.err"
    steps+=("| $name | $what | $((SECONDS - begin)) s | $output |")
    return "$code"
}

step "doctor" 30 doctor.txt "$crosstalk" doctor --device "$device"
step "doctor, for programs" 30 doctor.json "$crosstalk" doctor --device "$device" --format json

step "self-check" 150 self-check.txt \
    "$crosstalk" self-check --device "$device" --seconds 0.8 --json self-check.json "${rights[@]}"
self_check=$?

# The tensor rate of a library, where one is there.
cat > tensor.py <<'PYTHON'
import json, sys, time
try:
    import torch
except ImportError:
    print("unknown: no torch here")
    sys.exit(0)
if not torch.cuda.is_available():
    print("unknown: torch sees no GPU")
    sys.exit(0)
n = 8192
a, b = (torch.randn(n, n, device="cuda", dtype=torch.float16) for _ in range(2))
for _ in range(5):
    a @ b
torch.cuda.synchronize()
times, begin = 0, time.monotonic()
while time.monotonic() - begin < 3:
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    times += 10
rate = 2 * n**3 * times / (time.monotonic() - begin) / 1e12
# Ours beside it, from the self-check of this run; 80 % is asked on A100, H100 and H200.
try:
    with open("self-check.json") as file:
        checked = json.load(file)["found"]["workloads"]
except (OSError, ValueError, KeyError) as error:
    checked, ours = [], [f"ours unknown: {error}"]
else:
    ours = [
        f"{w['workload']} {figure['value']:.1f} = {100 * figure['value'] / rate:.0f} % of it"
        for w in checked for figure in w["figures"] if figure["what"] == "tensor products"
    ] or ["ours unknown: the self-check has no tensor products"]
print(f"{rate:.1f} TFLOP/s, torch {torch.__version__}, {n}^3 fp16; {', '.join(ours)}")
PYTHON
library="unknown: no python3 here"
if command -v python3 > /dev/null; then
    library="unknown: it failed"
    if step "tensor product of a library" 60 tensor.txt python3 tensor.py; then
        library=$(tail -n 1 tensor.txt)
    fi
fi

# What init proposes for this GPU is kept, and only checked: it may take longer than there is here.
step "init" 20 scenario.toml "$crosstalk" init --device "$device" --tier smoke
step "check of what init proposes" 20 check.txt "$crosstalk" check scenario.toml --device "$device"

cat > time-slicing.toml <<'TOML'
schema = 1
name = "acceptance-time-slicing"

[design]
tier = "smoke"
blocks = 12

[victim]
panel = [{ probe = "launch" }, { probe = "compute" }]

[[neighbour]]
noise = "idle"

[[neighbour]]
noise = "compute-burst"

[[neighbour]]
noise = "hbm-read"

[[arrangement]]
name = "time-slicing"
sharing = "time-slicing"
tenants = 2
require = { idle = "isolated" }
expect = { default = "violated", idle = "isolated" }
TOML
# As many blocks as a verdict takes.
cat > modes.toml <<'TOML'
schema = 1
name = "acceptance-modes"

[design]
tier = "smoke"
blocks = 12

[victim]
panel = [{ probe = "launch" }]

[[neighbour]]
noise = "compute-burst"

[[arrangement]]
name = "streams"
sharing = "streams"
expect = "violated"

[[arrangement]]
name = "green-contexts"
sharing = "green-contexts"
layout = [{ sms = "50%" }, { sms = "50%" }]
expect = "isolated"

[[arrangement]]
name = "mps"
sharing = "mps"
layout = [{ sms = "50%" }, { sms = "50%" }]
expect = "isolated"
TOML
# What neighbours may do beside slowing the victim. Faults come last of all.
faults=true
[ "${FAULTS:-yes}" != no ] || faults=false
cat > hazards.toml <<TOML
schema = 1
name = "acceptance-hazards"
allow_faults = $faults

[[hazard]]
hazard = "capacity"

[[hazard]]
hazard = "leftovers"
params = { faults = $faults }

[[hazard]]
hazard = "integrity"
params = { rounds = 1, faults = $faults }
TOML
[ "$faults" = false ] || cat >> hazards.toml <<'TOML'

[[hazard]]
hazard = "fault"
params = { times = 1, settle = "500ms" }
TOML
cat >> hazards.toml <<'TOML'

[[arrangement]]
name = "time-slicing"
sharing = "time-slicing"
tenants = 2

[[arrangement]]
name = "mps"
sharing = "mps"
layout = [{ sms = "50%", memory = "30GiB" }, { sms = "50%", memory = "30GiB" }]
TOML
judged=yes step "time-slicing" $(($(left) - kept - 290)) run-time-slicing.txt \
    "$crosstalk" run time-slicing.toml --device "$device" --out time-slicing --quiet "${rights[@]}"
judged=yes step "streams, green contexts, MPS" $(($(left) - kept - 120)) run-modes.txt \
    "$crosstalk" run modes.toml --device "$device" --out modes --quiet "${rights[@]}"
judged=yes step "memory and faults" $(($(left) - kept)) run-hazards.txt \
    "$crosstalk" run hazards.toml --device "$device" --out hazards --quiet "${rights[@]}"
for run in time-slicing modes hazards; do
    [ -d "$run" ] || continue
    step "verify $run" 15 "verify-$run.txt" "$crosstalk" verify "$run"
    step "report of $run" 10 "report-$run.txt" "$crosstalk" report "$run"
    step "report of $run, for programs" 10 "report-$run.json" "$crosstalk" report "$run" --format json
done

# The first line of the self-check names card and driver.
card="unknown: the self-check did not run"
if read -r line < self-check.txt && [ -n "$line" ]; then card=$line; fi
{
    echo "# crosstalk on a GPU"
    echo
    echo "- $card"
    echo "- $(date -u +%Y-%m-%d), $("$crosstalk" --version), Linux $(uname -r) $(uname -m), $(nproc) CPUs"
    echo "- tensor product of a library: $library"
    echo "- $SECONDS s in all; clocks, power, MIG, compute and persistence mode were left as found"
    echo
    echo "| step | outcome | took | written to |"
    echo "|---|---|---|---|"
    printf '%s\n' "${steps[@]}"
    for page in doctor.txt self-check.txt report-time-slicing.txt report-modes.txt report-hazards.txt; do
        [ -s "$page" ] || continue
        printf '\n## %s\n\n```\n' "${page%.txt}"
        cat "$page"
        printf '```\n'
    done
} > summary.md
echo "summary: $out/summary.md" >&2

[ "$self_check" -ne 3 ] || exit 3
exit "$failed"
