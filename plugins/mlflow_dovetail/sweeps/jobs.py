"""The processes of a sweep's jobs, where the launcher runs them in others: Ctrl-C reaches each once, and is waited for.

Joblib kills its workers as soon as its caller is interrupted, and submitit's jobs hear nothing at all: without this a
job that Ctrl-C ends could not say so.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from mlflow_dovetail.run.endings import Terminated
from mlflow_dovetail.run_folder import Lease, read_json

log = logging.getLogger(__name__)

# A run that is interrupted waits 10 s at most for its store.
PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.1
# The terminal's end; Windows has none.
_HANG_UP = (signal.SIGHUP,) if os.name == "posix" else ()
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *_HANG_UP)
_OVER = "over"


class Jobs:
    """A folder that the sweep's process and those of its jobs share, with a file for each job that runs.

    It goes along to the jobs. When the sweep is over, a job that was about to start does not.

    Args:
        folder: Within one that is there; made and removed by the sweep's process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._handlers: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_handlers": {}}

    def watch(self) -> None:
        """In the sweep's process: be there for the signals that end it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._listen(_SIGNALS, self._on_signal)

    def leave(self) -> None:
        """In the sweep's process: it is over."""
        self._give_back()
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self, job: int) -> None:
        """In a job's process: it may be interrupted from now on.

        Raises:
            KeyboardInterrupt: The sweep is over.
        """
        if not self.folder.parent.is_dir():
            return  # another machine, with a disk of its own
        try:
            self._file(job).write_bytes(msgspec.json.encode(Lease.own()))
        except FileNotFoundError:
            raise KeyboardInterrupt from None
        if (self.folder / _OVER).exists():
            self.end(job)
            raise KeyboardInterrupt
        self._listen((signal.SIGINT,), self._interrupt_once)
        for number in _HANG_UP:  # also between jobs: joblib kills all its workers when one dies; the sweep tells them
            signal.signal(number, signal.SIG_IGN)

    def shield(self) -> None:
        """In a job's process: it has done its work, and what is written of that is not interrupted."""
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)

    def end(self, job: int) -> None:
        """In a job's process: it is over."""
        self._give_back()
        self._file(job).unlink(missing_ok=True)

    def running(self) -> Iterator[Lease]:
        """The jobs' processes on this machine that live."""
        return (lease for lease in self.left().values() if lease.life() == "alive")

    def left(self) -> dict[Path, Lease]:
        """The jobs that live, or may: of another machine nobody knows more than that the file is still there."""
        found = {path: read_json(path, Lease) for path in self.folder.glob("*.json")}
        return {
            path: lease for path, lease in found.items() if lease and lease != Lease.own() and lease.life() != "dead"
        }

    def close(self) -> None:
        """No more jobs start: of a sweep that is gone some may still wait for a machine."""
        with suppress(OSError):
            (self.folder / _OVER).touch()

    def wait_for_left(self) -> None:
        """In a later sweep's process: until the jobs have ended that a killed one left behind; their values count."""
        self.close()
        left = self.left()
        if pids := [str(lease.pid) for lease in left.values() if lease.life() == "alive"]:
            log.info("Waiting for jobs that the call before has left running: processes %s.", ", ".join(pids))
        for path in [path for path, lease in left.items() if lease.life() == "unknown"]:
            log.warning(
                "Waiting for a job that may run on %s. If it is gone, remove %s: its values then run again.",
                left[path].host,
                path,
            )
        while self.left():
            time.sleep(_LOOK_SECONDS)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Interrupt the jobs of this machine, and wait until they have ended; the second signal waits for nobody."""
        self._give_back()
        self.close()
        for lease in self.running():
            with suppress(ProcessLookupError):
                os.kill(lease.pid, signal.SIGINT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(self.running()) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def _interrupt_once(self, _number: int, _frame: FrameType | None) -> None:
        """A terminal tells every process of a group, and the sweep's tells its jobs again: once is enough."""
        self.shield()
        raise KeyboardInterrupt

    def _listen(self, numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> None:
        """What is ignored stays so: `nohup` asks for that."""
        heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        self._handlers = {number: signal.signal(number, handler) for number in heard}

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _file(self, job: int) -> Path:
        return self.folder / f"{job}.json"
