"""What is captured of a run when it opens, beside its training: its code and its inputs."""

from __future__ import annotations

import time
from pathlib import Path

from mlflow_dovetail.run.code_state import CodeCapture
from mlflow_dovetail.run.data_state import DataCapture
from mlflow_dovetail.run.opening import Opening

# The start of a run waits so long for them; they then go on beside it.
START_SECONDS = 1.0


class Captures:
    """The captures of a run that opens here.

    Args:
        opening: Of the run.
        script: What runs; found by itself when left out.

    Raises:
        DovetailError: A setting is no number.
    """

    def __init__(self, opening: Opening, script: Path | None = None) -> None:
        self._code = CodeCapture(opening, script)
        self.data = DataCapture(opening)
        self._began = time.monotonic()

    def start(self) -> None:
        """Begin, before anyone edits a file."""
        self._began = time.monotonic()
        self.data.start()
        self._code.start()

    def wait_at_start(self) -> None:
        """Wait until a second after their begin."""
        self.wait(self._began + START_SECONDS)

    def wait(self, until: float) -> None:
        """Wait for their ends, until a time on `time.monotonic()`'s clock at most."""
        for capture in (self._code, self.data):
            capture.wait(max(until - time.monotonic(), 0))
