"""`dovetail sync` closes the runs of dead writers, wherever they died, and never one that lives."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.conftest import Train
from faults.training import Copied, Training
from faults.truth import Recorded, assert_exact, read_recorded, runs_with

LONG_AGO_SECONDS = 3600


@pytest.fixture(scope="module")
def vanished(train_for_all: Train, database: str) -> Training:
    """A trainer that has vanished, offline, with nobody to close its run."""
    training = train_for_all(database, steps=10_000, variables={"DOVETAIL_OFFLINE": "1"})
    training.wait_steps(30)
    training.kill_recorders()
    training.process.kill()
    training.wait()
    assert not training.recorders()
    return training


@pytest.fixture
def abandoned(vanished: Training, tmp_path: Path) -> Copied:
    """Its run folder."""
    return Copied(vanished, tmp_path)


def rewrite_lease(abandoned: Copied, **changes: Any) -> None:
    lease, *_ = sorted((abandoned.run_folder / "lease").glob("*.json"))  # the trainer's; the recorder's comes later
    lease.write_text(json.dumps({**json.loads(lease.read_text()), **changes}))


def age(folder: Path, seconds: float) -> None:
    """Let all of a folder be as old as if nobody had touched it for so long."""
    then = time.time() - seconds
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


DEAD: dict[str, Callable[[Copied], None]] = {
    "the process is gone": lambda abandoned: None,
    "its number is another's now": lambda abandoned: rewrite_lease(abandoned, pid=os.getpid()),
    "the machine has started again": lambda abandoned: rewrite_lease(abandoned, boot_id="0" * 36, pid=os.getpid()),
}


@pytest.mark.parametrize("why", DEAD)
def test_a_dead_writers_run_is_closed(abandoned: Copied, database: str, why: str):
    DEAD[why](abandoned)
    abandoned.sync()
    assert_vanished(abandoned, read_recorded(database, abandoned.token))


def assert_vanished(abandoned: Copied, recorded: Recorded) -> None:
    assert_exact(abandoned.truth, recorded, more_steps=1)
    assert recorded.ending == ("FAILED", "vanished")
    assert recorded.run.info.end_time >= recorded.run.info.start_time


def test_another_machines_run_is_left_until_it_has_been_silent(abandoned: Copied, database: str):
    """As on a shared file system: nobody here can ask whether that process lives."""
    rewrite_lease(abandoned, host="elsewhere", boot_id="0" * 36)
    first = abandoned.dovetail("sync", str(abandoned.run_folder))
    assert "Traceback" not in first.stderr
    assert "FAILED" not in {run.info.status for run in runs_with(database, abandoned.token)}, first.stderr
    age(abandoned.run_folder, LONG_AGO_SECONDS)
    abandoned.sync()
    recorded = read_recorded(database, abandoned.token)
    assert_vanished(abandoned, recorded)


def test_a_stopped_trainer_is_not_a_dead_one(train: Train, database: str):
    """Ctrl-Z, a debugger, a suspended virtual machine."""
    training = train(database, steps=10_000)
    training.wait_steps(30)
    training.signal(signal.SIGSTOP)
    try:
        training.kill_recorders()
        asked = training.dovetail("sync")
        assert "Traceback" not in asked.stderr
        time.sleep(1)
        assert {run.info.status for run in runs_with(database, training.token)} == {"RUNNING"}, asked.stderr
    finally:
        training.signal(signal.SIGCONT)
    training.wait_steps(30)
    assert training.finish() == 0, training.report()
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None)
