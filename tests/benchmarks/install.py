#!/usr/bin/env python3
"""What an installation from the lock costs: `python tests/benchmarks/install.py [PACKAGE ...]`.

The download of every package of the lock, from where pip is told to look; then, from these files alone, an installation
into a new environment, and one without compiling, as CI does. PACKAGE limits it to some of the lock.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = next(ROOT.glob("template/*cookiecutter*/requirements.lock"))


def main() -> None:
    wanted = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if re.match(r"\w", line)]
    if sys.argv[1:]:
        wanted = [line for line in wanted if re.match(r"[\w.-]+", line)[0] in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "requirements.txt").write_text("\n".join([*wanted, ""]), encoding="utf-8")
        rows = {
            "download": (timed(lambda: download(place)), megabytes(place / "wheels")),
            "install": (timed(lambda: install(place)), megabytes(place / "environment")),
            "install, not compiled": (timed(lambda: install(place, "--no-compile")), megabytes(place / "environment")),
        }
    compiled = rows["install"][0]
    print(f"{len(wanted)} lines of the lock     {'seconds':>9}{'ratio':>8}{'MB':>8}   load {os.getloadavg()[0]:.1f}")
    for name, (seconds, size) in rows.items():
        print(f"{name:26}{seconds:9.1f}{seconds / compiled:8.2f}{size:8.0f}")


def download(place: Path) -> None:
    pip(Path(sys.executable), "download", "-d", place / "wheels", "-r", place / "requirements.txt")


def install(place: Path, *options: str) -> None:
    """A new environment, and all of the lock in it."""
    environment = place / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
    source = ("--no-index", "--find-links", place / "wheels", "-r", place / "requirements.txt")
    pip(environment / "bin" / "python", "install", *options, *source)


def pip(python: Path, *arguments: str | Path) -> None:
    verb, *rest = arguments
    command = [python, "-m", "pip", verb, "--quiet", "--no-deps", "--disable-pip-version-check", *rest]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def timed(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


if __name__ == "__main__":
    main()
