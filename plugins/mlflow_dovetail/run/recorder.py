"""The recorder: `python -m mlflow_dovetail.run.recorder FOLDER`, a process beside the training.

It never talks to the trainer. It reads the run folder, keeps copies of checkpoints, brings everything to the store in
large batches, and when the trainer is gone it tells the store how the run ended. It ends by itself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from mlflow_dovetail import journal
from mlflow_dovetail.errors import RunFolderBusy, RunNotFound, StoreUnavailable
from mlflow_dovetail.journal import Progress, Sender, is_complete, staging
from mlflow_dovetail.run.abandoned import close_abandoned, has_ended, is_all_over, is_recorders
from mlflow_dovetail.run.capture import ConsoleCapture, capture_environment
from mlflow_dovetail.run.code_state import CodeFinisher
from mlflow_dovetail.run.out_of_memory import read_oom_kills
from mlflow_dovetail.run.settings import ENV_NODE, is_offline
from mlflow_dovetail.run.spawning import ENV_RECORDER_URI
from mlflow_dovetail.run.system_watch import SystemWatch
from mlflow_dovetail.run.table_watch import TableWatch
from mlflow_dovetail.run_folder import RunFolder
from mlflow_dovetail.store import RunStore

log = logging.getLogger("dovetail.recorder")

TICK_SECONDS = 0.25
HEARTBEAT_SECONDS = 10.0
# Importing mlflow costs 2 s of CPU, which a short run on few cores feels: its trainer sends it at its end.
FIRST_SENDING_SECONDS = 15.0
SENDING_SECONDS = 5.0
CAPTURE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 30.0
# After the trainer's end, for a store that does not answer; `dovetail sync` sends what is left.
PATIENCE_SECONDS = 600.0
# After the run's end, for a process that goes on and may log more; then a new recorder is started.
IDLE_SECONDS = 600.0
TRAINER_BEGINS_SECONDS = 1.0
# More than the trainer sends in its ten seconds: mlflow is loaded meanwhile.
MUCH_BYTES = 1 << 20


class Recorder:
    """Serves one run folder until nothing is left to do.

    Args:
        folder: Of the run.
        tracking_uri: With its credentials.
    """

    def __init__(self, folder: RunFolder, tracking_uri: str) -> None:
        self._folder = folder
        self._about = folder.describe()
        self._uri = tracking_uri
        self._offline = is_offline()
        self._console = ConsoleCapture(folder)
        self._code = CodeFinisher(folder, lambda error: self._count("the code is not kept", error))
        self._tables = TableWatch(folder, lambda error: self._count("prediction tables are not made ready", error))
        self._system = SystemWatch(folder, lambda error: self._count("the machine is not sampled", error))
        self._oom_kills = read_oom_kills(os.getpid())
        self._store: RunStore | None = None
        self._began = time.monotonic()
        self._next_sending = self._began + FIRST_SENDING_SECONDS
        self._next_capture = self._began + CAPTURE_SECONDS
        self._next_heartbeat = 0.0
        self._next_sync = 0.0
        self._pause = 1.0
        self._over_since: float | None = None
        self._given_up = False
        self._faults: Counter[str] = Counter()
        self._last_size = -1
        self._changed = self._began
        self.hurried = False

    def serve(self) -> None:
        """Work until the run is complete in its store, or nobody can be helped any more."""
        while not self._turn_or_wait():
            time.sleep(TICK_SECONDS)
        self._attempt("the machine is not sampled", lambda: self._system.turn(is_over=True))

    def _turn_or_wait(self) -> bool:
        try:
            return self._turn()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run is not left alone
            self._count("recording", error)
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            return self._over_since is not None and time.monotonic() - self._over_since > PATIENCE_SECONDS

    def _turn(self) -> bool:
        """Do what is due; whether all is done."""
        now = time.monotonic()
        if not self._folder.is_there():
            log.info("The run folder has been removed")
            return True
        self._beat(now)
        self._attempt("checkpoints are not copied", lambda: staging.stage(self._folder))
        close_abandoned(self._folder, self._oom_kills)
        is_over = is_all_over(self._folder)
        self._attempt("the machine is not sampled", lambda: self._system.turn(is_over=is_over))
        if self._code.is_busy(is_over=is_over) | self._tables.is_busy(is_over=is_over):
            is_over = False
        if is_over and self._over_since is None:
            self._over_since = self._next_sending = self._next_capture = now
        if now >= self._next_capture:
            self._next_capture = now + CAPTURE_SECONDS
            self._capture()
        if not self._offline and now >= self._next_sending and not self._trainer_sends(now) and self._send():
            return True
        if self._over_since is None:
            return now - self._changed > IDLE_SECONDS and has_ended(Progress.load(self._folder, self._uri))
        waited = now - self._over_since
        return self._offline or self._given_up or waited > PATIENCE_SECONDS or (self.hurried and waited > TICK_SECONDS)

    def _trainer_sends(self, now: float) -> bool:
        """Whether a run that has just ended is left to its trainer, which has mlflow loaded and this has not."""
        if self._over_since is None or self._store is not None or now - self._over_since > TRAINER_BEGINS_SECONDS:
            return False
        if is_complete(self._folder, Progress.load(self._folder, self._uri)):
            return False
        return any(
            self._folder.life(number) == "alive" and not is_recorders(self._folder, number)
            for number in self._folder.segments()
        )

    def _beat(self, now: float) -> None:
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_SECONDS
            self._attempt("no heartbeat", self._folder.heartbeat.touch)
        if now >= self._next_sync:
            self._next_sync = now + 1.0
            writers = (one for one in self._folder.segments() if not is_recorders(self._folder, one))
            size = sum(self._folder.segment(number).stat().st_size for number in writers)
            if size != self._last_size:
                self._last_size, self._changed = size, now
                self._attempt("the journal is not on the disk", self._sync_journal)

    def _sync_journal(self) -> None:
        """Have the journal on the disk, once a second, against a power cut."""
        for number in self._folder.segments()[-1:]:
            descriptor = os.open(self._folder.segment(number), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _capture(self) -> None:
        if os.environ.get(ENV_NODE):
            return  # the run's first machine tells what it ran in
        self._attempt("the environment is not kept", lambda: capture_environment(self._folder))
        self._attempt("the console is not kept", self._console.capture)

    def _send(self) -> bool:
        """Send what there is; whether the run is complete in its store."""
        self._next_sending = time.monotonic() + (SENDING_SECONDS if self._over_since is None else TICK_SECONDS)
        try:
            if self._is_complete():
                return True
            if self._left_bytes() > MUCH_BYTES:
                self._opened()
            with journal.sending(self._folder):
                if self._is_complete():
                    return True
                sender = Sender(self._folder, self._opened())
                for cause, count in dict(self._faults).items():
                    sender.progress.trouble(cause, count)
                done = sender.send()
            self._faults.clear()
            self._pause = 1.0
            return done
        except RunFolderBusy:
            return False  # the trainer sends it, at its end
        except RunNotFound as error:
            log.error("%s", error)
            self._given_up, self._next_sending = True, float("inf")
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
            if not isinstance(error, StoreUnavailable):
                self._count("sending", error)
            log.warning("Next try in %.0f s: %s", self._pause, error)
            self._next_sending = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            return False

    def _is_complete(self) -> bool:
        return not self._faults and is_complete(self._folder, Progress.load(self._folder, self._uri))

    def _left_bytes(self) -> int:
        sent = sum(Progress.load(self._folder, self._uri).offsets.values())
        return sum(self._folder.segment(number).stat().st_size for number in self._folder.segments()) - sent

    def _opened(self) -> RunStore:
        if self._store is None:
            from mlflow_dovetail import store

            self._store = store.open(self._uri, self._about.experiment, self._about.artifact_location)
        return self._store

    def _attempt(self, what: str, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception as error:  # noqa: BLE001 - each is tried again, and none is worth the others
            self._count(what, error)

    def _count(self, what: str, error: Exception) -> None:
        """Tell a fault of the recorder once in its log, and with the next sending in the run's status."""
        cause = f"recorder: {what}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        if cause not in self._faults:
            log.warning("%s", cause, exc_info=error)
        self._faults[cause] += 1


def main(path: str) -> None:
    """Serve a run folder; a second recorder of the same folder waits for the first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    folder = RunFolder.open(Path(path))
    recorder = Recorder(folder, os.environ.pop(ENV_RECORDER_URI, "") or folder.describe().tracking_uri)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: setattr(recorder, "hurried", True))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with FileLock(folder.path / "recorder.lock"):
        log.info("Recording %s, process %d", folder.token, os.getpid())
        recorder.serve()
        log.info("Done")


if __name__ == "__main__":
    main(sys.argv[1])
