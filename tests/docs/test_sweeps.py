"""docs/sweeps.md: its commands run as they stand, in a project, and what it says of them is so."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mlflow

from mlflow_dovetail import names

from .conftest import bash_blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sweeps.md"


def test_the_commands_sweep(baked: Path, tmp_path: Path, shell, own_programs: str):
    project = tmp_path / baked.name
    shutil.copytree(baked, project, symlinks=True)
    printed = shell(bash_blocks(PAGE), project, PATH=own_programs, OMP_NUM_THREADS="1")
    assert "1 of 2 trials are complete" in printed
    assert "n_jobs=2,backend=loky" in printed
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    parents = [run for run in client.search_runs(experiments) if names.TAG_SWEEP in run.data.tags]
    told = sorted(parent.data.tags[names.TAG_SWEEP_PROGRESS] for parent in parents)
    assert told == ["2 of 2", "2 of 2"]
    assert {parent.info.status for parent in parents} == {"FINISHED"}


def test_every_tag_is_one():
    tags = {value for name, value in vars(names).items() if name.startswith("TAG_SWEEP")}
    named = set(re.findall(r"`(dovetail\.sweep[\w.]*)`", PAGE.read_text(encoding="utf-8")))
    assert named and named <= tags
