"""Sending run folders from outside: what no recorder could send, or what is to go to another store as well."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow_dovetail import journal, names, store
from mlflow_dovetail.errors import DovetailError, RunFolderBusy, RunFolderInvalid, StoreUnavailable
from mlflow_dovetail.journal import Progress, Sender, is_complete, staging
from mlflow_dovetail.run.abandoned import close_abandoned
from mlflow_dovetail.run.capture import ConsoleCapture
from mlflow_dovetail.run.code_state import finish_code
from mlflow_dovetail.run.damage import set_damaged_aside
from mlflow_dovetail.run.destination import Destination, explicit_store
from mlflow_dovetail.run.spawning import is_recorded
from mlflow_dovetail.run.table_watch import finish_tables
from mlflow_dovetail.run_folder import Lease, RunFolder, read_json, root_for

State = Literal["complete", "already complete", "live", "partial", "failed"]
OnProgress = Callable[[str, int, int], None]

# A trainer or recorder that is about to end holds the folder for a moment.
_BUSY_SECONDS = 15.0
_RECORDER_STARTS_SECONDS = 5.0
_TRIES_IN_VAIN = 3
_PAUSE_SECONDS = 1.0
_VALUES = re.compile(r"(\d+) values")


@dataclass(frozen=True)
class SyncResult:
    """What became of one run folder.

    Attributes:
        folder: Its path.
        state: "live" for a run that is still being written: its recorder sends the rest, or a later sync.
        why: It is not complete; empty when it is.
        token: The run's; empty when the folder cannot be read.
        name: Of the run; empty where nobody gave one.
        store: The address that it was to go to, without credentials.
        run_id: Of the run there; empty when it has not come so far.
        status: Of the run there.
        values: How many were sent now.
        files: How many were sent now.
    """

    folder: Path
    state: State
    why: str
    token: str = ""
    name: str = ""
    store: str = ""
    run_id: str = ""
    status: str = ""
    values: int = 0
    files: int = 0


def find_folders(path: Path | None = None) -> list[Path]:
    """The run folders that are meant, the oldest first; those of a training's other machines come after all runs.

    Args:
        path: A run folder, a project, its `.dovetail` or `.dovetail/runs`; this project when left out.

    Raises:
        RunFolderInvalid: It is none of these.
    """
    if path is None:
        return _with_hosts(root_for(store.project_root()) / names.DOVETAIL_FOLDER / "runs")
    path = path.resolve()
    if not (path / "run.json").exists():
        for runs in (path / names.DOVETAIL_FOLDER / "runs", path / "runs", path):
            if runs.is_dir() and (runs.parent.name == names.DOVETAIL_FOLDER or _by_age(runs)):
                return _with_hosts(runs)
    return [RunFolder.open(path).path]


def sync_folder(
    folder: str | Path, tracking_uri: str | None = None, *, on_progress: OnProgress | None = None
) -> SyncResult:
    """Send what a run folder has and its store has not. Doing so again changes nothing.

    A writer that is dead and has not said how it ended is given its ending. A folder may have been moved, from another
    machine too, and may go to any number of stores.

    Args:
        folder: Of the run.
        tracking_uri: `MLFLOW_TRACKING_URI` when left out, else the store that the run was meant for.
        on_progress: Called with the run's token, and the values and files that have been sent so far.

    Raises:
        RunFolderInvalid: It is no run folder.
        StoreUnavailable: `tracking_uri` is no address.
    """
    return _Sync(RunFolder.open(Path(folder)), explicit_store(tracking_uri), set(), on_progress).run()


def sync_folders(
    folders: Iterable[Path], tracking_uri: str | None = None, *, on_progress: OnProgress | None = None
) -> Iterator[SyncResult]:
    """`sync_folder` of one after the other; one that cannot be sent does not keep the others.

    Raises:
        StoreUnavailable: `tracking_uri` is no address.
    """
    given, down = explicit_store(tracking_uri), set[str]()
    for path in folders:
        try:
            yield _Sync(RunFolder.open(path), given, down, on_progress).run()
        except RunFolderInvalid as error:
            yield SyncResult(path, "failed", f"{error.what} {error.why}")


class _Sync:
    """One run folder on its way; addresses that do not answer are added to `down` and not asked again."""

    def __init__(self, folder: RunFolder, given: str | None, down: set[str], on_progress: OnProgress | None) -> None:
        self._folder, self._about = folder, folder.describe()
        self._to = Destination(folder, given)
        self._down = down
        self._on_progress = on_progress or (lambda *_: None)
        self._values = self._files = 0

    def run(self) -> SyncResult:
        try:
            return self._result(*self._bring())
        except RunFolderBusy as error:
            return self._result("live", error.why)
        except StoreUnavailable as error:
            if self._to.uri not in self._down and not self._to.answers():
                self._down.add(self._to.uri)
            return self._result("partial" if self._progress().run_id else "failed", f"{error.why} {error.remedy}")
        except DovetailError as error:
            return self._result("failed", str(error))
        except OSError as error:
            return self._result("failed", f"{error.strerror or error}: {error.filename or self._folder.path}")

    def _bring(self) -> tuple[State, str]:
        if not self._folder.segments() and not self._progress().run_id:
            return "already complete", ""  # who made the folder died before anything was asked of a store
        living = close_abandoned(self._folder, from_outside=True)
        if self._is_served(living):
            return "live", f"{self._writer(living)} is still writing it; its recorder sends it, unless it is offline."
        finish_code(self._folder, is_over=not living)
        finish_tables(self._folder, is_over=not living)
        if is_complete(self._folder, self._progress()):
            return "already complete", ""
        living = close_abandoned(self._folder, from_outside=True)  # time may have passed
        with _alone(self._folder):
            self._gather()
            damaged = set_damaged_aside(self._folder, self._progress())
            why = self._send(is_live=bool(living))
        if why:
            return "partial", why
        if living:
            return "live", f"{self._writer(living)} may still be writing it; what was there has been sent."
        return ("partial", f"Damaged since they were logged: {'; '.join(damaged)}.") if damaged else ("complete", "")

    def _is_served(self, living: list[int]) -> bool:
        here = [self._folder.leases / f"{number:04d}.json" for number in living if self._folder.life(number) == "alive"]
        deadline = time.monotonic() + _RECORDER_STARTS_SECONDS
        while here and not is_recorded(self._folder):
            age = time.time() - max(lease.stat().st_mtime for lease in here)
            if age > _RECORDER_STARTS_SECONDS or time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return bool(here)

    def _writer(self, living: list[int]) -> str:
        lease = read_json(self._folder.leases / f"{living[0]:04d}.json", Lease)
        return f"Process {lease.pid} of {lease.host}" if lease else "A process"

    def _gather(self) -> None:
        """What a recorder would have made of what is there."""
        staging.stage(self._folder)
        ConsoleCapture(self._folder).capture()

    def _send(self, *, is_live: bool) -> str:
        """Send until the store has everything, or does not take the rest; why it does not."""
        if self._to.uri in self._down:
            raise self._to.unavailable("does not answer.")
        with self._to.open() as opened:
            sender = Sender(self._folder, opened, on_progress=self._count)
            vain = 0
            while vain < _TRIES_IN_VAIN:
                before = _extent(sender.progress)
                failure = self._try(sender)
                if failure is None and (is_live or is_complete(self._folder, sender.progress)):
                    return ""
                if failure and not self._to.answers():
                    self._down.add(self._to.uri)
                    break
                vain = 0 if _extent(sender.progress) != before else vain + 1
                time.sleep(_PAUSE_SECONDS)
        return f"{failure or 'Not everything could be sent.'} Left: {self._left(sender.progress)}."

    def _try(self, sender: Sender) -> str | None:
        """Send once; why the store did not take everything."""
        try:
            sender.send()
        except StoreUnavailable as error:
            return error.why
        return sender.progress.why_waiting or None

    def _count(self, line: str) -> None:
        if values := _VALUES.fullmatch(line):
            self._values += int(values[1])
        else:
            self._files += 1
        self._on_progress(self._about.token, self._values, self._files)

    def _left(self, progress: Progress) -> str:
        sizes = {str(number): self._folder.segment(number).stat().st_size for number in self._folder.segments()}
        unsent = sum(size - progress.offsets.get(number, 0) for number, size in sizes.items())
        return f"{unsent} bytes of the journal, {len(progress.waiting)} files that were logged"

    def _progress(self) -> Progress:
        return Progress.load(self._folder, self._to.uri)

    def _result(self, state: State, why: str) -> SyncResult:
        about, there = self._about, self._progress()
        return SyncResult(
            self._folder.path,
            state,
            why,
            about.token,
            about.name or "",
            self._to.address,
            there.run_id,
            there.status,
            self._values,
            self._files,
        )


def _with_hosts(runs: Path) -> list[Path]:
    """The folders in `runs`, and what other machines on the same disk have sampled for these runs."""
    hosts = sorted((runs.parent / names.HOSTS_FOLDER).glob(f"*/{names.DOVETAIL_FOLDER}/runs"))
    return [folder for place in (runs, *hosts) for folder in _by_age(place)]


def _by_age(runs: Path) -> list[Path]:
    """The folders in `runs` that have a `run.json`; those that cannot be read come last."""

    def age(path: Path) -> float:
        try:
            return RunFolder.open(path).describe().start_time_ms
        except RunFolderInvalid:
            return float("inf")

    return sorted((path.parent for path in runs.glob("*/run.json")), key=age)


def _extent(progress: Progress) -> tuple[object, ...]:
    """What changes while sending gets on."""
    return dict(progress.offsets), len(progress.waiting), dict(progress.captured), progress.status


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """Be the only one that sends the folder, as soon as the one that does so now has ended.

    Raises:
        RunFolderBusy: It goes on.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(journal.sending(folder))
                break
            except RunFolderBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield
