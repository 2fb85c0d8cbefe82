"""What users hand over, as the journal takes it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from mlflow_dovetail import names, redact
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.journal.stored_names import metric_name
from mlflow_dovetail.records import RunStatus

log = logging.getLogger(__name__)

LARGEST_STEP = (1 << 63) - 1


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


def as_step(step: Any) -> tuple[int, str]:
    """A step as an integer that every store takes, 0 for one that is none; and what was wrong with it."""
    try:
        number = 0 if step is None else int(step)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return 0, "a step is no integer, and step 0 is taken"
    nearest = max(-LARGEST_STEP, min(LARGEST_STEP, number))
    return nearest, "" if nearest == number else "a step is no 64-bit integer, and the nearest is taken"


def figure_path(figure: Any, name: str, step: int | None) -> str:
    """Where a figure is among the artifacts."""
    path = Path(name)
    ending = path.suffix or (".html" if type(figure).__module__.startswith("plotly") else ".png")
    stem = path.with_suffix("").as_posix() + ("" if step is None else f"-{step:08d}")
    return f"{names.ARTIFACT_FIGURES}/{stem}{ending}"


def tell_renamed(keys: Iterable[str]) -> None:
    """Warn of metric names that MLflow does not take."""
    for key in keys:
        stored = metric_name(key)
        if stored != key:
            log.warning("MLflow does not take the metric name %r; it is stored as %r or near it.", key, stored)
