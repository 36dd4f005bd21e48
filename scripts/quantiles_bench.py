#!/usr/bin/env python3
"""Exact p50, p99 and p99.9 of every arm of a run: crosstalk beside DuckDB, on one thread each, on the same Parquet files.

    pip install duckdb==2.0.1
    cargo bench --no-run --bench quantiles
    python3 scripts/quantiles_bench.py BENCH [ARMS [SAMPLES]]     BENCH: the program that cargo names

Writes the files by crosstalk's own writer, lets both read them three times in turns, compares what they found, and prints
the best of each. DuckDB gets its choice of two ways: one query over all files, or one for each. Exit 1: the answers differ,
crosstalk was slower, or took more than 500 MiB.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

ROUNDS = 3
MEMORY_KIB = 500 * 1024

DUCKDB = """
import json, pathlib, resource, sys, time
import duckdb
folder, way = pathlib.Path(sys.argv[1]), sys.argv[2]
files = sorted(str(path) for path in folder.glob("arms/ts/*.parquet"))
base = duckdb.connect()
base.execute("SET threads = 1")
base.execute("SET enable_progress_bar = false")
ask = "SELECT {group} count(*), quantile_disc(greatest(completed - planned, 1), [0.5, 0.99, 0.999]) " \\
    "FROM read_parquet({files}, filename = true, hive_partitioning = false) " \\
    "WHERE outcome = 0 AND completed IS NOT NULL {by}"
begun = time.perf_counter()
if way == "all":
    rows = base.execute(ask.format(group="filename,", files=files, by="GROUP BY filename")).fetchall()
else:
    rows = [(file, *base.execute(ask.format(group="", files=[file], by="")).fetchall()[0]) for file in files]
seconds = time.perf_counter() - begun
print(json.dumps({
    "found": {pathlib.Path(file).name: list(quantiles) for file, _, quantiles in rows},
    "rows": sum(n for _, n, _ in rows),
    "seconds": seconds,
    "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
}))
"""


def crosstalk(bench, folder):
    text = subprocess.run([bench, "read", folder], capture_output=True, text=True, check=True).stdout.splitlines()
    _, rows, _, seconds, _, peak = text.pop().split()
    found = {name: [int(ns) for ns in ns] for name, *ns in (line.split() for line in text)}
    return {"found": found, "rows": int(rows), "seconds": float(seconds), "peak_kib": int(peak)}


def duckdb(way, folder):
    command = [sys.executable, "-c", DUCKDB, folder, way]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(bench, arms=100, samples=1_000_000):
    readers = {
        "crosstalk": lambda folder: crosstalk(bench, folder),
        "DuckDB, one query": lambda folder: duckdb("all", folder),
        "DuckDB, one for each file": lambda folder: duckdb("each", folder),
    }
    best = {}
    with tempfile.TemporaryDirectory(dir="target") as folder:
        folder = pathlib.Path(folder) / "run"
        subprocess.run([bench, "make", folder, str(arms), str(samples)], check=True)
        size = sum(path.stat().st_size for path in folder.glob("arms/ts/*.parquet"))
        for _ in range(ROUNDS):
            for name, read in readers.items():
                took = read(folder)
                peak = max(took["peak_kib"], best.get(name, took)["peak_kib"])
                best[name] = min(took, best.get(name, took), key=lambda took: took["seconds"]) | {"peak_kib": peak}
    ours = best["crosstalk"]
    print(f"{arms} arms, {ours['rows']} completed requests, {size / 2**20:.0f} MiB of Parquet; best of {ROUNDS}, one thread:")
    for name, took in best.items():
        rate = took["rows"] / took["seconds"] / 1e6
        print(f"  {name:26} {took['seconds']:7.2f} s  {rate:6.1f} M rows/s  {took['peak_kib'] / 1024:6.0f} MiB")
    theirs = min(took["seconds"] for name, took in best.items() if name != "crosstalk")
    print(f"  crosstalk takes {ours['seconds'] / theirs:.2f} times what DuckDB's better way takes")
    for name, took in best.items():
        if (took["rows"], took["found"]) != (ours["rows"], ours["found"]):
            sys.exit(f"{name} found other quantiles than crosstalk")
    if ours["seconds"] > theirs:
        sys.exit("crosstalk is slower than DuckDB")
    if ours["peak_kib"] > MEMORY_KIB:
        sys.exit("crosstalk takes more than 500 MiB")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]).resolve(), *(int(n) for n in sys.argv[2:]))
