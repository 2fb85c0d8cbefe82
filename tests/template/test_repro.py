"""The first `dvc repro` in a new project, with the default configuration."""

from __future__ import annotations

import re

from mlflow_dovetail import names

STAGES = ["compose", "prepare", "train", "evaluate"]


def test_stages_run_in_order_without_a_warning(trained):
    assert trained.first.ran == STAGES
    assert not re.search(r"warning", trained.first.output, re.IGNORECASE), trained.first.output


def test_the_model_is_good(trained):
    assert trained.project.json("metrics.json")["best/val/acc"] >= 0.97
    assert trained.project.json("evaluation.json")["test/acc"] >= 0.95


def test_a_second_repro_has_nothing_to_do(trained):
    again = trained.project.dvc("repro")
    assert again.ran == again.restored == []
    assert "Data and pipelines are up to date." in again.output


def test_only_tracked_files_change_and_commit_am_misses_nothing(trained):
    written = {"dvc.lock", "evaluation.json", "metrics.json", "mlflow_run.json", "params.yaml"}
    assert set(trained.status) == {f"M {name}" for name in written}
    assert trained.project.git("status", "--porcelain") == ""


def test_one_repro_is_one_run(trained):
    train_runs = [run for run in trained.project.runs() if run.tags.get(names.TAG_DVC_STAGE)]
    assert [run.run_id for run in train_runs] == [trained.project.run_id]
    assert {"val/acc", "test/acc"} <= train_runs[0].metrics.keys()
    assert train_runs[0].status == "FINISHED"


def test_the_metrics_are_shown(trained):
    shown = trained.project.dvc("metrics", "show").output
    assert "best/val/acc" in shown
    assert "test/acc" in shown
    assert trained.project.run_id in shown


def test_dovetail_shows_the_run(trained):
    shown = trained.project.run("dovetail", "show", trained.project.run_id).output
    assert "FINISHED" in shown
    assert "test/acc" in shown
