"""The programs that print the figures run, in their smallest size."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"`python (tests/benchmarks/\w+\.py)([^`]*)`", FIGURES)
SMALLEST = {
    "bake": ["1"],
    "cruft": ["1"],
    "code_capture": ["--files", "100", "--rounds", "1"],
    "install": ["pluggy"],
    "import_time": ["--runs", "1"],
    "link": ["--sizes", "20,5", "--rounds", "1", "--seconds", "0"],
    "log_metrics": [
        *("--peers", "dovetail-sqlite", "wandb", "--metrics", "10", "--steps", "20"),
        *("--repetitions", "1", "--drain-points", "1000"),
    ],
    "log_metrics_lightning": ["--seconds", "1", "--pairs", "1"],
    "pipeline": ["1"],
    "provider": ["--files", "100"],
    "sweeps": ["1"],
    "system_metrics": ["--gpus", "1", "--seconds", "2", "--pairs", "0"],
    "tables": ["--rows", "2000", "--image-rows", "5", "--peer-rows", "2"],
    "tables_epochs": ["--rows", "20000", "--epochs", "2"],
    "tables_training": ["--train", "8", "--val", "8", "--batch", "4", "--epochs", "4"],
}


def test_every_benchmark_has_its_figures():
    assert {Path(program).stem for program, _ in COMMANDS} == {path.stem for path in ROOT.glob("tests/benchmarks/*.py")}


@pytest.mark.parametrize("program", sorted({program for program, _ in COMMANDS}))
def test_it_prints_its_table(program):
    command = [sys.executable, ROOT / program, *SMALLEST[Path(program).stem]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if re.search(r"\d", line)]
    assert rows, done.stdout
