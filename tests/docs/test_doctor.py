"""docs/doctor.md: its commands run as they stand, on a project whose database is damaged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mlflow_dovetail
from mlflow_dovetail.doctor.examining import ORDER

from .conftest import bash_blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"


def test_the_commands_find_the_damage_and_bring_the_runs_back(tmp_path: Path, shell, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with mlflow_dovetail.start_run(run_name="kept", experiment_name="digits") as run:
        run.log_metrics({"loss": 0.25}, step=1)
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    look, mend = bash_blocks(PAGE)
    failing = [f"! {look[0]}"]  # the other is the same as JSON: tests/cli/test_doctor.py
    printed = shell([failing, [*mend, "dovetail show kept"]], tmp_path)
    assert re.search(r"^problem +store +The database", printed, re.MULTILINE), printed
    assert "1 sent" in printed
    assert re.search(r"^kept +FINISHED", printed, re.MULTILINE) and re.search(r"loss +0.25", printed)


def test_every_check_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text.partition("## What it looks at")[2], re.MULTILINE) == list(ORDER)
