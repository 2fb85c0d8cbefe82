#!/usr/bin/env python3
"""What DVC and the record of a run cost, on the generated project: `python tests/benchmarks/pipeline.py [ROUNDS]`.

First and no-op `dvc repro` of the default configuration; then `dvc repro` of the train stage beside plain
`python -m <package>.train` with the same three epochs, in turns, as a ratio of medians.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from projects.commands import baked, timed

SHORT = "max_epochs: 3"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as directory:
        project = baked(Path(directory))
        first = timed(["dvc", "repro"], project)
        again = statistics.median(timed(["dvc", "repro"], project) for _ in range(rounds))
        trainer = project / "configs" / "trainer" / "default.yaml"
        trainer.write_text(trainer.read_text().replace("max_epochs: 15", SHORT))
        timed(["dvc", "repro"], project)
        plain, staged = [], []
        for _ in range(rounds):
            plain.append(timed([sys.executable, "-m", "bench.train"], project))
            staged.append(timed(["dvc", "repro", "--single-item", "--force", "train"], project))
    rows = [
        ("first dvc repro, 15 epochs", first, None),
        ("no-op dvc repro", again, None),
        ("python -m bench.train, 3 epochs", statistics.median(plain), 1.0),
        (
            "dvc repro -s train, 3 epochs",
            statistics.median(staged),
            statistics.median(staged) / statistics.median(plain),
        ),
    ]
    print(f"{'median of ' + str(rounds):34}{'seconds':>9}{'ratio':>8}   load {os.getloadavg()[0]:.1f}")
    for label, seconds, ratio in rows:
        print(f"{label:34}{seconds:9.2f}" + (f"{ratio:8.2f}" if ratio else ""))


if __name__ == "__main__":
    main()
