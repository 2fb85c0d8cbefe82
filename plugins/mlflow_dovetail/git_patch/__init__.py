"""The code of a run: captured without touching it, proved to restore, kept without its secrets, and restored."""

from mlflow_dovetail.git_patch.applying import apply, stat, verify
from mlflow_dovetail.git_patch.capture import CAPTURED_FILE, capture, give_up
from mlflow_dovetail.git_patch.finishing import STATE_FILE, finish, is_final, tags, tidy
from mlflow_dovetail.git_patch.limits import Limits
from mlflow_dovetail.git_patch.recipes import CannotRestore, Fetch, Proof
from mlflow_dovetail.git_patch.records import Capture, Code, CodeState, LeftOut, Patch, Withheld
from mlflow_dovetail.git_patch.restoring import restore

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
    "is_final",
    "restore",
    "stat",
    "tags",
    "tidy",
    "verify",
]
