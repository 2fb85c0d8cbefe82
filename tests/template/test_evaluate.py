"""`python -m <package>.evaluate` adds to the run that made the model, or says why it cannot."""

from __future__ import annotations

import pytest

WORKING = "        scores = self(images)\n"
BROKEN = '        if stage == "test":\n            raise ValueError("the test is wrong")\n' + WORKING


def test_alone_it_appends_and_the_run_ends_finished_again(trained):
    project = trained.project
    before = project.store.metric_history(project.run_id, "test/acc")
    project.run(*project.module("evaluate"))
    after = project.store.metric_history(project.run_id, "test/acc")
    assert len(after) == len(before) + 1
    assert project.store.get_run(project.run_id).status == "FINISHED"
    assert project.git("status", "--porcelain") == ""


def test_a_failure_is_told_and_the_run_ends_failed(trained):
    project = trained.project
    try:
        with project.edited("digits_classifier/model.py", WORKING, BROKEN):
            done = project.attempt(*project.module("evaluate"))
        assert done.code != 0
        assert "the test is wrong" in done.output
        assert project.store.get_run(project.run_id).status == "FAILED"
    finally:
        project.run(*project.module("evaluate"))
    assert project.store.get_run(project.run_id).status == "FINISHED"


@pytest.mark.parametrize("missing", ["mlflow_run.json", "model.ckpt"])
def test_without_its_input_it_says_what_to_run(trained, tmp_path, missing):
    for name in {"mlflow_run.json", "model.ckpt"} - {missing}:
        (tmp_path / name).write_bytes((trained.project.path / name).read_bytes())
    done = trained.project.attempt(*trained.project.module("evaluate", "--run-dir", str(tmp_path)))
    assert done.code != 0
    assert missing in done.output
    assert "Run `dvc repro train` first" in done.output
    assert "Traceback" not in done.output


def test_a_run_of_another_machine_is_named(trained, tmp_path):
    """A colleague has model.ckpt and mlflow_run.json from the repository, and no run of that id."""
    project = trained.project
    for name in ("mlflow_run.json", "model.ckpt"):
        (tmp_path / name).write_bytes((project.path / name).read_bytes())
    other = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    done = project.attempt(*project.module("evaluate", "--run-dir", str(tmp_path)), **other)
    assert done.code != 0
    assert "Nothing was evaluated" in done.output
    assert "MLFLOW_TRACKING_URI" in done.output
    assert "dvc repro" in done.output
    assert "Traceback" not in done.output
