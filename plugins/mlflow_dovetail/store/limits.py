"""MLflow's limits, applied the same way by every store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mlflow_dovetail import names
from mlflow_dovetail.errors import StoreRefused

Item = TypeVar("Item")


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Cut into pieces of at most `size`, in order."""
    return (items[start : start + size] for start in range(0, len(items), size))


def cut_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """MLflow does not check the tags of `create_run` (3.17), and a Postgres column then refuses the run."""
    return {key: value[: names.MAX_TAG_LENGTH] for key, value in tags.items()}


def cut_params(params: Mapping[str, str]) -> dict[str, str]:
    return {key: value[: names.MAX_PARAM_LENGTH] for key, value in params.items()}


def no_such_artifact(run_id: str, path: str) -> StoreRefused:
    """The error for a file that the run does not have."""
    return StoreRefused(
        f"Cannot read {path} of the run {run_id}.",
        "The run has no such file.",
        f"`dovetail show {run_id}` lists what it has.",
    )


def require_file(path: Path, run_id: str) -> None:
    """Refuse what is not one file.

    Raises:
        StoreRefused: `path` is missing or a folder.
    """
    if not path.is_file():
        raise StoreRefused(
            f"Cannot store {path} with the run {run_id}.",
            "It is a folder." if path.is_dir() else "There is no such file.",
            "Name one file that exists.",
        )
