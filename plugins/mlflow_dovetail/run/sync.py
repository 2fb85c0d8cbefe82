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
from mlflow_dovetail.errors import DovetailError, RunFolderBusy, RunFolderInvalid, RunNotFound, StoreUnavailable
from mlflow_dovetail.journal import Progress, Sender, is_complete, staging
from mlflow_dovetail.records import Run
from mlflow_dovetail.run.abandoned import close_abandoned
from mlflow_dovetail.run.capture import ConsoleCapture
from mlflow_dovetail.run.code_state import finish_code
from mlflow_dovetail.run.damage import set_damaged_aside
from mlflow_dovetail.run.destination import Destination, explicit_store
from mlflow_dovetail.run.spawning import is_recorded
from mlflow_dovetail.run.table_watch import finish_tables
from mlflow_dovetail.run_folder import Lease, RunFolder, read_json, root_for
from mlflow_dovetail.store.creation import is_empty

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
    machine too, and may go to any number of stores. A run that its store has no more, as after a backup was put back,
    is sent anew.

    Args:
        folder: Of the run.
        tracking_uri: `MLFLOW_TRACKING_URI` when left out, else the store that the run was meant for.
        on_progress: Called with the run's token, and the values and files that have been sent so far.

    Raises:
        RunFolderInvalid: It is no run folder.
        StoreUnavailable: `tracking_uri` is no address.
    """
    with _Stores() as stores:
        return _Sync(RunFolder.open(Path(folder)), explicit_store(tracking_uri), stores, on_progress).run()


def sync_folders(
    folders: Iterable[Path], tracking_uri: str | None = None, *, on_progress: OnProgress | None = None
) -> Iterator[SyncResult]:
    """`sync_folder` of one after the other; one that cannot be sent does not keep the others.

    Raises:
        StoreUnavailable: `tracking_uri` is no address.
    """
    given = explicit_store(tracking_uri)
    with _Stores() as stores:
        for path in folders:
            try:
                yield _Sync(RunFolder.open(path), given, stores, on_progress).run()
            except RunFolderInvalid as error:
                yield SyncResult(path, "failed", f"{error.what} {error.why}")


class _Stores(ExitStack):
    """The stores of one sync, each opened once for reading. One that does not answer is `down`: not asked again."""

    def __init__(self) -> None:
        super().__init__()
        self.down: dict[str, StoreUnavailable] = {}
        self._readers: dict[str, store.RunStore] = {}

    def find(self, to: Destination, run_id: str) -> Run | None:
        """The run there; None where it is no more, or its database has yet to be made.

        Raises:
            StoreUnavailable: The store cannot be asked.
        """
        if to.uri in self.down:
            raise self.down[to.uri]
        database = store.database_path(to.uri)
        if database and is_empty(database):
            return None
        try:
            if to.uri not in self._readers:
                self._readers[to.uri] = self.enter_context(_reader(to))
            return self._readers[to.uri].get_run(run_id)
        except RunNotFound:
            return None
        except StoreUnavailable as error:
            self.down[to.uri] = error
            raise


def _reader(to: Destination) -> store.RunStore:
    if not to.answers():
        raise to.unavailable("does not answer.")
    return store.open(to.uri)


class _Sync:
    """One run folder on its way."""

    def __init__(self, folder: RunFolder, given: str | None, stores: _Stores, on_progress: OnProgress | None) -> None:
        self._folder, self._about = folder, folder.describe()
        self._to = Destination(folder, given)
        self._stores, self._down = stores, stores.down
        self._on_progress = on_progress or (lambda *_: None)
        self._there: Run | None = None
        self._values = self._files = 0

    def run(self) -> SyncResult:
        try:
            return self._result(*self._bring())
        except RunFolderBusy as error:
            return self._result("live", error.why)
        except StoreUnavailable as error:
            if self._to.uri not in self._down and not self._to.answers():
                self._down[self._to.uri] = error
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
        if not (is_lost := self._is_lost()) and is_complete(self._folder, self._progress()):
            return "already complete", ""
        living = close_abandoned(self._folder, from_outside=True)  # time may have passed
        with _alone(self._folder):
            self._gather()
            damaged = set_damaged_aside(self._folder, self._progress())
            why = self._send(is_live=bool(living), is_lost=is_lost)
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

    def _is_lost(self) -> bool:
        """Whether the store has no more what it had: it was made anew, or put back from an earlier day."""
        progress = self._progress()
        if not progress.run_id:
            return False
        self._there = self._stores.find(self._to, progress.run_id)
        if self._there is None:
            return True
        if progress.trainings and (self._there.end_time_ms or 0) >= progress.trainings[-1].time_ms:
            return False  # the store has seen the end, and somebody has resumed the run since, with MLflow alone
        is_of_before = self._there.status == "RUNNING" and progress.status not in ("", "RUNNING")
        attempts = ("", progress.told.get(names.TAG_ATTEMPT))
        # A later attempt is another folder's, and so is a run that this one only adds to.
        return is_of_before and not self._about.run_id and self._there.tags.get(names.TAG_ATTEMPT, "") in attempts

    def _start_over(self, opened: store.RunStore) -> None:
        """Forget what the store had; the journal has it all. Large copies that were given back are with a run alone."""
        fresh, there = Progress(self._to.address), self._there
        if there:
            fresh.released = self._progress().released
        elif self._about.run_id:  # who made the run has sent it anew already
            there = next(iter(opened.search(names.TAG_TOKEN, self._about.token)), None)
        if there:
            fresh.begin(there, self._about)
        fresh.save(self._folder)

    def _send(self, *, is_live: bool, is_lost: bool) -> str:
        """Send until the store has everything, or does not take the rest; why it does not."""
        if self._to.uri in self._down:
            raise self._down[self._to.uri]
        with self._to.open() as opened:
            if is_lost:
                self._start_over(opened)
            sender = Sender(self._folder, opened, on_progress=self._count)
            vain = 0
            while vain < _TRIES_IN_VAIN:
                before = _extent(sender.progress)
                failure = self._try(sender)
                if failure is None and (is_live or is_complete(self._folder, sender.progress)):
                    return ""
                if failure and not self._to.answers():
                    self._down[self._to.uri] = self._to.unavailable("does not answer.")
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
