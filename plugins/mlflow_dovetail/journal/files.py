"""Sending a run's files: what the recorder has captured, and the copies that wait."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_dovetail.errors import DovetailError, StoreRefused, StoreUnavailable
from mlflow_dovetail.journal import staging
from mlflow_dovetail.journal.entries import File
from mlflow_dovetail.journal.progress import Progress, captured_files
from mlflow_dovetail.run_folder import RunFolder
from mlflow_dovetail.store import RunStore

_KEPT_BYTES = 1 << 20


class FileSender:
    """Sends the files of one run folder once; what cannot be stored now stays waiting, with the reason.

    Args:
        folder: Of the run.
        store: Where the run is.
        progress: Of that store; kept after each file.
        check_time: Called before each file; raises when the time is over.
        on_progress: Called with the path of each file that is there.
    """

    def __init__(
        self,
        folder: RunFolder,
        store: RunStore,
        progress: Progress,
        check_time: Callable[[], None],
        on_progress: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._store = store
        self._progress = progress
        self._check_time = check_time
        self._on_progress = on_progress
        self._is_over = False

    def send(self) -> None:
        """Send all that is there."""
        self._progress.why_waiting = ""
        self._send_captured()
        if self._progress.waiting:
            self._stage()
        for path, entry in list(self._progress.waiting.items()):
            if not staging.is_pinned(self._folder, entry.payload):
                self._send_copy(path, entry)
        for payload in self._progress.superseded:
            staging.drop(self._folder, payload)
        self._progress.superseded.clear()

    def _stage(self) -> None:
        try:
            staging.stage(self._folder)
        except OSError as error:
            self._progress.why_waiting = error.strerror or str(error)

    def _send_captured(self) -> None:
        """Files that the recorder has made, sent again when they change."""
        for name, state in captured_files(self._folder).items():
            if self._progress.captured.get(name) != state and self._put(self._folder.captured / name, name):
                self._progress.captured[name] = state
                self._progress.save(self._folder)

    def _send_copy(self, path: str, entry: File) -> None:
        try:
            with self._copy_of(path, entry) as copy:
                if copy is None:
                    self._progress.trouble(f"{path} is lost: its copy is gone")
                elif not self._put(copy, path):
                    return
        except DovetailError as error:  # its own store has it, and does not give it now
            self._progress.why_waiting = error.why
            return
        del self._progress.waiting[path]
        self._release(path, entry)
        self._progress.save(self._folder)

    def _put(self, copy: Path, path: str) -> bool:
        """Store a file under its path; whether that was done."""
        self._check_time()
        if self._is_over:
            return False
        try:
            with _named(copy, Path(path).name) as file:
                folder = Path(path).parent.as_posix()
                self._store.log_artifact(self._progress.run_id, file, None if folder == "." else folder)
        except (StoreRefused, StoreUnavailable, OSError) as error:
            self._progress.why_waiting = getattr(error, "why", "") or str(error)
            self._is_over = isinstance(error, StoreUnavailable)  # each of the others would wait as long in vain
            return False
        self._on_progress(path)
        return True

    def _release(self, path: str, entry: File) -> None:
        """Give back the room of a large copy that its own store has; a sending to another store fetches it there."""
        copy = self._folder.artifacts / entry.payload
        is_home = self._progress.uri == self._folder.describe().tracking_uri
        if is_home and copy.is_file() and copy.stat().st_size > _KEPT_BYTES:
            self._progress.released[path] = entry.payload
            self._progress.save(self._folder)
            copy.unlink()

    @contextmanager
    def _copy_of(self, path: str, entry: File) -> Iterator[Path | None]:
        """The file: here, or from the store that has it already; None where nobody has it."""
        here = staging.find(self._folder, entry.payload)
        home = self._folder.describe().tracking_uri
        elsewhere = Progress.load(self._folder, home)
        if here is not None or elsewhere.released.get(path) != entry.payload:
            yield here
            return
        from mlflow_dovetail import store

        with tempfile.TemporaryDirectory() as directory, store.open(home) as opened:
            yield opened.read_artifact(elsewhere.run_id, path, Path(directory))


@contextmanager
def _named(copy: Path, name: str) -> Iterator[Path]:
    """A file under the name that it has among the artifacts."""
    if copy.name == name:
        yield copy
        return
    with tempfile.TemporaryDirectory() as directory:
        link = Path(directory) / name
        link.symlink_to(copy.resolve())
        yield link
