#!/usr/bin/env python3
"""Check the examples for pipelines: the GitHub workflow, the composite action and the GitLab snippet against the schemas of
their own systems, their shell steps by `bash -n`, and that every verb and flag of crosstalk in them and in docs/gate.md exists,
and every scenario and policy that they name.

Needs check-jsonschema (PyPI), which carries the schemas, and a build of crosstalk. Where something is missing, a pipeline
fails (CI is set) and a laptop says what was not checked.

    check_ci_examples.py [--crosstalk target/debug/crosstalk]
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import cli_help

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / ".github" / "examples" / "crosstalk-gate.yml"
ACTION = ROOT / ".github" / "actions" / "crosstalk-gate" / "action.yml"
GITLAB = ROOT / ".gitlab" / "crosstalk-gate.yml"
SCHEMAS = {
    WORKFLOW: "vendor.github-workflows",
    ACTION: "vendor.github-actions",
    GITLAB: "vendor.gitlab-ci",
}
# A mistake of each kind that its schema must find.
SLIPS = {
    WORKFLOW: ("runs-on:", "run-on:"),
    ACTION: ("using: composite", "using: compound"),
    GITLAB: ("when: always", "when: allways"),
}


class Missing(Exception):
    """A tool that is not installed here."""


def schema(tool, path, builtin):
    """What the schema has against a file."""
    done = subprocess.run([tool, "--builtin-schema", builtin, str(path)], capture_output=True, text=True)
    return [] if done.returncode == 0 else [done.stdout.strip() or done.stderr.strip()]


def schemas():
    beside = pathlib.Path(sys.executable).parent / "check-jsonschema"
    tool = str(beside) if beside.exists() else shutil.which("check-jsonschema")
    if tool is None:
        raise Missing("check-jsonschema")
    found = []
    for path, builtin in SCHEMAS.items():
        found += [f"{path.relative_to(ROOT)}: {what}" for what in schema(tool, path, builtin)]
        # A checker that finds nothing proves nothing.
        right, wrong = SLIPS[path]
        text = path.read_text()
        with tempfile.TemporaryDirectory() as folder:
            broken = pathlib.Path(folder) / path.name
            broken.write_text(text.replace(right, wrong))
            if right not in text or not schema(tool, broken, builtin):
                found.append(f"{path.name}: a mistake that must be found was not ({wrong})")
    return found


def loaded(path):
    # It comes with check-jsonschema.
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(path.read_text())


def scripts(path):
    """Shell scripts of a file, as (where, text)."""
    document = loaded(path)
    if path == GITLAB:
        job = document["crosstalk-gate"]
        for key in ("script", "after_script"):
            yield f"{path.name}: {key}", "\n".join(job[key])
        return
    steps = document["runs"]["steps"] if path == ACTION else document["jobs"]["gate"]["steps"]
    for step in steps:
        if "run" in step:
            yield f"{path.name}: {step['name']}", step["run"]


def shell():
    found = []
    for path in SCHEMAS:
        for where, text in scripts(path):
            done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
            found += [f"{where}: {done.stderr.strip()}"] if done.returncode else []
            # What a caller writes must not become a command.
            if path != GITLAB and "${{" in text:
                found.append(f"{where}: an expression inside a script: pass it through the environment")
    return found


def commands():
    """Every use of crosstalk as (where, words)."""
    texts = [(where, text) for path in SCHEMAS for where, text in scripts(path)]
    doc = (ROOT / "docs" / "gate.md").read_text()
    texts += [("docs/gate.md", line) for line in re.findall(r"(?:`|^\$ )(crosstalk [a-z][^`\n]*)", doc, re.M)]
    for where, text in texts:
        for line in re.findall(r"(?<![-/\w.])crosstalk ([a-z-]+(?: [^`\n|;]*)?)", text.replace("\\\n", " ")):
            yield where, line.split()


def flags(binary):
    return cli_help.unknown(binary, commands(), least=20)


def formats(binary):
    """Formats of reports that the examples ask for."""
    done = subprocess.run([binary, "report", "--help"], capture_output=True, text=True)
    for where, words in commands():
        if words[0] == "report" and "--format" in words:
            asked = words[words.index("--format") + 1]
            if not re.search(rf"possible values:[^\]]*\b{asked}\b", " ".join(done.stdout.split())):
                yield f"{where}: crosstalk report has no format {asked}"


def names(binary):
    """Scenarios and policies that the examples name."""
    def listed(what):
        done = subprocess.run([binary, "list", what], capture_output=True, text=True, check=True)
        return {line.split()[0] for line in done.stdout.splitlines()}

    step = loaded(WORKFLOW)["jobs"]["gate"]["steps"][-1]["with"]
    variables = loaded(GITLAB)["crosstalk-gate"]["variables"]
    inputs = loaded(ACTION)["inputs"]
    scenarios = [step["scenario"], variables["SCENARIO"]]
    policies = [step["policy"], variables["POLICY"], inputs["policy"]["default"]]
    found = [f"no built-in scenario is called {s}" for s in scenarios if s not in listed("scenarios")]
    found += [f"no ready-made policy is called {p}" for p in policies if p not in listed("policies")]
    found += [f"the action has no input {key}" for key in step if key not in inputs]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crosstalk", default=str(ROOT / "target" / "debug" / "crosstalk"))
    binary = parser.parse_args().crosstalk
    problems, skipped = [], []

    def step(what, check):
        try:
            found = list(check())
        except (Missing, ImportError, FileNotFoundError) as missing:
            skipped.append(f"{what}: {missing}")
            return
        problems.extend(found)
        print(f"{what}: {'ok' if not found else f'{len(found)} problems'}")

    step("schemas", schemas)
    step("shell", shell)
    step("flags", lambda: flags(binary))
    step("formats", lambda: formats(binary))
    step("names", lambda: names(binary))
    for what in skipped:
        print(f"not checked: {what}")
    for what in problems:
        print(what)
    return 1 if problems or (skipped and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main())
