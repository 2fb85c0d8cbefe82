"""Run folders in each state that `dovetail sync` knows, made by real trainers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Patient

TRAIN = """
import sys, time
import mlflow_dovetail as dt
with dt.start_run(experiment_name="digits") as run:
    run.log_metrics({"loss": 0.1}, step=0)
    (run.folder / "logged").touch()
    while sys.argv[1] == "wait":
        time.sleep(0.1)
"""


@pytest.fixture
def train(patient: Patient) -> Callable[..., Path]:
    """`train("end" or "wait", **variables)`: the run folder of a training that has ended, or is killed at once."""
    (patient.root / "train.py").write_text(TRAIN)

    def wait_for_new(before: set[Path]) -> Path:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            logged = {path.parent for path in patient.root.glob(".dovetail/runs/*/logged")} - before
            if logged:
                return logged.pop()
            time.sleep(0.05)
        raise AssertionError("no run has begun")

    def run(how: str, **variables: str) -> Path:
        before = set(patient.root.glob(".dovetail/runs/*"))
        process = subprocess.Popen(
            [sys.executable, "train.py", how],
            cwd=patient.root,
            env={**patient.environment, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if how == "wait":
            folder = wait_for_new(before)
            wait_for_recorder(folder)  # it must not end the run for its trainer
            for pid in recorders_of(folder):
                os.kill(pid, 9)
            process.kill()
        assert process.wait(60) == (0 if how == "end" else -9)
        (folder,) = set(patient.root.glob(".dovetail/runs/*")) - before
        return folder

    return run


def recorders_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"mlflow_dovetail.run.recorder" in command and str(folder).encode() in command:
            found.append(int(entry.name))
    return found


def wait_for_recorder(folder: Path, *, gone: bool = False) -> None:
    deadline = time.monotonic() + 60
    while bool(recorders_of(folder)) == gone:
        assert time.monotonic() < deadline, "the recorder"
        time.sleep(0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_each_state_is_told_with_what_sync_would_do(patient: Patient, train: Callable[..., Path]):
    offline = train("end", DOVETAIL_OFFLINE="1")
    wait_for_recorder(offline, gone=True)
    told = patient.only("runs", "warning")
    assert offline.name[:8] in told.what and "is not wholly in its store" in told.what and "dovetail sync" in told.do

    patient.call(sys.executable, "-m", "mlflow_dovetail", "sync")
    patient.is_well("runs")
    assert patient.examine("runs")[0].what == "1 run is in its store."

    killed = train("wait", DOVETAIL_OFFLINE="1")
    told = patient.only("runs", "warning")
    assert killed.name[:8] in told.what and "ended without a word" in told.what and "FAILED" in told.do

    (killed / "run.json").write_bytes(b"{")
    told = patient.only("runs", "problem")
    assert killed.name[:8] in told.what and "cannot be read" in told.what

    (offline / "artifacts").mkdir(exist_ok=True)
    (offline / "artifacts/model.ckpt.damaged").touch()
    told = patient.only("runs", "warning")
    assert offline.name[:8] in told.what and "damaged in part" in told.what


def test_a_project_without_runs(patient: Patient):
    patient.is_well("runs")
