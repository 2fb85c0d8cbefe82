"""Where the speed of a training goes: windows to the run's metrics, each rank's totals beside its journal."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.journal import clock_ms
from mlflow_dovetail.records import TrainingSpeed
from mlflow_dovetail.run.tracked import Run
from mlflow_dovetail.run_folder import RunFolder


class RunPlace(msgspec.Struct, frozen=True):
    """Where a run is recorded, told to the other ranks of its training.

    Attributes:
        tracking_uri: With its credentials: it is told within the job alone.
        run_id: MLflow's; the token while it is offline.
        token: Dovetail's.
        folder: The run folder's path on `host`.
        host: The machine that records it.
        start_time_ms: Of the run.
    """

    tracking_uri: str
    run_id: str
    token: str
    folder: str
    host: str
    start_time_ms: int

    @classmethod
    def of(cls, run: Run) -> RunPlace:
        """Of a run that is open here."""
        start_ms = RunFolder(run.folder).describe().start_time_ms
        return cls(run.tracking_uri, run.run_id, run.token, str(run.folder), socket.gethostname(), start_ms)

    @staticmethod
    def encode(place: RunPlace | None) -> bytes:
        """For another process."""
        return msgspec.json.encode(place)

    @staticmethod
    def decode(content: bytes) -> RunPlace | None:
        """What `encode` gave; None of what it did not give."""
        try:
            return msgspec.json.decode(content, type=RunPlace | None)
        except msgspec.DecodeError:
            return None

    @property
    def is_here(self) -> bool:
        """Whether this machine records it."""
        return self.host == socket.gethostname() and Path(self.folder).is_dir()


class SpeedLog:
    """Takes what a `SpeedMeter` measures.

    Args:
        folder: Of the run on this machine.
        start_time_ms: Of the run.
    """

    def __init__(self, folder: RunFolder, start_time_ms: int) -> None:
        self._folder = folder
        self._start_ms = start_time_ms
        self._step = -1

    def begin(self) -> None:
        """A training begins: what an earlier one of the run has kept is not its own."""
        shutil.rmtree(self._folder.speeds, ignore_errors=True)

    def keep(self, speed: TrainingSpeed) -> None:
        """Keep a rank's totals for the advice.

        Raises:
            OSError: There is no room.
        """
        if not self._folder.is_there():  # a machine that is not sampled
            return
        self._folder.speeds.mkdir(exist_ok=True)
        target = self._folder.speeds / f"{speed.rank}.json"
        beside = target.with_suffix(f".{os.getpid()}")
        beside.write_bytes(msgspec.json.encode(speed))  # and not waited for until it is on the disk
        beside.replace(target)

    def log(self, run: Run, values: Mapping[str, float]) -> None:
        """Log a window, at the second of the run in which it ended, as the recorder does."""
        self._step = max((clock_ms() - self._start_ms) // 1000, self._step + 1)
        run.log_metrics({names.METRIC_SYSTEM_PREFIX + key: value for key, value in values.items()}, self._step)
