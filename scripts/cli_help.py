"""What `crosstalk VERB --help` knows, for checks of texts that use it."""

import re
import subprocess


def unknown(binary, commands, least):
    """Verbs and flags of `commands`, pairs of a place and words, that crosstalk has not. Fewer than `least` flags in all: whatever
    searched for them is broken."""
    helps, found, seen = {}, [], 0
    for where, words in commands:
        verb = words[0]
        if verb not in helps:
            done = subprocess.run([binary, verb, "--help"], capture_output=True, text=True)
            helps[verb] = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", done.stdout)) if done.returncode == 0 else None
        if helps[verb] is None:
            found.append(f"{where}: crosstalk has no verb {verb}")
            continue
        for flag in (w.split("=")[0] for w in words if w.startswith("--")):
            seen += 1
            if flag not in helps[verb]:
                found.append(f"{where}: crosstalk {verb} has no {flag}")
    return found if seen >= least else [*found, f"only {seen} flags were found: the search for them is broken"]
