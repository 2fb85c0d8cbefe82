"""From the runs that answer to a text to the one that is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mlflow_dovetail.errors import RunNotFound
from mlflow_dovetail.records import Run

MODELS = "models:/"
_CANDIDATES_SHOWN = 5
_HEX = re.compile(r"[0-9a-f]+")


def is_id_prefix(text: str) -> bool:
    """Whether `text` could begin a run id or a token: both are hex digits."""
    return bool(_HEX.fullmatch(text))


def model_of(uri: str) -> tuple[str, str, str]:
    """Name, version and alias of `models:/name/version` or `models:/name@alias`; version or alias is empty.

    Raises:
        RunNotFound: It is neither.
    """
    path = uri.removeprefix(MODELS)
    name, _, alias = path.rpartition("@")
    if name and alias:
        return name, "", alias
    name, _, version = path.rpartition("/")
    if not name or not version.isdigit():
        raise RunNotFound(
            f"{uri!r} names no registered model.",
            "It has neither a version nor an alias.",
            "Write models:/name/version or models:/name@alias.",
        )
    return name, version, ""


def made_by_no_run(uri: str) -> RunNotFound:
    """The error of a model that was registered from elsewhere."""
    return RunNotFound(
        f"No run answers to {uri!r}.", "The model was made by no run.", "Ask who registered it where it comes from."
    )


def the_only_one(text: str, candidates: Iterable[Run]) -> Run:
    """The one candidate; one whose id or token is `text` itself goes before all others.

    Raises:
        RunNotFound: None or several.
    """
    runs = {run.run_id: run for run in candidates}
    exact = {run.run_id: run for run in runs.values() if text in (run.run_id, run.token)}
    runs = exact or runs
    if len(runs) == 1:
        return next(iter(runs.values()))
    raise _several(text, list(runs.values())) if runs else _none(text)


def _none(text: str) -> RunNotFound:
    return RunNotFound(
        f"No run answers to {text!r}.",
        "It is no run id or token, no beginning of one, and no run's name.",
        "Take the id from `mlflow ui` or from mlflow_run.json, or name another store with --tracking-uri.",
    )


def _several(text: str, runs: list[Run]) -> RunNotFound:
    lines = "".join(f"\n  {run.run_id}  {run.name}  ({run.experiment_name})" for run in runs[:_CANDIDATES_SHOWN])
    more = "\n  and more" if len(runs) > _CANDIDATES_SHOWN else ""
    return RunNotFound(
        f"{text!r} means more than one run.", f"These answer to it:{lines}{more}\n", "Give more digits of the id."
    )
