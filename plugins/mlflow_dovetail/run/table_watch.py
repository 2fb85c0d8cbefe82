"""Bringing a run's prediction tables to the form in which they are uploaded, beside the training."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from mlflow_dovetail import names
from mlflow_dovetail.journal import Progress
from mlflow_dovetail.run_folder import RunFolder, write_whole

LOOK_SECONDS = 15.0
_TRIES_AT_THE_END = 8
_LONGEST_PAUSE_SECONDS = 30.0
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
        self._pause = 1.0
        self._was_over = False

    def is_busy(self, *, is_over: bool) -> bool:
        """Go on with it when it is time; whether the run's end has to wait for it."""
        if self._thread and self._thread.is_alive():
            return True
        if not unfinished(self._folder):
            self._tries_left, self._pause = _TRIES_AT_THE_END, 1.0
            return False
        if not self._tries_left:
            return False
        if is_over and not self._was_over:
            self._next = 0.0
        self._was_over = is_over
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + (self._pause if is_over else LOOK_SECONDS)
            if is_over:  # another process may still append, or something is wrong
                self._tries_left -= 1
                self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
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
    """Compact the tables; when the run is over, make their views. One that cannot be made ready costs no other.

    Another machine of a training adds its rows; the views are made where the run is recorded, of what is there.

    Raises:
        OSError: There is no room.
        DovetailError: A table was written by a later version.
        Exception: Whatever a library says of what is in a table.
    """
    tables = unfinished(folder)
    if not tables:
        return
    from mlflow_dovetail.prediction_tables import compact, write_views

    left_out: Counter[str] = Counter()
    is_other_host = _is_of_other_host(folder)
    failed: Exception | None = None
    with FileLock(folder.tables / ".lock"):
        for source in tables:
            target = folder.captured / names.ARTIFACT_PREDICTIONS / source.name
            try:
                manifest = compact(source, target, is_over=is_over, is_other_host=is_other_host)
                left_out.update(manifest.left_out if manifest else {})
                if is_over and manifest is not None and not is_other_host:
                    write_views(target, manifest, _names_of(folder), is_piece=_is_piece(folder, source))
                if is_over:
                    write_whole(source / _DONE, b"")
            except Exception as error:  # noqa: BLE001 - raised when the others are done
                failed = failed or error
    _say_lost(folder, left_out)
    if failed is not None:
        raise failed


def _names_of(folder: RunFolder) -> dict[str, str]:
    """What the run answers to: its id where it was recorded, which no store may have given yet."""
    about = folder.describe()
    run_id = about.run_id or Progress.load(folder, about.tracking_uri).run_id
    return {"run": about.name or "", **({"run id": run_id} if run_id else {"token": folder.token})}


def _is_of_other_host(folder: RunFolder) -> bool:
    """Whether it is `hosts/<host>/.dovetail/runs/<token>`: see `other_host`."""
    return folder.path.parts[-6:-4] == (names.DOVETAIL_FOLDER, names.HOSTS_FOLDER)


def _is_piece(folder: RunFolder, source: Path) -> bool:
    """Whether the run's table has rows elsewhere: of the run folder before this, or of machines on the same disk."""
    from mlflow_dovetail.prediction_tables import read_table_record

    record = read_table_record(source)
    hosts = folder.path.parents[1] / names.HOSTS_FOLDER
    there = hosts.glob(f"*/{names.DOVETAIL_FOLDER}/runs/{folder.token}/tables/{source.name}")
    return bool(record and record.piece) or any(there)


def _say_lost(folder: RunFolder, left_out: Mapping[str, int]) -> None:
    """Have the run's status tell of rows that the disk did not take; those that a policy left out are meant to be."""
    from mlflow_dovetail.prediction_tables import LOST

    lost = [f"{cause} ×{rows}" for cause, rows in left_out.items() if cause.startswith(LOST)]
    if lost and folder.has_room():
        folder.say("predictions", {f"{names.TAG_STATUS_PREFIX}predictions": f"degraded: {', '.join(lost)}"})


def _is_done(table: Path) -> bool:
    """Whether the views were made, and nothing was appended that is not in them."""
    raw = [*table.glob("*.rows"), *table.glob("*.media")]
    return (table / _DONE).exists() and not any(path.stat().st_size for path in raw)
