"""What users hand over, as the rows of a batch: tensors, arrays, lists, PIL's images, and single values.

Torch, PIL, pandas and polars are known by what their values can do; nothing of them is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_dovetail.errors import DovetailError


@dataclass(frozen=True)
class Same:
    """One value that every row of the batch has."""

    value: Given


# Whatever a user hands over, or an element of it.
Given: TypeAlias = Any


class OnDevice:
    """Images of a batch on another device than the CPU, (n, height, width) or (n, channels, height, width).

    Args:
        tensor: Of torch.
    """

    def __init__(self, tensor: Given) -> None:
        self._tensor = tensor.detach()
        self.shape: tuple[int, ...] = tuple(tensor.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: Sequence[int]) -> np.ndarray:
        """Some rows, as an array on the CPU."""
        found: np.ndarray = _on_cpu(self.rows(rows))
        return found

    def rows(self, rows: Sequence[int]) -> Given:
        """Some rows, where they are."""
        return self._tensor if len(rows) == len(self) else self._tensor[list(rows)]


Values: TypeAlias = pa.Array | np.ndarray | list[Any] | Same | OnDevice


def take(value: Given, *, is_image_column: bool = False) -> Values:
    """A column's values of one batch, on the CPU.

    Args:
        value: A tensor or array whose first axis is the rows; a list or tuple; a pandas, polars or Arrow column; or
            anything else, which is one value for all rows.
        is_image_column: An array of two axes is then one image for all rows, and images on another device stay there.
    """
    if is_image_column and _is_elsewhere(value) and value.ndim in (3, 4):
        return OnDevice(value)
    value = _on_cpu(value)
    if isinstance(value, (pa.Array, pa.ChunkedArray)) or hasattr(value, "to_arrow"):
        return _one_chunk(value if isinstance(value, (pa.Array, pa.ChunkedArray)) else value.to_arrow())
    if _is_of("pandas", value) and hasattr(value, "to_numpy"):
        return _from_pandas(value)
    if isinstance(value, (list, tuple, range)):
        return [_on_cpu(one) for one in value] if _may_hold_tensors(value) else list(value)
    if is_image(value) or isinstance(value, (str, bytes, np.generic)) or not hasattr(value, "__array__"):
        return Same(value)
    array = _plain(np.asarray(value))
    if array.ndim == 0:
        return Same(array[()])
    if array.dtype == object:
        return list(array.tolist())
    return Same(array) if is_image_column and array.ndim == 2 else array


def count(table: str, columns: Mapping[str, Values]) -> int:
    """How many rows a batch has: the length that its columns agree on; 1 where all are single values.

    Raises:
        DovetailError: They do not agree.
    """
    lengths = {name: len(one) for name, one in columns.items() if not isinstance(one, Same)}
    if len(set(lengths.values())) > 1:
        raise DovetailError(
            f"Cannot append to the table {table!r}; the rows before are kept.",
            f"Its columns have different lengths: {', '.join(f'{name!r} has {n}' for name, n in lengths.items())}.",
            "Give each column one value a row, or a single value for all rows.",
        )
    return next(iter(lengths.values()), 1)


def is_image(value: Given) -> bool:
    """Whether it is an image of PIL."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def to_arrow(values: Values, kind: str, type_: pa.DataType, rows: int) -> pa.Array:
    """Values as a column's type.

    Raises:
        ValueError, TypeError, OverflowError, pa.ArrowException: They are of another kind.
    """
    if isinstance(values, OnDevice):
        values = values.take(range(rows))
    if isinstance(values, Same):
        one = to_arrow([values.value], kind, type_, 1)
        return one if rows == 1 else one.take(pa.array(np.zeros(rows, np.int64)))
    if kind == "json":
        return pa.array([_json(one) for one in _listed(values)], type_)
    if pa.types.is_list(type_):
        return _lists(values, type_)
    if pa.types.is_string(type_):
        return _strings(values, is_id=kind == "id")
    return _numbers(values, type_)


def _numbers(values: Given, type_: pa.DataType) -> pa.Array:
    if isinstance(values, np.ndarray):
        _check(values.ndim == 1 and values.dtype.kind in "biuf", "they are no numbers")
        found = pa.array(values.astype(np.float64) if values.dtype == np.float16 else values)
    else:
        found = values if isinstance(values, pa.Array) else pa.array(values)  # without a type, or 1.5 is cut to 1
    kind = found.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    _check(is_number or pa.types.is_null(kind), f"they are {kind}")
    # An integer above 2**53 has no float of its own; a float with a fraction is no integer, and is refused.
    return found if kind == type_ else pc.cast(found, type_, safe=not pa.types.is_floating(type_))


def _strings(values: Given, *, is_id: bool) -> pa.Array:
    if isinstance(values, np.ndarray):
        _check(values.ndim == 1, "they have more than one axis")
        if is_id and values.dtype.kind in "iu":
            return pa.array(values).cast(pa.string())
        values = values.tolist()
    if isinstance(values, pa.Array):
        if pa.types.is_integer(values.type) and not is_id:
            raise TypeError("they are whole numbers")
        return _one_chunk(values.cast(pa.string()))
    if is_id and not set(map(type, values)) <= {str}:
        values = [str(one) if isinstance(one, (int, np.integer)) else one for one in values]
    try:
        return _one_chunk(pa.array(values, pa.string()))
    except (UnicodeError, pa.ArrowInvalid):
        return _one_chunk(pa.array([tidy(one) for one in values], pa.string()))


def tidy(value: Given) -> Given:
    """Text or bytes as text with what is no Unicode written out as `\\udc80` or `\\x80`."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _lists(values: Given, type_: pa.DataType) -> pa.Array:
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "biuf":
        rows, width = values.shape
        offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
        flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
        return pa.ListArray.from_arrays(pa.array(offsets), flat)
    if isinstance(values, pa.Array):
        return values.cast(type_, safe=False)
    _check(not isinstance(values, np.ndarray), "they are no lists of numbers")
    return pa.array([None if one is None else np.asarray(one, np.float32) for one in values], type_)


def _listed(values: Given) -> list[Any]:
    found: list[Any] = values if isinstance(values, list) else values.tolist()
    return found


def _json(value: Given) -> str | None:
    if value is None:
        return None
    try:
        return msgspec.json.encode(value, enc_hook=_plain_value).decode()
    except (UnicodeEncodeError, TypeError):  # lone surrogates; keys that are neither text nor numbers
        return json.dumps(_with_text_keys(value), default=_plain_value)


def _plain_value(value: Given) -> Given:
    value = _on_cpu(value)
    if isinstance(value, np.ndarray):
        return _plain(value).tolist()
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.void) else str(value)


def _with_text_keys(value: Given) -> Given:
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(one) for key, one in value.items()}
    return [_with_text_keys(one) for one in value] if isinstance(value, (list, tuple)) else value


def _may_hold_tensors(values: Given) -> bool:
    return any(hasattr(one, "detach") or hasattr(one, "__array__") for one in set(map(type, values)))


def _is_elsewhere(value: Given) -> bool:
    """Whether it is a tensor that is not on the CPU."""
    return hasattr(value, "detach") and getattr(getattr(value, "device", None), "type", "cpu") != "cpu"


def _on_cpu(value: Given) -> Given:
    """A tensor as an array; anything else as it is."""
    if not (hasattr(value, "detach") and hasattr(value, "cpu")):
        is_single = hasattr(value, "__array__") and getattr(value, "ndim", None) == 0
        return np.asarray(value)[()] if is_single and not isinstance(value, np.generic) else value
    value = value.detach().cpu()
    if any(word in str(value.dtype) for word in ("bfloat16", "float8")):  # NumPy has none of them
        value = value.float()
    array = value.resolve_conj().resolve_neg().numpy() if hasattr(value, "resolve_conj") else value.numpy()
    return array[()] if array.ndim == 0 else array


def _plain(array: np.ndarray) -> np.ndarray:
    """An array of a type that NumPy itself has: bfloat16 of JAX as float32, times as text, objects as they are."""
    if array.dtype.kind == "V" and "float" in array.dtype.name:
        return array.astype(np.float32)
    return array.astype(str) if array.dtype.kind in "mM" else array


def _from_pandas(value: Given) -> Values:
    """NaN among numbers stays NaN; elsewhere it is how pandas says that a value is missing."""
    if getattr(value.dtype, "kind", "") in "biuf" and isinstance(value.dtype, np.dtype):
        return np.asarray(value.to_numpy())
    try:
        return _one_chunk(pa.array(value, from_pandas=True))
    except pa.ArrowException:  # objects of several types
        return take(value.tolist())


def _one_chunk(value: Given) -> pa.Array:
    value = value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value
    if isinstance(value, pa.ChunkedArray):  # more than 2 GiB of text, which one array cannot hold
        raise ValueError("they are more than 2 GiB of text in one batch")
    return value.dictionary_decode() if isinstance(value, pa.DictionaryArray) else value


def _is_of(package: str, value: Given) -> bool:
    return type(value).__module__.partition(".")[0] == package


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TypeError(otherwise)
