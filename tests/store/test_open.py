"""Opening: which store, made once, with artifacts that stay."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_dovetail import store
from mlflow_dovetail.errors import StoreRefused, StoreUnavailable
from mlflow_dovetail.records import MetricPoint

OPEN_AND_CREATE = """
import sys
from mlflow_dovetail import store
with store.open(experiment="digits") as opened:
    run = opened.create_run(sys.argv[1])
    opened.log_params(run.run_id, {"lr": "0.1"})
    opened.set_status(run.run_id, "FINISHED")
    print(run.run_id)
"""


# Which store


def test_the_argument_goes_before_the_environment_and_that_before_the_project(monkeypatch, tmp_path):
    assert store.resolve_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env:5000")
    assert store.resolve_uri() == "http://env:5000"
    assert store.resolve_uri("http://argument:5000") == "http://argument:5000"


@pytest.mark.parametrize(
    ("marks", "root"),
    [
        (["project/.dvc/", "project/deep/.git/"], "project"),
        (["project/.git/", "project/deep/pyproject.toml"], "project/deep"),
        (["project/mlflow.db"], "project"),
        ([], "project/deep"),
    ],
)
def test_the_project_root(monkeypatch, tmp_path, marks, root):
    (tmp_path / "project/deep").mkdir(parents=True)
    for mark in marks:
        (tmp_path / mark).mkdir() if mark.endswith("/") else (tmp_path / mark).touch()
    monkeypatch.chdir(tmp_path / "project/deep")
    assert store.project_root() == tmp_path / root


def test_dvc_root_is_the_project_also_in_a_temporary_workspace(monkeypatch, tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "workspace/.dvc").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    assert store.project_root() == tmp_path / "project"
    assert store.resolve_uri("sqlite:///runs/my.db") == f"sqlite:///{tmp_path}/project/runs/my.db"


def test_a_dvc_root_that_is_not_there_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "gone"))
    assert store.project_root() == tmp_path


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000",
        "https://me:secret@host/path",
        "postgresql://host/db",
        "mysql+pymysql://host/db",
        "databricks",
        "databricks://profile",
        "sqlite:////absolute/runs.db",
        "sqlite:////absolute/runs.db?timeout=5",
    ],
)
def test_other_addresses_pass_through(uri):
    assert store.resolve_uri(uri) == uri


@pytest.mark.parametrize(
    "uri", ["./mlruns", "mlruns", "/data/mlruns", "file:./mlruns", "file:///data/mlruns", "C:\\runs"]
)
def test_a_folder_is_refused_with_what_to_do(uri):
    with pytest.raises(StoreUnavailable, match=r"use the project's mlflow\.db"):
        store.resolve_uri(uri)


def test_a_root_that_no_sqlite_address_can_name_is_refused(monkeypatch, tmp_path):
    (tmp_path / "why?").mkdir()
    monkeypatch.chdir(tmp_path / "why?")
    with pytest.raises(StoreUnavailable, match="question mark"):
        store.resolve_uri()


# Made once


def test_four_processes_that_start_at_once_on_a_fresh_project_all_succeed(tmp_path):
    tokens = [uuid.uuid4().hex for _ in range(4)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_CREATE, token], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for token in tokens
    ]
    results = [(process.communicate(timeout=120), process.returncode) for process in processes]
    assert [code for _, code in results] == [0, 0, 0, 0], [output[1] for output, _ in results]
    with store.open(experiment="digits") as opened:
        for (output, _), token in zip(results, tokens, strict=True):
            run = opened.find_run(token)
            assert (run.run_id, run.status, run.params) == (output[0].strip(), "FINISHED", {"lr": "0.1"})


def test_the_second_open_needs_no_lock(tmp_path):
    with store.open(experiment="digits") as first:
        (tmp_path / "mlflow.db.lock").unlink(missing_ok=True)
        with store.open(experiment="digits") as second:
            assert second.experiment_id == first.experiment_id
    assert not (tmp_path / "mlflow.db.lock").exists()


def test_a_second_experiment_is_made_in_the_same_database():
    with store.open(experiment="one") as one, store.open(experiment="two") as two:
        assert one.uri == two.uri
        assert one.experiment_id != two.experiment_id


def test_a_lock_that_is_held_is_waited_for():
    hold = (
        "import pathlib, time; from filelock import FileLock\n"
        "with FileLock('mlflow.db.lock'):\n"
        "    print('held', flush=True); time.sleep(3); print(pathlib.Path('mlflow.db').exists())"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        store.open(experiment="digits").close()
        assert holder.stdout.read() == "False\n"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are read from Linux's /proc")
def test_closing_leaves_no_file_open(tmp_path):
    with store.open(experiment="digits") as opened:
        opened.create_run(uuid.uuid4().hex)
        assert open_files_of(tmp_path)
    assert open_files_of(tmp_path) == []


def open_files_of(folder: Path) -> list[str]:
    held = [os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()]
    return [name for name in held if name.startswith(f"{folder}/")]


# Artifacts that stay


def test_artifacts_lie_beside_the_database_at_an_absolute_place(monkeypatch, tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    with store.open(experiment="digits: A/B ☂") as opened:
        run = opened.create_run(uuid.uuid4().hex)
        opened.log_artifact(run.run_id, Path(__file__))
    place = tmp_path / "project/mlartifacts/digits_A_B"
    assert run.artifact_uri == (place / run.run_id / "artifacts").as_uri()
    assert (place / run.run_id / "artifacts/test_open.py").is_file()
    assert list((tmp_path / "workspace").iterdir()) == []


@pytest.mark.parametrize("name", ["..", "/", "a" * 300, "../../escape"])
def test_no_experiment_name_leaves_the_artifact_root(tmp_path, name):
    with store.open(experiment=name) as opened:
        uri = opened.create_run(uuid.uuid4().hex).artifact_uri
    assert uri.startswith((tmp_path / "mlartifacts").as_uri() + "/")
    assert ".." not in uri


def test_mlflows_own_default_experiment_stays_too(tmp_path):
    with store.open(experiment="digits") as opened:
        default = MlflowClient(opened.uri).get_experiment("0")
    assert default.artifact_location == (tmp_path / "mlartifacts/0").as_uri()


# What cannot be opened


def test_reading_makes_no_database(tmp_path):
    with pytest.raises(StoreUnavailable, match="Make a run first"):
        store.open()
    assert list(tmp_path.iterdir()) == []


def test_reading_leaves_an_empty_file_empty_and_a_database_has_its_rights(tmp_path):
    database = tmp_path / "mlflow.db"
    database.touch(mode=0o600)
    with pytest.raises(StoreUnavailable, match="Make a run first"):
        store.open()
    assert database.stat().st_size == 0
    store.open(experiment="digits").close()
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_a_store_for_reading_creates_no_run():
    store.open(experiment="digits").close()
    with store.open() as opened, pytest.raises(StoreRefused, match="experiment's name"):
        opened.create_run(uuid.uuid4().hex)


def test_a_deleted_experiment_is_not_restored_in_silence():
    with store.open(experiment="digits") as opened:
        MlflowClient(opened.uri).delete_experiment(opened.experiment_id)
    with pytest.raises(StoreRefused, match="mlflow experiments restore --experiment-id 1"):
        store.open(experiment="digits")


@pytest.mark.parametrize("experiment", [None, "digits"])
def test_a_file_that_is_no_database_is_left_alone(tmp_path, experiment):
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"no database at all" * 100)
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="backup"):
        store.open(experiment=experiment)
    assert time.monotonic() - begun < 5
    assert broken.read_bytes() == b"no database at all" * 100


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def random_page_of(table: str) -> Callable[[Path], None]:
    """The first page of a table, which is not read before the table is."""

    def overwrite(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
            (page,) = connection.execute(sql, (table,)).fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        content = bytearray(path.read_bytes())
        content[(page - 1) * size : page * size] = random.Random(17).randbytes(size)
        path.write_bytes(content)

    return overwrite


@pytest.mark.parametrize(
    ("hurt", "told", "remedy"),
    [
        (folder, "It is a folder.", "Move it away"),
        (half, "malformed", "backup"),
        (zeros, "not a database", "backup"),
        (random_page_of("experiments"), "malformed", "backup"),
        (random_page_of("runs"), "malformed", "backup"),
        (random_page_of("tags"), "malformed", "dovetail doctor"),
        (random_page_of("latest_metrics"), "malformed", "dovetail doctor"),
    ],
)
def test_a_damaged_database_is_told_at_the_first_verb_that_meets_the_damage(database, tmp_path, hurt, told, remedy):
    store.open(f"sqlite:///{database}", "damage").close()
    path = Path(shutil.copy(database, tmp_path / "runs.db"))
    hurt(path)
    with pytest.raises(StoreUnavailable) as caught, store.open(f"sqlite:///{path}", "damage") as opened:
        made = opened.create_run(uuid.uuid4().hex)
        opened.log_metrics(made.run_id, [MetricPoint("loss", 0.1, 0, 1000)])
    assert told in caught.value.why and remedy in caught.value.remedy


def test_a_database_of_optuna_is_left_to_it(tmp_path):
    """Both keep the version of their tables in `alembic_version`."""
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('v3.2.0.a')")
        connection.commit()
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(StoreUnavailable, match="Optuna") as caught:
        store.open(experiment="digits")
    assert "MLFLOW_TRACKING_URI" in caught.value.remedy
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_a_database_of_a_later_mlflow_without_a_table_of_ours_is_said(database, tmp_path):
    store.open(f"sqlite:///{database}", "later").close()
    path = Path(shutil.copy(database, tmp_path / "later.db"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE metrics")
        connection.execute("UPDATE alembic_version SET version_num = 'fromthefuture'")
        connection.commit()
    with pytest.raises(StoreUnavailable, match="fromthefuture"):
        store.open(f"sqlite:///{path}", "later")


def test_a_database_of_another_mlflow_is_not_migrated(tmp_path):
    store.open(experiment="digits").close()
    copy = shutil.copy(tmp_path / "mlflow.db", tmp_path / "newer.db")  # MLflow looks once a process at each file
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fromthefuture'")
        connection.commit()
    with pytest.raises(StoreUnavailable, match="mlflow db upgrade"):
        store.open(f"sqlite:///{copy}", "digits")


@pytest.fixture
def read_only_folder():
    """A folder that this process can read and not write, also where the tests run as root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        yield Path(folder)
        if is_root:
            os.seteuid(0)
        Path(folder).chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_a_folder_that_cannot_be_written_is_said(monkeypatch, read_only_folder):
    monkeypatch.chdir(read_only_folder)
    with pytest.raises(StoreUnavailable, match="Make the folder writable"):
        store.open(experiment="digits")
    assert list(read_only_folder.iterdir()) == []


def test_a_database_whose_folder_is_a_file_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="Make the folder writable"):
        store.open(f"sqlite:///{tmp_path}/file/runs.db", "digits")


def test_an_address_that_mlflow_does_not_know_is_refused():
    with pytest.raises(StoreRefused, match="nonsense"):
        store.open("nonsense://host", "digits")


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "mysql+pymysql"])
def test_a_database_server_that_is_not_there_is_said_soon(scheme):
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="refused"):
        store.open(f"{scheme}://me:secret@127.0.0.1:9/db", "digits")
    assert time.monotonic() - begun < 5


def test_a_password_is_not_printed():
    with pytest.raises(StoreUnavailable) as caught:
        store.open("http://me:secret@127.0.0.1:9", "digits")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


def test_the_address_in_the_projects_env_file_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".env").write_text("# ours\nMLFLOW_TRACKING_URI=http://tracking.example.invalid\n")
    assert store.resolve_uri() == "http://tracking.example.invalid"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other.example.invalid")
    assert store.resolve_uri() == "http://other.example.invalid"


def test_an_artifact_location_is_that_of_a_new_experiment(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with store.open(uri, "here", (tmp_path / "elsewhere").as_uri()) as runs:
        assert runs.create_run("0" * 32).artifact_uri.startswith((tmp_path / "elsewhere").as_uri())


def test_a_busy_database_is_not_called_broken(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    store.open(uri, "here").close()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **{**named, "timeout": 0.1}))
    with connect(tmp_path / "mlflow.db") as busy:
        busy.execute("PRAGMA locking_mode = EXCLUSIVE")
        busy.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="is using it, wait for that one"):
            store.open(uri, "here")
    busy.close()


def test_an_env_file_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(StoreUnavailable, match="UTF-8"):
        store.resolve_uri()
