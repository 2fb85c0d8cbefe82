"""MLflow's fluent functions inside a run: `mlflow.log_metric` and its like go to the open run, through its journal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow_dovetail.run.tracked import Run


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
    before = fluent.MlflowClient
    with _tracking_uri(run.tracking_uri):
        entry = fluent.ActiveRun(MlflowRun(run.info, RunData()))
        stack.append(entry)
        fluent.MlflowClient = lambda *args, **kwargs: run.client if not args and not kwargs else before(*args, **kwargs)
        try:
            yield
        finally:
            fluent.MlflowClient = before
            if entry in stack:
                stack.remove(entry)


@contextmanager
def _tracking_uri(uri: str) -> Iterator[None]:
    import mlflow
    from mlflow.tracking._tracking_service import utils

    chosen, variable = utils._tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")
    set_uri: Any = mlflow.set_tracking_uri  # MLflow's own None, "nothing chosen", is not in its annotation
    set_uri(uri)
    try:
        yield
    finally:
        set_uri(chosen)
        if variable is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        else:
            os.environ["MLFLOW_TRACKING_URI"] = variable
