"""Runs inside the test's own process: one store for the session, a project of its own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from context.conftest import git, home, repo  # noqa: F401 - fixtures
from mlflow import MlflowClient

from mlflow_dovetail.run import delivery
from mlflow_dovetail.run.open_runs import OPEN_RUNS


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One sqlite file for the session: MLflow's schema takes a second to make. Experiments keep tests apart."""
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'runs.db'}"


@pytest.fixture
def experiment() -> str:
    return f"run {uuid.uuid4().hex[:8]}"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, experiment: str) -> Iterator[None]:
    """A project of its own, sent at its end by this process: no recorder, as where there can be none."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_", "DOVETAIL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    monkeypatch.setenv("DOVETAIL_DIR", str(tmp_path / "project"))
    monkeypatch.setattr(delivery, "can_spawn", lambda: False)
    monkeypatch.chdir(tmp_path)
    before = dict(OPEN_RUNS)
    yield
    while mlflow.active_run():
        mlflow.end_run()
    assert before == OPEN_RUNS


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri)
