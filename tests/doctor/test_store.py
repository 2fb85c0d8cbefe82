"""Tracking stores: databases that are damaged in every way, servers that are gone, artifacts that would be lost."""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlflow_dovetail.doctor.schema import read_revisions

from .conftest import Patient


def absent(patient: Patient) -> None:
    patient.database.unlink()


def empty(patient: Patient) -> None:
    patient.database.write_bytes(b"")


@pytest.mark.parametrize("hurt", [absent, empty])
def test_a_database_that_the_first_run_makes(patient: Patient, hurt):
    hurt(patient)
    patient.is_well("store")
    assert "the first run makes it" in patient.examine("store")[0].what
    assert patient.database.exists() == (hurt is empty)


def test_a_database_that_is_well(patient: Patient):
    patient.is_well("store")


def folder(patient: Patient) -> None:
    patient.database.unlink()
    patient.database.mkdir()


def no_database(patient: Patient) -> None:
    patient.database.write_bytes(b"no database at all" * 1000)


def zeros(patient: Patient) -> None:
    patient.database.write_bytes(bytes(patient.database.stat().st_size))


def truncated(patient: Patient) -> None:
    content = patient.database.read_bytes()
    patient.database.write_bytes(content[: len(content) // 2])


def overwritten(patient: Patient) -> None:
    """In a table that is not asked for anything."""
    with closing(sqlite3.connect(patient.database)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'metrics'").fetchone()
    with patient.database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(random.Random(7).randbytes(4096))


def foreign(patient: Patient) -> None:
    patient.database.unlink()
    patient.execute("CREATE TABLE recipes (name TEXT)")


def optunas(patient: Patient) -> None:
    patient.database.unlink()
    patient.execute("CREATE TABLE studies (name TEXT)", "CREATE TABLE alembic_version (version_num TEXT)")


def newer(patient: Patient) -> None:
    patient.execute("UPDATE alembic_version SET version_num = 'fromthefuture'")


def older(patient: Patient) -> None:
    patient.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")


def wal(patient: Patient) -> None:
    patient.execute("PRAGMA journal_mode = WAL", "UPDATE experiments SET name = 'new' WHERE name = 'digits'")


@pytest.mark.parametrize(
    ("hurt", "told", "remedy"),
    [
        (folder, "is a folder", "Move it away"),
        (no_database, "not a database", "dovetail sync"),
        (zeros, "is damaged", "damaged.db. Then run: dovetail sync"),
        (truncated, "is damaged", "Put back a backup; "),
        (overwritten, "is damaged", "Put back a backup; "),
        (optunas, "another program's", "MLFLOW_TRACKING_URI"),
        (newer, "newer MLflow", "pip install"),
        (older, "older MLflow", "mlflow db upgrade"),
    ],
)
def test_a_damaged_database_is_told_and_not_touched(patient: Patient, hurt, told, remedy):
    hurt(patient)
    before = patient.database.read_bytes() if patient.database.is_file() else b""
    patient.is_told("store", "problem", told, remedy)
    assert (patient.database.read_bytes() if patient.database.is_file() else b"") == before
    assert [path.name for path in patient.root.glob("mlflow.db*")] == ["mlflow.db"]


def test_a_database_with_other_tables(patient: Patient):
    foreign(patient)
    assert "Such as recipes" in patient.only("store", "warning").why
    patient.execute("DROP TABLE recipes")
    patient.is_well("store")


def test_a_database_in_wal_mode_is_read_without_new_files(patient: Patient):
    wal(patient)
    patient.is_well("store")
    assert [path.name for path in patient.root.glob("mlflow.db*")] == ["mlflow.db"]


def test_a_copy_with_its_log_is_read_without_new_files(patient: Patient):
    """As somebody takes it from a program that goes on: the index is the one file that is not taken along."""
    there = {path: patient.database.with_name(f"there{path}") for path in ("", "-wal")}
    patient.database.rename(there[""])
    with closing(sqlite3.connect(there[""], isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
        for ending, path in there.items():
            shutil.copy(path, f"{patient.database}{ending}")
    patient.is_told("store", "problem", "older MLflow", "mlflow db upgrade")
    assert sorted(path.name for path in patient.root.glob("mlflow.db*")) == ["mlflow.db", "mlflow.db-wal"]


def test_a_locked_database(patient: Patient):
    with closing(sqlite3.connect(patient.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "is locked" in patient.only("store", "warning").what


def test_half_a_commit_is_left_for_its_owner(patient: Patient):
    """SQLite's journal of a killed process: only who may write can take it back."""
    code = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN IMMEDIATE")
database.execute("CREATE TABLE many AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) "
                 "SELECT i, hex(randomblob(20)) FROM n")
database.execute("UPDATE experiments SET name = name || 'half'")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(patient.database)], check=False, timeout=30)
    journal = patient.database.with_name("mlflow.db-journal")
    before = journal.read_bytes()
    assert before, "no half of a commit: the test has tested nothing"
    assert "half a change" in patient.only("store", "note").what
    assert journal.read_bytes() == before


def test_the_schema_of_this_mlflow_is_found_without_importing_it():
    from mlflow.store.db.utils import _get_latest_schema_revision

    known, head = read_revisions()
    assert head == _get_latest_schema_revision()
    assert head in known and len(known) > 30


# Where artifacts go


def give_run(patient: Patient, location: str) -> None:
    patient.execute(
        f"UPDATE experiments SET artifact_location = '{location}' WHERE name = 'digits'",
        "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status) "
        "SELECT 'r1', 'r1', experiment_id, 'active', 'FINISHED' FROM experiments WHERE name = 'digits'",
    )


@pytest.mark.parametrize(
    ("location", "level", "told"),
    [
        ("./mlruns/1", "warning", "relative place"),
        ("mlruns/1", "warning", "relative place"),
        ("file:///home/me/p/.dvc/tmp/exps/tmpab12/mlartifacts/digits", "problem", "temporary workspace"),
        ("/home/me/p/.dvc/tmp/exps/standalone/tmpab12/mlruns/1", "problem", "temporary workspace"),
        ("{elsewhere}/mlartifacts/digits", "warning", "not where they were"),
        ("s3://bucket/digits", "", ""),
        ("{here}/mlartifacts/digits", "", ""),
    ],
)
def test_artifacts_in_a_place_that_is_lost(patient: Patient, tmp_path: Path, location: str, level: str, told: str):
    (patient.root / "mlartifacts/digits").mkdir(parents=True)
    places = {"elsewhere": (tmp_path / "before").as_uri(), "here": patient.root.as_uri()}
    give_run(patient, location.format(**places))
    if not level:
        patient.is_well("store")
        return
    found = patient.only("store", level)
    assert told in found.what and "'digits'" in found.what and found.do


def test_a_project_that_was_moved_is_told_how_its_artifacts_are_found_again(patient: Patient):
    (patient.root / "mlartifacts/digits").mkdir(parents=True)
    give_run(patient, (patient.root / "mlartifacts/digits").as_uri())
    moved = patient.root.rename(patient.root.with_name("moved"))
    old, patient.root = patient.root, moved
    found = patient.only("store", "warning")
    command = found.do.rpartition(": ")[2]
    assert command == f"mkdir -p {old} && ln -s {moved}/mlartifacts {old}/mlartifacts"
    subprocess.run(command, shell=True, check=True)
    patient.is_well("store")


# Addresses


def test_a_relative_address_is_told_wherever_it_stands(patient: Patient):
    (patient.root / ".env").write_text("MLFLOW_TRACKING_URI=sqlite:///mlflow.db\n")
    assert "(from .env)" in patient.only("store", "warning").what
    patient.variables["MLFLOW_TRACKING_URI"] = "sqlite:///runs/mlflow.db"
    told = patient.only("store", "warning")
    assert "(from MLFLOW_TRACKING_URI)" in told.what and f"sqlite:///{patient.root}/runs/mlflow.db" in told.do


@pytest.mark.parametrize(
    ("name", "line", "is_told"),
    [
        ("train.py", 'mlflow.set_tracking_uri("sqlite:///mlflow.db")', True),
        ("conf.yaml", "tracking_uri: sqlite:///mlflow.db", True),
        ("logger.py", "MLFlowLogger(tracking_uri='./mlruns')", True),
        ("train.py", 'mlflow.set_tracking_uri("sqlite:////data/mlflow.db")', False),
        ("train.py", 'mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")', False),
        ("optuna.yaml", "storage: sqlite:///optuna.db", False),
    ],
)
def test_a_relative_address_in_the_code(patient: Patient, name: str, line: str, is_told: bool):
    (patient.root / name).write_text(f"# a line before\n{line}\n")
    patient.git("add", name)
    if is_told:
        assert f"{name}:2" in patient.only("store", "warning").what
    else:
        patient.is_well("store")


def test_a_folder_as_a_store_is_refused(patient: Patient):
    patient.is_apart = True
    patient.variables["MLFLOW_TRACKING_URI"] = "./mlruns"
    patient.is_told("store", "problem", "maintenance mode", "Unset MLFLOW_TRACKING_URI")


def test_a_server_answers_with_its_version(patient: Patient, serve):
    patient.variables["MLFLOW_TRACKING_URI"] = serve("3.17.2")
    patient.is_well("store")
    assert "MLflow 3.17.2 (from MLFLOW_TRACKING_URI)" in patient.examine("store")[0].what


def test_a_server_of_another_age_and_another_time(patient: Patient, serve):
    found = patient.examine("store", tracking_uri=serve("2.1.1", late_seconds=3600))
    assert [one.level for one in found] == ["warning", "warning", "ok"]
    assert "MLflow 2.1.1" in found[0].what
    assert re.search(r"clock is 3[56]\d\d s ahead", found[1].what)


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_store_that_is_gone_or_silent(patient: Patient, scheme: str):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"{scheme}://me:secret@127.0.0.1:{silent.getsockname()[1]}/db"
        gone = patient.only("store", "problem", tracking_uri=address)
        assert "dovetail sync" in gone.do and "secret" not in str(gone)
        if scheme == "http":
            silent.listen()
            begun = time.monotonic()
            assert "does not answer" in patient.only("store", "problem", tracking_uri=address).what
            assert time.monotonic() - begun < 20


def test_a_database_server_whose_driver_is_not_installed(patient: Patient):
    found = patient.examine("store", tracking_uri="mysql+pymysql://127.0.0.1:1/db")
    assert any("pip install pymysql" in one.do for one in found), json.dumps([one.what for one in found])


@pytest.fixture
def serve():
    """A server that answers as MLflow's does to who only asks how it is."""
    servers = []

    def start(version: str, late_seconds: float = 0) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = version if self.path.endswith("/version") else "OK"
                self.send_response_only(200)
                self.send_header("Date", formatdate(time.time() - late_seconds, usegmt=True))
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
