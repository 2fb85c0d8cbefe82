"""The rows of all writers of a table as one series, ordered by attempt, epoch, step and writer, in little memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from mlflow_dovetail.prediction_tables import schema
from mlflow_dovetail.prediction_tables.parquet_files import Place, add
from mlflow_dovetail.prediction_tables.streams import (
    GIVEN_UP,
    LEFT_OUT,
    ROWS,
    Stream,
    decode_counts,
    read_batch,
    read_records,
    streams,
)


class _Head(NamedTuple):
    """The next batch of a writer, and where its file has been read up to then."""

    batch: pa.RecordBatch
    moment: tuple[int, float, float]
    file: str
    end: int


class MergedRows:
    """Gives the batches behind a place, and moves the place along.

    A writer's own batches stay in the order in which they were appended; a later file of a writer (the run went on, or
    a fork wrote) follows the earlier.

    Args:
        source: The table's folder of raw files.
        columns: The rows' schema.
        place: Where to begin; it is changed with each batch that is given out.
        ended: Nobody writes to the raw files any more.

    Attributes:
        place: Behind the batch that was given last.
        attempt: At the training, of that batch.
        has_pause: Whether a writer of the last attempt that has not given up has nothing more now, and might add to
            that batch's epoch.
    """

    def __init__(self, source: Path, columns: pa.Schema, place: Place, *, ended: bool) -> None:
        self._columns = columns
        self.place = place
        self._ended = ended
        self._offsets = dict(place.offsets)
        self.attempt = 1
        found = streams(source, "rows")
        self._gave_up = set[Path]()
        self._is_last = [stream.attempt == found[-1].attempt for stream in found]
        self._files = [stream.paths[-1] for stream in found]
        self._series = [self._batches(stream) for stream in found]
        self._heads = [next(series, None) for series in self._series]

    @property
    def has_pause(self) -> bool:
        writers = zip(self._heads, self._files, self._is_last, strict=True)
        waits = (head is None and is_last and file not in self._gave_up for head, file, is_last in writers)
        return not self._ended and any(waits)

    @property
    def epoch(self) -> tuple[int, float] | None:
        """Attempt and epoch of the next batch; None when there is none."""
        return min((head.moment[:2] for head in self._heads if head is not None), default=None)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        while True:
            waiting = [(head.moment, index) for index, head in enumerate(self._heads) if head is not None]
            if not waiting:
                return
            index = min(waiting)[1]
            head = self._heads[index]
            assert head is not None
            self.place.offsets[head.file] = head.end
            self.attempt = head.moment[0]
            self._heads[index] = next(self._series[index], None)
            yield head.batch

    def _batches(self, stream: Stream) -> Iterator[_Head]:
        for path in stream.paths:
            for record in read_records(path, self._offsets.get(path.name, 0), ended=self._ended):
                if record.kind == LEFT_OUT:  # of the batch before it, which has been given by now
                    add(self.place.left_out, decode_counts(record.content))
                    self.place.offsets[path.name] = record.end
                if record.kind == GIVEN_UP:  # the place stays before it, so that it is seen at each call
                    self._gave_up.add(path)
                batch = read_batch(record.content, self._columns) if record.kind == ROWS else None
                if batch is not None and batch.num_rows:
                    yield _Head(batch, (stream.attempt, *_moment(batch)), path.name, record.end)


def _moment(batch: pa.RecordBatch) -> tuple[float, float]:
    """Epoch and step of the first row; what is missing or no number comes first."""
    return _first(batch, schema.EPOCH), _first(batch, schema.STEP)


def _first(batch: pa.RecordBatch, name: str) -> float:
    value = batch[name][0].as_py() if name in batch.schema.names else None
    return float(value) if isinstance(value, (int, float)) and not math.isnan(value) else -math.inf
