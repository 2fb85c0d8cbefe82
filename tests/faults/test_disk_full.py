"""A full disk under the run folder: training goes on, what was written is intact, and the run says what is lacking."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.conftest import Train
from faults.training import Training, wait_until
from faults.truth import Recorded, assert_exact, assert_subset, read_recorded

SIZE_BYTES = 4 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "dovetail-faults", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take all room that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk has no end")


def started(train: Train, uri: str, disk: Path, **options: object) -> Training:
    training = train(uri, variables={"DOVETAIL_DIR": str(disk)}, steps=100_000, metrics=10, **options)
    training.wait_steps(100)
    return training


def assert_says(recorded: Recorded, training: Training) -> None:
    status = recorded.journal_status or ""
    assert status.startswith("degraded: "), f"{status}\n{training.report()}"
    assert any(word in status for word in ("space", "full", "no room")), status


def test_a_full_disk_that_gets_room_again_loses_nothing(train: Train, database: str, small_disk: Path):
    training = started(train, database, small_disk, seconds=0.002)
    filler = fill(small_disk)
    training.wait_steps(300)
    filler.unlink()
    training.wait_steps(600)
    assert training.finish() == 0, training.report()
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None), training.report()
    assert_says(recorded, training)
    assert training.truth.slowest_seconds < 1
    warnings = [line for line in training.stderr.splitlines() if "recorded" in line]
    assert len(warnings) == 1, training.stderr


def test_a_disk_that_stays_full_does_not_stop_training(train: Train, database: str, small_disk: Path):
    training = started(train, database, small_disk, seconds=0.002)
    before = len(training.truth.steps)
    filler = fill(small_disk)
    training.wait_steps(500)
    training.stop()
    assert training.wait() == 0, training.report()
    training.wait_quiet()
    assert filler.exists()
    recorded = read_recorded(database, training.token)
    missing = assert_subset(training.truth, recorded, at_most_missing=len(training.truth.steps) - before)
    assert not missing or missing[0] >= before, "a step that was written before the disk was full is lost"
    assert recorded.ending == ("FINISHED", None), training.report()
    assert_says(recorded, training)


def test_artifacts_that_do_not_fit_leave_metrics_exact(train: Train, database: str, small_disk: Path):
    training = started(train, database, small_disk, seconds=0.005, artifact_every=50, artifact_bytes=3 << 20)
    training.wait_steps(200)
    assert training.finish() == 0, training.report()
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None), training.report()
    there = {path: size for path, size in recorded.artifacts.items() if path.startswith("files/")}
    assert there.items() <= training.truth.artifacts.items(), "an artifact that is there in part"
    assert there, "the first one had room"
    if len(there) < len(training.truth.artifacts):
        assert_says(recorded, training)
    assert training.truth.slowest_seconds < 5


def test_an_artifact_larger_than_the_disk_is_said(train: Train, database: str, small_disk: Path):
    training = started(train, database, small_disk, seconds=0.005, artifact_every=50, artifact_bytes=8 << 20)
    training.wait_steps(60)
    assert training.finish() == 0, training.report()
    recorded = read_recorded(database, training.token)
    assert_exact(training.truth, recorded)
    assert not [path for path in recorded.artifacts if path.startswith("files/")]
    assert recorded.ending == ("FINISHED", None), training.report()
    assert_says(recorded, training)
    wait_until(lambda: not list(small_disk.rglob("artifacts/*")), "no torn copy is left", 1)
