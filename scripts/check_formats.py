#!/usr/bin/env python3
"""Reads the reports of a finished run with other people's readers, and those of a run whose names nobody vouches for.

    pip install junitparser==5.0.3 prometheus_client==0.26.0 markdown-it-py==4.3.0 \\
        pyarrow==26.0.1 duckdb==2.0.1 hdrhistogram==0.10.8
    python3 scripts/check_formats.py RUN CROSSTALK [PAGES]

With PAGES, a folder, the runs whose names nobody vouches for leave their HTML there, for scripts/check_html.sh.

JUnit by junitparser, and by what the schema of Jenkins' xUnit plugin allows; OpenMetrics by prometheus_client, both of its
parsers, and by `promtool check metrics` where that is installed (Debian: prometheus); CSV by the csv module; Markdown by
markdown-it-py; Parquet by DuckDB, and of the second run by pyarrow, with its histograms by hdrhistogram, as
scripts/check_run_dir.py does of any run.
"""

import csv
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

import duckdb
import junitparser
import markdown_it
import prometheus_client.openmetrics.parser
import prometheus_client.parser

import check_run_dir

FORMATS = ["md", "junit", "openmetrics", "csv", "json"]

# junit-10.xsd of Jenkins' xUnit plugin: attributes and children of each element.
JUNIT = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "time", "classname", "group"}, {"skipped", "error", "failure", "system-out", "system-err"}),
    "skipped": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "failure": ({"type", "message"}, set()),
    "system-out": (set(), set()),
    "system-err": (set(), set()),
}

EVIL = "\"'<b>&|`*_[x](http://evil.example)@octocat #1 \n\r\t\u202e\u0007\\é漢😀</details>]]>"
LONG = "=" + "y" * 10_000
# What a scenario lets its names be, which become names of files, and texts that it lets be anything.
SCENARIO = """
schema = 1
name = "-1"
description = {evil}
device = "sim:h100-sxm"

[design]
tier = "smoke"
blocks = 8
window = "200ms"

[victim]
panel = [
    {{ probe = "launch", name = "-launch", arrivals = {{ poisson = "20000/s" }}, slo = {{ p99 = "50ms" }} }},
    {{ probe = "h2d", name = "__h2d__" }},
]

[[neighbour]]
noise = "idle"
name = "_idle_"

[[neighbour]]
noise = "d2h"
name = "-2"

[[arrangement]]
name = "-3"
sharing = "time-slicing"
tenants = 2
require = {{ default = "isolated" }}

[[arrangement]]
name = "-4"
sharing = "mps"
tenants = {{ count = [1, 2], all = "-launch" }}

[[accept]]
cell = "-3/-2"
reason = {long}
by = {evil}
until = 2099-12-31
"""


def run(*command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, encoding="utf-8", **options)


def reports(crosstalk, root):
    """The text of every format."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            path = pathlib.Path(folder) / name
            done = run(crosstalk, "report", root, "--format", name, "--output", path)
            assert done.returncode == 0, f"report --format {name}: {done.stderr}"
            found[name] = path.read_bytes().decode("utf-8")
            printed = subprocess.run([crosstalk, "report", root, "--format", name], capture_output=True, check=True)
            assert printed.stdout == path.read_bytes(), f"{name}: standard output and file differ"
    return found


def exact(text):
    """A name as tables for machines write it: backslashes doubled, what is not seen written out."""
    out = []
    for c in text:
        hidden = ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u00ad\u061c\u180e\ufeff" or any(
            low <= c <= high
            for low, high in ("\u200b\u200f", "\u2028\u202e", "\u2060\u206f", "\ufff9\ufffb", "\U000e0000\U000e007f")
        )
        if c == "\\":
            out.append("\\\\")
        elif c in "\n\r\t":
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}[c])
        else:
            out.append(f"\\u{{{ord(c):x}}}" if hidden else c)
    return "".join(out)


def cells(report):
    return [cell for of_run in report["runs"] for cell in of_run["cells"]]


def curves(report):
    return [curve for of_run in report["runs"] for curve in of_run.get("curves", [])]


def check_saturated(text, report):
    """Of a saturated density the JSON has no latency, so neither has a format that is made of it; it says so in a word."""
    for curve in curves(report):
        for density in curve["densities"]:
            if density["saturated"]:
                assert not density["worst"] and density["ratio"] is None, f"{curve['name']} has a latency at {density['tenants']}"
                assert not any(tenant["latencies"] for tenant in density["each"])
                assert "saturated" in text


def check_junit(text, report):
    def valid(element):
        attributes, children = JUNIT[element.tag]
        assert set(element.attrib) <= attributes, f"{element.tag}: attributes {set(element.attrib) - attributes}"
        for child in element:
            assert child.tag in children, f"{child.tag} in {element.tag}"
            valid(child)

    valid(ElementTree.fromstring(text))
    document = junitparser.JUnitXml.fromstring(text.encode())
    found = {"failures": 0, "errors": 0, "cases": 0}
    for suite in document:
        cases = list(suite)
        assert suite.tests == len(cases), f"{suite.name}: {suite.tests} of {len(cases)}"
        assert next(iter(suite.properties())).name == "provenance"
        results = [result for case in cases for result in case.result]
        found["cases"] += len(cases)
        found["failures"] += sum(isinstance(result, junitparser.Failure) for result in results)
        found["errors"] += sum(isinstance(result, junitparser.Error) for result in results)
        assert suite.failures == sum(isinstance(result, junitparser.Failure) for result in results)
    states = {item["state"] for of_run in report["runs"] for item in of_run["requirements"]["items"]}
    assert ("not-met" in states) == (found["failures"] > 0), (states, found)
    assert "undecided" not in states or found["errors"] > 0, (states, found)
    series = sum(max(len(cell["series"]), 1) for cell in cells(report)) + len(curves(report))
    assert found["cases"] >= series, f"{found['cases']} cases of {series} series"
    return f"{found['cases']} cases"


def check_openmetrics(text, report):
    assert text.endswith("\n# EOF\n")
    modern = list(prometheus_client.openmetrics.parser.text_string_to_metric_families(text))
    older = list(prometheus_client.parser.text_string_to_metric_families(text))
    samples = lambda families: sorted((s.name, sorted(s.labels.items()), s.value) for f in families for s in f.samples)
    assert samples(modern) == samples(older), "the two parsers read different samples"
    assert {family.type for family in modern} == {"gauge"}
    assert all(sample.timestamp is None for family in modern for sample in family.samples)
    named = {sample.labels["cell"] for family in modern for sample in family.samples if "cell" in sample.labels}
    assert named == {exact(cell["name"]) for cell in cells(report)}
    met = {s.labels["curve"]: s.value for f in modern if f.name == "crosstalk_density_tenants_met" for s in f.samples}
    assert met == {exact(c["name"]): c["met"] for c in curves(report) if c["met"] is not None}
    worst = [s for f in modern if f.name == "crosstalk_density_worst_latency_seconds" for s in f.samples]
    assert len(worst) == sum(len(density["worst"]) for curve in curves(report) for density in curve["densities"])
    ratios = [s for family in modern if family.name == "crosstalk_interference_ratio" for s in family.samples]
    expected = [r for cell in cells(report) for s in cell["series"] if s["ratio"] for r in s["ratio"].values()]
    assert sorted(s.value for s in ratios) == sorted(r for r in expected if r is not None)
    promtool = shutil.which("promtool")
    assert promtool or "CI" not in os.environ, "promtool is missing: it comes with Debian's package prometheus"
    if promtool:
        done = run(promtool, "check", "metrics", input=text)
        assert done.returncode == 0, f"promtool check metrics: {done.stdout}{done.stderr}"
    return f"{sum(len(f.samples) for f in modern)} samples{', promtool' if promtool else ', without promtool'}"


def check_densities(rows, report):
    """Every density has a row, and the worst latencies are the model's."""
    expected = {(exact(c["name"]), str(d["tenants"])): d for c in curves(report) for d in c["densities"]}
    key = lambda row: (row["curve"].removeprefix("'"), row["tenants"])
    assert {key(row) for row in rows} == set(expected)
    for row in rows:
        assert None not in row and None not in row.values(), "a row with more or fewer fields than columns"
        assert row["provenance"] == report["runs"][0]["header"]["provenance"]
        density = expected[key(row)]
        assert row["density_verdict"] == density["state"]
        if density["saturated"]:
            assert not row["metric"].endswith("latency_ns") and row["metric"] != "reference_ratio", row
        if row["metric"] == "worst_latency_ns":
            assert {"quantile": row["quantile"], "ns": float(row["value"])} in density["worst"], row


def check_csv(text, report):
    assert text.count("\n") == text.count("\r\n"), "RFC 4180 ends lines with CR LF"
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    densities = [row for row in rows if row["density_verdict"]]
    rows = [row for row in rows if not row["density_verdict"]]
    check_densities(densities, report)
    expected = [(cell, s) for cell in cells(report) for s in cell["series"] or [None]]
    assert len(rows) == len(expected)
    number = lambda field: float(field) if field else None
    for row, (cell, s) in zip(rows, expected):
        assert None not in row and None not in row.values(), "a row with more or fewer fields than columns"
        assert row["provenance"] == report["runs"][0]["header"]["provenance"]
        for field in row.values():
            is_number = field[:1] == "-" and field[1:].replace(".", "", 1).isdigit()
            assert is_number or not field.startswith(("=", "+", "-", "@", "\t", "\r")), f"a formula: {field[:40]!r}"
        assert row["cell"].removeprefix("'") == exact(cell["name"])
        if s:
            assert row["series"].removeprefix("'") == exact(s["series"])
            for key in ("quiet_ns", "noisy_ns", "change_ns", "quiet_requests", "blocks"):
                assert number(row[key]) == s[key], key
            ratio = s["ratio"] or {"estimate": None, "low": None, "high": None}
            assert [number(row[key]) for key in ("ratio", "ratio_low", "ratio_high")] == [
                ratio["estimate"], ratio["low"], ratio["high"]
            ]
    return f"{len(rows)} rows of cells, {len(densities)} of densities"


def check_markdown(text, report):
    assert len(text.encode()) <= 1 << 20, "more than GitHub takes"
    banner = report["banner"]
    assert banner is None or banner in text.splitlines()[0]
    parser = markdown_it.MarkdownIt("gfm-like", {"html": True, "linkify": False}).disable("linkify")
    tokens = parser.parse(text)
    tables = {"head": 0, "tables": 0, "row": 0}
    for token in tokens:
        if token.type == "table_open":
            tables["tables"] += 1
            tables["head"] = 0
        elif token.type == "tr_open":
            tables["row"] = 0
        elif token.type == "th_open":
            tables["head"] += 1
        elif token.type == "td_open":
            tables["row"] += 1
        elif token.type == "tr_close" and tables["row"]:
            assert tables["row"] == tables["head"], f"a row of {tables['row']} in a table of {tables['head']}"
        elif token.type == "html_block":
            own = {"<details>", "</details>"}
            lines = [line for line in token.content.splitlines() if line not in own]
            assert all(line.startswith("<summary>") and line.count("<") == 2 for line in lines), lines
        elif token.type == "inline":
            kinds = {child.type for child in token.children}
            assert not kinds & {"link_open", "image", "text_special_open"}, token.content
            html = {child.content for child in token.children if child.type == "html_inline"}
            assert html <= {"<br>"}, html
            for child in token.children:
                if child.type == "text":
                    for mark in ("@", "#"):
                        after = child.content.split(mark)[1:]
                        assert all(part.startswith("\u200b") for part in after), child.content[:200]
    for of_run in report["runs"]:
        columns = len(of_run["columns"])
        if of_run["rows"]:
            rows = [i for i, token in enumerate(tokens) if token.type == "table_open"]
            head = [t for t in tokens[rows[0]:] if t.type in ("th_open", "thead_close")]
            width = [t.type for t in head].index("thead_close")
            assert width == 1 + columns, f"a matrix of {width} columns for {columns}"
    return f"{tables['tables']} tables, {len(text.encode())} bytes"


def check_duckdb(root):
    """DuckDB counts in the Parquet files what the event log says."""
    events = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    told = {event["committed"]["file"]: event["committed"]["samples"] for event in events if "committed" in event}
    query = "SELECT filename, count(*) FROM read_parquet($1, filename = true, hive_partitioning = false) GROUP BY 1"
    counted = dict(duckdb.connect().execute(query, [[str(root / file) for file in told]]).fetchall())
    for file, samples in told.items():
        found = counted.get(str(root / file), 0)
        assert found == samples, f"{file}: {found} rows, {samples} in the event log"
    rows = sum(counted.values())
    return f"{rows} rows in {len(told)} files"


CHECKS = {"md": check_markdown, "junit": check_junit, "openmetrics": check_openmetrics, "csv": check_csv}


def check(crosstalk, root):
    texts = reports(crosstalk, root)
    report = json.loads(texts["json"])
    for name in FORMATS:
        check_saturated(texts[name], report)
    for name, of in CHECKS.items():
        print(f"{root}: {name}: {of(texts[name], report)}")


def hostile_texts(crosstalk, folder):
    """A run whose texts nobody vouches for, and whose names are as bad as a scenario lets them be."""
    quoted = {"evil": json.dumps(EVIL, ensure_ascii=False), "long": json.dumps(LONG)}
    scenario = folder / "hostile.toml"
    scenario.write_text(SCENARIO.format(**quoted), encoding="utf-8")
    done = run(crosstalk, "run", scenario, "--out", folder / "texts", "--quiet")
    assert done.returncode in (0, 1, 4), f"a run with hostile texts: exit {done.returncode}: {done.stderr[:2000]}"
    return folder / "texts"


def hostile_names(root, folder):
    """A run that was stopped before anything happened, whose names no scenario could have given: all of them, 10 kB long."""
    manifest = json.loads((root / "manifest.json").read_text())
    plan = manifest["plan"]
    manifest["device"] = EVIL
    plan["scenario"] = LONG + EVIL
    plan["description"] = EVIL + LONG
    plan["inventory"]["driver"] = "=1" + EVIL
    gpu = plan["inventory"]["gpus"][plan["gpu"]]
    gpu["name"], gpu["uuid"] = "@" + EVIL, "+" + EVIL
    for kind in ("panel", "neighbours", "arrangements", "curves"):
        for at, one in enumerate(plan.get(kind, [])):
            one["name"] = (EVIL, LONG, "\t", "# EOF", "-1+cmd|' /C calc'!A0")[at % 5] + str(at)
            if kind == "panel":
                one["series"] = [one["name"]]
    made = folder / "names"
    made.mkdir()
    (made / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    return made


def page(crosstalk, root, pages):
    done = run(crosstalk, "report", root, "--format", "html", "-o", pages / f"hostile-{root.name}.html")
    assert done.returncode == 0, f"{root} as HTML: {done.stderr[:2000]}"


def main(root, crosstalk, pages):
    check(crosstalk, root)
    print(f"{root}: DuckDB: {check_duckdb(root)}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        made = hostile_texts(crosstalk, folder)
        check(crosstalk, made)
        check_run_dir.main(made)
        print(f"{made}: DuckDB: {check_duckdb(made)}")
        named = hostile_names(root, folder)
        check(crosstalk, named)
        for hostile in (made, named) if pages else ():
            page(crosstalk, hostile, pages)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3]) if sys.argv[3:] else None)
