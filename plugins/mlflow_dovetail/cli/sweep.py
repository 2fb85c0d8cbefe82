"""A sweep's part of `dovetail show`: how far it is, what is best, and its children, the best first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_dovetail import names
from mlflow_dovetail.records import Run

_SWEEP = {
    "varies": names.TAG_SWEEP,
    "study": names.TAG_SWEEP_STUDY,
    "progress": names.TAG_SWEEP_PROGRESS,
    "direction": names.TAG_SWEEP_DIRECTION,
    "best value": names.TAG_SWEEP_BEST_VALUE,
    "best params": names.TAG_SWEEP_BEST_PARAMS,
    "best run": names.TAG_SWEEP_BEST_RUN,
    "job": names.TAG_SWEEP_JOB,
    "tries": names.TAG_SWEEP_PARAMS,
    "returned": names.TAG_SWEEP_VALUE,
}


def sweep_rows(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """What a parent says of its sweep, or a child of its job."""
    return [(label, tags[tag]) for label, tag in _SWEEP.items() if tags.get(tag)]


def best_first(parent: Run, children: Sequence[Run]) -> list[Run]:
    """FINISHED children by their value, in the sweep's direction; then the others, as they started."""
    sign = -1 if parent.tags.get(names.TAG_SWEEP_DIRECTION) == "maximize" else 1

    def place(child: Run) -> tuple[bool, float]:
        value = _value(child)
        counts = child.status == "FINISHED" and not math.isnan(value)
        return not counts, sign * value if counts else 0.0

    return sorted(children, key=place)


def child_rows(parent: Run, children: Sequence[Run]) -> list[tuple[str, str]]:
    """A line a child: its id, name, status, value and what it tried."""
    order = best_first(parent, children)
    cells = [_described(child) for child in order]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True) if width) for row in cells]
    return [(child.run_id, line.rstrip()) for child, line in zip(order, lines, strict=True)]


def child_fields(parent: Run, children: Sequence[Run]) -> list[dict[str, Any]]:
    """The same for JSON; `value` and `params` are None on a run that no sweep made."""
    return [
        {
            "run_id": one.run_id,
            "name": one.name,
            "status": one.status,
            "value": None if math.isnan(_value(one)) else _value(one),
            "params": one.tags.get(names.TAG_SWEEP_PARAMS),
        }
        for one in best_first(parent, children)
    ]


def _described(child: Run) -> list[str]:
    value = "" if math.isnan(_value(child)) else f"{_value(child):.6g}"
    why = child.tags.get(names.TAG_END_CAUSE, "") if child.status != "FINISHED" else ""
    return [child.name, child.status, value, child.tags.get(names.TAG_SWEEP_PARAMS, ""), why]


def _value(child: Run) -> float:
    """NaN where there is none."""
    try:
        value = float(child.tags.get(names.TAG_SWEEP_VALUE, "nan"))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
