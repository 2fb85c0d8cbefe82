"""Switches of the environment."""

from __future__ import annotations

import os

from mlflow_dovetail import names

# Set for the recorder of a machine that is not the run's first: its metrics have that name before theirs.
ENV_NODE = "DOVETAIL_NODE"
_OFF = ("", "0", "false", "no", "off")


def is_offline() -> bool:
    """Whether `DOVETAIL_OFFLINE` keeps everything here until `dovetail sync`."""
    return os.environ.get(names.ENV_OFFLINE, "").strip().lower() not in _OFF


def wants_system_metrics() -> bool:
    """Whether a run's machine is sampled: unless MLflow's own `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` says "false"."""
    return os.environ.get(names.ENV_SYSTEM_METRICS, "true").strip().lower() not in _OFF
