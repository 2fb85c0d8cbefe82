"""The run folders of a project: what of them is not in their store, and what `dovetail sync` would do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.doctor.records import Finding, Place, Step, Told, listed, note, ok, problem, warning
from mlflow_dovetail.errors import RunFolderInvalid
from mlflow_dovetail.journal import Progress, entries, is_complete
from mlflow_dovetail.run_folder import RunFolder, root_for

State = Literal["sent", "living", "unsent", "abandoned", "elsewhere", "damaged", "unreadable"]
_SHOWN_DIGITS = 8


def check(place: Place) -> Told:
    """Nothing is sent or closed here."""
    runs = root_for(place.root) / names.DOVETAIL_FOLDER / "runs"
    found: dict[State, list[str]] = defaultdict(list)
    for path in sorted(runs.glob("*/run.json")):
        yield Step(f"reading {path.parent}")
        found[_state(path.parent)].append(path.parent.name[:_SHOWN_DIGITS])
    yield from _told(found, runs)
    if not any(tokens for state, tokens in found.items() if state not in ("sent", "living")):
        yield ok(_sent(len(found["sent"])))


def _state(path: Path) -> State:
    try:
        folder = RunFolder.open(path)
    except RunFolderInvalid:
        return "unreadable"
    try:
        return _state_of(folder)
    except (OSError, ValueError, msgspec.MsgspecError):
        return "damaged"


def _state_of(folder: RunFolder) -> State:
    progress = Progress.load(folder, folder.describe().tracking_uri)
    if next(folder.path.rglob("*.damaged"), None):
        return "damaged"
    if is_complete(folder, progress) or not (folder.segments() or progress.run_id):
        return "sent"
    lives = {folder.life(number) for number in folder.segments() if not _is_over(folder, number)}
    if "alive" in lives:
        return "living"
    if "dead" in lives:
        return "abandoned"
    return "elsewhere" if lives else "unsent"


def _is_over(folder: RunFolder, number: int) -> bool:
    return folder.ending(number) is not None or entries.is_closed(folder.segment(number))


def _told(found: dict[State, list[str]], runs: Path) -> Iterator[Finding]:
    sync = "Run: dovetail sync"
    if some := found["living"]:
        yield note(f"{_runs(some, 'is', 'are')} being written.", "Their recorders send them as they go.")
    if some := found["unsent"]:
        yield warning(
            f"{_runs(some, 'is not wholly in its store', 'are not wholly in their stores')}.",
            "No store answered at the end, or it did not take everything.",
            f"{sync}. It sends what is missing.",
        )
    if some := found["abandoned"]:
        yield warning(
            f"{_runs(some, 'has', 'have')} ended without a word.",
            "The process that wrote is gone, and so is its recorder. In the store it may still be RUNNING.",
            f"{sync}. It sends what is there and ends them as FAILED, with the cause `vanished`.",
        )
    if some := found["elsewhere"]:
        yield note(
            f"{_runs(some, 'is', 'are')} written on another machine or in another container.",
            "From here it cannot be seen whether that goes on.",
            "If it does not: dovetail sync, ten minutes after its last sign.",
        )
    if some := found["damaged"]:
        yield warning(
            f"{_runs(some, 'is', 'are')} damaged in part.",
            f"Files in {runs} are not what was written.",
            f"{sync}. It sends what is whole, and names the rest.",
        )
    if some := found["unreadable"]:
        yield problem(
            f"{_runs(some, 'cannot', 'cannot')} be read.",
            "Their run.json is damaged, or of a later version of Dovetail.",
            f"Update Dovetail, or put the folder back from a backup; it lies in {runs}",
        )


def _sent(count: int) -> str:
    if not count:
        return "No run waits to be sent."
    return "1 run is in its store." if count == 1 else f"{count} runs are in their stores."


def _runs(tokens: list[str], one: str, many: str) -> str:
    return f"The run {tokens[0]} {one}" if len(tokens) == 1 else f"{len(tokens)} runs ({listed(tokens)}) {many}"
