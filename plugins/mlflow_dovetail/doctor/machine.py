"""Room on the disks that runs and data are written to, and the clock."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow_dovetail import names, store
from mlflow_dovetail.doctor.dvc_project import cache_folder, nearest_folder, read_settings
from mlflow_dovetail.doctor.git_repository import users_git
from mlflow_dovetail.doctor.records import Finding, Place, Told, ok, problem, warning
from mlflow_dovetail.errors import StoreUnavailable
from mlflow_dovetail.run_folder import root_for

FULL_BYTES = 100 << 20
LOW_BYTES = 2 << 30
# What is written by a machine whose clock is right may be so much later than this one's clock says.
AHEAD_SECONDS = 300.0


def check(place: Place) -> Told:
    """Each file system once, by what it is needed for."""
    rooms: dict[int, tuple[Path, list[str], int]] = {}
    for use, path in _places(place):
        folder = nearest_folder(path)
        device = folder.stat().st_dev
        rooms.setdefault(device, (folder, [], shutil.disk_usage(folder).free))[1].append(use)
    found = [finding for folder, uses, free in rooms.values() for finding in _disk(folder, uses, free)]
    found += _clock(place)
    yield from found
    if not found:
        least = min(free for _, _, free in rooms.values())
        yield ok(f"The disks have room, {least / 1e9:.0f} GB and more; the clock is not behind.")


def _places(place: Place) -> Iterator[tuple[str, Path]]:
    yield "the runs", root_for(place.root) / names.DOVETAIL_FOLDER
    yield "the project", place.root
    yield "temporary files", Path(tempfile.gettempdir())
    try:
        database = store.database_path(store.resolve_uri(place.tracking_uri))
        settings = read_settings(place.root) if (place.root / ".dvc").is_dir() else None
    except (StoreUnavailable, ImportError):
        return
    if database:
        yield "the store", database
    if isinstance(settings, dict):
        yield "DVC's cache", cache_folder(place.root, settings)


def _disk(folder: Path, uses: list[str], free: int) -> Iterator[Finding]:
    what = f"The disk of {', '.join(uses)} has {free / 1e9:.1f} GB left ({folder})."
    remedy = "Make room; `dvc gc --workspace --dry` shows what DVC could give back, and what would be lost."
    if free < FULL_BYTES:
        yield problem(what, "Trainings and stages fail when it is full.", remedy)
    elif free < LOW_BYTES:
        yield warning(what, "A few checkpoints fill it.", remedy)


def _clock(place: Place) -> Iterator[Finding]:
    """Whether something here was made in the future: the last commit."""
    (answer,) = users_git(place.folder).ask(("log", "-1", "--format=%ct"))
    if answer.cause or not answer.output.strip().isdigit():
        return
    ahead = int(answer.output) - time.time()
    if ahead > AHEAD_SECONDS:
        yield warning(
            f"The clock says {time.strftime('%Y-%m-%d %H:%M')}, and the last commit is {ahead / 60:.0f} minutes later.",
            "This clock is behind, or that of who committed was ahead. Runs and files stand in a false order.",
            "Have the clock set from the network (NTP).",
        )
