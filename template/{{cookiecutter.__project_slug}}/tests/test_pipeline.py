"""`dvc repro` works from a clone: it trains, links the run, and has nothing to do the second time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from conftest import ROOT

DVC = [sys.executable, "-m", "dvc"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it stands here, in a repository of its own, with one short epoch to train."""
    clone = tmp_path_factory.mktemp("clone") / "project"
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    listed = subprocess.run([*git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in [*filter(None, listed.split("\0")), "data/raw/digits.csv"]:
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, clone / name)
    trainer = clone / "configs" / "trainer" / "default.yaml"
    trainer.write_text(trainer.read_text(encoding="utf-8").replace("max_epochs: 15", "max_epochs: 1"), encoding="utf-8")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "clone"]):
        subprocess.run([*git, *command], cwd=clone, check=True)
    return clone


def dvc(clone: Path, *arguments: str) -> str:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": ""}
    done = subprocess.run(
        [*DVC, *arguments], cwd=clone, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_repro_trains_links_and_is_then_done(clone):
    dvc(clone, "repro")
    run_id = json.loads((clone / "mlflow_run.json").read_text(encoding="utf-8"))["run_id"]
    run = mlflow.MlflowClient(f"sqlite:///{clone / 'mlflow.db'}").get_run(run_id)
    assert run.info.status == "FINISHED"
    assert {"val/acc", "test/acc"} <= run.data.metrics.keys()
    assert "Data and pipelines are up to date." in dvc(clone, "repro")
