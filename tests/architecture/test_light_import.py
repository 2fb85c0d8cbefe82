"""`import mlflow_dovetail` costs next to nothing: MLflow itself loads it, in every process that makes a run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mlflow_dovetail

SOURCE = Path(mlflow_dovetail.__file__).parents[1]
MOST_MILLISECONDS = 50
HEAVY = {"mlflow", "torch", "pandas", "dvc", "hydra", "pytorch_lightning", "numpy", "sqlalchemy", "filelock"}
TRIES = 5


def import_cost(module: str, path: Path) -> tuple[float, set[str]]:
    """What importing a module adds to the bare interpreter.

    Returns:
        Milliseconds, the least of several tries, so that a busy machine does not decide; and the top-level
        modules that it loads.

    Source:
        `python -X importtime`: the cumulative time, in microseconds, of the module's own line.
    """
    return min((_import_once(module, path) for _ in range(TRIES)), key=lambda cost: cost[0])


def _import_once(module: str, path: Path) -> tuple[float, set[str]]:
    code = f"import sys; import {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-X", "importtime", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    line = re.search(rf"^import time:\s+\d+ \|\s+(\d+) \| {module}$", done.stderr, re.MULTILINE)
    assert line, done.stderr
    return int(line[1]) / 1000, set(done.stdout.split())


def check(module: str, path: Path) -> None:
    milliseconds, loaded = import_cost(module, path)
    assert not HEAVY & loaded
    assert milliseconds < MOST_MILLISECONDS


def test_the_package_is_light():
    check("mlflow_dovetail", SOURCE)


@pytest.mark.parametrize("module", ["mlflow_dovetail.store", "mlflow_dovetail.cli", "mlflow_dovetail.cli.show"])
def test_what_reads_no_run_loads_nothing_heavy(module):
    assert not HEAVY & import_cost(module, SOURCE)[1]


@pytest.mark.parametrize("code", ["import time; time.sleep(0.06)", "import sqlalchemy", "import filelock"])
def test_this_test_can_fail(tmp_path, code):
    (tmp_path / "heavy_one").mkdir()
    (tmp_path / "heavy_one/__init__.py").write_text(code)
    with pytest.raises(AssertionError):
        check("heavy_one", tmp_path)


def test_this_test_passes_an_empty_module(tmp_path):
    (tmp_path / "light_one.py").touch()
    check("light_one", tmp_path)
