"""Run folders that are damaged, foreign, busy, or not to be written: clear words, and nothing else is lost."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from faults.conftest import Train
from faults.training import Copied, dovetail
from faults.truth import assert_exact, assert_subset, read_recorded, runs_with

SEED = 17
FLIPS = 5
# Without these, root obeys the permissions of files as everybody does.
OBEYING = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.getuid() == 0 else ()


def journal(copied: Copied) -> Path:
    (path,) = (copied.run_folder / "journal").glob("*.dtj")
    return path


def test_a_torn_last_record_costs_itself_alone(copied: Copied, database: str):
    """As a power cut leaves it: all behind some byte is not there."""
    content = journal(copied).read_bytes()
    journal(copied).write_bytes(content[: len(content) * 2 // 3])
    done = copied.sync()
    recorded = read_recorded(database, copied.token)
    missing = assert_subset(copied.truth, recorded, at_most_missing=len(copied.truth.steps) // 2)
    assert missing == list(range(missing[0], len(copied.truth.steps)))
    assert recorded.ending == ("FAILED", "vanished"), done.stderr


def test_flipped_bytes_cost_their_records_alone_and_it_is_said(copied: Copied, database: str):
    content, chance = bytearray(journal(copied).read_bytes()), random.Random(SEED)
    for number in range(FLIPS):
        share = (number + 0.5 + chance.uniform(0, 0.4)) / (FLIPS + 1)
        content[int(len(content) * share)] ^= 1 << chance.randrange(8)
    journal(copied).write_bytes(content)
    copied.sync()
    recorded = read_recorded(database, copied.token)
    assert len(assert_subset(copied.truth, recorded, at_most_missing=FLIPS)) == FLIPS
    assert recorded.ending == ("FINISHED", None)
    status = recorded.journal_status or ""
    assert status.startswith("degraded: ") and "cannot be read" in status, status


@pytest.mark.parametrize("content", [None, b"\0" * 100, b"{}"])
def test_a_folder_that_is_no_run_folder_is_named(tmp_path: Path, content: bytes | None):
    (foreign := tmp_path / "foreign").mkdir()
    if content is not None:
        (foreign / "run.json").write_bytes(content)
    before = sorted(foreign.rglob("*"))
    done = dovetail(tmp_path, "sync", str(foreign))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "foreign" in done.stderr and "Traceback" not in done.stderr
    assert sorted(foreign.rglob("*")) == before


def test_a_damaged_folder_beside_a_good_one_does_not_keep_it(copied: Copied, database: str):
    bad = copied.run_folder.with_name("0" * 32)
    shutil.copytree(copied.run_folder, bad)
    (bad / "run.json").write_bytes(b"{")
    done = copied.dovetail("sync")
    assert done.returncode == 1
    assert bad.name in done.stderr and "Traceback" not in done.stderr
    assert_exact(copied.truth, read_recorded(database, copied.token))


def test_a_moved_folder_is_sent_from_where_it_lies(copied: Copied, database: str, tmp_path: Path):
    moved = tmp_path / "elsewhere" / "by another name"
    shutil.copytree(copied.run_folder, moved)
    shutil.rmtree(copied.run_folder)
    copied.sync(str(moved))
    recorded = read_recorded(database, copied.token)
    assert_exact(copied.truth, recorded)
    assert copied.truth.artifacts.items() <= recorded.artifacts.items()


def test_an_artifact_that_has_changed_since_is_not_sent_as_if_it_were_whole(copied: Copied, database: str):
    damaged = sorted(copied.run_folder.glob("artifacts/*"))[1]
    damaged.write_bytes(b"?" + damaged.read_bytes()[1:])
    done = copied.dovetail("sync")
    assert done.returncode == 1
    assert "amaged" in done.stderr and "Traceback" not in done.stderr
    recorded = read_recorded(database, copied.token)
    assert_exact(copied.truth, recorded)
    assert len(copied.truth.artifacts.keys() - recorded.artifacts.keys()) == 1


def test_a_run_that_lives_is_left_alone(train: Train, database: str):
    training = train(database, variables={"DOVETAIL_OFFLINE": "1"}, steps=100_000)
    training.wait_steps(20)
    named = training.dovetail("sync", str(training.run_folder))
    assert named.returncode == 1, named.stderr
    assert training.token in named.stderr and "Traceback" not in named.stderr
    assert runs_with(database, training.token) == []
    training.wait_steps(20)
    assert training.finish() == 0
    training.sync()
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None)


def test_a_place_that_is_closed_is_said_and_another_one_found(train: Train, database: str, tmp_path: Path):
    (closed := tmp_path / "closed").mkdir(mode=0o555)
    (temporary := tmp_path / "temporary").mkdir()
    variables = {"DOVETAIL_DIR": str(closed), "TMPDIR": str(temporary)}
    training = train(database, variables=variables, before=OBEYING, steps=50)
    assert training.wait() == 0, training.report()
    training.wait_quiet()
    assert training.run_folder.is_relative_to(temporary)
    assert str(closed) in training.stderr and str(temporary) in training.stderr and "DOVETAIL_DIR" in training.stderr
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None)


def test_permission_that_goes_while_training_stops_nothing(train: Train, database: str):
    training = train(database, before=OBEYING, steps=100_000, artifact_every=100)
    training.wait_steps(150)
    folders = [training.run_folder, *(path for path in training.run_folder.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    training.wait_steps(300)
    for folder in folders:
        folder.chmod(0o755)
    training.wait_steps(150)
    assert training.finish() == 0, training.report()
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None), training.report()
    assert training.truth.artifacts.keys() - recorded.artifacts.keys(), "the fault has not happened"
    status = recorded.journal_status or ""
    assert status.startswith("degraded: ") and "ermission" in status, status


def test_a_folder_that_cannot_be_written_is_sent_or_refused_in_words(copied: Copied, database: str):
    parts = [copied.run_folder, *copied.run_folder.rglob("*")]
    for path in parts:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = copied.dovetail("sync", before=OBEYING)
    finally:
        for path in parts:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 1
        assert str(copied.run_folder) in done.stderr and "ermission denied" in done.stderr
    copied.sync()
    assert_exact(copied.truth, read_recorded(database, copied.token))
