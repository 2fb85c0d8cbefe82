#!/usr/bin/env python3
"""What a sweep costs beside plain runs: `python tests/benchmarks/sweeps.py [TRIALS]`, 16 when left out.

On the generated project, with one batch and one epoch a run: a sweep in one process, the same with two workers of
joblib, and as many plain runs, a process each.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from projects.commands import baked, timed

FAST = ("debug=default", "trainer.enable_progress_bar=false", "callbacks.predictions=false")


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    load = os.getloadavg()[0]
    os.environ["OMP_NUM_THREADS"] = "1"  # as one of two workers has it
    with tempfile.TemporaryDirectory() as directory:
        project = baked(Path(directory))
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


if __name__ == "__main__":
    main()
