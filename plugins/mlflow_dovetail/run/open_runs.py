"""The open runs of this process, by run id and by token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_dovetail.run.tracked import Run

OPEN_RUNS: dict[str, Run] = {}


def register(run: Run, run_names: Iterable[str], *, is_open: bool) -> None:
    """Keep a run while it is open, or no longer; who tracks an open run takes nothing from it."""
    for name in filter(None, run_names):
        if is_open:
            OPEN_RUNS.setdefault(name, run)
        elif OPEN_RUNS.get(name) is run:
            del OPEN_RUNS[name]
