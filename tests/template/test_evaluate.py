"""`python -m <package>.evaluate` adds to the run that made the model, or says why it cannot."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from .project import Project

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
    # The table knows what was evaluated.
    command = ("dovetail", "predictions", "show", project.run_id, "--table", "test", "--json")
    rows = json.loads(project.run(*command).output)["rows"]
    model = torch.load(project.path / "model.ckpt", weights_only=True)
    assert {(row["epoch"], row["step"]) for row in rows} == {(model["epoch"], model["global_step"])}


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


def test_a_colleague_without_the_run_evaluates_and_is_told(trained, tmp_path):
    """A clone has the model and the link, and no store with the run: the results are good without it."""
    owner = trained.project
    owner.git("clone", "--quiet", ".", str(tmp_path / "colleague"))
    colleague = Project(tmp_path / "colleague", owner.environment)
    shutil.copyfile(owner.path / "model.ckpt", colleague.path / "model.ckpt")
    shutil.copytree(owner.path / "data" / "prepared", colleague.path / "data" / "prepared")
    (colleague.path / "evaluation.json").unlink()
    done = colleague.run(*colleague.module("evaluate"))
    assert "The results are written to evaluation.json and not added to the run. There is no database" in done.output
    assert "Traceback" not in done.output
    assert colleague.json("evaluation.json") == owner.json("evaluation.json")
    assert not (colleague.path / "mlflow.db").exists()
    assert colleague.git("status", "--porcelain") == ""


def test_the_links_store_counts_and_not_the_environments(trained, tmp_path):
    """The run is where it was made, wherever new runs go now."""
    project = trained.project
    before = project.store.metric_history(project.run_id, "test/acc")
    project.run(*project.module("evaluate"), MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert len(project.store.metric_history(project.run_id, "test/acc")) == len(before) + 1
    assert not (tmp_path / "mlflow.db").exists()
