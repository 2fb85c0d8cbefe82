"""Run folders that are written here, and stores to send them to."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from journals import Writing, new_folder

from mlflow_dovetail import store
from mlflow_dovetail.run_folder import RunFolder
from mlflow_dovetail.store import MemoryStore, RunStore


@pytest.fixture(autouse=True)
def no_ambient_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the person at the keyboard has set must not decide where tests write."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DOVETAIL_DIR", "DOVETAIL_STRICT", "DOVETAIL_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return new_folder(tmp_path)


@pytest.fixture
def write(folder: RunFolder) -> Callable[..., Writing]:
    """Begin a segment: `write("resume", attempt=2)`."""
    return lambda kind="create", attempt=1: Writing(folder, kind, attempt)


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One sqlite file for the session: MLflow's schema takes a second to make. Experiments keep tests apart."""
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'runs.db'}"


@pytest.fixture(params=["memory", "sqlite"])
def run_store(request: pytest.FixtureRequest) -> RunStore:
    if request.param == "memory":
        return MemoryStore()
    return store.open(request.getfixturevalue("database"), f"journal {uuid.uuid4().hex[:8]}")
