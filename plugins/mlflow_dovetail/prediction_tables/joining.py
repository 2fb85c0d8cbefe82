"""Two runs' rows, joined by the examples' names: each example once, as each run saw it last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.schema import EPOCH, ID, STEP, Manifest

Rows = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Row numbers of a table."""

_SHOWN_IDS = 3


@dataclass(frozen=True)
class Side:
    """What of one run's table takes part.

    Args:
        rows: Of the whole table.
        taken: Which of them are compared, in words: "epoch 9", "step 400" or "all rows".
        repeated: Rows put aside because a later one of those taken has the same id.
        unnamed: Rows put aside because they have no id.
        alone: Examples that the other run does not have.
        policy: Which rows the table has kept, as its manifest says.
    """

    rows: int
    taken: str
    repeated: int
    unnamed: int
    alone: int
    policy: str


@dataclass(frozen=True)
class Pairs:
    """The examples that both tables have, in the order of their ids: id, row of A, row of B, each of length n."""

    ids: pa.Array
    rows_a: Rows
    rows_b: Rows
    a: Side
    b: Side


def join(a: pa.Table, b: pa.Table, manifests: tuple[Manifest, Manifest]) -> Pairs:
    """Pair the rows of the same id, whatever the order in which they were logged.

    Of each table only the last epoch takes part, or the last step where there is no epoch; what is no number is none.
    Of an id that is seen twice in it, the row of the highest step, else the last row.

    Raises:
        DovetailError: No id is in both.
    """
    (taken_a, newest_a), (taken_b, newest_b) = _newest(a), _newest(b)
    ids_a, ids_b = _ids(a, newest_a), _ids(b, newest_b)
    both = pa.concat_arrays([ids_a, ids_b]).dictionary_encode()
    codes = both.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    codes_a, codes_b = codes[: len(ids_a)], codes[len(ids_a) :]
    last_a = _last(a, newest_a, codes_a, len(both.dictionary))
    last_b = _last(b, newest_b, codes_b, len(both.dictionary))
    common = np.flatnonzero((last_a >= 0) & (last_b >= 0))
    if not len(common):
        raise _nothing_in_common(ids_a, ids_b)
    ids = both.dictionary.take(pa.array(common))
    order = pc.sort_indices(ids)
    sorted_common = common[order.to_numpy()]
    return Pairs(
        ids.take(order),
        last_a[sorted_common],
        last_b[sorted_common],
        _side(taken_a, codes_a, last_a, last_b, manifests[0]),
        _side(taken_b, codes_b, last_b, last_a, manifests[1]),
    )


def _newest(table: pa.Table) -> tuple[str, Rows]:
    for name in (EPOCH, STEP):
        last = pc.max(table[name]).as_py() if name in table.column_names and _is_number(table[name].type) else None
        if last is not None and np.isfinite(last):
            fitting = pc.fill_null(pc.equal(table[name], last), False)
            return f"{name} {last:.0f}", np.flatnonzero(fitting.to_numpy())
    return "all rows", np.arange(table.num_rows)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _ids(table: pa.Table, rows: Rows) -> pa.Array:
    return flat(table[ID].cast(pa.large_string()).take(pa.array(rows)))


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _last(table: pa.Table, rows: Rows, codes: Rows, ids: int) -> Rows:
    """By id, the row that counts; -1 where the table has none. NumPy assigns a repeated index in order."""
    last = np.full(ids, -1)
    order = _by_step(table, rows)
    order = order[codes[order] >= 0]
    last[codes[order]] = rows[order]
    return last


def _by_step(table: pa.Table, rows: Rows) -> Rows:
    if STEP not in table.column_names or not _is_number(table[STEP].type):
        return np.arange(len(rows))
    steps = table[STEP].cast(pa.float64()).fill_null(-np.inf).to_numpy()[rows]
    return np.argsort(steps, kind="stable")


def _side(taken: str, codes: Rows, last: Rows, other: Rows, manifest: Manifest) -> Side:
    named = int(np.count_nonzero(codes >= 0))
    return Side(
        rows=manifest.rows,
        taken=taken,
        repeated=named - int(np.count_nonzero(last >= 0)),
        unnamed=len(codes) - named,
        alone=int(np.count_nonzero((last >= 0) & (other < 0))),
        policy=manifest.policy,
    )


def _nothing_in_common(ids_a: pa.Array, ids_b: pa.Array) -> DovetailError:
    return DovetailError(
        "Cannot compare the two runs' predictions.",
        f"No example is in both: ids of A look like {_look(ids_a)}, ids of B like {_look(ids_b)}.",
        "Give `id` a value that comes from the data, such as a file name, and log both runs on the same split.",
    )


def _look(ids: pa.Array) -> str:
    found: Sequence[str] = pc.unique(ids.drop_null()[:1000])[:_SHOWN_IDS].to_pylist()
    return ", ".join(repr(one[:40]) for one in found) or "nothing: every id is missing"
