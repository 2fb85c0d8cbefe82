"""How the process of a run was started: its command line, and the scheduler, pipeline or sweep around it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from mlflow_dovetail import names
from mlflow_dovetail.redact import mask_command

ENV_SLURM_JOB = "SLURM_JOB_ID"
# mlflow.utils.validation._RUN_ID_REGEX: another value would be a parent that cannot exist.
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")


@dataclass(frozen=True)
class Launch:
    """What stands around a run; None where the process is not part of such a thing.

    Args:
        command: The command line as it was typed, secrets masked.
        parent_run: The run that a sweep made for its jobs, as MLflow's run id.
        sweep_job: The job's number in that sweep.
        sweep_params: What the job tries, as overrides, secrets masked.
    """

    command: str
    slurm_job: str | None
    dvc_stage: str | None
    dvc_experiment: str | None
    dvc_baseline_rev: str | None
    parent_run: str | None
    sweep_job: str | None = None
    sweep_params: str | None = None
    cause: str | None = None


def read_launch() -> Launch:
    """Read the command line and the environment variables of SLURM, DVC and a sweep."""
    parent = os.environ.get(names.ENV_PARENT_RUN, "")
    return Launch(
        # The interpreter's own list: `sys.argv` loses `-m package` and may be rewritten by the program.
        command=mask_command(sys.orig_argv or sys.argv),
        slurm_job=os.environ.get(ENV_SLURM_JOB),
        dvc_stage=os.environ.get(names.ENV_DVC_STAGE),
        dvc_experiment=os.environ.get(names.ENV_DVC_EXPERIMENT),
        dvc_baseline_rev=os.environ.get(names.ENV_DVC_BASELINE_REV),
        parent_run=parent if _RUN_ID.fullmatch(parent) else None,
        sweep_job=os.environ.get(names.ENV_SWEEP_JOB),
        sweep_params=os.environ.get(names.ENV_SWEEP_PARAMS),
    )
