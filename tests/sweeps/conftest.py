"""A small Hydra program whose multiruns the callback follows: real Hydra, real MLflow, no training."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from hydra._internal.execution_policy import execution_whitelist
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra

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


STUDY = """
defaults:
  - _self_
  - override hydra/sweeper: optuna
x: 0.0
name: null
hydra:
  run: {dir: outputs}
  sweep: {dir: "multirun/${now:%%H-%%M-%%S-%%f}"}
  sweeper:
    _target_: mlflow_dovetail.sweeps.sweeper.StudySweeper
    direction: maximize
    n_trials: 4
    n_jobs: ${oc.select:hydra.launcher.n_jobs,1}
    max_failure_rate: 1.0
    sampler: {seed: 1}
    params: {x: "interval(0.1, 1.0)"}
  callbacks:
    dovetail:
      _target_: mlflow_dovetail.sweeps.SweepCallback
      experiment_name: jobs
      tracking_uri: %s
      direction: maximize
"""
STUDY_PROGRAM = Path(__file__).with_name("study_program.py").read_text(encoding="utf-8")


class Program:
    """A program in a folder, and the store that its callback writes to."""

    def __init__(self, folder: Path, uri: str, code: str = PROGRAM, config: str = CONFIG) -> None:
        self.folder = folder
        (folder / "pyproject.toml").touch()  # the project's root
        (folder / "program.py").write_text(code)
        (folder / "config.yaml").write_text(config % uri)
        dropped = ("MLFLOW_", "DOVETAIL_", "DVC_", "HYDRA_")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "program.py", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def wait_for(self, pattern: str, process: subprocess.Popen[str], count: int = 1) -> None:
        """Until the running sweep has made so many files of that name."""
        deadline = time.monotonic() + 90
        while len(list(self.folder.glob(pattern))) < count:
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.1)

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
def studied(tmp_path: Path, uri: str) -> Program:
    """Its sweep is a study, and its jobs are recorded."""
    return Program(tmp_path, uri, STUDY_PROGRAM, STUDY)


@pytest.fixture
def studied_without_database(tmp_path: Path) -> Program:
    """The same; nobody has made its database."""
    return Program(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}", STUDY_PROGRAM, STUDY)


@pytest.fixture
def multirun(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """A study in this process: `multirun(task, *overrides)`; how it exits, None where it comes to its end."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "config.yaml").write_text(STUDY % uri)
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith(("MLFLOW_TRACKING", "DOVETAIL_", "HYDRA_"))]:
        monkeypatch.delenv(variable)

    def run(task, *overrides):
        GlobalHydra.instance().clear()
        hydra = Hydra.create_main_hydra2("jobs", create_config_search_path(str(tmp_path)))
        try:
            with execution_whitelist(["mlflow_dovetail.*", "optuna.samplers.*"], reset=True):
                hydra.multirun("config", task, list(overrides), with_log_configuration=False)
        except SystemExit as error:
            return error.code
        finally:
            GlobalHydra.instance().clear()
        return None

    return run


@pytest.fixture
def program_without_store(tmp_path: Path) -> Program:
    """Its callback asks a server that is not there."""
    return Program(tmp_path, "http://127.0.0.1:9")


@pytest.fixture
def family(tmp_path: Path) -> Callable:
    """The parent and its children, in the order of their start."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"

    def read(study=None):
        client = mlflow.MlflowClient(uri)
        found = client.search_runs([one.experiment_id for one in client.search_experiments()])
        runs = sorted((store.open(uri).get_run(run.info.run_id) for run in found), key=lambda run: run.start_time_ms)
        parents = [run for run in runs if names.TAG_SWEEP in run.tags]
        (parent,) = [run for run in parents if study in (None, run.tags.get(names.TAG_SWEEP_STUDY))]
        children = [run for run in runs if run.tags.get(names.TAG_MLFLOW_PARENT) == parent.run_id]
        assert study or len(runs) == 1 + len(children)
        return parent, children

    return read
