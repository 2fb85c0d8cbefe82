"""A local sqlite file: fresh and shared, locked by another process, or left in the middle of a commit."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from faults.conftest import Train
from faults.training import Copied, Training
from faults.truth import assert_exact, read_recorded

RUNS_AT_ONCE = 8
# Ten that a run may wait at its end, and what Python needs to end on a busy machine.
EXIT_SECONDS = 10 + 5


def test_eight_runs_at_once_on_a_fresh_database_are_all_exact(train: Train, fresh_database: str):
    trainings = [train(fresh_database, steps=300, seconds=0.005, artifact_every=100) for _ in range(RUNS_AT_ONCE)]
    with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
        codes = list(pool.map(lambda training: training.wait(120), trainings))
        list(pool.map(lambda training: training.wait_quiet(120), trainings))
    assert codes == [0] * RUNS_AT_ONCE
    assert len({training.token for training in trainings}) == RUNS_AT_ONCE
    for training in trainings:
        assert_finished_and_exact(training, fresh_database)


def test_a_database_that_is_locked_is_waited_for(train: Train, fresh_database: str):
    """Another process writes to the sqlite file for long, as backups and migrations do."""
    training = train(fresh_database, steps=100_000)
    training.wait_steps(100)
    path = fresh_database.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        training.wait_steps(200)
        training.stop()
        begin = time.monotonic()
        assert training.wait() == 0, training.report()
        assert time.monotonic() - begin < EXIT_SECONDS, training.report()
        time.sleep(3)
        other.execute("ROLLBACK")
    training.wait_quiet(90)
    recorded = read_recorded(fresh_database, training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None), training.report()
    assert training.truth.slowest_seconds < 1


def test_a_database_with_half_a_commit_in_it_is_opened_and_mended(
    ended_offline: Training, fresh_database: str, tmp_path: Path
):
    """SIGKILL in the middle of a commit leaves SQLite's journal beside the database, for the next one to roll back."""
    first, second = Copied(ended_offline, tmp_path), Copied(ended_offline, tmp_path / "second")
    first.sync("--tracking-uri", fresh_database)
    path = fresh_database.removeprefix("sqlite:///")
    code = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE metrics SET value = 7")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, path], check=False, timeout=30)
    assert Path(f"{path}-journal").stat().st_size, "no half of a commit: the test has tested nothing"
    second.sync("--tracking-uri", fresh_database)
    for copied in (first, second):
        recorded = read_recorded(fresh_database, copied.token)
        assert_exact(copied.truth, recorded)
        assert recorded.ending == ("FINISHED", None)


def assert_finished_and_exact(training: Training, uri: str) -> None:
    truth, recorded = training.truth, read_recorded(uri, training.token)
    assert_exact(truth, recorded)
    assert recorded.ending == ("FINISHED", None), training.report()
    assert recorded.journal_status == "ok", training.report()
    assert "traceback.txt" not in recorded.artifacts
    assert truth.artifacts.items() <= recorded.artifacts.items()
    assert truth.slowest_seconds < 1
