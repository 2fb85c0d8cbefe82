"""Two runs' scores by class, and by the values of further columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.answers import Values, named
from mlflow_dovetail.prediction_tables.joining import Rows, flat
from mlflow_dovetail.prediction_tables.judging import Verdict
from mlflow_dovetail.prediction_tables.schema import (
    EPOCH,
    ID,
    IMAGE,
    LABEL,
    LOSS,
    PREDICTION,
    PROBABILITIES,
    STEP,
    TEXT,
    Column,
    Manifest,
)

_MOST_VALUES = 1000
# So many values are shown one by one, however few examples each has; more numbers are cut into quartiles.
_FEW = 10
_NO_SLICES = {ID, IMAGE, TEXT, LABEL, PREDICTION, PROBABILITIES, LOSS, EPOCH, STEP}


@dataclass(frozen=True)
class Group:
    """The examples of one class, or of one value of a column.

    Args:
        value: The class or the value, "1 to 2.5" of a quartile; None where the examples have no value.
        examples: How many.
        better: How many are newly right; of a regression, have a smaller error.
        worse: How many are newly wrong; of a regression, have a larger error.
        score_a: A's accuracy, 0 to 1, on these; of a regression its mean absolute error.
        score_b: B's.
    """

    value: str | int | float | None
    examples: int
    better: int
    worse: int
    score_a: float
    score_b: float


@dataclass(frozen=True)
class Slice:
    """The groups of a column, in the order of their values."""

    column: str
    groups: tuple[Group, ...]


def group_by(values: pa.Array, verdict: Verdict, order: Sequence[str] = ()) -> tuple[Group, ...] | None:
    """The verdict by value.

    Args:
        values: An Arrow array of length n.
        order: Values that come first, in this order; others follow sorted, and last the examples without one.

    Returns:
        None where there are too many values: more than 1,000, or than half as many as examples.
    """
    encoded = values.dictionary_encode(null_encoding="encode")
    if len(encoded.dictionary) > min(_MOST_VALUES, max(_FEW, len(values) // 2)):
        return None
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    names = encoded.dictionary.to_pylist()
    known = {name: place for place, name in enumerate(order)}
    ordered = sorted(
        range(len(names)), key=lambda code: (names[code] is None, known.get(names[code], len(known)), names[code])
    )
    groups = _groups(codes, names, verdict)
    return tuple(groups[code] for code in ordered)


def _groups(codes: Rows, names: Sequence[Any], verdict: Verdict) -> list[Group]:
    counts = np.bincount(codes, minlength=len(names))
    better, worse, score_a, score_b = (
        np.bincount(codes, weights=weights, minlength=len(names))
        for weights in (verdict.better, verdict.worse, verdict.score_a, verdict.score_b)
    )
    return [
        Group(name, int(n), int(better[code]), int(worse[code]), float(score_a[code] / n), float(score_b[code] / n))
        for code, (name, n) in enumerate(zip(names, counts, strict=True))
    ]


def slices_of(
    a: pa.Table, b: pa.Table, manifest: Manifest, rows: Rows, verdict: Verdict, asked: Sequence[str]
) -> tuple[tuple[Slice, ...], tuple[str, ...]]:
    """The verdict by further columns that both tables have, and the columns that have too many values.

    Args:
        manifest: A's.
        rows: Of A, those compared.
        asked: These columns, or every fitting one where none is named.

    Raises:
        DovetailError: A column that was asked for does not serve.
    """
    fitting = {column.name: column for column in _fitting(a, b, manifest)}
    for name in asked:
        if name not in fitting:
            raise _cannot_slice(name, fitting)
    found: list[Slice] = []
    unsliced: list[str] = []
    for name in asked or fitting:
        groups = _slice(flat(a[name].take(pa.array(rows))), fitting[name], verdict)
        if groups is None:
            unsliced.append(name)
        else:
            found.append(Slice(name, groups))
    return tuple(found), tuple(unsliced)


def _fitting(a: pa.Table, b: pa.Table, manifest: Manifest) -> Iterator[Column]:
    for column in manifest.columns:
        both = column.name in a.column_names and column.name in b.column_names
        if both and column.kind in ("class", "text", "number") and column.name not in _NO_SLICES:
            yield column


def _slice(values: pa.Array, column: Column, verdict: Verdict) -> tuple[Group, ...] | None:
    if column.kind != "number":
        return group_by(named(values, column.classes) if column.classes else values, verdict, column.classes)
    numbers: Values = values.cast(pa.float64()).fill_null(np.nan).to_numpy()
    if len(np.unique(numbers)) <= _FEW:
        return group_by(pa.array(numbers, from_pandas=True), verdict)
    return _quartiles(numbers, verdict)


def _quartiles(numbers: Values, verdict: Verdict) -> tuple[Group, ...]:
    there = ~np.isnan(numbers)
    cuts = np.quantile(numbers[there], (0.25, 0.5, 0.75), method="inverted_cdf")
    codes = np.where(there, np.searchsorted(cuts, numbers), len(cuts) + 1)
    used, codes = np.unique(codes, return_inverse=True)
    names = [_span(numbers[codes == code]) if kept <= len(cuts) else None for code, kept in enumerate(used)]
    return tuple(_groups(codes, names, verdict))


def _span(numbers: Values) -> str:
    return f"{numbers.min():.6g} to {numbers.max():.6g}"


def _cannot_slice(name: str, fitting: Iterable[str]) -> DovetailError:
    there = ", ".join(f"`{one}`" for one in fitting) or "none"
    return DovetailError(
        f"Cannot compare by `{name}`.",
        "It is not a column of class, text or number that both tables have beside the prediction itself.",
        f"Columns that serve: {there}.",
    )
