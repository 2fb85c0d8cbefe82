"""Rows on their way into shards, after the policies that need a whole epoch to decide have decided."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from mlflow_dovetail.prediction_tables import policies
from mlflow_dovetail.prediction_tables.merging import MergedRows
from mlflow_dovetail.prediction_tables.parquet_files import Place, add
from mlflow_dovetail.prediction_tables.policies import Policy
from mlflow_dovetail.prediction_tables.writer import POLICY

_TOGETHER_ROWS = 1 << 13
_TOGETHER_BATCHES = 512
_TOGETHER_BYTES = 1 << 20


class Settled(NamedTuple):
    """Rows that stay, the attempt that said them, and the place behind them in the raw files."""

    table: pa.Table
    attempt: int
    place: Place


def settled(rows: MergedRows, policy: Policy) -> Iterator[Settled]:
    """The rows that stay, in pieces; those of an epoch that may still grow are not given."""
    if policies.is_settled_late(policy):
        yield from _by_epoch(rows, policy)
    else:
        yield from _as_they_come(rows)


def _as_they_come(rows: MergedRows) -> Iterator[Settled]:
    """Batches of a row or so are joined, since each takes kilobytes of memory beside its rows."""
    batches: list[pa.RecordBatch] = []
    size, size_bytes = 0, 0
    for batch in rows:
        batches.append(batch)
        size += batch.num_rows
        size_bytes += batch.nbytes
        is_enough = size >= _TOGETHER_ROWS or size_bytes >= _TOGETHER_BYTES or len(batches) >= _TOGETHER_BATCHES
        if is_enough or rows.epoch is None or rows.epoch[0] != rows.attempt:
            yield Settled(_joined(batches), rows.attempt, copy.deepcopy(rows.place))
            batches, size, size_bytes = [], 0, 0


def _by_epoch(rows: MergedRows, policy: Policy) -> Iterator[Settled]:
    gathered: list[pa.RecordBatch] = []
    size, kept = 0, 0
    epoch = rows.epoch
    for batch in rows:
        gathered.append(batch)
        size += batch.num_rows
        is_last = rows.epoch != epoch
        if is_last and rows.has_pause:
            return
        if is_last or size >= max(_TOGETHER_ROWS, 4 * kept):
            table, dropped = _best_of(gathered, policy)
            add(rows.place.left_out, {POLICY: dropped} if dropped else {})
            gathered, size, kept = table.to_batches(), table.num_rows, table.num_rows
        if is_last:
            yield Settled(table, rows.attempt, copy.deepcopy(rows.place))
            gathered, size, kept, epoch = [], 0, 0, rows.epoch


def _best_of(batches: list[pa.RecordBatch], policy: Policy) -> tuple[pa.Table, int]:
    table = _joined(batches)
    columns = {name: table[name].combine_chunks() for name in table.schema.names}
    kept = policies.settle(policy, columns, table.num_rows)
    found = table.filter(pa.array(kept))
    return found, table.num_rows - found.num_rows


def _joined(batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    return table if len(batches) == 1 else table.combine_chunks()
