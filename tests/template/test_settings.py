"""Settings of a project: telemetry off, and the address of the runs from `.env`."""

from __future__ import annotations

import configparser
import sys

from .project import PACKAGE

SHOW = f"import {PACKAGE}, mlflow.telemetry.utils as t; print(t.is_telemetry_disabled())"


def test_mlflows_telemetry_is_off_by_importing_the_package(new_project):
    project = new_project()
    code = f"import os, {PACKAGE}; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    assert project.run(sys.executable, "-c", code).output.strip() == "true"
    assert project.run(sys.executable, "-c", SHOW).output.strip() == "True"
    # A person's own setting stays.
    assert project.run(sys.executable, "-c", code, MLFLOW_DISABLE_TELEMETRY="false").output.strip() == "false"


def test_dvcs_telemetry_is_off(baked, new_project):
    config = configparser.ConfigParser()
    config.read(baked / ".dvc" / "config", encoding="utf-8")
    assert config["core"]["analytics"] == config["core"]["check_update"] == "false"
    assert new_project().dvc("config", "core.analytics").output.strip() == "false"


def test_the_address_in_env_is_honoured(new_project, tmp_path):
    project = new_project()
    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    example = (project.path / ".env.example").read_text(encoding="utf-8")
    assert "# MLFLOW_TRACKING_URI=" in example
    (project.path / ".env").write_text(f"MLFLOW_TRACKING_URI={uri}\n", encoding="utf-8")
    project.train("debug=default")
    assert [run.status for run in project.runs(uri)] == ["FINISHED"]
    assert not (project.path / "mlflow.db").exists()
    assert project.git("status", "--porcelain") == ""
