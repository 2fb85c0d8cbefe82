"""A full disk during `dvc repro`: a clear end, and with room again the same command ends well and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_dovetail import names, store

SIZE = "64m"
TIMEOUT_SECONDS = 280


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "dovetail-repro", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def environment(bake_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A person's shell, with what DVC keeps for itself on another disk."""
    kept = {
        key: value for key, value in bake_environment.items() if not key.startswith(("MLFLOW_", "DVC_", "DOVETAIL_"))
    }
    folders = {f"DVC_{name}_DIR": str(tmp_path / name) for name in ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    (tmp_path / "temporary").mkdir()
    return {**kept, **folders, "PATH": path, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "temporary")}


def leave(disk: Path, room_bytes: int) -> Path:
    """Take all but so much of the disk."""
    free = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - room_bytes)
    return filler


def repro(project: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", "repro"]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )


def statuses(database: Path) -> list[tuple[str, str]]:
    """Each run's status and cause of its end, in their order; from a database that is whole."""
    cause = "SELECT value FROM tags WHERE run_uuid = runs.run_uuid AND key = ?"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = f"SELECT status, ({cause}) FROM runs ORDER BY start_time"
        return [(status, found or "") for status, found in connection.execute(query, (names.TAG_END_CAUSE,))]


@pytest.mark.parametrize("store_is_there", [True, False])
def test_the_same_command_ends_well_with_room_again(store_is_there, disk, environment, baked):
    project = disk / "digits-classifier"
    shutil.copytree(baked, project, symlinks=True)
    trainer = project / "configs" / "trainer" / "default.yaml"
    trainer.write_text(trainer.read_text(encoding="utf-8").replace("max_epochs: 15", "max_epochs: 1"), encoding="utf-8")
    if store_is_there:
        store.open(f"sqlite:///{project / names.DATABASE_FILE}", "digits-classifier").close()
    filler = leave(disk, 600_000)

    failed = repro(project, environment)
    assert failed.returncode != 0
    said = failed.stdout + failed.stderr
    assert "No space left on device" in said and "failed to reproduce" in said

    filler.unlink()
    done = repro(project, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((project / "evaluation.json").read_text())["test/acc"] > 0.3
    # Both runs are there, though the first one's recorder had no room: it goes on until it has.
    deadline = time.monotonic() + 90
    found = statuses(project / names.DATABASE_FILE)
    while [status for status, _ in found] != ["FAILED", "FINISHED"]:
        assert time.monotonic() < deadline, found
        time.sleep(1)
        found = statuses(project / names.DATABASE_FILE)
    (_, cause), (_, last) = found
    assert last == ""
    assert "No space left on device" in cause
    for command in (["git", "fsck", "--no-dangling"], ["git", "diff", "--quiet", "--", "data", "digits_classifier"]):
        assert subprocess.run(command, cwd=project, capture_output=True).returncode == 0
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status"], cwd=project, env=environment, capture_output=True, text=True
    )
    assert "up to date" in status.stdout
