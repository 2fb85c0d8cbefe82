"""What users hand over, as the journal takes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow_dovetail import redact

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
            kept[str(key)] = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            refused.append(str(key))
    return kept, refused


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
