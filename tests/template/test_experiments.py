"""DVC's experiments: overrides without an edit, listed with their run, applied without training again."""

from __future__ import annotations

import csv
import io
import json

import pytest

from mlflow_dovetail import names

FAST = "-S", "trainer.max_epochs=1", "-S", "trainer.enable_progress_bar=false"


@pytest.fixture(scope="module")
def project(new_project):
    """Never trained, with the one experiment `small` run in it."""
    project = new_project()
    done = project.dvc("exp", "run", "--name", "small", "-S", "model=mlp", "-S", "model.lr=0.01", *FAST)
    assert done.ran == ["compose", "prepare", "train", "evaluate"]
    return project


def test_the_run_has_the_overrides_and_the_experiments_name(project):
    (run,) = project.runs()
    assert run.run_id == project.run_id
    assert run.status == "FINISHED"
    assert {"model.name": "mlp", "model.lr": "0.01", "trainer.max_epochs": "1"}.items() <= run.params.items()
    assert run.tags[names.TAG_DVC_EXPERIMENT] == "small"
    assert run.tags[names.TAG_DVC_BASELINE_REV] == project.git("rev-parse", "HEAD")
    assert "test/acc" in run.metrics


def test_the_run_id_is_a_column(project):
    table = list(csv.DictReader(io.StringIO(project.run("dvc", "exp", "show", "--csv").output)))
    (row,) = [row for row in table if row["Experiment"] == "small"]
    assert row["run_id"] == project.run_id
    assert float(row["val/acc"]) == pytest.approx(project.json("metrics.json")["val/acc"])
    shown = json.dumps(json.loads(project.run("dvc", "exp", "show", "--json").output))
    assert f'"run_id": "{project.run_id}"' in shown
    assert "run_id" in project.run("dvc", "exp", "show", "--no-pager", COLUMNS="1000").output


def test_apply_brings_the_results_back_and_repro_has_nothing_to_do(project):
    mine = project.results()
    assert project.git("status", "--porcelain") != ""
    project.git("checkout", ".")
    project.dvc("checkout", "--force", "--allow-missing")
    assert project.results() != mine
    project.dvc("exp", "apply", "small")
    assert project.results() == mine
    again = project.dvc("repro")
    assert again.ran == again.restored == []
    assert "Data and pipelines are up to date." in again.output
    assert len(project.runs()) == 1


def test_without_the_override_compose_says_what_it_drops(project):
    """`params.yaml` is made from configs/ alone: a new composition loses the experiment's values, and says so."""
    project.edit("configs/train.yaml", "notes: null", "notes: again")
    done = project.dvc("repro", "compose")
    assert "params.yaml: model.lr: 0.01 -> 0.003" in done.output
