"""A real MLflow server on loopback, a proxy before it, and trainers that are ended with the test."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.proxy import Proxy
from faults.training import Copied, Training, child_environment

STARTUP_SECONDS = 90

Train = Callable[..., Training]

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_*"]  # /proc, cgroups, tmpfs: the faults are made with Linux's own means


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an `mlflow server` on loopback, ended with the session."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/files"]
    environment = child_environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_until_healthy(address: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"mlflow server did not start:\n{(folder / 'log.txt').read_text()}")


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """A proxy before the server, of this test alone."""
    with Proxy(server) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a sqlite file with MLflow's schema, which takes a second to make. Experiments keep tests apart."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'runs.db'}"
    code = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
    subprocess.run(
        [sys.executable, "-c", code, uri], check=True, env=child_environment(), capture_output=True, timeout=120
    )
    return uri


@pytest.fixture
def fresh_database(tmp_path: Path) -> str:
    """The address of a sqlite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'fresh.db'}"


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Train]:
    """Start a trainer: `train(uri, steps=100, end="exception", variables={...})`. It ends with the test."""
    with ExitStack() as stack:
        yield starting_in(tmp_path, stack)


@pytest.fixture(scope="module")
def train_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    """The same for what the tests of a module share."""
    with ExitStack() as stack:
        yield starting_in(tmp_path_factory.mktemp("shared"), stack)


@pytest.fixture(scope="session")
def ended_offline(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Training]:
    """A trainer that has ended well, with everything in its run folder and nothing in the database. Copy it."""
    with ExitStack() as stack:
        start = starting_in(tmp_path_factory.mktemp("ended"), stack)
        training = start(
            database, steps=1200, metrics=6, seconds=0, artifact_every=500, variables={"DOVETAIL_OFFLINE": "1"}
        )
        assert training.wait() == 0, training.report()
        training.wait_quiet()
        yield training


@pytest.fixture
def copied(ended_offline: Training, tmp_path: Path) -> Copied:
    """A run folder to damage: of 1,200 steps with 6 metrics, and three files, ended well, not sent."""
    return Copied(ended_offline, tmp_path)


def starting_in(parent: Path, stack: ExitStack) -> Train:
    numbers = itertools.count()

    def start(uri: str, **options: object) -> Training:
        folder = parent / f"trainer-{next(numbers)}"
        folder.mkdir()
        return stack.enter_context(Training(folder, uri, **options))  # type: ignore[arg-type]

    return start
