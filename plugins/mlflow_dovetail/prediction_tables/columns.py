"""What the columns of a table hold: said by the user, or read off the first batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec
import numpy as np
import pyarrow as pa

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables import schema
from mlflow_dovetail.prediction_tables.schema import Column, Kind
from mlflow_dovetail.prediction_tables.values import Given, OnDevice, Same, Values, is_image

ArrowType = Literal["string", "int64", "float64", "float32s"]
ARROW_TYPES: dict[ArrowType, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "float32s": pa.list_(pa.float32()),
}
_CLASSES = (schema.LABEL, schema.PREDICTION, "target")
_WHOLE = ("class", "int64")
_NAMES = (schema.LABEL, schema.PREDICTION, "target", "class")


@dataclass(frozen=True)
class Image:
    """Images: arrays of height and width, with channels first or last or without; or PIL's."""

    kind: ClassVar[Kind] = "image"


@dataclass(frozen=True)
class Text:
    """Texts, kept whole."""

    kind: ClassVar[Kind] = "text"


@dataclass(frozen=True)
class Class:
    """One of a set: names, or numbers from 0.

    Args:
        names: Of the classes 0, 1, ...
    """

    names: Sequence[str] = ()
    kind: ClassVar[Kind] = "class"


@dataclass(frozen=True)
class Probabilities:
    """A number a class, in a row's own list.

    Args:
        names: Of the classes, in the same order.
    """

    names: Sequence[str] = ()
    kind: ClassVar[Kind] = "probabilities"


@dataclass(frozen=True)
class Number:
    """Numbers; a truth value is 0 or 1.

    Args:
        is_whole: They are integers of 64 bits; otherwise floats.
    """

    is_whole: bool = False
    kind: ClassVar[Kind] = "number"


@dataclass(frozen=True)
class Json:
    """Anything else, kept as JSON: what JSON does not know becomes text, and NaN becomes null."""

    kind: ClassVar[Kind] = "json"


Said = Image | Text | Class | Probabilities | Number | Json


class StoredColumn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column with the Arrow type that its values have in every file of the table; `columns.json` is a list of it."""

    column: Column
    type: ArrowType

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def arrow_type(self) -> pa.DataType:
        return ARROW_TYPES[self.type]


def schema_of(columns: Sequence[StoredColumn]) -> pa.Schema:
    """The rows' Arrow schema."""
    return pa.schema([(one.name, one.arrow_type) for one in columns])


def check_said(table: str, columns: Mapping[str, Said | type[Said]] | None) -> dict[str, Said]:
    """What was said of the columns; a class without its parentheses is taken too.

    Raises:
        DovetailError: A column's kind is none of this file's.
    """
    found: dict[str, Said] = {}
    for name, said in (columns or {}).items():
        one = said() if isinstance(said, type) else said
        if not isinstance(one, Said):
            raise DovetailError(
                f"Cannot make the table {table!r}.",
                f"Its column {name!r} is said to be {said!r}, which is no kind of column.",
                "Give one of Image, Text, Class, Probabilities, Number and Json.",
            )
        found[str(name)] = one
    return found


def column_said(name: str, said: Said) -> StoredColumn:
    """A column of which the kind is known and no value; the numbers of classes may still turn out to be names."""
    names = tuple(map(str, said.names)) if isinstance(said, (Class, Probabilities)) else ()
    return StoredColumn(Column(name, said.kind, names), _type_of(said.kind, is_whole=not _is_float(said)))


def stored_without_rows(column: Column) -> StoredColumn:
    """The column of a table that has no rows: its type is the more likely one of those that its kind has."""
    return StoredColumn(column, _type_of(column.kind, is_whole=column.kind == "class"))


def column_of(name: str, said: Said | None, values: Values) -> StoredColumn:
    """A column as its first batch shows it."""
    sample = _sample(values)
    if said is None:
        return _inferred(name, sample)
    one = column_said(name, said)
    return StoredColumn(one.column, "string") if one.column.kind == "class" and _holds(sample) == "text" else one


def columns_of(values: Mapping[str, Values], said: Mapping[str, Said]) -> tuple[StoredColumn, ...]:
    """The columns as their first batch shows them.

    Of label and prediction, whole numbers beside others that may have fractions are no classes: both are floats then.
    """
    found = {name: column_of(name, said.get(name), one) for name, one in values.items()}
    for name, other in ((schema.LABEL, schema.PREDICTION), (schema.PREDICTION, schema.LABEL)):
        is_whole = name in found and name not in said and (found[name].column.kind, found[name].type) == _WHOLE
        if is_whole and other in found and found[other].column.kind == "number":
            found[name] = StoredColumn(Column(name, "number"), "float64")
    return tuple(found.values())


def _is_float(said: Said) -> bool:
    return isinstance(said, Number) and not said.is_whole


def _type_of(kind: Kind, *, is_whole: bool) -> ArrowType:
    if kind == "probabilities":
        return "float32s"
    if kind in ("class", "number"):
        return "int64" if is_whole else "float64"
    return "string"


def _inferred(name: str, sample: Given) -> StoredColumn:
    if name == schema.ID:
        return StoredColumn(Column(name, "id"), "string")
    holds = "image" if _shows_images(name, sample) else _holds(sample)
    if holds == "image":
        return StoredColumn(Column(name, "image"), "string")
    if holds == "text":
        return StoredColumn(Column(name, "class" if name in _NAMES else "text"), "string")
    if holds == "whole":
        return StoredColumn(Column(name, "class" if name in _CLASSES else "number"), "int64")
    if holds == "float":
        return StoredColumn(Column(name, "number"), "float64")
    if holds == "lists" and name == schema.PROBABILITIES:
        return StoredColumn(Column(name, "probabilities"), "float32s")
    return StoredColumn(Column(name, "json"), "string")


def _sample(values: Values) -> Given:
    """An array, or a list of values without what is missing."""
    if isinstance(values, Same):
        values = [values.value]
    return [one for one in values if one is not None] if isinstance(values, list) else values


def _shows_images(name: str, sample: Given) -> bool:
    """Whether these are images: arrays of two or three axes a row, of bytes, truth values or floats unless so named."""
    if isinstance(sample, OnDevice):
        return True
    if isinstance(sample, np.ndarray):
        return sample.ndim in (3, 4) and (name == schema.IMAGE or sample.dtype.kind in "bf" or sample.dtype == np.uint8)
    if not isinstance(sample, list) or not sample:
        return False
    first = sample[0]
    if isinstance(first, np.ndarray):
        return all(isinstance(one, np.ndarray) and one.ndim in (2, 3) for one in sample) and _shows_images(
            name, first.reshape((1, *first.shape))
        )
    return is_image(first)


def _holds(sample: Given) -> Literal["text", "whole", "float", "lists", "other"]:
    """What plain values are."""
    if isinstance(sample, pa.Array):
        return _arrow_holds(sample.type)
    if isinstance(sample, np.ndarray):
        if sample.ndim > 1:
            return "lists" if sample.ndim == 2 and sample.dtype.kind in "fiu" else "other"
        return _arrays_hold(sample.dtype.kind)
    if sample and all(isinstance(one, (list, tuple, np.ndarray)) for one in sample):
        return "lists"
    return _scalars_hold({type(one) for one in sample})


def _scalars_hold(types: set[type]) -> Literal["text", "whole", "float", "other"]:
    if not types:
        return "other"
    if all(issubclass(one, (str, bytes)) for one in types):
        return "text"
    if all(issubclass(one, (bool, int, np.integer, np.bool_)) for one in types):
        return "whole"
    if all(issubclass(one, (bool, int, float, np.number, np.bool_)) for one in types):
        return "float"
    return "other"


def _arrays_hold(kind: str) -> Literal["text", "whole", "float", "other"]:
    if kind in "US":
        return "text"
    if kind in "biu":
        return "whole"
    return "float" if kind == "f" else "other"


def _arrow_holds(kind: pa.DataType) -> Literal["text", "whole", "float", "lists", "other"]:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return "lists"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "whole"
    return "float" if pa.types.is_floating(kind) else "other"
