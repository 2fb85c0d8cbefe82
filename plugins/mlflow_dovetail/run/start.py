"""Opening a run: `start_run` for a new one or a resumed one, `track` for one that somebody else trains."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from mlflow_dovetail import names, redact, store
from mlflow_dovetail.errors import DovetailError, StoreUnavailable
from mlflow_dovetail.run.opening import KNOCK_SECONDS, open_known, open_new
from mlflow_dovetail.run.settings import is_offline
from mlflow_dovetail.run.tracked import Run
from mlflow_dovetail.store.asking import asking

log = logging.getLogger("mlflow_dovetail")

_DEFAULT_EXPERIMENT = "Default"


class ActiveRun(Run):
    """A `Run` that is MLflow's active run until it is closed."""

    _fluent: ExitStack | None = None

    def activate(self) -> ActiveRun:
        """Become the active run: `mlflow.log_*` logs to this one."""
        from mlflow_dovetail.run.fluent import active

        self._fluent = ExitStack()
        self._fluent.enter_context(active(self))
        return self

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)

    def close(self) -> None:
        """End being active, and close the run; see `Run.close`."""
        if self._fluent is not None:
            self._fluent.close()
            self._fluent = None
        super().close()


def start_run(
    run_id: str | None = None,
    experiment_id: str | None = None,
    run_name: str | None = None,
    nested: bool = False,
    parent_run_id: str | None = None,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
    log_system_metrics: bool | None = None,
    *,
    tracking_uri: str | None = None,
    experiment_name: str | None = None,
) -> ActiveRun:
    """Start a run, or resume one, recorded so that nothing is lost and nothing waits.

    It takes what `mlflow.start_run` takes, and `mlflow.log_*` works inside. When the store does not answer, the run
    begins all the same, is kept in its folder, and goes there later.

        with mlflow_dovetail.start_run(run_name="first") as run:
            run.log_metrics({"loss": 0.1}, step=3)

    Args:
        run_id: Resume this run: it is RUNNING again, and a step that an earlier attempt has logged already goes to
            `attempt_<n>/<key>`. `MLFLOW_RUN_ID` when left out.
        experiment_id: As MLflow has it; needs the store.
        run_name: MLflow invents one when left out.
        nested: Allow another run to be active; it becomes the parent.
        parent_run_id: Of another parent.
        tags: Of the run.
        description: Markdown, shown above the run.
        log_system_metrics: Whether the recorder samples GPUs and host: by default, unless the environment's
            `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` is "false".
        tracking_uri: `MLFLOW_TRACKING_URI` when left out, else `mlflow.db` in the project.
        experiment_name: `MLFLOW_EXPERIMENT_NAME` when left out, else "Default"; made on first use.

    Raises:
        StoreUnavailable: `experiment_id` is given, and the store cannot tell its name.
        StoreRefused: The experiment has been deleted.
        RunNotFound: There is no run `run_id`.
        RunFolderInvalid: No folder can be written.
    """
    parent = parent_run_id or _parent(nested)
    uri = store.resolve_uri(tracking_uri)
    known = run_id or os.environ.pop("MLFLOW_RUN_ID", None)
    wanted = {key: redact.mask_text(str(value)) for key, value in (tags or {}).items()}
    if description:
        wanted[names.TAG_MLFLOW_NOTE] = description
    if parent:
        wanted[names.TAG_MLFLOW_PARENT] = parent
    if known:
        # Under `dovetail exec` that process is the run's attempt, and says how it ends.
        is_inside = known == os.environ.get(names.ENV_PARENT_RUN)
        opening = open_known(uri, known, "append" if is_inside else "resume")
        run = ActiveRun(opening, samples_system=log_system_metrics)
        if wanted:
            run.set_tags(wanted)
    else:
        from mlflow.tracking.context.registry import resolve_tags

        experiment = experiment_name or _experiment(uri, experiment_id)
        opening = open_new(uri, experiment, None, run_name, resolve_tags(wanted))
        run = ActiveRun(opening, samples_system=log_system_metrics)
    return run.activate()


def track(run_id: str, tracking_uri: str | None = None) -> Run:
    """Attach to a run that exists, and that somebody else starts and ends: add to it, record what is printed.

    Args:
        run_id: MLflow's id, or the token of a run that is recorded here.
        tracking_uri: `MLFLOW_TRACKING_URI` when left out, else `mlflow.db` in the project.

    Raises:
        StoreUnavailable: A local database cannot be read.
        RunNotFound: There is no such run.
        RunFolderInvalid: No folder can be written.
    """
    return Run(open_known(store.resolve_uri(tracking_uri), run_id, "append"))


def _parent(nested: bool) -> str | None:
    import mlflow

    outer = mlflow.active_run()
    if outer is None:
        return None
    if not nested:
        raise DovetailError(
            f"Cannot start a run inside the run {outer.info.run_id}.",
            "That one is active, and only one is, unless they are nested.",
            "End it first, or call start_run(nested=True).",
        )
    return str(outer.info.run_id)


def _experiment(uri: str, experiment_id: str | None) -> str:
    """The experiment's name: of the id, of MLflow's `set_experiment`, of the environment, else MLflow's own default."""
    import mlflow
    from mlflow.tracking import fluent

    wanted = experiment_id or fluent._active_experiment_id or os.environ.get("MLFLOW_EXPERIMENT_ID")
    if wanted is None:
        return os.environ.get("MLFLOW_EXPERIMENT_NAME") or _DEFAULT_EXPERIMENT
    if experiment_id or (not is_offline() and store.is_reachable(uri, KNOCK_SECONDS)):
        try:
            with store.open(uri), asking(f"Cannot find the experiment {wanted}", uri):
                return str(mlflow.MlflowClient(uri).get_experiment(str(wanted)).name)
        except StoreUnavailable:  # such as a damaged database: the training goes on without it
            if experiment_id:
                raise
    named = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _DEFAULT_EXPERIMENT
    log.warning("Nobody tells the name of the experiment %s now; the run goes to %r.", wanted, named)
    return named
