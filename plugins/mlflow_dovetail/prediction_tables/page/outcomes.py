"""What a whole table says of each of its rows: label, prediction, whether it was right, how sure the model was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_dovetail.prediction_tables import schema
from mlflow_dovetail.prediction_tables.schema import Manifest

Task = Literal["classification", "regression", "text", "none"]
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Outcomes:
    """Every row of a table of n rows; what is not known is -1 among codes and NaN among numbers.

    Args:
        task: "none" where label or prediction is missing, or they are of different kinds.
        names: Of the classes, in the order of the manifest; what it does not name comes after, sorted.
        label: (n,) codes into `names`, or numbers in a regression.
        prediction: As `label`.
        correct: (n,) 1 right, 0 wrong, -1 not known; texts are compared to the letter.
        confidence: (n,) probability that the model gave to its prediction, 0 to 1.
        loss: (n,).
        epoch: (n,).
        is_last: (n,) whether no later row of the same epoch has the same id: validations within an epoch, and a test
            that was run again, have each example more than once.
        code_of_position: (k,) which class the first, second, ... probability belongs to; () without probabilities.
    """

    task: Task
    names: tuple[str, ...]
    label: Array
    prediction: Array
    correct: Array
    confidence: Array
    loss: Array
    epoch: Array
    is_last: Array
    code_of_position: Array

    def last_epoch(self) -> float | None:
        """The greatest epoch; None where there are none."""
        known = self.epoch[np.isfinite(self.epoch)]
        return float(known.max()) if len(known) else None

    def rows_of_last_epoch(self) -> Array:
        """Indices, ascending, of each example's last row; of all epochs where there are none."""
        last = self.last_epoch()
        return np.flatnonzero(self.is_last if last is None else self.is_last & (self.epoch == last))


def read_outcomes(table: pa.Table, manifest: Manifest) -> Outcomes:
    """Read a table's columns that have a meaning. 12 bytes a row and column beyond the table itself, or so."""
    kinds = {one.name: one.kind for one in manifest.columns if one.name in table.column_names}
    task = _task(kinds)
    unknown = np.full(table.num_rows, np.nan)
    names, codes, positions = _read_classes(table, manifest, kinds)
    pair = [codes.get(name, np.full(table.num_rows, -1)) for name in (schema.LABEL, schema.PREDICTION)]
    correct = np.full(table.num_rows, -1, np.int8)
    if task == "classification":
        known = (pair[0] >= 0) & (pair[1] >= 0)
        correct[known] = (pair[0] == pair[1])[known]
    elif task == "text":
        equal = pc.equal(table[schema.LABEL], table[schema.PREDICTION])
        correct = pc.fill_null(equal.cast(pa.int8()), -1).to_numpy()
    elif task == "regression":
        pair = [_numbers(table, name) for name in (schema.LABEL, schema.PREDICTION)]
    confidence = unknown
    if kinds.get(schema.PROBABILITIES) == "probabilities" and schema.PREDICTION in codes:
        confidence = _confidence(table[schema.PROBABILITIES], codes[schema.PREDICTION], positions, len(names))
    loss, epoch = (
        _numbers(table, name) if kinds.get(name) == "number" else unknown for name in (schema.LOSS, schema.EPOCH)
    )
    is_last = _find_last(table, epoch) if kinds.get(schema.ID) == "id" else np.ones(table.num_rows, bool)
    return Outcomes(task, names, pair[0], pair[1], correct, confidence, loss, epoch, is_last, positions)


def _find_last(table: pa.Table, epoch: Array) -> Array:
    """Of the rows with one id and one epoch, the last; rows without an id are each their own."""
    encoded = pc.dictionary_encode(table[schema.ID].combine_chunks())
    code = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    places = np.unique(np.nan_to_num(epoch, nan=-1.0), return_inverse=True)[1]
    key = places * (len(encoded.dictionary) + 1) + code
    is_last: Array = np.zeros(len(key), bool)
    is_last[len(key) - 1 - np.unique(key[::-1], return_index=True)[1]] = True
    is_last[code < 0] = True
    return is_last


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names of classes, of which a second one of the same name gets its position beside it."""
    first = {name: len(names) - 1 - i for i, name in enumerate(reversed(names))}
    return tuple(name if first[name] == i else f"{name} ({i})" for i, name in enumerate(names))


def class_names(values: pa.Array, classes: Sequence[str]) -> list[str | None]:
    """What the values of a `class` column are called: a number is the position of its name, if there is one."""

    def name(value: int | str | None) -> str | None:
        if isinstance(value, int) and 0 <= value < len(classes):
            return classes[value]
        return None if value is None else str(value)

    return [name(value) for value in values.to_pylist()]


def _task(kinds: Mapping[str, str]) -> Task:
    pair = kinds.get(schema.LABEL), kinds.get(schema.PREDICTION)
    if pair == ("class", "class"):
        return "classification"
    if pair == ("number", "number"):
        return "regression"
    return "text" if pair == ("text", "text") else "none"


def _numbers(table: pa.Table, name: str) -> Array:
    numbers: Array = table[name].cast(pa.float64()).to_numpy()
    return numbers


def _read_classes(
    table: pa.Table, manifest: Manifest, kinds: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, Array], Array]:
    """The names of all classes, the codes of label and prediction in them, and the code of each probability."""
    said = {one.name: unique(one.classes) for one in manifest.columns}
    roles = (schema.PROBABILITIES, schema.LABEL, schema.PREDICTION)
    common = next((said[role] for role in roles if role in kinds and said[role]), ())
    encoded = {
        role: pc.dictionary_encode(table[role].combine_chunks())
        for role in (schema.LABEL, schema.PREDICTION)
        if kinds.get(role) == "class"
    }
    meant = {role: class_names(one.dictionary, said[role] or common) for role, one in encoded.items()}
    positions: tuple[str, ...] = ()
    if kinds.get(schema.PROBABILITIES) == "probabilities":
        width = pc.max(pc.list_value_length(table[schema.PROBABILITIES])).as_py() or 0
        positions = (*common[:width], *map(str, range(len(common), width)))
    found = {name for one in (*meant.values(), positions) for name in one if name is not None} - set(common)
    names = (*common, *sorted(found, key=lambda name: (not name.isdecimal(), len(name) * name.isdecimal(), name)))
    code_of = {name: code for code, name in enumerate(names)}
    codes = {role: _codes(one, meant[role], code_of) for role, one in encoded.items()}
    return names, codes, np.array([code_of[name] for name in positions], np.int64)


def _codes(encoded: pa.DictionaryArray, meant: list[str | None], code_of: dict[str, int]) -> Array:
    translation = np.array([*(-1 if name is None else code_of[name] for name in meant), -1], np.int64)
    places: Array = pc.fill_null(encoded.indices, len(meant)).to_numpy(zero_copy_only=False)
    return translation[places]


def lists(column: pa.ChunkedArray) -> Iterator[tuple[Array, Array, Array]]:
    """Of each chunk of a list column: its flat values, and each row's start and end in them; a null row is empty."""
    for chunk in column.chunks:
        chunk = chunk.cast(pa.list_(pa.float32()))
        offsets = chunk.offsets.to_numpy()
        start, end = offsets[:-1], np.where(chunk.is_valid().to_numpy(zero_copy_only=False), offsets[1:], offsets[:-1])
        yield chunk.values.to_numpy(zero_copy_only=False), start, end


def _confidence(column: pa.ChunkedArray, prediction: Array, positions: Array, classes: int) -> Array:
    position_of = np.full(classes + 1, np.iinfo(np.int64).max // 2)
    position_of[positions] = np.arange(len(positions))
    wanted, done = position_of[prediction], 0
    result = np.full(len(prediction), np.nan)
    for values, start, end in lists(column):
        at = start + wanted[done : done + len(start)]
        there = np.flatnonzero(at < end)
        result[done + there] = values[at[there]]
        done += len(start)
    return result
