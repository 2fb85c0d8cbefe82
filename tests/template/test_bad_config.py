"""A wrong configuration or missing data stops everything before it starts, by name, and spoils no result."""

from __future__ import annotations

import pytest

from .project import QUIET, RESULTS

CNN = "configs/model/cnn.yaml"
# (the line of the file, what it is made, what the message has to say)
FILES = [
    ("lr: 0.003", "lrr: 0.003", ["configs/model/cnn.yaml:5", "'model.lrr'", "Did you mean 'model.lr'"]),
    ("lr: 0.003", "lr: fast", ["configs/model/cnn.yaml:5", "'model.lr'", "'fast' of type 'str'", "Float"]),
    ("lr: 0.003", "lr: [1,", ["cnn.yaml", "line 5"]),
]
IDS = ["typo", "type", "syntax"]
# (the override on the command line, what the message has to say)
OVERRIDES = [
    ("model.lrr=0.1", ["model.lrr", "Did you mean: 'lr'"]),
    ("+model.lrr=0.1", ["'model.lrr'", "Did you mean 'model.lr'"]),
    ("model=cmn", ["model/cmn", "cnn"]),
    ("model.lr=fast", ["'model.lr'", "'fast' of type 'str'"]),
]


@pytest.fixture
def refused(trained):
    """Run a command that has to fail with all of `words`, and to leave the results as they were."""
    project = trained.project
    before = project.results()
    runs = len(project.runs())

    def check(command, words):
        done = project.attempt(*command)
        assert done.code != 0
        assert [word for word in words if word not in done.output] == [], done.output
        assert "Traceback" not in done.output
        return done

    yield check
    assert {name: project.results().get(name) for name in RESULTS} == {name: before[name] for name in RESULTS}
    assert len(project.runs()) == runs
    # `dvc exp run` writes the overrides to params.yaml before anyone can check them; composing puts it right.
    project.dvc("repro")
    assert project.results() == before
    assert project.git("status", "--porcelain") == ""


@pytest.mark.parametrize(("old", "new", "words"), FILES, ids=IDS)
def test_repro_refuses_a_wrong_file(trained, refused, old, new, words):
    with trained.project.edited(CNN, old, new):
        done = refused(["dvc", "repro"], words)
    assert done.ran == ["compose"]


@pytest.mark.parametrize(("old", "new", "words"), FILES, ids=IDS)
def test_an_experiment_refuses_a_wrong_file(trained, refused, old, new, words):
    with trained.project.edited(CNN, old, new):
        refused(["dvc", "exp", "run"], words)


@pytest.mark.parametrize(("old", "new", "words"), FILES, ids=IDS)
def test_a_direct_run_refuses_a_wrong_file(trained, refused, old, new, words):
    with trained.project.edited(CNN, old, new):
        done = refused(trained.project.module("train", QUIET), words)
    assert "Nothing was trained" in done.output


@pytest.mark.parametrize(("override", "words"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_an_experiment_refuses_a_wrong_override(refused, override, words):
    refused(["dvc", "exp", "run", "-S", override], words)


@pytest.mark.parametrize(("override", "words"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_a_direct_run_refuses_a_wrong_override(trained, refused, override, words):
    refused(trained.project.module("train", QUIET, override), words)


def test_missing_data_is_named(trained, refused):
    data = trained.project.path / "data" / "raw" / "digits.csv"
    content = data.read_bytes()
    data.unlink()
    try:
        refused(["dvc", "repro"], ["missing data", "data/raw/digits.csv"])
        refused(trained.project.module("prepare"), ["data/raw/digits.csv does not exist", "dvc pull"])
    finally:
        data.write_bytes(content)


def test_spoiled_data_is_refused(trained, refused):
    """Whole-number pixels are what the reader expects; `dvc repro` would take any new bytes for a new version."""
    data = trained.project.path / "data" / "raw" / "digits.csv"
    content = data.read_bytes()
    data.write_bytes(content.replace(b"\n0,", b"\nzero,", 1))
    try:
        refused(trained.project.module("prepare"), ["digits.csv is no table of whole numbers", "dvc checkout"])
    finally:
        data.write_bytes(content)
