"""The Hydra callback that makes a multirun one parent run."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from mlflow_dovetail import names, redact, store
from mlflow_dovetail.errors import is_interrupt
from mlflow_dovetail.records import Run, RunStatus

log = logging.getLogger(__name__)


class SweepCallback(Callback):
    """Make a parent run when a multirun starts, and end it with the truth about its children.

    Each job finds the parent's id in `DOVETAIL_PARENT_RUN`, and MLflow's context provider puts it on every run that
    the job creates, with whatever logger. A plain run is left alone. Hydra turns an exception in a callback into a
    warning, so a store that does not answer never stops a sweep: its runs then have no parent.

    Args:
        experiment_name: The experiment of the children.
        tracking_uri: As `mlflow_dovetail.store.open` takes it.

    Source:
        hydra.experimental.callback.Callback; launchers that run jobs elsewhere pickle this object with them.
    """

    def __init__(self, experiment_name: str, tracking_uri: str | None = None) -> None:
        self._experiment_name = experiment_name
        self._tracking_uri = tracking_uri
        self._parent_run_id: str | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Create the parent."""
        from mlflow.tracking.context.registry import resolve_tags

        overrides = _overrides(config)
        tags = resolve_tags({names.TAG_SWEEP: redact.mask_command(overrides)})
        with store.open(self._tracking_uri, self._experiment_name) as runs:
            parent = runs.create_run(secrets.token_hex(16), name=config.get("name") or "sweep", tags=tags)
        self._parent_run_id = parent.run_id
        log.info("Sweep %s: %s", parent.run_id, " ".join(overrides))

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Tell the job its parent."""
        if self._parent_run_id:
            os.environ[names.ENV_PARENT_RUN] = self._parent_run_id

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Forget the parent: the process may go on to something else."""
        os.environ.pop(names.ENV_PARENT_RUN, None)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """End the parent: FINISHED when every child is and Hydra has no complaint, KILLED after Ctrl-C."""
        if not self._parent_run_id:
            return
        with store.open(self._tracking_uri, self._experiment_name) as runs:
            children = runs.search(names.TAG_MLFLOW_PARENT, self._parent_run_id)
            runs.set_status(self._parent_run_id, _status(children, sys.exc_info()[1]))


def _status(children: list[Run], error: BaseException | None) -> RunStatus:
    if is_interrupt(error):
        return "KILLED"
    all_finished = all(child.status == "FINISHED" for child in children)
    return "FINISHED" if all_finished and error is None else "FAILED"


def _overrides(config: DictConfig) -> list[str]:
    """What the sweep varies: the command line's overrides, and the sweeper's own `params`."""
    given = [str(override) for override in config.hydra.overrides.task]
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return given + [f"{key}={value}" for key, value in params.items()]
