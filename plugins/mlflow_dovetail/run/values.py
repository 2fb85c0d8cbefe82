"""What users hand over, as the journal takes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from mlflow_dovetail import redact
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.records import RunStatus

log = logging.getLogger(__name__)


def scalars(metrics: Mapping[Any, Any]) -> tuple[dict[str, float], list[str]]:
    """Values as floats.

    A tensor's value is read here, which waits for its device as any reading of it does; Lightning hands over floats.

    Args:
        metrics: Numbers, NumPy scalars, tensors of one element, by name.

    Returns:
        What is a number, and the names of what is not.
    """
    kept: dict[str, float] = {}
    refused: list[str] = []
    for key, value in metrics.items():
        try:
            if isinstance(value, (str, bytes)):
                raise TypeError
            # Arrays and tensors of one element; a tensor that needs a gradient warns when it is made a float.
            kept[str(key)] = float(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            refused.append(str(key))
    return kept, refused


def no_such_file(path: Path) -> DovetailError:
    """The error for what cannot be kept: missing, or a pipe or device, whose content has no end."""
    why = "It is neither a file nor a folder." if path.exists() else "There is no such file."
    return DovetailError(f"Cannot keep {path}.", why, "Name a file or folder that exists.")


def check_status(status: str) -> None:
    """Refuse what is no status of a run.

    Raises:
        DovetailError: It is none.
    """
    if status not in get_args(RunStatus):
        raise DovetailError(
            f"Cannot end a run as {status!r}.", "MLflow has no such status.", "Give one of FINISHED, FAILED and KILLED."
        )


def flatten(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested values as params.

    Args:
        values: A mapping of mappings, lists and primitives (an OmegaConf node or a Namespace is converted first).

    Returns:
        `{"model.lr": "0.1"}`. A list is one value, so that `[]` and `{}` are seen; secrets are masked by name and by
        form. `{"a.b": 1, "a": {"b": 2}}`, which flattens to one name twice, keeps both: the second as `a.b-2`.
    """
    flat: dict[str, str] = {}
    for key, value in _leaves(redact.mask_mapping(dict(values))):
        flat[_free(key, flat)] = str(value)
    return flat


def _free(key: str, taken: Mapping[str, str]) -> str:
    number, free = 1, key
    while free in taken:
        number += 1
        free = f"{key}-{number}"
    if free != key:
        log.warning("Two params are called %s; the second is stored as %s.", key, free)
    return free


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value
