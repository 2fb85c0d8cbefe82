"""The values of a column as the page holds them: small, fit for JSON, and never longer than said."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_dovetail.prediction_tables.page import wording
from mlflow_dovetail.prediction_tables.page.outcomes import Array, lists

NAME_CHARACTERS = 120
TOP = 10

# Rows at a time: a text may have a megabyte.
_BATCH_ROWS = 250
# The greatest whole number that a script's number holds exactly.
_EXACT = 2**53
_SPECIAL = ("NaN", "Infinity", "-Infinity")


def shorten(text: str, characters: int = NAME_CHARACTERS, length: int | None = None) -> str:
    """The beginning of a text, and how long it is where that is not all; control characters as pictures."""
    length = len(text) if length is None else length
    if length <= characters:
        return wording.visible(text)
    return f"{wording.visible(text[:characters])}… ({wording.count(length, 'character')} in all)"


def strings(column: pa.ChunkedArray, rows: Array, characters: int) -> tuple[list[str | None], int]:
    """Some rows' texts, and how many had to be shortened."""
    found: list[str | None] = []
    shortened = 0
    for start in range(0, len(rows), _BATCH_ROWS):
        batch = column.take(pa.array(rows[start : start + _BATCH_ROWS])).cast(pa.large_string())
        lengths = pc.utf8_length(batch)
        shortened += pc.sum(pc.greater(lengths, characters)).as_py() or 0
        heads = pc.utf8_slice_codeunits(batch, 0, characters).to_pylist()
        found += [
            None if head is None else shorten(head, characters, length)
            for head, length in zip(heads, lengths.to_pylist(), strict=True)
        ]
    return found, shortened


def numbers(values: Sequence[float | None]) -> list[float | str | None]:
    """Numbers with nine digits, which is all that a float32 has; as a text what JSON or a script cannot hold."""
    return [_number(value) for value in values]


def shares(values: Array) -> list[float | None]:
    """Numbers of 0 to 1 with four digits; None for NaN."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values.tolist()]


def codes(values: Array) -> list[int | None]:
    """Codes of classes; None for -1."""
    return [None if value < 0 else value for value in values.tolist()]


def top(column: pa.ChunkedArray, rows: Array, keep: Sequence[Array]) -> list[list[float]]:
    """Each row's probabilities, greatest first: position, share, position, share, and so on.

    Args:
        keep: (n,) positions, -1 for none, that are there even where they are not among the `TOP` greatest.
    """
    result: list[list[float]] = []
    for i, values in enumerate(_lists_of(column, rows)):
        order = np.argsort(-values, kind="stable")
        shown = [
            *order[:TOP].tolist(),
            *sorted({int(one[i]) for one in keep if 0 <= one[i] < len(values)} - {*order[:TOP].tolist()}),
        ]
        pairs = [(position, _number(float(f"{values[position]:.4g}"))) for position in shown]
        result.append([x for position, share in pairs if not isinstance(share, str) for x in (position, share or 0)])
    return result


def text(kind: str, value: object, classes: Sequence[str], characters: int) -> str:
    """A value as the page shows it in a table without its script; empty for what is missing."""
    if value is None:
        return ""
    return _TEXTS[kind](value, classes) if kind in _TEXTS else shorten(str(value), characters)


def _top_text(value: Sequence[float], classes: Sequence[str]) -> str:
    pairs = zip(value[0:6:2], value[1:6:2], strict=True)
    return " · ".join(f"{classes[int(code)]} {wording.percent(share)}" for code, share in pairs)


_TEXTS: dict[str, Callable[[Any, Sequence[str]], str]] = {
    "class": lambda code, classes: classes[code],
    "share": lambda share, _: wording.percent(share),
    "result": lambda right, _: "Correct" if right else "Wrong",
    "number": lambda value, _: wording.number(float(value) if value in _SPECIAL else value),
    "probabilities": _top_text,
}


def _number(value: float | None) -> float | str | None:
    if value is None:
        return None
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else _SPECIAL[1 if value > 0 else 2]
    if isinstance(value, int) or value.is_integer():
        return int(value) if abs(value) < _EXACT else str(int(value))
    return float(f"{value:.9g}")


def _lists_of(column: pa.ChunkedArray, rows: Array) -> Iterator[Array]:
    for start in range(0, len(rows), _BATCH_ROWS):
        for values, begin, end in lists(column.take(pa.array(rows[start : start + _BATCH_ROWS]))):
            yield from (values[b:e] for b, e in zip(begin, end, strict=True))
