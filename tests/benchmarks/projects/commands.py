"""A baked project's commands, each with its time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def baked(directory: Path) -> Path:
    """A project named Bench in a directory."""
    timed(["cookiecutter", ROOT, "--no-input", "project_name=Bench", "--output-dir", directory], ROOT)
    return directory / "bench"


def timed(command: list[str | Path], directory: Path, **variables: str) -> float:
    """Seconds of a command that must succeed; it finds this Python's programs first, and no tracking address."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": programs, **variables}
    environment.pop("MLFLOW_TRACKING_URI", None)
    start = time.perf_counter()
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start
