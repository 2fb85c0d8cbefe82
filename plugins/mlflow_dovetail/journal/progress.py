"""How far a store has a run: kept beside the journal, so that sending goes on where it stopped."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.journal.entries import AttemptKind, File
from mlflow_dovetail.records import Run, RunStatus
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.run_folder import Description, RunFolder, read_json, write_whole

VERSION = 1
_Value = TypeVar("_Value")


class Attempt(msgspec.Struct):
    """What a segment has said of itself so far.

    Attributes:
        logged_before: The largest step of each metric when a resumed training began; empty for other kinds.
        status: How it ended; None while it goes on.
        time_ms: Of its last entry.
        step_times: The time of the last metrics of each of the last steps.
    """

    kind: AttemptKind
    number: int
    start_ms: int
    logged_before: dict[str, int] = {}
    status: RunStatus | None = None
    cause: str = ""
    time_ms: int = 0
    closed: bool = False
    step_times: dict[int, int] = {}


class Best(msgspec.Struct):
    """The best value of a metric so far; of one that has a single step, its only one, which is not worth telling."""

    value: float
    step: int
    of_many: bool = False


class Progress(msgspec.Struct):
    """What one store has acknowledged of a run folder, and what has to be known to go on from there.

    Attributes:
        uri: Of the store, without credentials.
        run_id: Of the run there; empty until it has been created or found.
        offsets: By segment, behind the last entry that is there.
        attempts: By segment.
        last_steps: The largest step of each metric, under the user's names.
        stored_names: By sort ("metric", "param", "tag", "path"): the name there of each name that the user gave.
        monitors: The metrics whose direction the user has told.
        troubles: How often each cause cost something.
        waiting: Files that are not there yet, by path.
        why_waiting: What the store said when the last of them could not be stored.
        superseded: Copies in `artifacts/` that nobody needs: a later file has taken the path.
        released: Files that are there and whose copies are no longer here, by path.
        captured: What was sent of the folder `captured/`: size and time of change, by path.
        told: The tags about the recording itself, as they are there.
        status: The run's status there, as Dovetail set it last.
        settled: Status, best values and tags there tell all that has been sent.
    """

    uri: str
    version: int = VERSION
    run_id: str = ""
    offsets: dict[str, int] = {}
    attempts: dict[str, Attempt] = {}
    last_steps: dict[str, int] = {}
    stored_names: dict[str, dict[str, str]] = {}
    monitors: dict[str, str] = {}
    best: dict[str, Best] = {}
    nonfinite: dict[str, dict[str, int]] = {}
    troubles: dict[str, int] = {}
    waiting: dict[str, File] = {}
    why_waiting: str = ""
    superseded: list[str] = []
    released: dict[str, str] = {}
    captured: dict[str, tuple[int, int]] = {}
    told: dict[str, str] = {}
    status: RunStatus | Literal[""] = ""
    settled: bool = False

    @classmethod
    def load(cls, folder: RunFolder, uri: str) -> Progress:
        """What is known of the store at `uri`; nothing yet for one that the run has never gone to."""
        return read_json(_path(folder, uri), cls) or cls(strip_url_credentials(uri))

    def begin(self, run: Run, about: Description) -> None:
        """Begin with a run as the store has it; of one that was there before this folder, with what is told of it."""
        self.run_id, self.status = run.run_id, run.status
        if about.run_id is None:
            return  # it all stands in this folder's journal
        renamed = _told(run, names.TAG_RENAMED, str)
        steps = {renamed.get(stored, stored): step for stored, step in run.metric_steps.items()}
        self.last_steps = {**steps, **self.last_steps}
        best = {key: Best(one.value, one.step, of_many=True) for key, one in _told(run, names.TAG_BEST, Best).items()}
        self.best = {**best, **self.best}
        self.nonfinite = {**_told(run, names.TAG_NONFINITE, dict[str, int]), **self.nonfinite}
        known = self.stored_names.setdefault("metric", {})
        known |= {given: stored for stored, given in renamed.items() if stored in run.metric_steps}

    def save(self, folder: RunFolder) -> None:
        """Keep it; a crash keeps the old or the new."""
        write_whole(_path(folder, self.uri), msgspec.json.encode(self))

    def trouble(self, cause: str, count: int = 1) -> None:
        """Count what could not be recorded."""
        self.troubles[cause] = self.troubles.get(cause, 0) + count

    @property
    def is_live(self) -> bool:
        """Whether a writer goes on that can end the run: a resumed training takes the place of the earlier ones."""
        last = self.trainings[-1].number if self.trainings else 0
        return any(one.status is None and not one.closed for one in self.trainings if one.number == last)

    @property
    def trainings(self) -> list[Attempt]:
        """The attempts that decide how the run ended, the last to end at the end."""
        owners = [one for one in self.attempts.values() if one.kind in ("create", "resume")]
        return sorted(owners, key=lambda one: (one.number, one.time_ms))


def is_complete(folder: RunFolder, progress: Progress) -> bool:
    """Whether a store has all of a run folder, and no more will come: every writer has ended."""
    attempts = [(number, progress.attempts.get(str(number))) for number in folder.segments()]
    return (
        # A recorder's own segment is complete with what is in it: on a full disk it cannot say that no more will come.
        all(attempt is not None and (attempt.closed or attempt.kind == "system") for _, attempt in attempts)
        and all(progress.offsets.get(str(one), 0) >= folder.segment(one).stat().st_size for one, _ in attempts)
        and not progress.waiting
        and progress.captured.items() >= captured_files(folder).items()
        and progress.told.items() >= folder.said().items()
        and progress.settled
    )


def captured_files(folder: RunFolder) -> dict[str, tuple[int, int]]:
    """The files that the recorder has made: size in bytes and time of change, by path."""
    found = (path for path in sorted(folder.captured.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {
        path.relative_to(folder.captured).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) for path in found
    }


def _told(run: Run, tag: str, kind: type[_Value]) -> dict[str, _Value]:
    """A tag about the recording itself, without what is of another kind, such as the note of what was left out."""
    try:
        table = msgspec.json.decode(run.tags.get(tag, "{}"), type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return {}
    found: dict[str, _Value] = {}
    for key, text in table.items():
        with suppress(msgspec.DecodeError):
            found[key] = msgspec.json.decode(text, type=kind)
    found.pop("…", None)
    return found


def _path(folder: RunFolder, uri: str) -> Path:
    """Named by the address, which tells nothing to who does not know it."""
    digest = hashlib.sha256(strip_url_credentials(uri).encode()).hexdigest()[:12]
    return folder.sent / f"{digest}.json"
