"""Appending to a prediction table from the trainer: a batch costs what it holds, however much was there before."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from mlflow_dovetail import names
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables import media, policies, schema
from mlflow_dovetail.prediction_tables.columns import (
    Image,
    Said,
    StoredColumn,
    check_said,
    column_said,
    columns_of,
    schema_of,
)
from mlflow_dovetail.prediction_tables.images import Images
from mlflow_dovetail.prediction_tables.policies import Policy
from mlflow_dovetail.prediction_tables.streams import (
    GIVEN_UP,
    LEFT_OUT,
    LONGEST_RECORD,
    MOST_IMAGES,
    ROWS,
    TableRecord,
    encode_counts,
    folder_name,
    read_columns,
)
from mlflow_dovetail.prediction_tables.streams_appending import Appender, write_first
from mlflow_dovetail.prediction_tables.values import Given, Values, count, take, tidy, to_arrow

log = logging.getLogger("mlflow_dovetail")

POLICY = "rows left out by the policy"
LOST = "rows lost"  # and why: no room on the disk
_MOST_ROWS = 1 << 16  # of one record, so that shards can be cut between records
_RECORD_BYTES = 32 << 20


class TableWriter:
    """Appends batches of rows to a table, each whole or not at all; of one above 256 MB a full disk may take a part.

    What was appended is in the operating system's hands when `append` returns: the death of this process does not lose
    it. A full disk, or a folder that cannot be written, stops no training: the batch is lost, told once, and counted in
    what the table says it left out, as soon as there is room for that; under `DOVETAIL_STRICT=1` it raises. Safe to
    use from several threads, and in a forked child, which writes files of its own.

    Args:
        folder: Of all tables of the run; the table has `folder / folder_name(name)`.
        name: Any text.
        columns: What columns hold, by name: `Image`, `Text`, `Class(names)`, `Probabilities(names)`, `Number`, `Json`.
            What is not said is read off the first batch.
        policy: Which rows are kept.
        writer: Which of several processes writes: each has its own, such as its rank, which also orders the rows.
        most_images: How many different images the table keeps; those beyond are left out and counted.
        most_bytes: The same for their raw pixels, of this writer alone.
        attempt: Which one at the run's training this is: of rows with the same epoch and id the last one's count.
        is_piece: The run's table has rows elsewhere too: its files get names that are nowhere else.

    Raises:
        DovetailError: A column's kind or the policy is none that there is.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        columns: Mapping[str, Said | type[Said]] | None = None,
        policy: Policy = policies.All(),  # noqa: B008 - frozen
        writer: str = "0",
        most_images: int = MOST_IMAGES,
        most_bytes: int = media.MOST_BYTES,
        attempt: int = 1,
        is_piece: bool = False,
    ) -> None:
        policies.check(policy)
        self.name = name
        self.folder = folder / folder_name(name)
        self._said = check_said(name, columns)
        self._policy = policy
        self._keeper = policies.Keeper(policy)
        self._media = media.MediaLog(self.folder, writer, most_images, most_bytes, attempt)
        self._rows = Appender(self.folder, writer, "rows", attempt)
        self._columns: tuple[StoredColumn, ...] | None = None
        self._schema = pa.schema([])
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._lost: Counter[str] = Counter()
        self._rows_taken = 0  # of a batch that the disk did not take whole
        self._told: set[str] = set()
        said = tuple(column_said(key, one).column for key, one in self._said.items())
        piece = secrets.token_hex(4) if is_piece else ""
        self._record: TableRecord | None = TableRecord(tidy(name), time.time(), policy, said, most_images, piece)
        with self._losing(0):
            self._begin()

    def append(self, columns: Mapping[str, Given], *, prints: Mapping[str, Sequence[Hashable]] | None = None) -> None:
        """Append a batch.

        Args:
            columns: For each column one value a row: a tensor on any device, an array, a list, images of PIL, a pandas
                or Arrow column; or a single value, which all rows have.
            prints: Of a column's images, where `NamedImages` has taken them already.

        Raises:
            DovetailError: The columns have different lengths, are not those of the batches before, or hold something
                of another kind. What was appended before is intact, and nothing of this is kept.
        """
        if self._pid != os.getpid():
            self._begin_in_child()
        with self._lock:
            named = {tidy(str(name)): one for name, one in columns.items()}
            taken = {name: take(one, is_image_column=self._is_image(name)) for name, one in named.items()}
            rows = count(self.name, taken)
            with self._losing(rows):
                self._append_rows(taken, rows, prints or {})

    def close(self) -> None:
        """Close the files; what is appended later goes to others."""
        with self._lock:
            if self._lost:
                with suppress(OSError):
                    self._begin()
                    self._rows.append([(LEFT_OUT, (encode_counts(self._lost),))])
                    self._lost.clear()
            self._rows.close()
            self._media.close()

    def give_up(self) -> None:
        """Close the files, and say in them that this writer appends no more: nobody waits for the rest of its epoch."""
        with self._lock, suppress(OSError):
            self._begin()
            self._rows.append([(GIVEN_UP, ())])
        self.close()

    @contextmanager
    def _losing(self, rows: int) -> Iterator[None]:
        """Where the disk does not take these rows, they are lost and counted."""
        self._rows_taken = 0
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            remedy = f"Make room where {self.folder} lies, or make it writable."
            if os.environ.get(names.ENV_STRICT) == "1":
                raise self._refusal(f"{why}.", remedy) from error
            if rows:
                self._lost[f"{LOST}: {why}"] += rows - self._rows_taken
            if why not in self._told:
                self._told.add(why)
                log.warning("Predictions are not kept in the table %r: %s. %s", self.name, why, remedy)

    def _begin(self) -> None:
        """Make the table's folder and file, unless that has been done."""
        if self._record is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_first(self.folder / "table.json", msgspec.json.encode(self._record))
            self._rows.open()  # an epoch is over when it is over for all writers: the others are to know of this one
            self._record = None

    def _is_image(self, name: str) -> bool:
        return name == schema.IMAGE if name not in self._said else isinstance(self._said[name], Image)

    def _begin_in_child(self) -> None:
        """Leave the parent's files and lock to the parent; another thread of it may have held the lock at the fork."""
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._rows.close()
        self._media.close()

    def _append_rows(self, taken: Mapping[str, Values], rows: int, prints: Mapping[str, Sequence[Hashable]]) -> None:
        self._begin()
        stored = self._columns or read_columns(self.folder)
        if stored is None:
            if rows == 0 or not taken:
                return
            stored = columns_of(taken, self._said)
        self._check_names(stored, taken)
        arrays = {one.name: self._converted(one, taken[one.name], rows, prints.get(one.name)) for one in stored}
        if self._columns is None:
            self._settle_columns(stored)
        if rows:
            self._append_kept(stored, arrays, rows)

    def _check_names(self, stored: Sequence[StoredColumn], taken: Mapping[str, Values]) -> None:
        names = [one.name for one in stored]
        wanted = policies.needs(self._policy)
        problems = [f"it has no {name!r}" for name in dict.fromkeys([*names, *self._said]) if name not in taken]
        problems += [f"{name!r} is new" for name in taken if name not in names]
        problems += [f"its policy needs the column {wanted!r}"] if wanted and wanted not in taken else []
        if problems:
            why = f"A table's columns stay those of its first batch, and of this one is true: {'; '.join(problems)}."
            raise self._refusal(why, "Give every batch the same columns, with None where a row has no value.")

    def _converted(
        self, column: StoredColumn, values: Values, rows: int, prints: Sequence[Hashable] | None
    ) -> pa.Array | Images:
        """A column as an Arrow array; images as they are."""
        kind = column.column.kind
        try:
            if kind == "image":
                return Images(values, prints)
            found = to_arrow(values, kind, column.arrow_type, rows)
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            raise self._refusal(
                f"The values of {column.name!r} are no {kind} ({column.type}): {str(error)[:300]}.",
                "Give values of the kind that the first batch had, or say the column's kind when the table is made.",
            ) from error
        return found

    def _settle_columns(self, columns: tuple[StoredColumn, ...]) -> None:
        """Make these the table's columns, unless another writer has just made others."""
        write_first(self.folder / "columns.json", msgspec.json.encode(columns))
        stored = read_columns(self.folder)
        if stored != columns:
            raise self._refusal(
                "Another writer of this table has just given it other columns.",
                "Give all writers the same columns, and say their kinds when the table is made.",
            )
        self._columns, self._schema = columns, schema_of(columns)

    def _append_kept(self, stored: Sequence[StoredColumn], arrays: dict[str, Any], rows: int) -> None:
        images = [one.name for one in stored if one.column.kind == "image"]
        plain = {name: array for name, array in arrays.items() if name not in images}
        kept = self._keeper.keep(plain, rows)
        members = np.arange(rows) if kept is None else np.flatnonzero(kept)
        left_out = {POLICY: rows - len(members)} if len(members) < rows else {}
        if kept is not None:
            plain = {name: array.filter(pa.array(kept)) for name, array in plain.items()}
        digests = self._digests({name: arrays[name] for name in images}, members)
        left_out |= +self._media.left_out | self._lost
        found = [plain[one.name] if one.name in plain else digests[one.name] for one in stored]
        self._write(pa.RecordBatch.from_arrays(found, schema=self._schema), left_out)
        self._keeper.commit()
        self._media.left_out.clear()
        self._lost.clear()

    def _digests(self, images: Mapping[str, Images], members: np.ndarray) -> dict[str, pa.Array]:
        rows = members.tolist()
        try:
            found = {
                name: self._media.keep_rows(one, [0]) * len(rows)
                if one.is_same and rows
                else self._media.keep_rows(one, rows)
                for name, one in images.items()
            }
            self._media.write()
        except BaseException:
            self._media.forget()
            raise
        return {name: pa.array(digests, pa.string()) for name, digests in found.items()}

    def _write(self, batch: pa.RecordBatch, left_out: Mapping[str, int]) -> None:
        records: list[tuple[bytes, Sequence[memoryview | bytes]]] = []
        parts = _parts(batch)
        for part in parts:
            content = memoryview(part.serialize())
            if len(content) > LONGEST_RECORD:
                raise self._refusal("A row of it has more than 64 MiB.", "Log what is so large as an artifact.")
            records.append((ROWS, (content,)))
        if left_out:
            records.append((LEFT_OUT, (encode_counts(left_out),)))
        try:
            self._rows.append(records)
        except OSError:
            self._rows_taken = sum(part.num_rows for part in parts[: self._rows.taken])
            raise

    def _refusal(self, why: str, remedy: str) -> DovetailError:
        return DovetailError(f"Cannot append to the table {self.name!r}; the rows before are kept.", why, remedy)


def _parts(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """Pieces of a batch that are short enough for a record."""
    rows = batch.num_rows
    if rows == 0:
        return []
    if rows == 1 or (rows <= _MOST_ROWS and batch.nbytes <= _RECORD_BYTES):
        return [batch]
    return [*_parts(batch.slice(0, rows // 2)), *_parts(batch.slice(rows // 2))]
