#!/usr/bin/env python3
"""How long an update of the template takes, beside a bake: `python tests/benchmarks/cruft.py [REPETITIONS]`.

Each row is the median of the repetitions, in seconds; the ratio is to a bake of the same template. The newer commit has
changed a configuration, the README and a module of the plugin, so the update brings a wheel too.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from projects.commands import ROOT, timed

TEMPLATE = "template/{{cookiecutter.__project_slug}}"
CHANGED = (f"{TEMPLATE}/configs/trainer/default.yaml", f"{TEMPLATE}/README.md", "plugins/mlflow_dovetail/names.py")
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.invalid")


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rounds = [measure() for _ in range(repetitions)]
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    print(f"{'median of ' + str(repetitions):34}{'seconds':>9}{'ratio':>8}   load {os.getloadavg()[0]:.1f}")
    for name, seconds in medians.items():
        print(f"{name:34}{seconds:9.2f}{seconds / medians['bake']:8.2f}")


def measure() -> dict[str, float]:
    """One project, made from a clone of this repository's last commit, and its update."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        config = place / "cookiecutter.yaml"
        config.write_text(f"cookiecutters_dir: {place / 'clones'}\nreplay_dir: {place / 'replay'}\n")
        template, project = place / "dovetail", place / "bench"
        seconds = {"git clone of the template": timed(["git", "clone", "--quiet", ROOT, template], place)}
        bake = [sys.executable, "-m", "cookiecutter", template, "--no-input", "project_name=Bench"]
        seconds["bake"] = timed(bake, place, COOKIECUTTER_CONFIG=str(config))
        cruft = [sys.executable, "-m", "cruft"]
        seconds["cruft check, nothing new"] = timed([*cruft, "check"], project)
        for name in CHANGED:
            with (template / name).open("a", encoding="utf-8") as file:
                file.write("# newer\n")
        timed(["git", *IDENTITY, "commit", "--quiet", "--all", "-m", "Newer"], template)
        seconds["cruft update"] = timed([*cruft, "update", "--skip-apply-ask"], project)
    return seconds


if __name__ == "__main__":
    main()
