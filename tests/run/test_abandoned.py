"""Writers that are gone without a word are closed; one that lives never is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import msgspec
import pytest

from mlflow_dovetail.journal import JournalWriter, clock_ms
from mlflow_dovetail.run.abandoned import SILENT_SECONDS, VANISHED, close_abandoned, is_all_over
from mlflow_dovetail.run.sync import sync_folder
from mlflow_dovetail.run_folder import Description, Lease, RunFolder, write_whole

ELSEWHERE = {"host": "another", "boot_id": "11111111-2222-4333-8444-555555555555"}
REBOOTED = {"boot_id": "11111111-2222-4333-8444-555555555555"}
OTHER_CONTAINER = {"pid_namespace": "pid:[1]"}
PID_REUSED = {"start": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.make(tmp_path, Description(1, uuid.uuid4().hex, "sqlite:///x.db", clock_ms()))


def lease(folder: RunFolder, number: int, **changed: str) -> None:
    theirs = msgspec.structs.replace(Lease.own(), **changed)
    write_whole(folder.leases / f"{number:04d}.json", msgspec.json.encode(theirs))


def fall_silent(folder: RunFolder, seconds: float) -> None:
    then = time.time() - seconds
    folder.heartbeat.touch()
    for path in (folder.heartbeat, *(folder.segment(number) for number in folder.segments())):
        os.utime(path, (then, then))


@pytest.mark.parametrize("from_outside", [False, True])
def test_one_that_lives_is_left_alone_however_silent(folder: RunFolder, from_outside: bool):
    writer = JournalWriter(folder, "create", 1)
    fall_silent(folder, 10 * SILENT_SECONDS)
    assert close_abandoned(folder, from_outside=from_outside) == [1]
    assert folder.ending(1) is None and not is_all_over(folder)
    writer.close()
    assert close_abandoned(folder, from_outside=from_outside) == [] and folder.ending(1) is None
    assert is_all_over(folder)


@pytest.mark.parametrize("changed", [PID_REUSED, REBOOTED])
@pytest.mark.parametrize("from_outside", [False, True])
def test_one_that_is_dead_is_closed_at_once(folder: RunFolder, changed: dict[str, str], from_outside: bool):
    JournalWriter(folder, "create", 1)
    lease(folder, 1, **changed)
    assert close_abandoned(folder, from_outside=from_outside) == []
    ending = folder.ending(1)
    assert ending and (ending.status, ending.cause) == ("FAILED", VANISHED)
    assert is_all_over(folder)
    close_abandoned(folder, from_outside=True)
    assert folder.ending(1) == ending


def test_one_that_was_killed_is_closed_with_the_time_of_its_last_sign(folder: RunFolder):
    code = (
        "import os, sys; from pathlib import Path; from mlflow_dovetail.journal import JournalWriter;"
        "from mlflow_dovetail.run_folder import RunFolder;"
        "JournalWriter(RunFolder.open(Path(sys.argv[1])), 'create', 1); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder.path)], timeout=60).returncode == -9
    fall_silent(folder, 5000)
    assert close_abandoned(folder, from_outside=True) == []
    ending = folder.ending(1)
    assert ending and abs(ending.time_ms / 1000 - (time.time() - 5000)) < 30


@pytest.mark.parametrize("changed", [ELSEWHERE, OTHER_CONTAINER, {"start": ""}])
def test_one_that_cannot_be_asked_is_closed_from_outside_only_and_after_a_long_silence(
    folder: RunFolder, changed: dict[str, str]
):
    JournalWriter(folder, "create", 1)
    lease(folder, 1, **changed)
    fall_silent(folder, SILENT_SECONDS - 60)
    assert close_abandoned(folder, from_outside=True) == [1]
    fall_silent(folder, SILENT_SECONDS + 60)
    assert close_abandoned(folder) == [1]
    assert close_abandoned(folder, from_outside=True) == []


@pytest.mark.parametrize("changed", [ELSEWHERE, OTHER_CONTAINER])
def test_one_that_cannot_be_asked_is_over_when_its_training_goes_on_here(folder: RunFolder, changed: dict[str, str]):
    """A container that was started again, a job that went to another node: the recorder must end some time."""
    JournalWriter(folder, "create", 1)
    lease(folder, 1, **changed)
    adding = JournalWriter(folder, "append", 1)
    assert close_abandoned(folder) == [1, 2]
    again = JournalWriter(folder, "resume", 2)
    assert close_abandoned(folder) == [2, 3]
    assert folder.ending(1) is not None
    adding.close()
    again.close()
    assert close_abandoned(folder) == [] and is_all_over(folder)


def test_a_writer_whose_lease_is_not_there_yet_is_not_closed(folder: RunFolder):
    writer = JournalWriter(folder, "create", 1)
    (folder.leases / "0001.json").unlink()
    assert close_abandoned(folder) == [1]
    assert close_abandoned(folder, from_outside=True) == [1]
    writer.close()


def test_a_recorder_ends_when_its_folder_is_removed(folder: RunFolder, tmp_path: Path):
    writer = JournalWriter(folder, "create", 1)
    command = [sys.executable, "-m", "mlflow_dovetail.run.recorder", str(folder.path)]
    environment = {**os.environ, "DOVETAIL_OFFLINE": "1"}
    with (tmp_path / "log").open("wb") as log:
        recorder = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + 60
        while not folder.heartbeat.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        shutil.rmtree(folder.path)
        assert recorder.wait(30) == 0
    finally:
        recorder.kill()
        recorder.wait()
    writer.close()
    assert not folder.path.exists()


def test_a_folder_whose_maker_died_before_it_had_a_journal_is_no_run(tmp_path: Path):
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    made = RunFolder.make(tmp_path, Description(1, uuid.uuid4().hex, uri, clock_ms(), experiment="none"))
    assert sync_folder(made.path).state == "already complete"
    assert not (tmp_path / "runs.db").exists()  # nobody was asked to make it
