"""What tells somebody else that these tools are used."""

from __future__ import annotations

import os

from mlflow_dovetail.doctor.dvc_project import read_settings
from mlflow_dovetail.doctor.records import Place, Told, note, ok


def check(place: Place) -> Told:
    """Switches of MLflow and DVC; Dovetail itself tells nobody anything.

    Source:
        MLflow's documentation, "Usage tracking" (3.2 and later); DVC's, "Anonymized usage analytics".
    """
    off = [tool for tool, is_off in (("MLflow", _mlflow_is_off()), ("DVC", _dvc_is_off(place))) if is_off]
    if "MLflow" not in off:
        yield note(
            "MLflow tells its makers that it is used.",
            _why_mlflow(),
            "To have it quiet: export MLFLOW_DISABLE_TELEMETRY=true",
        )
    if "DVC" not in off:
        yield note(
            "DVC tells its makers that it is used.",
            "core.analytics is not false, and DVC_NO_ANALYTICS is not set.",
            "To have it quiet: dvc config core.analytics false",
        )
    if off:
        yield ok(f"Nobody is told of the use of {' and '.join(off)}.")


def _mlflow_is_off() -> bool:
    """As MLflow reads them (`mlflow.telemetry.utils`, 3.17)."""
    own = os.environ.get("MLFLOW_DISABLE_TELEMETRY", "").strip().lower()
    return own in ("true", "1") or os.environ.get("DO_NOT_TRACK", "").lower() == "true"


def _why_mlflow() -> str:
    if given := os.environ.get("DO_NOT_TRACK"):
        return f"DO_NOT_TRACK is {given!r}, and MLflow understands nothing but 'true' there."
    return "Neither MLFLOW_DISABLE_TELEMETRY nor DO_NOT_TRACK is 'true' in this shell."


def _dvc_is_off(place: Place) -> bool:
    if os.environ.get("DVC_NO_ANALYTICS"):
        return True
    try:
        settings = read_settings(place.root)
    except ImportError:
        return True  # no DVC, nothing to tell
    return isinstance(settings, dict) and not settings.get("core", {}).get("analytics", True)
