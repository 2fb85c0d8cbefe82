"""`MLFLOW_TRACKING_URI=http://...` in `.env` is all it takes: the commands of docs/server.md, with PostgreSQL."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest

from mlflow_dovetail import names, store

from .project import Project
from .test_queue import work_off

PAGE = Path(__file__).resolve().parents[2] / "docs" / "server.md"
ADDRESS = "http://127.0.0.1:5000"


def commands() -> list[list[str]]:
    """Those of the page: at the server, and in a project."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in blocks]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The address of a database server of our own, on a socket in a temporary folder."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")  # where it is not Debian's
    initdb = found[-1] if found else Path(on_path).resolve() if on_path else pytest.fail("PostgreSQL is not installed")
    programs = initdb.parent
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path has 107 characters at most
    # PostgreSQL refuses to run as root.
    account = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if account:
        shutil.chown(folder, "postgres", "postgres")
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, **account}
    subprocess.run([initdb, "-D", folder / "data", "-U", "mlflow", "-A", "trust", "--no-sync"], check=True, **quiet)
    settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(folder)]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", *settings], cwd=folder, stderr=log, **account
        )
    try:
        create = [programs / "createdb", "-h", str(folder), "-U", "mlflow", "mlflow"]
        for _ in range(100):
            if subprocess.run(create, capture_output=True).returncode == 0:
                break
            time.sleep(0.2)
        else:
            pytest.fail((folder / "log.txt").read_text())
        yield f"postgresql+psycopg2://mlflow@/mlflow?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)  # the fast way down
        server.wait(timeout=30)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps files: nobody else writes there."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def server(postgresql: str, artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mlflow server`, started as docs/server.md says."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (command,) = [line for line in commands()[0] if line.startswith("mlflow server")]
    for written, ours in (
        ("postgresql+psycopg2://mlflow:PASSWORD@localhost/mlflow", postgresql),
        ("/srv/mlflow", str(artifacts)),
        ("--port 5000", f"--port {port} --workers 1"),
    ):
        assert written in command
        command = command.replace(written, ours)
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not store.is_reachable(address, 2):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log.txt").read_text()
            time.sleep(0.5)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def project(new_project, server: str) -> Project:
    """A project after the page's commands: a line in `.env`, `dvc repro`, a queued experiment and another."""
    project: Project = new_project(epochs=1)
    for command in commands()[1]:
        if command.startswith("dvc queue start"):
            work_off(project, "queued")
        else:
            project.run("bash", "-c", command.replace(ADDRESS, server))
    return project


@pytest.fixture(scope="module")
def runs(project: Project, server: str) -> dict[str, mlflow.entities.Run]:
    """The server's runs, by the name of their DVC experiment: "" is the one of `dvc repro`."""
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("digits-classifier")
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == 3
    return {run.data.tags.get(names.TAG_DVC_EXPERIMENT, ""): run for run in found}


@pytest.mark.parametrize("experiment", ["", "queued", "here"])
def test_a_run_has_all_of_itself_on_the_server(project, runs, server, artifacts, experiment):
    run = runs[experiment]
    assert run.info.status == "FINISHED"
    assert {"train/loss", "val/acc", "test/acc"} <= run.data.metrics.keys()
    assert names.TAG_DVC_LINK in run.data.tags
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    with store.open(server) as opened:
        kept = {file.path for file in opened.list_artifacts(run.info.run_id)}
    assert {
        "checkpoints/best.ckpt", "config/config.yaml", "predictions/test/index.html", "dvc/state.json"
    } <= kept  # fmt: skip
    assert len(list(artifacts.rglob(f"{run.info.run_id}/artifacts/checkpoints/best.ckpt"))) == 1
    assert run.outputs.model_outputs, "the model is not there"


def test_nothing_of_a_store_is_made_in_the_project(project, runs):
    here = {path.name for path in project.path.iterdir()}
    assert here.isdisjoint({"mlflow.db", "mlruns", "mlartifacts"})
    assert project.attempt("dvc", "queue", "status").output.count("Success") == 1


def test_the_link_leads_from_the_commit_to_the_run_and_back(project, runs, server):
    first = runs[""].info.run_id
    found = project.run("dovetail", "runs", "HEAD").output
    assert first in found
    assert "exact" in found
    shown = project.run("dovetail", "show", first[:10]).output
    assert first in shown
    assert "checkpoints/best.ckpt" in shown
    commit = project.git("rev-parse", "HEAD")
    assert commit[:7] in project.run("dovetail", "revs", first).output
    # The workspace is that of the last experiment, and says where its run is.
    assert (project.run_id, project.json("mlflow_run.json")["store"]) == (runs["here"].info.run_id, server)


def test_a_model_is_fetched_from_the_server(project, runs):
    done = project.run(*project.module("predict", runs["queued"].info.run_id, "data/raw/digits.csv"))
    assert done.output.count("\ndigits.csv,") == 1797
