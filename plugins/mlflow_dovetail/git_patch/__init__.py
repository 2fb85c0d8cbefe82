"""The code of a run: captured without touching it, proved to restore, kept without its secrets, and restored."""

from mlflow_dovetail.git_patch.capture import CAPTURED_FILE, capture, give_up
from mlflow_dovetail.git_patch.finishing import STATE_FILE, finish, tags, tidy
from mlflow_dovetail.git_patch.limits import Limits
from mlflow_dovetail.git_patch.records import Capture, Code, CodeState, LeftOut, Patch, Withheld
from mlflow_dovetail.git_patch.restoring import CannotRestore, Fetch, Proof, apply, restore, verify

__all__ = [
    "CAPTURED_FILE",
    "STATE_FILE",
    "CannotRestore",
    "Capture",
    "Code",
    "CodeState",
    "Fetch",
    "LeftOut",
    "Limits",
    "Patch",
    "Proof",
    "Withheld",
    "apply",
    "capture",
    "finish",
    "give_up",
    "restore",
    "tags",
    "tidy",
    "verify",
]
