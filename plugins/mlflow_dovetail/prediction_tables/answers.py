"""What a table's label and prediction columns say, in a form that two runs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.joining import Rows, flat
from mlflow_dovetail.prediction_tables.schema import ID, LABEL, PREDICTION, PROBABILITIES, Manifest

Task = Literal["classification", "regression"]
Values = np.ndarray[tuple[int], np.dtype[np.float64]]
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]

_WHAT = "Cannot compare the two runs' predictions."
# Labels of float32 and of float64 are the same labels.
_SAME = 1e-6


@dataclass(frozen=True)
class Answers:
    """What both runs say of the same examples, each of length n.

    Args:
        labels: A's: the names of classes, their numbers where nobody has named them, or of a regression the values.
        predictions_a: Of the same type as the labels.
        predictions_b: Of the same type as the labels.
        same: Whether B has the same label.
        answered: Whether labels and predictions are there, and finite.
    """

    labels: pa.Array
    predictions_a: pa.Array
    predictions_b: pa.Array
    same: Mask
    answered: Mask

    def filter(self, kept: Mask) -> Answers:
        """Those examples only."""
        mask = pa.array(kept)
        labels, answers_a, answers_b = (
            pc.filter(column, mask) for column in (self.labels, self.predictions_a, self.predictions_b)
        )
        return Answers(labels, answers_a, answers_b, self.same[kept], self.answered[kept])


def task_of(tables: Sequence[pa.Table], manifests: Sequence[Manifest]) -> Task:
    """What both tables are about.

    Raises:
        DovetailError: A table has no rows, or no id, label or prediction; or the two are about different things.
    """
    task_a, task_b = (_task(*side) for side in zip("AB", tables, manifests, strict=True))
    if task_a != task_b:
        why = f"A's table is one of {task_a}, B's one of {task_b}."
        raise DovetailError(_WHAT, why, "Compare tables that answer the same question.")
    return task_a


def _task(side: str, table: pa.Table, manifest: Manifest) -> Task:
    if not table.num_rows:
        raise DovetailError(
            _WHAT, f"Table {manifest.table!r} of {side} has no rows.", "Take a run that has logged some."
        )
    for name in (ID, LABEL, PREDICTION):
        if name not in table.column_names:
            why = f"Table {manifest.table!r} of {side} has no column `{name}`."
            raise DovetailError(_WHAT, why, f"Log `{name}` with the table, in both runs.")
    kinds = [column.kind for name in (LABEL, PREDICTION) if (column := manifest.column(name))]
    if kinds == ["number", "number"]:
        return "regression"
    if kinds and set(kinds) <= {"class", "text"}:
        return "classification"
    why = f"In table {manifest.table!r} of {side}, `label` and `prediction` are of kind {' and '.join(kinds)}."
    raise DovetailError(_WHAT, why, "Log both as class or text, to have them right or wrong, or both as number.")


def read_answers(task: Task, sides: Sequence[tuple[pa.Table, Manifest, Rows]]) -> Answers:
    """Labels and predictions of the joined rows of A and B: side by side, in one type."""
    return _read_numbers(sides) if task == "regression" else _read_classes(sides)


def _read_numbers(sides: Sequence[tuple[pa.Table, Manifest, Rows]]) -> Answers:
    columns = [_numbers(table[name], rows) for name in (LABEL, PREDICTION) for table, _, rows in sides]
    answered: Mask = np.logical_and.reduce([np.isfinite(column) for column in columns])
    same: Mask = np.isclose(columns[0], columns[1], rtol=_SAME, atol=0)
    return Answers(pa.array(columns[0]), pa.array(columns[2]), pa.array(columns[3]), same, answered)


def _numbers(column: pa.ChunkedArray, rows: Rows) -> Values:
    values: Values = column.cast(pa.float64()).fill_null(np.nan).to_numpy()[rows]
    return values


def _read_classes(sides: Sequence[tuple[pa.Table, Manifest, Rows]]) -> Answers:
    """A run that has not named its classes takes the other's names: it counts the same classes."""
    names = [class_names(manifest) for _, manifest, _ in sides]
    columns = [flat(table[name].take(pa.array(rows))) for name in (LABEL, PREDICTION) for table, _, rows in sides]
    if all(pa.types.is_integer(column.type) for column in columns) and not any(names):
        columns = [column.cast(pa.int64()) for column in columns]
    else:
        shared = [names[0] or names[1], names[1] or names[0]] * 2
        columns = [named(column, one) for column, one in zip(columns, shared, strict=True)]
    answered: Mask = np.logical_and.reduce([_mask(column.is_valid()) for column in columns])
    same = _mask(pc.fill_null(pc.equal(columns[0], columns[1]), True))
    return Answers(columns[0], columns[2], columns[3], same, answered)


def _mask(column: pa.Array) -> Mask:
    mask: Mask = column.to_numpy(zero_copy_only=False)
    return mask


def class_names(manifest: Manifest) -> tuple[str, ...]:
    """The names of the classes 0, 1, ...: a name that two classes have is told apart by its number; maybe empty."""
    columns = (manifest.column(name) for name in (LABEL, PREDICTION, PROBABILITIES))
    classes = next((column.classes for column in columns if column and column.classes), ())
    repeated = {name for name in classes if classes.count(name) > 1} if len(set(classes)) < len(classes) else set()
    return tuple(f"{name} ({number})" if name in repeated else name for number, name in enumerate(classes))


def named(column: pa.Array, names: Sequence[str]) -> pa.Array:
    """A column of classes as text: numbers by their names, where there are any."""
    texts = column.cast(pa.large_string())
    if not names or not pa.types.is_integer(column.type):
        return texts
    known = pc.and_(pc.greater_equal(column, 0), pc.less(column, len(names)))
    unnamed = pc.binary_join_element_wise(texts, *(pa.scalar(text, pa.large_string()) for text in (" (no name)", "")))
    found = pa.array(names, pa.large_string()).take(pc.if_else(known, column, pa.scalar(None, column.type)))
    return pc.coalesce(found, unnamed)


def read_confidences(table: pa.Table, manifest: Manifest) -> Values:
    """By row, the probability, 0 to 1, that the run gave to its own prediction; NaN where that is not known."""
    confidences = np.full(table.num_rows, np.nan)
    column = manifest.column(PROBABILITIES)
    if column is None or column.kind != "probabilities" or PROBABILITIES not in table.column_names:
        return confidences
    picks, start = _picks(table, column.classes or class_names(manifest)), 0
    for chunk in table[PROBABILITIES].chunks:
        stop = start + len(chunk)
        confidences[start:stop] = _pick(chunk, picks[start:stop])
        start = stop
    # A score that is no probability says nothing that a reader could compare.
    confidences[(confidences < 0) | (confidences > 1 + 1e-6)] = np.nan
    return np.minimum(confidences, 1)


def _picks(table: pa.Table, names: tuple[str, ...]) -> Rows:
    """By row, the place of the predicted class among the probabilities; -1 where nobody has said it."""
    predictions = flat(table[PREDICTION])
    if not pa.types.is_integer(predictions.type):
        known = pa.array(names, pa.large_string())
        predictions = pc.index_in(predictions.cast(pa.large_string()), value_set=known)
    places: Rows = predictions.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return places


def _pick(chunk: pa.Array, picks: Rows) -> Values:
    offsets = chunk.offsets.to_numpy()
    numbers = chunk.values.to_numpy(zero_copy_only=False)
    there = (picks >= 0) & (picks < np.diff(offsets)) & chunk.is_valid().to_numpy(zero_copy_only=False)
    found = np.full(len(chunk), np.nan)
    found[there] = numbers[offsets[:-1][there] + picks[there]]
    return found
