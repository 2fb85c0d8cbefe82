"""The columns of the page: those of the table in the order in which they are read, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_dovetail.prediction_tables import schema
from mlflow_dovetail.prediction_tables.page import cells
from mlflow_dovetail.prediction_tables.page.outcomes import Array, Outcomes, class_names, unique
from mlflow_dovetail.prediction_tables.schema import Column

# What is read first stands first, what places a row in the training last; the others between, as they were logged.
_FIRST = (schema.IMAGE, schema.ID, schema.TEXT, schema.LABEL, schema.PREDICTION, schema.PROBABILITIES, schema.LOSS)
_LAST = (schema.EPOCH, schema.STEP)


@dataclass
class Shown:
    """A column of the page.

    Args:
        name: As in the manifest; "" for what follows from other columns.
        title: Its heading, with its unit.
        kind: The schema's, or `result` (1 right, 0 wrong), or `share` (0 to 1, shown in percent).
        values: One a row, None for missing. Of `class` a code, of `probabilities` code, share, code, share and so on,
            greatest first; of `image` a digest.
        classes: What its codes are called; None where they are the ones that label and prediction share.
        shortened: How many of its texts are not there to their end.
    """

    name: str
    title: str
    kind: str
    values: Sequence[Any]
    classes: list[str] | None = None
    shortened: int = 0


def show_columns(
    table: pa.Table, columns: Iterable[Column], outcomes: Outcomes, rows: Array, characters: int
) -> list[Shown]:
    """The columns as they stand in the page: `rows` are indices into the table, `characters` the length of a text."""
    shown = [_show(table[one.name], one, outcomes, rows, characters) for one in columns]
    return _with_derived(shown, outcomes, rows)


def use_classes(columns: Iterable[Shown], names: Sequence[str], listed: Iterable[int]) -> dict[int, str]:
    """Change the shared codes to the least that are needed: a table may know a million classes.

    Returns:
        The names by their old codes, in the order of the new ones.
    """
    shared = [one for one in columns if one.classes is None]
    used = set(listed)
    for one in shared:
        if one.kind == "class":
            used.update(code for code in one.values if code is not None)
        elif one.kind == "probabilities":
            used.update(code for value in one.values for code in value[::2])
    new = {old: i for i, old in enumerate(sorted(used))}
    for one in shared:
        if one.kind == "class":
            one.values = [None if code is None else new[code] for code in one.values]
        elif one.kind == "probabilities":
            one.values = [_renamed(value, new) for value in one.values]
    return {old: cells.shorten(names[old]) for old in new}


def reading_order(column: Column) -> int:
    """By which columns are sorted."""
    if column.name in _LAST:
        return len(_FIRST) + 1 + _LAST.index(column.name)
    return _FIRST.index(column.name) if column.name in _FIRST else len(_FIRST)


def _show(values: pa.ChunkedArray, column: Column, outcomes: Outcomes, rows: Array, characters: int) -> Shown:
    title = cells.shorten(column.name)
    if column.kind == "number":
        return Shown(column.name, title, "number", cells.numbers(values.take(pa.array(rows)).to_pylist()))
    if column.kind == "probabilities":
        return _show_probabilities(values, column, outcomes, rows, f"{title}, %")
    if column.kind == "class":
        return _show_class(values, column, outcomes, rows, title)
    texts, shortened = cells.strings(values, rows, characters)
    return Shown(column.name, title, column.kind, texts, shortened=shortened)


def _show_class(values: pa.ChunkedArray, column: Column, outcomes: Outcomes, rows: Array, title: str) -> Shown:
    codes = {schema.LABEL: outcomes.label, schema.PREDICTION: outcomes.prediction}.get(column.name)
    if codes is not None:
        return Shown(column.name, title, "class", cells.codes(codes[rows]))
    encoded = pc.dictionary_encode(values.take(pa.array(rows)).combine_chunks())
    names = [cells.shorten(str(name)) for name in class_names(encoded.dictionary, unique(column.classes))]
    return Shown(column.name, title, "class", encoded.indices.to_pylist(), names)


def _show_probabilities(values: pa.ChunkedArray, column: Column, outcomes: Outcomes, rows: Array, title: str) -> Shown:
    if column.name != schema.PROBABILITIES:
        tops = cells.top(values, rows, ())
        width = max((int(code) + 1 for value in tops for code in value[::2]), default=0)
        names = [*unique(column.classes)[:width], *map(str, range(len(column.classes), width))]
        return Shown(column.name, title, "probabilities", tops, list(map(cells.shorten, names)))
    positions = outcomes.code_of_position
    position_of = np.full(len(outcomes.names) + 1, -1)
    position_of[positions] = np.arange(len(positions))
    keep = [position_of[one[rows]] for one in (outcomes.label, outcomes.prediction) if one.dtype.kind == "i"]
    tops = [_renamed(value, positions.tolist()) for value in cells.top(values, rows, keep)]
    return Shown(column.name, title, "probabilities", tops)


def _renamed(value: list[float], new: Mapping[int, int] | Sequence[int]) -> list[float]:
    """Probabilities with other codes; `new` gives them by the old ones."""
    return [x for code, share in zip(value[::2], value[1::2], strict=True) for x in (new[int(code)], share)]


def _with_derived(shown: list[Shown], outcomes: Outcomes, rows: Array) -> list[Shown]:
    """Result before the label; confidence or error after the prediction."""
    result = []
    for one in shown:
        if one.name == schema.LABEL and (outcomes.correct[rows] >= 0).any():
            result.append(Shown("", "result", "result", cells.codes(outcomes.correct[rows])))
        result.append(one)
        if one.name == schema.PREDICTION and np.isfinite(outcomes.confidence[rows]).any():
            result.append(Shown("", "confidence, %", "share", cells.shares(outcomes.confidence[rows])))
        if one.name == schema.PREDICTION and outcomes.task == "regression":
            error = (outcomes.prediction - outcomes.label)[rows]
            result.append(Shown("", "error (prediction − label)", "number", cells.numbers(error.tolist())))
    return result
