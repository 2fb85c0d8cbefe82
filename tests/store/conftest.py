"""Stores to run the contract against, the http one a real server that is started once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from mlflow_dovetail import store
from mlflow_dovetail.store import MemoryStore, RunStore

STARTUP_SECONDS = 90


@pytest.fixture(autouse=True)
def no_ambient_store(monkeypatch, tmp_path):
    """What the person at the keyboard has set must not decide where tests write."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of an `mlflow server` on loopback, ended with the session."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/files"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_until_healthy(address: str, process, folder) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"mlflow server did not start:\n{(folder / 'log.txt').read_text()}")


@pytest.fixture(params=["memory", "sqlite", "http"])
def run_store(request, tmp_path) -> Iterator[RunStore]:
    """An empty store of each kind, bound to an experiment of its own."""
    experiment = f"contract {uuid.uuid4().hex[:8]}"
    if request.param == "memory":
        opened: RunStore = MemoryStore(experiment)
    elif request.param == "sqlite":
        opened = store.open(f"sqlite:///{request.getfixturevalue('database')}", experiment)
    else:
        opened = store.open(request.getfixturevalue("server"), experiment)
    with opened:
        yield opened


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """One sqlite file for the session: MLflow's schema takes a second to make. Experiments keep tests apart."""
    return tmp_path_factory.mktemp("sqlite") / "runs.db"
