#!/usr/bin/env python3
"""Reads a finished run directory with other people's readers: Parquet by pyarrow, .hlog by HdrHistogram's Python port.

    pip install pyarrow hdrhistogram
    python3 scripts/check_run_dir.py RUN

Each arm's samples, counted per series, must agree with the event that commits the arm and with its histograms.
"""

import collections
import json
import pathlib
import sys
import urllib.parse

import pyarrow.parquet
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

COLUMNS = ["planned", "sent", "gpu_start", "gpu_end", "completed", "outcome", "error_code", "window", "series"]


def counted_samples(path):
    """Per series: how its samples ended, and the latencies of those that completed."""
    table = pyarrow.parquet.read_table(path, partitioning=None)
    assert table.column_names == COLUMNS, f"{path}: columns {table.column_names}"
    label = json.loads(table.schema.metadata[b"crosstalk"])
    counts = {name: collections.Counter(completed=0, censored=0, failed=0) for name in label["series"]}
    latencies = {name: [] for name in label["series"]}
    columns = [table[name].to_pylist() for name in ("series", "outcome", "planned", "completed")]
    for series, outcome, planned, completed in zip(*columns):
        name, outcome = label["series"][series], label["outcomes"][outcome]
        if outcome == "ok" and completed is not None:
            counts[name]["completed"] += 1
            latencies[name].append(max(completed - planned, 1))
        else:
            counts[name]["censored" if outcome in ("ok", "timeout") else "failed"] += 1
    return counts, latencies


def latency_histograms(folder):
    """By series and arm: the latency histogram of every .hlog of an arrangement."""
    found = {}
    for path in sorted(folder.glob("*.hlog")):
        series = urllib.parse.unquote(path.stem.replace("~", "/"))
        reader = HistogramLogReader(str(path), HdrHistogram(1, 2**62, 3))
        while (histogram := reader.get_next_interval_histogram()) is not None:
            arm, kind = histogram.get_tag().rsplit(":", 1)
            if kind == "latency":
                found[series, arm] = histogram
        reader.close()
    return found


def main(root):
    events = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    committed = [event["committed"] for event in events if "committed" in event]
    assert committed, f"{root}: no arm is committed"
    histograms = {folder.name: latency_histograms(folder) for folder in (root / "hlog").iterdir()}
    samples = 0
    for event in committed:
        path = root / event["file"]
        counts, latencies = counted_samples(path)
        told = {s["name"]: {key: s[key] for key in ("completed", "censored", "failed")} for s in event["series"]}
        assert told == counts, f"{path}: samples say {counts}, events.jsonl says {told}"
        for series, values in latencies.items():
            samples += sum(counts[series].values())
            if not values:
                continue
            histogram = histograms[path.parent.name][series, path.stem]
            assert histogram.get_total_count() == len(values), f"{path}: {series}: {histogram.get_total_count()}"
            for value, of_histogram in ((max(values), histogram.get_max_value()), (min(values), histogram.get_min_value())):
                assert abs(of_histogram - value) <= 1 + value / 1000, f"{path}: {series}: {of_histogram} for {value}"
    print(f"{root}: {len(committed)} arms, {samples} samples: events, Parquet and .hlog agree")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
