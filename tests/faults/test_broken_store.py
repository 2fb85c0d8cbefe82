"""An `mlflow.db` that is damaged, closed or of a newer MLflow; a DVC remote that is gone: said, and nothing is lost."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mlflow_dovetail as dt
from faults.conftest import Train
from faults.test_damage import OBEYING
from faults.training import child_environment, dovetail, kill, processes_with
from faults.truth import assert_exact, read_recorded
from mlflow_dovetail.errors import StoreUnavailable
from mlflow_dovetail.run.sync import sync_folder

PIPELINE = """
stages:
  train:
    cmd: python train.py
    deps: [data.csv, train.py]
    outs: [model.txt]
    metrics: [mlflow_run.json: {cache: false}]
"""
REMOTE = """
[core]
    remote = storage
['remote "storage"']
    url = ../drive/storage
"""
TRAIN = """
from pathlib import Path
import mlflow_dovetail as dt
with dt.start_run(run_name="first") as run:
    run.log_metrics({"loss": 0.25}, step=1)
    Path("model.txt").write_text(Path("data.csv").read_text() * 2)
    run.write_link()
"""


def no_database(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def closed(path: Path) -> None:
    path.chmod(0o000)


def overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 40] = random.Random(7).randbytes(4096 * 37)
    path.write_bytes(content)


@pytest.fixture
def own_database(database: str, tmp_path: Path) -> Path:
    """A database of this test alone, to be broken."""
    return Path(shutil.copy(database.removeprefix("sqlite:///"), tmp_path / "own.db"))


def give_back(path: Path, sound: Path) -> None:
    """As who puts back a backup."""
    path.unlink()
    shutil.copy(sound, path)


@pytest.mark.parametrize(
    ("hurt", "told"),
    [(no_database, "not a database"), (closed, "unable to open")],
)
def test_a_training_goes_on_without_its_database_and_is_sent_when_there_is_one(
    train: Train, own_database: Path, tmp_path: Path, hurt: Callable[[Path], None], told: str
):
    sound = Path(shutil.copy(own_database, tmp_path / "sound.db"))
    hurt(own_database)
    training = train(f"sqlite:///{own_database}", before=OBEYING, steps=60)
    assert training.wait() == 0, training.report()
    assert told in training.stderr and "dovetail sync" in training.stderr
    assert str(training.run_folder) and training.truth.slowest_seconds < 1
    training.kill_recorders()
    done = training.dovetail("sync", before=OBEYING)
    assert done.returncode == 1 and told in done.stderr and "Traceback" not in done.stderr, done.stderr
    give_back(own_database, sound)
    assert sync_folder(training.run_folder).state == "complete"
    recorded = read_recorded(f"sqlite:///{own_database}", training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None)


def test_a_database_that_breaks_while_a_run_goes_on_is_made_anew_from_its_folder(train: Train, own_database: Path):
    """The way that `dovetail doctor` tells where there is no backup."""
    uri = f"sqlite:///{own_database}"
    training = train(uri, steps=100_000, artifact_every=50)
    training.wait_steps(200)
    overwritten(own_database)
    training.wait_steps(200)
    training.stop()
    assert training.wait() == 0, training.report()
    assert training.truth.slowest_seconds < 1
    training.kill_recorders()
    done = training.dovetail("sync")
    assert done.returncode == 1 and "malformed" in done.stderr and "Traceback" not in done.stderr, done.stderr
    own_database.rename(own_database.with_name("damaged.db"))
    assert sync_folder(training.run_folder).state == "complete"
    recorded = read_recorded(uri, training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None)
    assert training.truth.artifacts.items() <= recorded.artifacts.items()


def test_an_experiment_that_is_known_by_its_id_stops_no_training(
    own_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    no_database(own_database)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own_database}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "3")
    with dt.start_run() as run:
        run.log_metrics({"loss": 0.5}, step=1)
    for pid in processes_with("mlflow_dovetail.run.recorder", str(run.folder)):
        kill(pid)
    assert run.is_offline and "the run goes to 'Default'" in caplog.text and "not a database" in caplog.text
    with pytest.raises(StoreUnavailable, match="not a database"):
        dt.start_run(experiment_id="3")


def test_a_run_that_cannot_be_read_is_said_in_three_parts(own_database: Path):
    overwritten(own_database)
    before = own_database.read_bytes()
    done = dovetail(own_database.parent, "show", "first", "--tracking-uri", f"sqlite:///{own_database}")
    assert (done.returncode, done.stdout) == (1, "")
    what, why, remedy = done.stderr.splitlines()
    assert what.startswith("dovetail: ") and "SQLite" in why + what and "backup" in remedy
    assert own_database.read_bytes() == before


def test_dvc_repro_with_a_damaged_database_and_a_remote_that_is_gone(tmp_path: Path):
    """The pipeline runs, its run is kept here, and each command that needs what is gone says so."""
    environment = child_environment(DVC_NO_ANALYTICS="1", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)

    call("git", "init", "--quiet")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "drive").touch()  # a folder that is only gone is made anew by `dvc push`
    (tmp_path / ".dvc/config").write_text(REMOTE)
    (tmp_path / "data.csv").write_text("a\n")
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    no_database(tmp_path / "mlflow.db")
    done = call("dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not a database" in done.stderr
    assert (tmp_path / "model.txt").read_text() == "a\na\n"
    pushed = call("dvc", "push")
    assert pushed.returncode != 0 and f"{tmp_path}/drive" in pushed.stderr, pushed.stderr
    (folder,) = tmp_path.glob(".dovetail/runs/*")
    for pid in processes_with("mlflow_dovetail.run.recorder", str(folder)):
        kill(pid)
    (tmp_path / "mlflow.db").unlink()
    sent = sync_folder(folder)
    assert (sent.state, sent.name, sent.status) == ("complete", "first", "FINISHED"), sent
    assert folder.name in (tmp_path / "mlflow_run.json").read_text()
