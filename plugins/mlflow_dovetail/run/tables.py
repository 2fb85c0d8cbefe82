"""MLflow's tables, which grow with each call: MLflow reads back what is there, and here it is still in the journal."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlflow.entities import FileInfo, RunData, RunTag
from mlflow.entities import Run as MlflowRun

from mlflow_dovetail.run.client import JournalClient
from mlflow_dovetail.run.tracked import TAG_LOGGED_ARTIFACTS, Run


class TableWriter(JournalClient):
    """Logs a table to an open run; what MLflow reads for that comes from the journal, else from the store.

    Args:
        run: That is open.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run.tracking_uri, is_offline=run.is_offline)
        self._run = run

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """What the journal has in a folder, and what the store has."""
        here = [file for file in self._run.kept_files() if (Path(file).parent.as_posix()) == (path or ".")]
        there = [] if self._run.is_offline else super().list_artifacts(run_id, path)
        return [FileInfo(file, False, None) for file in here] + list(there)

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        """A file's last content."""
        kept = self._run.kept_files().get(path)
        if kept is None or dst_path is None:
            return str(super().download_artifacts(run_id, path, dst_path))
        return str(shutil.copy(kept, Path(dst_path) / Path(path).name))

    def get_run(self, run_id: str) -> MlflowRun:
        """The run with the one tag that tells its tables."""
        return MlflowRun(
            self._run.opened_info, RunData(tags=[RunTag(TAG_LOGGED_ARTIFACTS, self._run.logged_artifacts)])
        )
