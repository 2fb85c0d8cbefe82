"""Dovetail: every run says which code, data, configuration and machine made it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_dovetail.run import Run, load_predictions, revs, runs, start_run, track

__version__ = "0.1.0"

__all__ = ["Run", "__version__", "load_predictions", "revs", "runs", "start_run", "track"]

# Loaded at the first use: MLflow imports this package in every process that creates a run.
_HOMES = dict.fromkeys(("Run", "load_predictions", "revs", "runs", "start_run", "track"), "run")


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute may be anything
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
