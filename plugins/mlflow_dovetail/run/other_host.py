"""The other machines of a training: each samples itself, under its own name, into the one run."""

from __future__ import annotations

import logging
import socket
import subprocess
from pathlib import Path

from mlflow_dovetail import __version__, names, store
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.journal import JournalWriter
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.run.settings import ENV_NODE
from mlflow_dovetail.run.spawning import can_spawn, spawn_recorder
from mlflow_dovetail.run.training_speed import RunPlace
from mlflow_dovetail.run_folder import Description, RunFolder, root_for
from mlflow_dovetail.run_folder.layout import VERSION

log = logging.getLogger("mlflow_dovetail")


class HostWatch:
    """A recorder of this machine for a run that another one records.

    It has a run folder of its own, also where the machines share a disk: two recorders of one folder would be in each
    other's way.
    """

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer

    @classmethod
    def begin(cls, place: RunPlace) -> HostWatch | None:
        """Start it; None where it cannot be, which costs the run nothing but this machine's metrics."""
        if not can_spawn() or place.run_id == place.token:  # offline: nobody could say which run it is
            return None
        description = Description(
            version=VERSION,
            token=place.token,
            tracking_uri=strip_url_credentials(place.tracking_uri),
            start_time_ms=place.start_time_ms,
            run_id=place.run_id,
            made_by=__version__,
        )
        try:
            folder = RunFolder.make(_root(), description)
            writer = JournalWriter(folder, "append", 1)
            spawn_recorder(folder, place.tracking_uri, {ENV_NODE: socket.gethostname()})
        except (DovetailError, OSError, subprocess.SubprocessError) as error:
            log.warning("The machine %s is not sampled. %s", socket.gethostname(), error)
            return None
        return cls(writer)

    @staticmethod
    def folder_of(place: RunPlace) -> RunFolder:
        """The run's folder on this machine."""
        return RunFolder(_root() / names.DOVETAIL_FOLDER / "runs" / place.token)

    def close(self) -> None:
        """This machine has done its part."""
        self._writer.close()


def _root() -> Path:
    return root_for(store.project_root()) / names.DOVETAIL_FOLDER / names.HOSTS_FOLDER / socket.gethostname()
