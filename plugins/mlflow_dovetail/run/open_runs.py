"""The open runs of this process, by run id and by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_dovetail.run.tracked import Run

OPEN_RUNS: dict[str, Run] = {}
