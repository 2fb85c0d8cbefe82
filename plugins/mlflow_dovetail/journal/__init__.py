"""The journal: what a run logs, appended in no time, and sent to a store whenever there is one."""

from mlflow_dovetail.journal import entries, staging
from mlflow_dovetail.journal.progress import Progress, is_complete
from mlflow_dovetail.journal.sending import OutOfTime, Sender, sending
from mlflow_dovetail.journal.writer import JournalWriter, clock_ms

__all__ = [
    "JournalWriter",
    "OutOfTime",
    "Progress",
    "Sender",
    "clock_ms",
    "entries",
    "is_complete",
    "sending",
    "staging",
]
