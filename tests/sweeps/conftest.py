"""A small Hydra program whose multiruns the callback follows: real Hydra, real MLflow, no training."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from mlflow_dovetail import names, store

PROGRAM = """
import os, sys, time
from pathlib import Path
import hydra, mlflow

@hydra.main(config_path=".", config_name="config",
            execution_whitelist=["mlflow_dovetail.*"])
def main(cfg):
    Path(f"job-{os.getpid()}-{cfg.x}").write_text(os.environ.get("DOVETAIL_PARENT_RUN", ""))
    if cfg.logged:
        mlflow.set_tracking_uri(f"sqlite:///{Path('mlflow.db').resolve()}")
        mlflow.set_experiment("jobs")
        with mlflow.start_run():
            mlflow.log_param("x", cfg.x)
            work(cfg)
    else:
        work(cfg)

def work(cfg):
    if cfg.x == "fails":
        raise ValueError("this job fails")
    if cfg.x == "exits":
        sys.exit("this job exits")
    if cfg.x == "waits":
        Path("waiting").touch()
        time.sleep(60)
    if cfg.x == "converts":
        try:
            Path("waiting").touch()
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(1)  # as Lightning does

if __name__ == "__main__":
    main()
"""
CONFIG = """
x: 0
logged: true
name: null
api_key: none
hydra:
  run: {dir: outputs}
  sweep: {dir: multirun}
  callbacks:
    dovetail: {_target_: mlflow_dovetail.sweeps.SweepCallback, experiment_name: jobs, tracking_uri: %s}
"""


class Program:
    """The program in a folder, and the store that its callback writes to."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        (folder / "program.py").write_text(PROGRAM)
        (folder / "config.yaml").write_text(CONFIG % uri)
        dropped = ("MLFLOW_", "DOVETAIL_", "DVC_", "HYDRA_")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "program.py", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def jobs(self) -> dict[str, str]:
        """Job's value → the parent run that it was told."""
        return {path.name.rpartition("-")[2]: path.read_text() for path in self.folder.glob("job-*")}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: MLflow takes seconds to make a schema."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    store.open(f"sqlite:///{path}", "jobs").close()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def program(tmp_path: Path, uri: str) -> Program:
    return Program(tmp_path, uri)


@pytest.fixture
def program_without_store(tmp_path: Path) -> Program:
    """Its callback asks a server that is not there."""
    return Program(tmp_path, "http://127.0.0.1:9")


@pytest.fixture
def family(uri: str) -> Callable:
    """The parent and its children, in the order of their start."""

    def read():
        client = mlflow.MlflowClient(uri)
        found = client.search_runs([one.experiment_id for one in client.search_experiments()])
        runs = sorted((store.open(uri).get_run(run.info.run_id) for run in found), key=lambda run: run.start_time_ms)
        (parent,) = [run for run in runs if names.TAG_SWEEP in run.tags]
        children = [run for run in runs if run.tags.get(names.TAG_MLFLOW_PARENT) == parent.run_id]
        assert len(runs) == 1 + len(children)
        return parent, children

    return read
