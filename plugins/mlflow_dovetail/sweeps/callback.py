"""The Hydra callback that makes a multirun one parent run."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import sys
import time
from pathlib import Path
from typing import Any, cast

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mlflow_dovetail import names, redact, store
from mlflow_dovetail.errors import DovetailError, is_interrupt
from mlflow_dovetail.records import RunStatus
from mlflow_dovetail.run.endings import verdict
from mlflow_dovetail.sweeps.jobs import Jobs
from mlflow_dovetail.sweeps.parent import Direction, Parent
from mlflow_dovetail.sweeps.space import count_jobs, swept, told

log = logging.getLogger(__name__)

STUDY_SWEEPER = "mlflow_dovetail.sweeps.sweeper.StudySweeper"
_BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
_JOB_ENVIRONMENT = (names.ENV_PARENT_RUN, names.ENV_SWEEP_JOB, names.ENV_SWEEP_PARAMS)


class SweepCallback(Callback):
    """Make a parent run when a multirun starts, keep it true while it runs, and end it with the truth.

    Each job finds the parent's id in `DOVETAIL_PARENT_RUN`, and MLflow's context provider puts it on every run that
    the job creates, with whatever logger. A plain run is left alone. Hydra turns an exception in a callback into a
    warning, so a store that does not answer never stops a sweep: its runs then have no parent.

    Args:
        experiment_name: The experiment of the children.
        tracking_uri: As `mlflow_dovetail.store.open` takes it.
        direction: "minimize" or "maximize": which of the values that the jobs return is the best. Without it none is.

    Source:
        hydra.experimental.callback.Callback; launchers that run jobs elsewhere pickle this object with them.
    """

    def __init__(self, experiment_name: str, tracking_uri: str | None = None, direction: str | None = None) -> None:
        self._experiment_name = experiment_name
        self._tracking_uri = tracking_uri
        self._direction = direction
        self._parent: Parent | None = None
        self._swept: set[str] = set()
        self.jobs: Jobs | None = None
        """Where the jobs run in other processes."""
        self._home = (socket.gethostname(), os.getpid())

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Create the parent, unless the sweeper does when it knows which study it goes on with."""
        self._swept = set(swept(config))
        if config.hydra.launcher._target_ != _BASIC_LAUNCHER:
            # A name of its own: `hydra.sweep.dir` may be the one of the call before, whose jobs are at an end.
            self.jobs = Jobs(Path(config.hydra.sweep.dir) / f".jobs-{secrets.token_hex(4)}")
            self.jobs.watch()
        if config.hydra.sweeper._target_ == STUDY_SWEEPER:
            from mlflow_dovetail.sweeps.sweeper import StudySweeper

            Plugins.instance().register(StudySweeper)
        else:
            self._parent = self._create(config, secrets.token_hex(16), self._direction, count_jobs(config), {})

    def begin(self, config: DictConfig, token: str, study: str, direction: str, total: int) -> Parent | None:
        """Create the parent of a study, or go on with the one that it has; None where the store does not answer."""
        try:
            self._parent = self._create(config, token, direction, total, {names.TAG_SWEEP_STUDY: study})
        except DovetailError as error:
            log.warning("The runs of this sweep have no parent: %s", error)
        return self._parent

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Tell the job its parent, its number and what it tries."""
        if self.jobs and not self._is_home():
            self.jobs.begin(config.hydra.job.num)
        if self._parent:
            overrides = [one for one in config.hydra.overrides.task if one.partition("=")[0] in self._swept]
            told_job = (self._parent.run_id, str(config.hydra.job.num), redact.mask_command(overrides))
            os.environ.update(zip(_JOB_ENVIRONMENT, told_job, strict=True))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Write the job's value to its run, and to the parent how far the sweep is; forget the parent."""
        for variable in _JOB_ENVIRONMENT:
            os.environ.pop(variable, None)
        if self.jobs and not self._is_home():
            self.jobs.shield()
        try:
            if self._parent:
                value = _value(job_return)
                if value is not None:
                    self._parent.keep_value(config.hydra.job.num, value)
                if not _was_interrupted(job_return):
                    self._parent.tell()
        finally:
            if self.jobs and not self._is_home():
                self.jobs.end(config.hydra.job.num)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """End the parent: FINISHED when every child is and Hydra has no complaint, KILLED after Ctrl-C."""
        if self.jobs:
            self.jobs.leave()
        if self._parent:
            self._parent.end(_status(sys.exc_info()[1]))

    def _is_home(self) -> bool:
        """Whether this is the sweep's own process: a launcher runs the jobs there, or elsewhere."""
        return self._home == (socket.gethostname(), os.getpid())

    def _create(
        self, config: DictConfig, token: str, direction: str | None, total: int | None, tags: dict[str, str]
    ) -> Parent:
        from mlflow.tracking.context.registry import resolve_tags

        command = redact.mask_command(told(config))
        tags = {**tags, names.TAG_SWEEP: command, **({names.TAG_SWEEP_DIRECTION: direction} if direction else {})}
        began_ms = time.time_ns() // 1_000_000
        with store.open(self._tracking_uri, self._experiment_name) as runs:
            run = runs.create_run(token, name=config.get("name") or "sweep", tags=resolve_tags(tags))
            if run.status != "RUNNING":
                runs.set_status(run.run_id, "RUNNING")
        log.info("Sweep %s: %s", run.run_id, command)
        is_study = names.TAG_SWEEP_STUDY in tags
        known = cast("Direction | None", direction)
        return Parent(self._tracking_uri, self._experiment_name, run.run_id, known, total, began_ms, is_study)


def _value(job: JobReturn) -> float | None:
    """What a job has returned, where that is a number; NaN and infinities are none."""
    if job.status is not JobStatus.COMPLETED:
        return None
    try:
        value = float(job._return_value)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _was_interrupted(job: JobReturn) -> bool:
    return job.status is JobStatus.FAILED and is_interrupt(job._return_value)


def _status(error: BaseException | None) -> RunStatus:
    status = verdict(error)[0]
    # A job that calls `sys.exit(0)` ends the whole sweep, before its time.
    return "FAILED" if error is not None and status == "FINISHED" else status
