"""How long a bake takes, beside a plain copy of the template: `python tests/benchmarks/bake.py [repetitions]`.

Each row is the median of the repetitions, in seconds. The second column is the ratio to the copy.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def copy(target: Path) -> None:
    shutil.copytree(ROOT / "template", target / "copy")


def bake(source: str) -> Callable[[Path], None]:
    def run(target: Path) -> None:
        config = target / "cookiecutter.yaml"
        config.write_text(f"cookiecutters_dir: {target / 'clones'}\nreplay_dir: {target / 'replay'}\n")
        environment = {**os.environ, "COOKIECUTTER_CONFIG": str(config)}
        command = [sys.executable, "-m", "cookiecutter", source, "--no-input"]
        subprocess.run(command, cwd=target, env=environment, check=True, capture_output=True)

    return run


def start_cookiecutter(target: Path) -> None:
    subprocess.run([sys.executable, "-m", "cookiecutter", "--version"], cwd=target, check=True, capture_output=True)


def median_seconds(action: Callable[[Path], None], repetitions: int) -> float:
    seconds = []
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            action(Path(folder))
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main(repetitions: int) -> None:
    rows = {
        "shutil.copytree(template)": copy,
        "cookiecutter --version": start_cookiecutter,
        "cookiecutter <checkout>": bake(str(ROOT)),
        "cookiecutter git+file://<checkout>": bake(f"git+{ROOT.as_uri()}"),
    }
    medians = {name: median_seconds(action, repetitions) for name, action in rows.items()}
    plain = medians["shutil.copytree(template)"]
    print(f"{'':36}{'seconds':>9}{'ratio':>9}   median of {repetitions}")
    for name, seconds in medians.items():
        print(f"{name:36}{seconds:9.3f}{seconds / plain:9.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
