#!/usr/bin/env bash
# Instructions of a posted request against a bare loop of the same driver calls with the same arguments (benches/harness.rs),
# counted under callgrind on a driver that returns at once. Two counts of requests each: their difference has no start-up
# in it. Fails where a request costs more than 1.15 times the bare loop.
# Usage: scripts/harness_cost.sh
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v valgrind > /dev/null; then
    echo "harness_cost: SKIPPED: valgrind is missing (apt-get install valgrind)" >&2
    # A check that CI does not make is no check.
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi

harness=$(cargo bench --quiet --bench harness --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/harness-[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$harness" ] || { echo "harness_cost: cargo built no benchmark harness" >&2; exit 1; }

instructions() { # MODE SHAPE N
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$harness" "$@" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

few=10000 many=110000
each() { # MODE SHAPE: tenths of an instruction for one request
    local least most
    least=$(instructions "$@" "$few")
    most=$(instructions "$@" "$many")
    echo $(((most - least) * 10 / (many - few)))
}

worst=0
printf '%-10s %10s %10s %8s\n' request posted bare ratio
for shape in launch launches model; do
    post=$(each post "$shape") bare=$(each bare "$shape")
    ratio=$((post * 1000 / bare))
    printf '%-10s %8d.%d %8d.%d %6d.%03d\n' "$shape" \
        $((post / 10)) $((post % 10)) $((bare / 10)) $((bare % 10)) $((ratio / 1000)) $((ratio % 1000))
    [ "$ratio" -le "$worst" ] || worst=$ratio
done
if [ "$worst" -gt 1150 ]; then
    echo "harness_cost: above 1.15: the timed path does more than the driver's calls" >&2
    exit 1
fi
