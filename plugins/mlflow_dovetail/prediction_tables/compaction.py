"""From a table's raw files to what is uploaded: shards, packs and the manifest. The recorder calls it now and then."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pyarrow as pa

from mlflow_dovetail.prediction_tables import packs
from mlflow_dovetail.prediction_tables.columns import schema_of
from mlflow_dovetail.prediction_tables.media import TOO_MANY
from mlflow_dovetail.prediction_tables.merging import MergedRows
from mlflow_dovetail.prediction_tables.parquet_files import Place, Series, add, describe
from mlflow_dovetail.prediction_tables.schema import File, Manifest
from mlflow_dovetail.prediction_tables.settling import Settled, settled
from mlflow_dovetail.prediction_tables.streams import (
    TableRecord,
    first_second,
    read_columns,
    read_table_record,
    streams,
)
from mlflow_dovetail.prediction_tables.streams_appending import is_written_to
from mlflow_dovetail.run_folder import read_json, write_whole

SHARD_ROWS = 100_000
SHARD_BYTES = 64 << 20
WAIT_SECONDS = 60.0
# Of the table's age: so that a run of a day has about a hundred shards, not one a minute.
_WAIT_SHARE = 0.05
_LOOK_SECONDS = 10.0
_GROUP_ROWS = 1 << 15


class Over(msgspec.Struct, frozen=True):
    """`over.json`: raw files that are wholly in shards and packs, what was left out up to then, and the shards then."""

    files: tuple[str, ...]
    left_out: dict[str, int]
    shards: int


def compact(source: Path, target: Path, *, is_over: bool, is_other_host: bool = False) -> Manifest | None:
    """Put what was appended into shards and packs, and write the manifest last.

    Rows that do not fill a shard wait until they are a minute old, or a twentieth of the table's age where that is
    more. A file that was written never changes. It can be killed at any point and called again, and needs memory for
    one shard and one pack. Only one process at a time may call it for a table.

    Args:
        source: The table's folder below the run folder's `tables`.
        target: The table's folder among what is uploaded; made when there is something.
        is_over: No writer appends any more: everything is written now, and then the raw files are removed.
        is_other_host: It is the piece of another machine of the training: see `Manifest`.

    Returns:
        The manifest as it stands; None where there is none: no table, or all of it still waits.

    Raises:
        OSError: The disk is full, or cannot be written.
        DovetailError: The raw files were written by a later version.
    """
    record = read_table_record(source)
    if record is None:
        return None
    return _Compaction(source, target, record, is_over=is_over, is_other_host=is_other_host).run()


class _Compaction:
    def __init__(self, source: Path, target: Path, record: TableRecord, *, is_over: bool, is_other_host: bool) -> None:
        self._source, self._target, self._record = source, target, record
        self._is_over, self._is_other_host = is_over, is_other_host
        self._columns = read_columns(source) or ()
        self._shards = Series(target / "data", "part", record.piece)
        self._packs = Series(target / "media", "pack", record.piece)
        self._name = f"manifest-{record.piece}.json" if record.piece else "manifest.json"
        self._before = read_json(target / self._name, Manifest)
        self._over = read_json(source / "over.json", Over)
        self._is_old = is_over

    def run(self) -> Manifest | None:
        for name in self._over.files if self._over else ():
            (self._source / name).unlink(missing_ok=True)
        if not self._is_due():
            return self._before
        files = self._raw_files()
        # Asked before they are read: who writes on has the rows read at the next call.
        is_live = any(is_written_to(self._source / name) for name in files)
        self._shards.clean()
        self._packs.clean()
        for path in (*self._target.glob(f".{self._name}.*"), *self._source.glob(".over.json.*")):
            path.unlink(missing_ok=True)
        left_out = self._write_shards()
        if not self._is_over and not self._is_unlisted():
            return self._before
        beyond = packs.pack(self._source, self._packs, most=self._record.most_images, ended=self._is_over)
        add(left_out, {TOO_MANY: beyond} if beyond else {})
        manifest = self._write_manifest(left_out)
        if self._is_over and not is_live:
            self._end(files, manifest)
        return manifest

    def _is_due(self) -> bool:
        """Whether there is something to write now."""
        if self._is_over:
            return self._before is None or bool(self._raw_files())
        if self._is_unlisted():
            return True  # killed before the manifest was written
        looked_at = self._source / "table.json"
        now = time.time()
        since = now - looked_at.stat().st_mtime
        waiting, oldest = self._waiting()
        age = now - oldest
        wait = max(WAIT_SECONDS, _WAIT_SHARE * (now - self._record.made_at))
        self._is_old = age >= wait and since >= wait
        is_due = waiting > 0 and (self._is_old or (waiting >= SHARD_BYTES and since >= min(_LOOK_SECONDS, wait)))
        if is_due:
            os.utime(looked_at, (now, now))  # what is left out for good, or not settled yet, is not read again at once
        return is_due

    def _is_unlisted(self) -> bool:
        """Whether there are shards that the manifest does not name."""
        return len(self._shards.paths()) != (len(self._before.data) if self._before else 0)

    def _waiting(self) -> tuple[int, float]:
        """How many bytes of rows are in no shard, and when the first of them was written."""
        place = self._begin()
        size, seconds = 0, []
        for path in (path for stream in streams(self._source, "rows") for path in stream.paths):
            offset = place.offsets.get(path.name, 0)
            size += max(0, path.stat().st_size - offset)
            second = first_second(path, offset)
            seconds += [] if second is None else [second]
        return size, float(min(seconds, default=0))

    def _begin(self) -> Place:
        """Where the shards end in the raw files, and what was left out up to there."""
        place = self._shards.place()
        if self._over and self._over.shards == len(self._shards.paths()):
            place.left_out = dict(self._over.left_out)
        place.offsets = {name: end for name, end in place.offsets.items() if (self._source / name).exists()}
        return place

    def _write_shards(self) -> dict[str, int]:
        """Write what fills a shard, and the rest if it is time; what was left out, by cause."""
        rows = MergedRows(self._source, schema_of(self._columns), self._begin(), ended=self._is_over)
        done = self._begin()
        shard = _Shard()
        for one in settled(rows, self._record.policy):
            if shard.rows and shard.attempt != one.attempt:  # so that a file's last epoch is of one attempt
                done = self._write_shard(shard)
                shard = _Shard()
            shard.add(one)
            if shard.is_full:
                done = self._write_shard(shard)
                shard = _Shard()
        if shard.rows and self._is_old:
            done = self._write_shard(shard)
        # When it is over, there may be batches behind the last row of which nothing was kept.
        return rows.place.left_out if self._is_over else done.left_out

    def _write_shard(self, shard: _Shard) -> Place:
        table = shard.table()
        self._shards.write(table, shard.place, compression="zstd", row_group_size=_GROUP_ROWS)
        return shard.place

    def _write_manifest(self, left_out: dict[str, int]) -> Manifest:
        before = {one.path: one for one in (*self._before.data, *self._before.media)} if self._before else {}
        data = tuple(self._file(path, before) for path in self._shards.paths())
        manifest = Manifest(
            table=self._record.name,
            columns=tuple(one.column for one in self._columns) or self._record.said,
            rows=sum(one.rows for one in data),
            data=data,
            media=tuple(self._file(path, before) for path in self._packs.paths()),
            policy=self._record.policy.words,
            left_out=dict(sorted(left_out.items())),
            begun_at=self._record.made_at,
            is_other_host=self._is_other_host,
        )
        if manifest != self._before:
            self._target.mkdir(parents=True, exist_ok=True)
            content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
            write_whole(self._target / self._name, content + b"\n")
        return manifest

    def _file(self, path: Path, before: dict[str, File]) -> File:
        name = path.relative_to(self._target).as_posix()
        return before.get(name) or describe(path, name)

    def _raw_files(self) -> tuple[str, ...]:
        groups = (*streams(self._source, "rows"), *streams(self._source, "media"))
        return tuple(path.name for stream in groups for path in stream.paths)

    def _end(self, files: tuple[str, ...], manifest: Manifest) -> None:
        """Remove the raw files; first say so, so that a half removal is not taken for what there was."""
        over = Over(files, manifest.left_out, len(manifest.data))
        write_whole(self._source / "over.json", msgspec.json.encode(over))
        for name in files:
            (self._source / name).unlink(missing_ok=True)


class _Shard:
    """Rows of one attempt that will be one shard, and the place behind them."""

    def __init__(self) -> None:
        self.rows = 0
        self.place = Place()
        self.attempt = 1
        self._bytes = 0
        self._tables: list[pa.Table] = []

    @property
    def is_full(self) -> bool:
        return self.rows >= SHARD_ROWS or self._bytes >= SHARD_BYTES

    def add(self, one: Settled) -> None:
        self._tables.append(one.table)
        self.rows += one.table.num_rows
        self.attempt, self.place = one.attempt, one.place
        self.place.attempts = () if one.attempt == 1 else ((one.attempt, self.rows),)
        self._bytes += one.table.nbytes

    def table(self) -> pa.Table:
        return pa.concat_tables(self._tables).combine_chunks()
