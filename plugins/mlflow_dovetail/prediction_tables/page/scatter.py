"""Predicted against true values as a drawing: one path of dots, so that 5,000 cost no more than one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlflow_dovetail.prediction_tables.page import wording
from mlflow_dovetail.prediction_tables.page.outcomes import Array, Outcomes

# Of the square in which the dots lie, in the drawing's own units.
SIDE = 400


@dataclass(frozen=True)
class Tick:
    """A value on both axes: its place from the left, or from below, of 0 to `SIDE`, and its text."""

    place: float
    text: str


@dataclass(frozen=True)
class Scatter:
    """The drawing: both axes go from `low` to `high`; `dots` is an SVG path; `points` is how many there are."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    dots: str
    points: int


def draw_scatter(outcomes: Outcomes, rows: Array) -> Scatter | None:
    """Draw those of `rows` that are of the last epoch; None where no row has both numbers, or it is no regression."""
    rows = rows[np.isin(rows, outcomes.rows_of_last_epoch())]
    if outcomes.task != "regression":
        return None
    label, prediction = outcomes.label[rows], outcomes.prediction[rows]
    both = np.isfinite(label) & np.isfinite(prediction)
    if not both.any():
        return None
    values = np.stack([label[both], prediction[both]])
    if not np.isfinite(values.max() - values.min()):
        return None
    ticks = _round_values(float(values.min()), float(values.max()))
    low, high = ticks[0], ticks[-1]
    if not low < high:  # nearer to each other than a number has digits
        return None
    x, y = (values - low) / (high - low) * SIDE
    dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x.tolist(), (SIDE - y).tolist(), strict=True))
    places = tuple(Tick(round((value - low) / (high - low) * SIDE, 1), wording.number(value)) for value in ticks)
    return Scatter(low, high, places, dots, int(both.sum()))


def _round_values(low: float, high: float) -> Sequence[float]:
    """About five values of 1, 2 or 5 times a power of ten, from below `low` to above `high`."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{n * step:.12g}") for n in range(first, max(last, first + 1) + 1)]
