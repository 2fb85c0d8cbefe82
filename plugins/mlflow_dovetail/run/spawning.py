"""Starting the recorder: a process that belongs to nobody, so that nothing waits for it and nothing takes it along."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mlflow_dovetail import run_folder
from mlflow_dovetail.run_folder import RunFolder

ENV_RECORDER_URI = "DOVETAIL_RECORDER_URI"
# The shell goes at once and leaves the recorder to the system: whoever ends this process's children does not find it.
_LEAVE_BEHIND = 'nice -n 19 "$@" </dev/null >>recorder.log 2>&1 &'
# One thread each: the recorder computes nothing.
_SMALL = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def can_spawn() -> bool:
    """Whether there can be a recorder: on POSIX. Elsewhere the journal is sent when the run ends (untested)."""
    return os.name == "posix"


def spawn_recorder(folder: RunFolder, tracking_uri: str, environment: Mapping[str, str]) -> None:
    """Start a recorder for a run folder, in a session of its own, at nice 19, with no pipe to this process.

    One that is there already goes on; the new one waits for it, and ends when nothing is left to do.

    Args:
        folder: Of the run.
        tracking_uri: With its credentials, which are not written down: it goes through the environment.
        environment: More variables for it.

    Raises:
        OSError: No process can be started.
    """
    program = [sys.executable, "-m", "mlflow_dovetail.run.recorder", str(folder.path)]
    subprocess.run(
        ["/bin/sh", "-c", _LEAVE_BEHIND, "sh", *program],
        cwd=folder.path,
        env={**os.environ, **environment, **_SMALL, "PYTHONPATH": _python_path(), ENV_RECORDER_URI: tracking_uri},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
    )


def is_recorded(folder: RunFolder) -> bool:
    """Whether a recorder serves the folder."""
    import fcntl

    try:
        with (folder.path / "recorder.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _python_path() -> str:
    """So that the recorder finds this package from another working directory, also when it is not installed."""
    parts = [str(Path(part).resolve()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    home = Path(run_folder.__file__).resolve().parents[2]
    if home.name not in ("site-packages", "dist-packages"):
        parts.append(str(home))
    return os.pathsep.join(dict.fromkeys(parts))
