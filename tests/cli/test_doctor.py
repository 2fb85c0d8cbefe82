"""`dovetail doctor`: what it prints, its JSON, its exit codes, and the shell that it tells of."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doctor import conftest
from doctor.conftest import Patient

from mlflow_dovetail.cli.doctor import as_page
from mlflow_dovetail.doctor import Finding
from mlflow_dovetail.system_metrics.nvml import DRIVER_FOLDER

patient, well = conftest.patient, conftest.well

FOUND = [
    Finding("ok", "All is well with this one.", check="versions"),
    Finding("problem", "The database /data/mlflow.db is damaged.", "SQLite says: no.", "Run: dovetail sync", "store"),
    Finding("warning", "A\x1b[31m word " * 20, "because " * 30, "/a/long/path/" + "that-stays/whole/" * 5, "dvc"),
]


def run_doctor(patient: Patient, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlflow_dovetail", "doctor", *words]
    environment = {**patient.environment, "COLUMNS": "80"}
    return subprocess.run(command, cwd=patient.root, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.skipif(DRIVER_FOLDER.exists(), reason="this machine's GPU may be worth a word")
def test_a_project_that_is_well(patient: Patient):
    done = run_doctor(patient)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n\nAll is well.\n")
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if "/" not in line) <= 80  # a path stays whole
    assert {line.split()[0] for line in lines if line[:1] not in ("", " ")} == {"ok", "All"}


def test_a_project_that_is_not_as_json_from_elsewhere(patient: Patient, tmp_path: Path):
    """In the user's own shell, not in what the command has set for itself, with neither git nor a repository."""
    shutil.rmtree(patient.root / ".git")
    (tmp_path / "bin").mkdir()
    (tmp_path / "other.db").write_bytes(b"no database")
    elsewhere = Patient(tmp_path, patient.home, {"PATH": str(tmp_path / "bin")})
    address = f"sqlite:///{tmp_path / 'other.db'}"
    done = run_doctor(elsewhere, "--json", "--tracking-uri", address, str(patient.root))
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)["findings"]
    assert {tuple(sorted(one)) for one in found} == {("check", "do", "level", "what", "why")}
    problems = {one["check"]: one for one in found if one["level"] == "problem"}
    assert problems.keys() == {"store", "git"}
    assert "other.db" in problems["store"]["what"] and problems["store"]["why"] and problems["store"]["do"]
    assert "Git is not installed" in problems["git"]["what"]
    assert any("MLflow tells its makers" in one["what"] for one in found)
    assert any(str(patient.root.parent / "remote") in one["what"] for one in found)  # of the folder that was named


@pytest.mark.parametrize("words", [("no-such-folder",), ("--no-such-option",)])
def test_wrong_usage(patient: Patient, words: tuple[str, ...]):
    assert run_doctor(patient, *words).returncode == 2


@pytest.mark.parametrize("width", [20, 80, 200])
def test_the_page_is_wrapped_aligned_and_inert(width: int):
    page = as_page(FOUND, width=width, colour=False)
    assert "\x1b" not in page and "\\x1b[31m" in page
    assert "do   /a/long/path/that-stays/whole/that-stays/whole/" in page
    rows = [line for line in page.splitlines() if "that-stays" not in line]
    assert max(map(len, rows)) <= min(max(width, 50), 110)
    # What, why and do begin in one column.
    (problem,) = [line for line in page.splitlines() if line.startswith("problem")]
    assert problem.index("The") == 20
    assert page.endswith("1 problem, 1 warning; nothing was changed.")


def test_colours_are_for_terminals():
    assert as_page(FOUND, width=80, colour=True).startswith("\x1b[32mok")


def test_ctrl_c_ends_every_check(patient: Patient, tmp_path):
    """No child is left behind."""
    started = tmp_path / "started"
    patient.plug_in(
        "hydra.plugins",
        f"import os, pathlib, time\npathlib.Path({str(started)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n",
    )
    command = [sys.executable, "-m", "mlflow_dovetail", "doctor"]
    process = subprocess.Popen(command, cwd=patient.root, env=patient.environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
