"""Records of this room as tags that any store takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlflow_dovetail import names
from mlflow_dovetail.context.git_state import GitState, read_git_state
from mlflow_dovetail.context.launch import Launch, read_launch
from mlflow_dovetail.context.machine import Machine, describe_gpus, read_machine

DETACHED = "detached"
_CUT = "…"

Record = GitState | Machine | Launch
# Read one by one, so that a failure of one part leaves the tags of the others.
PARTS: tuple[Callable[[], Record], ...] = (read_git_state, read_machine, read_launch)


def encode(record: Record) -> dict[str, str | None]:
    """The tags of one record; None or an empty string where there is nothing to say."""
    if isinstance(record, GitState):
        return _encode_git_state(record)
    if isinstance(record, Machine):
        return _encode_machine(record)
    return _encode_launch(record)


def seal(tags: Mapping[str, str | None]) -> dict[str, str]:
    """Tags fit to be stored: empty ones dropped, long ones cut at `names.MAX_TAG_LENGTH` characters.

    A byte that is no UTF-8 (an argument, a file name) becomes `?`, and a NUL is dropped: some stores refuse both.
    """
    plain = {key: _storable(value) for key, value in tags.items() if value}
    return {key: value for key, value in plain.items() if value}


def _storable(value: str) -> str:
    value = value.replace("\0", "").encode("utf-8", "replace").decode("utf-8").strip()
    return value if len(value) <= names.MAX_TAG_LENGTH else value[: names.MAX_TAG_LENGTH - len(_CUT)] + _CUT


def _encode_git_state(state: GitState) -> dict[str, str | None]:
    known = state.commit or state.branch
    return {
        names.TAG_GIT_COMMIT: state.commit,
        names.TAG_GIT_BRANCH: state.branch or (DETACHED if known else None),
        names.TAG_GIT_DIRTY: None if state.dirty is None else str(state.dirty).lower(),
        names.TAG_GIT_REMOTE: state.remote,
    }


def _encode_machine(machine: Machine) -> dict[str, str | None]:
    return {
        names.TAG_HOST: machine.host,
        names.TAG_OS: machine.system,
        names.TAG_PYTHON: machine.python,
        names.TAG_CUDA: machine.cuda,
        names.TAG_GPUS: describe_gpus(machine.gpus),
    }


def _encode_launch(launch: Launch) -> dict[str, str | None]:
    return {
        names.TAG_COMMAND: launch.command,
        names.TAG_SLURM_JOB: launch.slurm_job,
        names.TAG_DVC_STAGE: launch.dvc_stage,
        names.TAG_DVC_EXPERIMENT: launch.dvc_experiment,
        names.TAG_DVC_BASELINE_REV: launch.dvc_baseline_rev,
        names.TAG_MLFLOW_PARENT: launch.parent_run,
        names.TAG_SWEEP_JOB: launch.sweep_job,
        names.TAG_SWEEP_PARAMS: launch.sweep_params,
    }
