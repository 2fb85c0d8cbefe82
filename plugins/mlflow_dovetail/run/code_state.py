"""The code of a run: captured by the trainer's process when the run opens, proved and made ready beside it."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from mlflow_dovetail import git_patch, names
from mlflow_dovetail.git_patch import Capture, Limits
from mlflow_dovetail.records import Run as StoredRun
from mlflow_dovetail.run.opening import Opening
from mlflow_dovetail.run_folder import RunFolder, read_json, root_for
from mlflow_dovetail.store import database_path, project_root

# A run that began longer ago has its code behind it: what is here now is somebody else's.
_YOUNG_MS = 60 * 60 * 1000
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 60.0
_TRIES_AT_THE_END = 3
_FINISHED = "finished"
_INTERRUPTED = "the process ended while its code was captured"
_BESIDE_A_DATABASE = ("", "-journal", "-wal", "-shm", ".lock")


class CodeCapture:
    """Captures the code of a run that opens here, once for each training of it.

    Args:
        opening: Of the run.
        script: What runs; found by itself when left out.

    Raises:
        DovetailError: A setting is no number.
    """

    def __init__(self, opening: Opening, script: Path | None = None) -> None:
        self._opening = opening
        self._script = script or _main_script()
        self._limits = Limits.of_environment()
        self._into = opening.folder.code / f"{opening.writer.attempt:04d}"
        self._thread = threading.Thread(target=self._capture, name="dovetail-code", daemon=True)

    def start(self) -> None:
        """Begin to capture."""
        if not self._claim():
            return
        try:
            self._thread.start()
        except RuntimeError:  # no room for a thread
            self._capture()

    def wait(self, seconds: float) -> None:
        """Wait for the capture's end, so long at most."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _claim(self) -> bool:
        """Take the capture of this training, unless somebody has it: an earlier stage, `dovetail exec`."""
        stored = self._opening.stored
        is_known = stored is not None and (names.TAG_CODE_VERDICT in stored.tags or not is_young(stored))
        if is_known and self._opening.writer.kind != "resume":
            return False
        try:
            self._into.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            return False
        except OSError as error:
            self._trouble(error)
            return False
        return True

    def _capture(self) -> None:
        try:
            git_patch.capture(
                list(_folders(self._script)),
                self._into,
                attempt=self._opening.writer.attempt,
                leave_out=list(_no_code(self._opening, self._script)),
                limits=self._limits,
                script=self._script,
            )
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the capture, the training goes on
            with suppress(OSError):
                git_patch.give_up(self._into, self._opening.writer.attempt, f"{type(error).__name__}: {error}")
            self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        if not self._opening.writer.is_closed:
            self._opening.writer.trouble(
                f"the code could not be captured: {type(error).__name__}: {error}", "The run goes on without."
            )


def is_young(stored: StoredRun) -> bool:
    """Whether a run is one that begins now, and not one of long ago that something is added to."""
    age_ms = time.time_ns() // 1_000_000 - stored.start_time_ms
    return stored.status == "RUNNING" and age_ms < _YOUNG_MS


def finish_code(folder: RunFolder, *, is_over: bool) -> None:
    """Make what was captured ready to be sent: patches, proved, and the verdict.

    Args:
        folder: Of the run.
        is_over: No writer lives: a capture that has no result gets none any more, and no better one.

    Raises:
        OSError: There is no room.
    """
    for into in _unfinished(folder, is_over=is_over):
        with FileLock(folder.code / "lock"):
            if not (into / _FINISHED).exists():
                _finish(folder, into, is_over=is_over)


def _unfinished(folder: RunFolder, *, is_over: bool) -> list[Path]:
    there = (into for into in sorted(folder.code.glob("[0-9]*")) if not (into / _FINISHED).exists())
    return [into for into in there if is_over or (into / git_patch.CAPTURED_FILE).exists()]


class CodeFinisher:
    """Finishes the code of a run beside its recording: a large change takes minutes.

    Args:
        folder: Of the run.
        tell: Hears of what went wrong; it is tried again, after longer and longer pauses.
    """

    def __init__(self, folder: RunFolder, tell: Callable[[Exception], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._thread: threading.Thread | None = None
        self._next = 0.0
        self._pause = _FIRST_PAUSE_SECONDS
        self._tries_left = _TRIES_AT_THE_END

    def is_busy(self, *, is_over: bool) -> bool:
        """Go on with it when it is time; whether the run's end has to wait for it."""
        if self._thread and self._thread.is_alive():
            return True
        if not self._tries_left or not _unfinished(self._folder, is_over=is_over):
            return False
        if is_over or time.monotonic() >= self._next:
            self._tries_left -= is_over
            self._thread = threading.Thread(target=self._finish, args=(is_over,), name="dovetail-code", daemon=True)
            self._thread.start()
        return is_over

    def _finish(self, is_over: bool) -> None:
        try:
            finish_code(self._folder, is_over=is_over)
        except Exception as error:  # noqa: BLE001 - the recorder goes on
            self._tell(error)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._next = time.monotonic() + self._pause


def prefix_of(attempt: int) -> str:
    """Where among the artifacts the code of a run's attempt is."""
    return names.ARTIFACT_CODE if attempt <= 1 else f"{names.ARTIFACT_CODE}/attempt_{attempt}"


def _finish(folder: RunFolder, into: Path, *, is_over: bool) -> None:
    if not folder.has_room():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.path))
    attempt = int(into.name)
    prefix = prefix_of(attempt)
    captured = read_json(into / git_patch.CAPTURED_FILE, Capture) or Capture(attempt, 0, cause=_INTERRUPTED)
    state = git_patch.finish(captured, into, folder.captured / prefix, prefix)
    folder.say("code", git_patch.tags(state))
    if is_over or git_patch.is_final(state):
        (into / _FINISHED).touch()
        git_patch.tidy(captured, state, into)


def working_folder() -> Path:
    """Where the program was started: Hydra may have changed the directory since."""
    hydra = _hydra()
    return Path(hydra.runtime.cwd) if hydra else Path.cwd()


def _folders(script: Path | None) -> Iterator[Path]:
    """Where the code may be: where the program was started, else where it lies."""
    yield working_folder()
    if script is not None:
        yield script.parent


def _no_code(opening: Opening, script: Path | None) -> Iterator[Path]:
    """Stores, run folders, Hydra's output: what a run writes, and no run is made from."""
    yield opening.folder.path.parents[1]
    yield root_for(project_root()) / names.DOVETAIL_FOLDER
    database = database_path(opening.tracking_uri)
    if database is not None:
        yield from (database.with_name(database.name + end) for end in _BESIDE_A_DATABASE)
    if opening.stored is not None:
        address = urlsplit(opening.stored.artifact_uri)
        path = Path(unquote(address.path))
        if address.scheme in ("", "file") and len(path.parents) > 2:
            yield path.parents[1]  # the experiment's: <root>/<experiment>/<run>/artifacts
            if path.parents[1].name == opening.stored.experiment_id:
                yield path.parents[2]
    hydra = _hydra()
    if hydra:
        code = [Path(hydra.runtime.cwd), *([script] if script else [])]
        outputs = [Path(hydra.runtime.output_dir)]
        with suppress(Exception):  # that of a sweep may have names in it that only a sweep has
            outputs.append(Path(hydra.runtime.cwd, hydra.sweep.dir))
        for output in outputs:
            if not any(path.is_relative_to(output) for path in code):
                yield output


def _hydra() -> Any:
    """Hydra's own configuration, in a process that Hydra has started."""
    module = sys.modules.get("hydra.core.hydra_config")
    if module is None or not module.HydraConfig.initialized():
        return None
    return module.HydraConfig.get()


def _main_script() -> Path | None:
    """The file that runs: a notebook or a script; None in an interactive session."""
    main = sys.modules.get("__main__")
    # As VS Code and Jupyter's server say it.
    notebook = getattr(main, "__vsc_ipynb_file__", None) or os.environ.get("JPY_SESSION_NAME")
    given = notebook if "ipykernel" in sys.modules else getattr(main, "__file__", None)
    return Path(given).resolve() if given and os.path.isfile(given) else None  # noqa: PTH113 - never raises
