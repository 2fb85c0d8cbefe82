"""The code of a run: captured without touching it, proved to restore, kept without its secrets, and restored."""

from mlflow_dovetail.git_patch.capture import CAPTURED_FILE, capture
from mlflow_dovetail.git_patch.finishing import STATE_FILE, finish, tags
from mlflow_dovetail.git_patch.limits import Limits
from mlflow_dovetail.git_patch.records import Capture, Code, CodeState, LeftOut, Patch, Withheld

__all__ = [
    "CAPTURED_FILE",
    "STATE_FILE",
    "Capture",
    "Code",
    "CodeState",
    "LeftOut",
    "Limits",
    "Patch",
    "Withheld",
    "capture",
    "finish",
    "tags",
]
