"""Bringing a run's prediction tables to the form in which they are uploaded, beside the training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from mlflow_dovetail import names
from mlflow_dovetail.run_folder import RunFolder, write_whole

LOOK_SECONDS = 15.0
_TRIES_AT_THE_END = 3
_DONE = "views.done"


class TableWatch:
    """Compacts the tables of a run now and then, and makes their views when the run is over.

    Args:
        folder: Of the run.
        failed: Told what went wrong; it is tried again.
    """

    def __init__(self, folder: RunFolder, failed: Callable[[Exception], None]) -> None:
        self._folder = folder
        self._failed = failed
        self._thread: threading.Thread | None = None
        self._next = 0.0
        self._tries_left = _TRIES_AT_THE_END

    def is_busy(self, *, is_over: bool) -> bool:
        """Go on with it when it is time; whether the run's end has to wait for it."""
        if self._thread and self._thread.is_alive():
            return True
        if not self._tries_left or not unfinished(self._folder):
            return False
        if is_over or time.monotonic() >= self._next:
            self._next = time.monotonic() + LOOK_SECONDS
            self._tries_left -= is_over
            self._thread = threading.Thread(target=self._go_on, args=(is_over,), name="dovetail-tables", daemon=True)
            self._thread.start()
        return is_over

    def _go_on(self, is_over: bool) -> None:
        try:
            finish_tables(self._folder, is_over=is_over)
        except Exception as error:  # noqa: BLE001 - the recorder goes on
            self._failed(error)


def unfinished(folder: RunFolder) -> list[Path]:
    """The tables of which something is not yet in their views."""
    return [table for table in sorted(folder.tables.glob("*")) if table.is_dir() and not _is_done(table)]


def finish_tables(folder: RunFolder, *, is_over: bool) -> None:
    """Compact the tables; when the run is over, make their views.

    Raises:
        OSError: There is no room.
        DovetailError: A table was written by a later version.
    """
    tables = unfinished(folder)
    if not tables:
        return
    from mlflow_dovetail.prediction_tables import compact, write_views

    with FileLock(folder.tables / ".lock"):
        for source in tables:
            target = folder.captured / names.ARTIFACT_PREDICTIONS / source.name
            manifest = compact(source, target, is_over=is_over)
            if is_over and manifest is not None:
                write_views(target, manifest, {"run": folder.describe().name or "", "token": folder.token})
            if is_over:
                write_whole(source / _DONE, b"")


def _is_done(table: Path) -> bool:
    """Whether nothing was appended after the views were made."""
    done = table / _DONE
    return done.exists() and all(
        path.stat().st_mtime_ns <= done.stat().st_mtime_ns for path in table.iterdir() if path.is_file()
    )
