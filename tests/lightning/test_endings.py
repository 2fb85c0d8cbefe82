"""How a training ends is what its run says, with DovetailLogger and with Lightning's own, with no code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_dovetail import names, store
from mlflow_dovetail.records import Run

TRAINING = Path(__file__).parent / "training.py"
WAIT_SECONDS = 90


def start(folder: Path, kind: str, end: str, **arguments: object) -> subprocess.Popen[str]:
    """A training in `folder`, which is a project of its own."""
    (folder / "pyproject.toml").touch()
    command = [sys.executable, str(TRAINING), kind, "sqlite:///mlflow.db", end, json.dumps(arguments)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def the_run(folder: Path) -> Run:
    """The only run of the project."""
    with store.open(f"sqlite:///{folder / 'mlflow.db'}", "lines") as opened:
        (run,) = opened._search("")
        return opened.get_run(run.run_id)


def artifacts(folder: Path, run: Run) -> set[str]:
    with store.open(f"sqlite:///{folder / 'mlflow.db'}") as opened:
        return {one.path for one in opened.list_artifacts(run.run_id)}


def until(condition, what: str) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.parametrize("kind", ["dovetail", "mlflow"])
@pytest.mark.parametrize(
    ("end", "code", "status", "cause"),
    [
        ("normal", 0, "FINISHED", None),
        ("exception", 1, "FAILED", "exception: ValueError: the model is wrong"),
        ("sys.exit(3)", 3, "FAILED", "sys.exit(3)"),
        ("sys.exit(0)", 0, "FINISHED", None),
    ],
)
def test_the_end_of_a_training_is_told(tmp_path, kind, end, code, status, cause):
    training = start(tmp_path, kind, end)
    output, _ = training.communicate(timeout=WAIT_SECONDS)
    assert training.returncode == code, output
    run = the_run(tmp_path)
    assert (run.status, run.tags.get(names.TAG_END_CAUSE)) == (status, cause), output
    kept = artifacts(tmp_path, run)
    assert (names.ARTIFACT_TRACEBACK in kept) == (status == "FAILED")
    assert {names.ARTIFACT_CONSOLE, names.ARTIFACT_REQUIREMENTS, names.ARTIFACT_HOST} <= kept
    # Started in no repository: it is the script's own that counts, which is this one.
    assert run.tags[names.TAG_CODE_VERDICT].startswith("exact")
    assert "code/state.json" in kept


@pytest.mark.parametrize("kind", ["dovetail", "mlflow"])
@pytest.mark.parametrize(
    ("number", "code", "status", "cause"),
    [
        (signal.SIGTERM, 143, "KILLED", "SIGTERM"),
        (signal.SIGINT, 1, "KILLED", "SIGINT"),
        (signal.SIGKILL, -9, "FAILED", "vanished"),
    ],
)
def test_a_signal_ends_a_training_and_the_run_says_so(tmp_path, kind, number, code, status, cause):
    training = start(tmp_path, kind, "wait")
    until((tmp_path / "ready").exists, "no step")
    training.send_signal(number)
    output, _ = training.communicate(timeout=WAIT_SECONDS)
    assert training.returncode == code, output
    until(lambda: the_run(tmp_path).tags.get(names.TAG_END_CAUSE), "the recorder closes no run")
    run = the_run(tmp_path)
    assert (run.status, run.tags[names.TAG_END_CAUSE]) == (status, cause)
    artifacts_of_run = tmp_path / "mlartifacts" / "lines" / run.run_id / "artifacts"
    assert "hello from the training" in (artifacts_of_run / names.ARTIFACT_CONSOLE).read_text()
