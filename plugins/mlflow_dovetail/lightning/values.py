"""Configurations as MLflow's params: flat, whole, and without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlflow_dovetail import names, redact


def flatten(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested values as params.

    Args:
        values: A mapping of mappings, lists and primitives (an OmegaConf node or a Namespace is converted first).

    Returns:
        `{"model.lr": "0.1"}`. A list is one value, so that `[]` and `{}` are seen; secrets are masked by name and by
        form; a value over MLflow's limit of 6,000 characters is cut and ends in `…` (the whole stands in the config
        artifact).
    """
    return {key: _text(value) for key, value in _leaves(redact.mask_mapping(dict(values)))}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= names.MAX_PARAM_LENGTH else text[: names.MAX_PARAM_LENGTH - 1] + "…"
