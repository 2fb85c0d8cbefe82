"""Queued experiments run what was queued, two at once, and their runs stay in the project's store."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from mlflow_dovetail import names

FAST = "-S", "trainer.max_epochs=1", "-S", "trainer.enable_progress_bar=false"
STEP = "        loss: Tensor = self.loss(self(images), labels)\n"
MARKED = STEP + '        self.log("train/queued", 1.0)\n'
WRONG = STEP + '        raise ValueError("this was edited after queueing")\n'
LIMIT_SECONDS = 240


def work_off(project, *experiments: str) -> None:
    """Start the queue and wait for the experiments; a failed one shows its log."""
    project.dvc("queue", "start", f"-j{len(experiments)}")
    deadline = time.monotonic() + LIMIT_SECONDS
    states: list[str] = []
    while time.monotonic() < deadline:
        lines = project.dvc("queue", "status").output.splitlines()
        states = [line for line in lines if any(name in line for name in experiments)]
        if not any(state in line for line in states for state in ("Queued", "Running")):
            break
        time.sleep(1)
    logs = "\n".join(project.attempt("dvc", "queue", "logs", name).output for name in experiments)
    assert len(states) == len(experiments), logs
    assert all("Success" in line for line in states), "\n".join(states) + logs
    project.attempt("dvc", "queue", "stop")


@pytest.fixture(scope="module")
def project(new_project):
    """Two experiments of one code, queued before the code was edited, on a store that is not there yet."""
    project = new_project()
    with project.edited("digits_classifier/model.py", STEP, MARKED):
        for name, dropout in (("less", 0.1), ("more", 0.4)):
            project.dvc("exp", "run", "--queue", "--name", name, "-S", f"model.dropout={dropout}", *FAST)
    assert not (project.path / "mlflow.db").exists()
    with project.edited("digits_classifier/model.py", STEP, WRONG):
        work_off(project, "less", "more")
    return project


def test_both_runs_are_in_the_projects_store(project):
    runs = {run.tags[names.TAG_DVC_EXPERIMENT]: run for run in project.runs()}
    assert {name: run.status for name, run in runs.items()} == {"less": "FINISHED", "more": "FINISHED"}
    assert [runs[name].params["model.dropout"] for name in ("less", "more")] == ["0.1", "0.4"]
    assert all("test/acc" in run.metrics for run in runs.values())


def test_they_ran_the_code_that_was_queued(project):
    assert all(run.metrics["train/queued"] == 1.0 for run in project.runs())


def test_their_artifacts_stay_when_the_workspaces_are_gone(project):
    assert list((project.path / ".dvc" / "tmp" / "exps").glob("tmp*")) == []
    for run in project.runs():
        folder = Path(url2pathname(urlsplit(run.artifact_uri).path))
        assert folder.is_relative_to(project.path / "mlartifacts")
        assert (folder / "checkpoints" / "best.ckpt").is_file()
        (model,) = project.client.get_run(run.run_id).outputs.model_outputs
        stored = project.client.get_logged_model(model.model_id).artifact_location
        assert (Path(url2pathname(urlsplit(stored).path)) / "MLmodel").is_file()
        # The data's place is the project's, not that of a workspace.
        (digits,) = [one for one in run.inputs if one.name == "digits"]
        assert (project.path / "data" / "raw" / "digits.csv").as_uri() in digits.source


def test_the_workspace_is_untouched(project):
    assert project.git("status", "--porcelain") == ""
    assert not (project.path / "model.ckpt").exists()


def test_a_queued_one_can_be_applied(project):
    project.dvc("exp", "apply", "less")
    assert project.store.get_run(project.run_id).tags[names.TAG_DVC_EXPERIMENT] == "less"
    assert project.dvc("repro").ran == []


def test_the_address_in_env_is_honoured_in_a_queued_experiment(new_project, tmp_path):
    project = new_project()
    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    (project.path / ".env").write_text(f"MLFLOW_TRACKING_URI={uri}\n", encoding="utf-8")
    project.dvc("exp", "run", "--queue", "--name", "shared", "-S", "debug=default", *FAST)
    work_off(project, "shared")
    (run,) = project.runs(uri)
    assert (run.status, run.tags[names.TAG_DVC_EXPERIMENT]) == ("FINISHED", "shared")
    assert not (project.path / "mlflow.db").exists()
