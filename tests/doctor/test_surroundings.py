"""Telemetry, switches, `.env`, room on the disks and the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from mlflow_dovetail.doctor import machine

from .conftest import Patient

MLFLOW_CASES = [
    ({"MLFLOW_DISABLE_TELEMETRY": "true"}, False),
    ({"MLFLOW_DISABLE_TELEMETRY": "1"}, False),
    ({"MLFLOW_DISABLE_TELEMETRY": "false"}, True),
    ({"DO_NOT_TRACK": "true"}, False),
    ({"DO_NOT_TRACK": "1"}, True),
    ({}, True),
]


@pytest.mark.parametrize(("variables", "tells"), MLFLOW_CASES)
def test_whether_mlflow_tells(patient: Patient, variables: dict[str, str], tells: bool):
    patient.variables = variables
    found = [one for one in patient.examine("telemetry") if one.level == "note"]
    assert [one.what.split()[0] for one in found] == (["MLflow"] if tells else [])
    assert not found or "MLFLOW_DISABLE_TELEMETRY=true" in found[0].do


@pytest.mark.parametrize(("variables", "tells"), MLFLOW_CASES)
def test_the_cases_are_as_mlflow_itself_has_them(monkeypatch, variables: dict[str, str], tells: bool):
    from mlflow.telemetry import utils

    monkeypatch.setattr(utils, "_IS_IN_CI_ENV_OR_TESTING", False)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert utils.is_telemetry_disabled() is not tells


def test_dvc_tells_unless_it_is_told_not_to(patient: Patient):
    config = patient.root / ".dvc/config"
    config.write_text(config.read_text().replace("    analytics = false\n", ""))
    assert "core.analytics" in patient.only("telemetry", "note").why
    patient.variables["DVC_NO_ANALYTICS"] = "1"
    patient.is_well("telemetry")


@pytest.mark.parametrize("name", ["DOVETAIL_DISABLED", "DOVETAIL_OFFLINE", "DOVETAIL_STRICT"])
def test_a_switch_is_told(patient: Patient, name: str):
    patient.variables[name] = "1"
    assert f"unset {name}" in patient.only("settings", "note").do
    patient.variables[name] = "0"
    patient.is_well("settings")


def test_a_place_for_runs_that_cannot_be_written(patient: Patient, tmp_path: Path):
    (tmp_path / "file").touch()
    patient.variables["DOVETAIL_DIR"] = str(tmp_path / "file")
    assert "DOVETAIL_DIR" in patient.only("settings", "problem").do


@pytest.mark.parametrize(
    ("content", "level", "told"),
    [
        (b"# words\nA=1\n\nghp_secret\n", "warning", "Line 4 of .env gives no name a value"),
        (b"A=1\nsecret+/x\nB='secret\n", "warning", "Lines 2, 3 of .env give"),
        (b"A=\xff\xfe\n", "problem", ".env cannot be read"),
        (b"MLFLOW_TRACKING_URI=http://me:secret@other:5000\n", "note", "is not used"),
    ],
)
def test_an_env_file(patient: Patient, content: bytes, level: str, told: str):
    (patient.root / ".env").write_bytes(content)
    patient.variables["MLFLOW_TRACKING_URI"] = "http://here:5000"
    found = patient.only("settings", level)
    assert told in found.what and found.do and "secret" not in str(found)


def test_a_clock_that_is_behind(patient: Patient):
    patient.variables.update(GIT_COMMITTER_DATE=f"@{time.time() + 7200:.0f} +0000")
    patient.git("commit", "--quiet", "--allow-empty", "-m", "From the future")
    assert "NTP" in patient.only("machine", "warning").do


@pytest.mark.parametrize(("free", "level"), [(1 << 20, "problem"), (1 << 30, "warning"), (100 << 30, None)])
def test_room_on_a_disk(free: int, level: str | None):
    found = list(machine._disk(Path("/data"), ["the runs", "the store"], free))
    assert [one.level for one in found] == ([level] if level else [])


@pytest.mark.skipif(os.getuid() != 0 or not sys.platform.startswith("linux"), reason="only root can mount")
def test_a_disk_that_is_full(patient: Patient):
    with tempfile.TemporaryDirectory() as small:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True)
        if mounted.returncode:
            pytest.skip("this root may not mount")
        try:
            patient.variables["DOVETAIL_DIR"] = small
            told = patient.only("machine", "problem")
        finally:
            subprocess.run(["umount", small], check=True)
    assert "The disk of the runs has 0.0 GB left" in told.what
