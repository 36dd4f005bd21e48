#!/usr/bin/env bash
# Writes the reports of the sample run (reports/quickstart) into a folder: fixed seed and day, so the same bytes everywhere.
# Usage: scripts/sample_reports.sh FOLDER
set -euo pipefail
out=$1
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
mkdir -p "$out"
# The hashes of a run, which its page shows, cover the day on which it began.
export SOURCE_DATE_EPOCH=1767225600
crosstalk=${CROSSTALK:-target/release/crosstalk}
COLUMNS=120 NO_COLOR=1 "$crosstalk" run quickstart --seed 1 --quiet --out "$run/quickstart" > "$out/report.txt"
for format in json:json html:html md:md junit:xml openmetrics:prom csv:csv; do
    "$crosstalk" report "$run/quickstart" --format "${format%%:*}" > "$out/report.${format##*:}"
done
