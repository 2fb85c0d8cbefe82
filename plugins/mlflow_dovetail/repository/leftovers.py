"""What a run leaves in a work tree: by its name, so that nobody is asked."""

from __future__ import annotations

import sys

_RUN_FOLDERS = frozenset(["__pycache__", "mlruns", "mlartifacts", ".dovetail"])
_RUN_DATABASES = tuple("mlflow.db" + end for end in ("", "-journal", "-wal", "-shm", ".lock"))
_HYDRA_FOLDERS = frozenset(["outputs", "multirun"])


def is_left_by_a_run(path: str) -> bool:
    """Whether an untracked path, relative to the work tree, is MLflow's, Dovetail's, Hydra's or Python's."""
    parts = path.rstrip("/").split("/")
    # Hydra's names are ordinary words: they mean its folders only in a process that uses it.
    folders = _RUN_FOLDERS | _HYDRA_FOLDERS if "hydra" in sys.modules else _RUN_FOLDERS
    return parts[-1] in _RUN_DATABASES or not folders.isdisjoint(parts)
