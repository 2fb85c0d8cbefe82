"""From the trainer's side: seeing to it that a recorder brings the run to its store, and doing so at the run's end."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time

from mlflow_dovetail import journal, names
from mlflow_dovetail.errors import DovetailError, RunFolderBusy
from mlflow_dovetail.journal import OutOfTime, Progress, Sender, is_complete, staging
from mlflow_dovetail.run.abandoned import is_all_over, is_watched
from mlflow_dovetail.run.capture import ConsoleCapture, capture_environment
from mlflow_dovetail.run.captures import Captures
from mlflow_dovetail.run.code_state import finish_code
from mlflow_dovetail.run.opening import Opening
from mlflow_dovetail.run.settings import is_offline
from mlflow_dovetail.run.spawning import can_spawn, is_recorded, spawn_recorder
from mlflow_dovetail.run.table_watch import finish_tables, unfinished

log = logging.getLogger("mlflow_dovetail")

WAIT_SECONDS = 10.0
# The recorder looks each quarter of a second whether the run is over.
LAST_SAMPLE_SECONDS = 2.0
# Views of large tables take longer: the recorder goes on with them.
TABLES_SECONDS = 5.0


class Delivery:
    """Brings an open run to its store.

    Args:
        opening: Of the run.
        samples_system: Whether the recorder samples the machine; None leaves that to the environment.
    """

    def __init__(self, opening: Opening, samples_system: bool | None = None) -> None:
        self._environment = {} if samples_system is None else {names.ENV_SYSTEM_METRICS: str(samples_system).lower()}
        self._folder = opening.folder
        self._store = opening.store
        self._tracking_uri = opening.tracking_uri
        self._waits_until: float | None = None

    def start_recorder(self) -> str:
        """Start a recorder beside this process.

        Returns:
            Why there can be none; empty when all is well. The run is then sent at its end.
        """
        if not can_spawn():
            return ""
        try:
            spawn_recorder(self._folder, self._tracking_uri, self._environment)
        except (OSError, subprocess.SubprocessError) as error:
            return f"no recorder: {getattr(error, 'strerror', '') or error}"
        return ""

    def needs_recorder(self) -> bool:
        """Whether something is left to do and nobody does it: a recorder may have been killed."""
        if not can_spawn() or is_recorded(self._folder):
            return False
        return not is_complete(self._folder, Progress.load(self._folder, self._tracking_uri))

    def wait_for(self, captures: Captures) -> None:
        """Wait for what is captured beside the training, as part of the 10 s that closing a run takes at most."""
        self._waits_until = self._waits_until or time.monotonic() + WAIT_SECONDS
        captures.wait(self._waits_until)

    def flush(self) -> None:
        """Bring what is there to the store, from here; the recorder goes on with what is left after 10 s.

        Where these were not enough at the end of a run, its closing waits no more. The code is made ready here also
        without a store: the work tree may be deleted as soon as the run is over (`dvc exp run --temp`).
        """
        now = time.monotonic()
        deadline = max(self._waits_until or now + WAIT_SECONDS, now + 0.1)
        thread = threading.Thread(target=self._send, args=(deadline,), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending (Python 3.12), or there is no room for a thread
            return
        thread.join(deadline - now)
        self._waits_until = deadline if thread.is_alive() else None

    def _send(self, deadline: float) -> None:
        try:
            finish_code(self._folder, is_over=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run is sent
            log.warning("The run's code could not be kept: %s", error)
        self._finish_tables(deadline)
        if self._store is None and (is_offline() or "mlflow" not in sys.modules):
            return
        self._wait_for_last_sample(deadline)
        while time.monotonic() < deadline:
            try:
                with journal.sending(self._folder):
                    self._capture()
                    progress = Progress.load(self._folder, self._tracking_uri)
                    if self._store is not None and not is_complete(self._folder, progress):
                        Sender(self._folder, self._store, deadline=deadline).send()
                return
            except RunFolderBusy:
                time.sleep(0.05)
            except OutOfTime:
                return
            except (DovetailError, OSError) as error:
                log.warning("Not all of this run has been sent; it is kept, and sent later. %s", error)
                return

    def _wait_for_last_sample(self, deadline: float) -> None:
        """When all is over the recorder looks at the machine once more; then the whole run can be sent at once."""
        until = min(deadline, time.monotonic() + LAST_SAMPLE_SECONDS)
        while is_all_over(self._folder) and is_watched(self._folder) and time.monotonic() < until:
            time.sleep(0.02)

    def _finish_tables(self, deadline: float) -> None:
        """When all is over the recorder makes the prediction tables ready; where there is none, it is done here."""
        until = min(deadline, time.monotonic() + TABLES_SECONDS)
        while is_all_over(self._folder) and unfinished(self._folder) and time.monotonic() < until:
            if can_spawn() and is_recorded(self._folder):
                time.sleep(0.05)
                continue
            try:
                finish_tables(self._folder, is_over=True)
            except Exception as error:  # noqa: BLE001 - whatever it is, the run is sent
                log.warning("The run's prediction tables are not ready: %s", error)
                return

    def _capture(self) -> None:
        try:
            staging.stage(self._folder)
            capture_environment(self._folder)
            ConsoleCapture(self._folder).capture()
        except OSError as error:
            log.warning("Not all of this run's surroundings could be kept: %s", error)
