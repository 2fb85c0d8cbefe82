"""MLflow's fluent functions inside a run: `mlflow.log_metric` and its like go to the open run, through its journal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow_dovetail.run.tracked import Run

# The active runs of all threads, the innermost last: they may be closed in any order.
_ACTIVE: list[Run] = []
_before: dict[str, Any] = {}


@contextmanager
def active(run: Run) -> Iterator[None]:
    """Make `run` MLflow's active run, and its store MLflow's, while the block lasts.

    MLflow has no hook for this (3.17): its fluent module makes a client for each call, and that name is replaced here
    and put back.
    """
    import mlflow.tracking.fluent
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities import RunData

    fluent: Any = mlflow.tracking.fluent
    stack = fluent._active_run_stack.get()
    entry = fluent.ActiveRun(MlflowRun(run.opened_info, RunData()))
    _enter(run, fluent)
    stack.append(entry)
    try:
        yield
    finally:
        _leave(run, fluent)
        if entry in stack:
            stack.remove(entry)


def _client(*args: Any, **kwargs: Any) -> Any:
    """What MLflow's functions log with: the innermost run's client."""
    return _before["client"](*args, **kwargs) if args or kwargs else _ACTIVE[-1].client


def _enter(run: Run, fluent: Any) -> None:
    import mlflow
    from mlflow.tracking._tracking_service import utils

    if not _ACTIVE:
        _before["client"], _before["uri"] = fluent.MlflowClient, utils._tracking_uri
        _before["variable"] = os.environ.get("MLFLOW_TRACKING_URI")
        fluent.MlflowClient = _client
    _ACTIVE.append(run)
    mlflow.set_tracking_uri(run.tracking_uri)


def _leave(run: Run, fluent: Any) -> None:
    import mlflow

    _ACTIVE.remove(run)
    if _ACTIVE:
        mlflow.set_tracking_uri(_ACTIVE[-1].tracking_uri)
        return
    fluent.MlflowClient = _before["client"]
    set_uri: Any = mlflow.set_tracking_uri  # MLflow's own None, "nothing chosen", is not in its annotation
    set_uri(_before["uri"])
    if _before["variable"] is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    else:
        os.environ["MLFLOW_TRACKING_URI"] = _before["variable"]
