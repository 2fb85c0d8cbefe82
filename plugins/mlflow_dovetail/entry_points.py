"""What MLflow, Lightning and Hydra load by name. This module imports nothing heavy and never raises.

MLflow imports it inside `import mlflow` and survives an `ImportError` or `AttributeError` there and nothing else, so
the rooms are imported at the first call only, and what goes wrong in them stays here.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from mlflow_dovetail import names

_STATUS_CONTEXT = names.TAG_STATUS_PREFIX + "context"
_PARTS = 3  # of `context.PARTS`, which is not imported yet; a test holds the number
_CAUSE_LENGTH = 500
_Reading = tuple[dict[str, str], list[str]]
_logger = logging.getLogger(__name__)


class RunContextProvider:
    """MLflow's run-context provider: cheap tags on every run, of any framework, with no code change.

    It has the shape of `mlflow.tracking.context.abstract_context.RunContextProvider` without being its subclass, so
    that loading it does not import MLflow; MLflow calls the two methods and checks no type. MLflow also calls it when
    it creates a logged model: it has no side effect. Safe to call from several threads.

    Source:
        MLflow's plugin documentation, "Run Context Providers".
    """

    def __init__(self) -> None:
        self._degraded: Counter[str] = Counter()

    def in_context(self) -> bool:
        """True unless `DOVETAIL_DISABLED` is set."""
        return not _is_set(names.ENV_DISABLED)

    def tags(self) -> dict[str, str]:
        """The tags of a run that is being created.

        Returns:
            Tags of the stored contract (`names`), absent where there is nothing to say, with
            `dovetail.status.context` = `ok` or `degraded: <cause> ×N`, N calls in this process.

        Raises:
            DovetailError: Only under `DOVETAIL_STRICT`: something could not be read. MLflow shows it as a warning and
                creates the run without Dovetail's tags.
        """
        tags, causes = _read_tags()
        for cause in causes:
            self._count(cause)
        if causes and _is_set(names.ENV_STRICT):
            raise _strict_error("; ".join(causes))
        tags[_STATUS_CONTEXT] = self._status(causes)
        return tags

    def _count(self, cause: str) -> None:
        self._degraded[cause] += 1
        if self._degraded[cause] == 1:
            _logger.info("Some of Dovetail's tags are missing from this run: %s", cause)

    def _status(self, causes: list[str]) -> str:
        told = [f"{cause} ×{self._degraded[cause]}" for cause in causes]
        return f"degraded: {'; '.join(told)}"[: names.MAX_TAG_LENGTH] if told else "ok"


def lightning_callbacks() -> list[Any]:
    """Lightning's factory of callbacks for every Trainer; none under `DOVETAIL_DISABLED`, or where Dovetail fails.

    Source:
        Lightning's documentation, "Configure callbacks through entry points".
    """
    if _is_set(names.ENV_DISABLED):
        return []
    try:
        from mlflow_dovetail.lightning import DovetailCallback

        return [DovetailCallback()]
    except Exception as error:
        if _is_set(names.ENV_STRICT):
            raise
        _logger.warning("Dovetail does not watch this training: %s: %s", type(error).__name__, error)
        return []


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute may be anything
    """`DvcDatasetSource`, MLflow's dataset source for data that DVC has.

    MLflow loads it inside `import mlflow`, and it is a subclass of MLflow's: it comes from its module when MLflow asks.

    Raises:
        AttributeError: It cannot be had, whatever the cause: MLflow warns, and goes on without it.
    """
    if name != "DvcDatasetSource":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from mlflow_dovetail.dvc_link.dataset_source import DvcDatasetSource
    except Exception as error:
        raise AttributeError(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    return DvcDatasetSource


def _read_tags() -> _Reading:
    readings = [_attempt(partial(_read_part, number)) for number in range(_PARTS)]
    tags = {key: value for part, _ in readings for key, value in part.items()}
    causes = dict.fromkeys(cause for _, part in readings for cause in part)
    return {names.TAG_SCHEMA: str(names.SCHEMA_VERSION), **tags}, list(causes)


def _read_part(number: int) -> _Reading:
    from mlflow_dovetail import context

    record = context.PARTS[number]()
    return dict(context.seal(context.encode(record))), [record.cause] if record.cause else []


def _attempt(read: Callable[[], _Reading]) -> _Reading:
    """Where a fault of Dovetail ends: it costs the tags of one part, and is told in the status."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - a run has to be created whatever is wrong with Dovetail
        return {}, [f"{type(error).__name__} in {__package__}: {error}"[:_CAUSE_LENGTH]]


def _strict_error(causes: str) -> Exception:
    from mlflow_dovetail.errors import DovetailError

    return DovetailError(
        "Cannot say where this run comes from.",
        f"{causes[:1].upper()}{causes[1:]}.",
        f"Mend that, or unset {names.ENV_STRICT} to run without these tags.",
    )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no", "off")
