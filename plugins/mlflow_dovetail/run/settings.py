"""Switches of the environment."""

from __future__ import annotations

import os

from mlflow_dovetail import names

_OFF = ("", "0", "false", "no", "off")


def is_offline() -> bool:
    """Whether `DOVETAIL_OFFLINE` keeps everything here until `dovetail sync`."""
    return os.environ.get(names.ENV_OFFLINE, "").strip().lower() not in _OFF
