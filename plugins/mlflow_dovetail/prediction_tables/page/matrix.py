"""A confusion matrix as it is drawn: each cell's count, its text and its heat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_dovetail.prediction_tables.page.figures import Confusion

_LEVELS = 9


@dataclass(frozen=True)
class Cell:
    """One cell: `heat` is 0 to 9; 0 only of an empty one."""

    label: int
    prediction: int
    count: int
    text: str
    heat: int


@dataclass(frozen=True)
class Matrix:
    """The names in order, and the cells row by row, of all `classes`; cells have the codes of the page."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    classes: int

    @property
    def style(self) -> str:
        """What fits: up to 12 classes lie beside the rows, longer names stand upright."""
        size = "small" if len(self.names) <= 12 else "large" if len(self.names) <= 24 else "large huge"
        upright = max(map(len, self.names)) > (4 if size == "small" else 2)
        return f"{size} tall" if upright else size


def lay_out(confusion: Confusion, names: Mapping[int, str]) -> Matrix:
    """Colour by share of the row: right ones of all, mistakes of the greatest, else rare ones would not be seen."""
    counts = confusion.counts
    code = {old: new for new, old in enumerate(names)}
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    greatest = max((shares[i, j] for i in range(len(shares)) for j in range(len(shares)) if i != j), default=0) or 1

    def cell(i: int, j: int) -> Cell:
        count, share = int(counts[i, j]), float(shares[i, j])
        level = share if i == j else (share / greatest) ** 0.5
        heat = max(1, round(level * _LEVELS)) if count else 0
        return Cell(code[confusion.codes[i]], code[confusion.codes[j]], count, _short(count), heat)

    size = range(len(confusion.codes))
    rows = tuple(tuple(cell(i, j) for j in size) for i in size)
    return Matrix(tuple(names[one] for one in confusion.codes), rows, confusion.classes)


def _short(count: int) -> str:
    """A count in four characters at most; empty for zero."""
    if count < 1000:
        return str(count or "")
    unit, letter = (1e6, "M") if count >= 999_500 else (1e3, "k")
    scaled = count / unit
    return f"{scaled:.1f}{letter}" if scaled < 9.95 else f"{scaled:.0f}{letter}"
