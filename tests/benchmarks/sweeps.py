#!/usr/bin/env python3
"""What a sweep costs beside plain runs: `python tests/benchmarks/sweeps.py [TRIALS]`, 16 when left out.

On the generated project, with one batch and one epoch a run: a sweep in one process, the same with two workers of
joblib, and as many plain runs, a process each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAST = ("debug=default", "trainer.enable_progress_bar=false", "callbacks.predictions=false")


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        bake = ["cookiecutter", str(ROOT), "--no-input", "project_name=Bench", "--output-dir", directory]
        timed(bake, ROOT)
        project = Path(directory) / "bench"
        train = [sys.executable, "-m", "bench.train", *FAST]
        timed(train, project)  # makes the database and the byte code
        sweep = [*train, "-m", "sweep=random", f"hydra.sweeper.n_trials={trials}"]
        two = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.study_name=two"]
        rows = [
            ("plain runs, a process each", sum(timed([*train, f"seed={one}"], project) for one in range(trials))),
            ("one sweep, one process", timed(sweep, project)),
            ("one sweep, joblib with two", timed([*sweep, *two], project)),
        ]
    plain = rows[0][1]
    print(
        f"{f'{trials} trials':30}{'seconds':>9}{'a trial':>9}{'ratio':>8}   load {load:.1f} to {os.getloadavg()[0]:.1f}"
    )
    for label, seconds in rows:
        print(f"{label:30}{seconds:9.1f}{seconds / trials:9.2f}{seconds / plain:8.2f}")


def timed(command: list[str], directory: Path) -> float:
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": programs, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    start = time.perf_counter()
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
