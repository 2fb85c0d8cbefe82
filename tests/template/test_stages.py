"""An edit runs again exactly the stages that it touches, and results of before come back from the run cache."""

from __future__ import annotations

import pytest

ALL = ["compose", "prepare", "train", "evaluate"]

# (what is edited, the file, before, after, the stages that run)
EDITS = [
    ("the split", "configs/data/digits.yaml", "val_fraction: 0.15", "val_fraction: 0.2", ALL),
    ("the batch", "configs/data/digits.yaml", "batch_size: 64", "batch_size: 32", ["compose", "train", "evaluate"]),
    ("an unselected file", "configs/model/mlp.yaml", "hidden: 128", "hidden: 256", ["compose"]),
    ("the notes", "configs/train.yaml", "notes: null", "notes: Why this run", ["compose"]),
    (
        "a source file",
        "digits_classifier/evaluate.py",
        '"""Stage evaluate: test',
        '"""Stage evaluate: Test',
        ["evaluate"],
    ),
]


@pytest.fixture(scope="module")
def project(new_project):
    """Trained for one epoch, committed."""
    project = new_project(epochs=1)
    assert project.dvc("repro").ran == ALL
    project.git("commit", "-qam", "First results")
    return project


@pytest.mark.parametrize(("what", "file", "before", "after", "stages"), EDITS, ids=[edit[0] for edit in EDITS])
def test_an_edit_runs_what_it_touches(project, what, file, before, after, stages):
    link = project.json("mlflow_run.json")
    with project.edited(file, before, after):
        done = project.dvc("repro")
    assert (done.ran, done.restored) == (stages, [])
    assert (project.json("mlflow_run.json") != link) == ("train" in stages)
    # And back: nothing is trained twice.
    back = project.dvc("repro")
    assert "train" not in back.ran
    assert project.json("mlflow_run.json") == link
    assert project.git("status", "--porcelain") == ""


def test_results_come_back_from_the_run_cache(project):
    first, model = project.json("mlflow_run.json"), (project.path / "model.ckpt").read_bytes()
    with project.edited("configs/model/cnn.yaml", "lr: 0.003", "lr: 0.03"):
        done = project.dvc("repro")
        assert done.ran == ["compose", "train", "evaluate"]
        assert "model.lr: 0.003 -> 0.03" in done.output
        assert project.json("mlflow_run.json") != first
        assert (project.path / "model.ckpt").read_bytes() != model
    with project.new_runs() as made:
        back = project.dvc("repro")
    assert back.restored == ["train", "evaluate"]
    assert made == []
    assert project.json("mlflow_run.json") == first
    assert (project.path / "model.ckpt").read_bytes() == model


def test_a_training_that_fails_is_told_and_ends_failed(project):
    before = project.results()
    step = "        loss: Tensor = self.loss(self(images), labels)\n"
    wrong = '        raise ValueError("the model is wrong")\n'
    with project.edited("digits_classifier/model.py", step, wrong + step), project.new_runs() as made:
        done = project.attempt("dvc", "repro")
    assert done.code != 0
    assert "the model is wrong" in done.output
    assert "failed to reproduce 'train'" in done.output
    assert [run.status for run in made] == ["FAILED"]
    # DVC removes a stage's outputs before it runs; the code put right, they come back without training.
    assert "train" not in project.dvc("repro").ran
    assert project.results() == before
