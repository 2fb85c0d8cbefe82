"""Reading a table that was compacted: downloaded from a store, or in a run folder's `captured/predictions/<table>`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.columns import schema_of, stored_without_rows
from mlflow_dovetail.prediction_tables.parquet_files import last_epoch
from mlflow_dovetail.prediction_tables.reading_manifests import read_manifest
from mlflow_dovetail.prediction_tables.schema import EPOCH, ID, STEP, File, Manifest


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows, in the order in which they were logged; images as their digests.

    Where a run was resumed, and an attempt says an example of an epoch that an earlier attempt had said, the earlier
    row is left out: rows are of one example where epoch and id are the same. It stays where its step is before all
    that the later attempt says of the example: an epoch may have several validations, and the run went on within it.

    Args:
        folder: Of the table.
        columns: Which ones, in this order; all when left out.

    Raises:
        DovetailError: It is no table, a file of it is missing or damaged, or it has no such column.
    """
    return _Reading(folder, columns).rows(is_last_only=False)


def read_last_epoch(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of the last epoch, of which there is a row, without reading those of other epochs.

    It is the last attempt's: an earlier one, which a resumed run left behind, may have come further. It needs the files
    of `files_of_last_epoch` alone. A table without epochs is all read.

    Raises:
        DovetailError: As `read_table`.
    """
    return _Reading(folder, columns).rows(is_last_only=True)


def files_of_last_epoch(manifest: Manifest) -> tuple[File, ...]:
    """The files that have rows of the last epoch; all of them where there are no epochs."""
    last = _last_of(manifest)
    if last is None:
        return manifest.data
    return tuple(file for file in manifest.data if file.last_epoch is not None and file.last_epoch >= last)


def read_media(folder: Path, digests: Iterable[str], *, thumbnails: bool = True) -> dict[str, bytes]:
    """Images by their digests, as whole PNG or WebP files; those that the table does not have are absent.

    Args:
        folder: Of the table.
        digests: As in the rows.
        thumbnails: No side above 64 pixels; otherwise the images as they were logged.

    Raises:
        DovetailError: It is no table, or a pack of it is missing or damaged.
    """
    wanted, found = set(digests), dict[str, bytes]()
    column = "thumbnail" if thumbnails else "image"
    for file in read_manifest(folder).media:
        if wanted <= found.keys():
            break
        try:
            found.update(_images(_path(folder, file), wanted - found.keys(), column))
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(folder, file, error) from error
    return found


class _Reading:
    def __init__(self, folder: Path, columns: Sequence[str] | None) -> None:
        self._folder, self._manifest = folder, read_manifest(folder)
        names = [one.name for one in self._manifest.columns]
        if unknown := sorted(set(columns or ()) - set(names)):
            raise DovetailError(
                f"Cannot read the columns {', '.join(unknown)} of the table {self._manifest.table!r}.",
                f"It has {', '.join(names) or 'none'}.",
                "Name some of these.",
            )
        self._wanted = list(names if columns is None else columns)
        attempts = {attempt for file in self._manifest.data for attempt, _ in file.attempts or ((1, 0),)}
        self._is_resumed = len(attempts) > 1 and ID in names
        more = [name for name in (ID, EPOCH, STEP) if self._is_resumed and name in names]
        self._read = list(dict.fromkeys([*self._wanted, *more]))

    def rows(self, *, is_last_only: bool) -> pa.Table:
        last = _last_of(self._manifest) if is_last_only else None
        parts, attempts = [], []
        for file in files_of_last_epoch(self._manifest) if is_last_only else self._manifest.data:
            table, kept = self._read_file(file, last)
            parts.append(table)
            attempts.append(_attempts(file)[kept] if self._is_resumed else kept)
        if not parts:
            return _empty(self._manifest, self._wanted)
        table = _below_each_other(self._manifest.table, parts)
        if self._is_resumed:
            table = table.filter(pa.array(_stands(table, np.concatenate(attempts))))
        if lacks := sorted(set(self._wanted) - set(table.column_names)):
            raise _unreadable(self._folder, self._manifest.data[-1], KeyError(f"no column {', '.join(lacks)}"))
        return table.select(self._wanted)

    def _read_file(self, file: File, last: float | None) -> tuple[pa.Table, np.ndarray]:
        """Its rows, all or of the last epoch, and which of all these are."""
        try:
            with pq.ParquetFile(_path(self._folder, file)) as part:
                names = [name for name in self._read if name in part.schema_arrow.names]
                if last is not None:
                    return _read_epoch(part, names, last)
                table = part.read(columns=names).select(names).replace_schema_metadata(None)
                return table, np.arange(table.num_rows)
        except (OSError, KeyError, pa.ArrowException) as error:
            raise _unreadable(self._folder, file, error) from error


def _read_epoch(part: pq.ParquetFile, columns: list[str], last: float) -> tuple[pa.Table, np.ndarray]:
    names = list(dict.fromkeys([*columns, EPOCH]))
    parts, kept, before = [part.schema_arrow.empty_table().select(names)], [np.empty(0, np.int64)], 0
    for group in range(part.num_row_groups):
        greatest = last_epoch(part.metadata, group)
        if greatest is not None and greatest >= last:  # greater in what an earlier attempt said
            table = part.read_row_group(group, columns=names).select(names)
            fits = pc.fill_null(pc.equal(table[EPOCH], last), False).to_numpy()
            parts.append(table.filter(pa.array(fits)))
            kept.append(before + np.flatnonzero(fits))
        before += part.metadata.row_group(group).num_rows
    found = pa.concat_tables([one.replace_schema_metadata(None) for one in parts])
    return found.select(columns), np.concatenate(kept)


def _last_of(manifest: Manifest) -> float | None:
    """The last attempt's last epoch."""
    epochs = ((_attempt(file), file.last_epoch) for file in manifest.data if file.last_epoch is not None)
    return max(epochs, default=(0, None))[1]


def _attempt(file: File) -> int:
    return file.attempts[-1][0] if file.attempts else 1


def _attempts(file: File) -> np.ndarray:
    """Of each row the attempt that said it."""
    runs = file.attempts or ((1, file.rows),)
    return np.repeat([attempt for attempt, _ in runs], [rows for _, rows in runs])


def _stands(table: pa.Table, attempts: np.ndarray) -> np.ndarray:
    """Which rows no later attempt has said again, at their step or before it; a row without an id always stands."""
    codes = np.zeros(table.num_rows, np.int64)
    for name in (EPOCH, ID):
        if name in table.column_names:
            encoded = pc.dictionary_encode(table[name].combine_chunks(), null_encoding="encode")
            codes = codes * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy(zero_copy_only=False)
    _, example = np.unique(codes, return_inverse=True)
    steps = _steps(table)
    said_later_from = np.full(int(example.max(initial=-1)) + 1, np.inf)
    stands: np.ndarray = table[ID].is_null().to_numpy()
    for attempt in np.unique(attempts)[::-1]:
        own = np.flatnonzero(attempts == attempt)
        stands[own] |= steps[own] < said_later_from[example[own]]
        np.minimum.at(said_later_from, example[own], steps[own])
    return stands


def _steps(table: pa.Table) -> np.ndarray:
    """Of each row; where it has none that is a number, it comes first."""
    kind = table.schema.field(STEP).type if STEP in table.column_names else pa.null()
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return np.full(table.num_rows, -np.inf)
    steps = table[STEP].cast(pa.float64()).to_numpy()
    return np.where(np.isfinite(steps), steps, -np.inf)


def _below_each_other(name: str, parts: list[pa.Table]) -> pa.Table:
    """Pieces of a run may have other columns: what one lacks is missing in its rows."""
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise DovetailError(
            f"Cannot read the table {name!r} as one.",
            f"The run went on with other columns: {error}.",
            "Read its files one by one: predictions/<table>/data/*.parquet.",
        ) from error


def _images(path: Path, wanted: set[str], column: str) -> dict[str, bytes]:
    """Of one pack, reading only the groups of rows that have one."""
    found: dict[str, bytes] = {}
    with pq.ParquetFile(path) as pack:
        for group in range(pack.num_row_groups):
            digests = pack.read_row_group(group, columns=["digest"])["digest"].to_pylist()
            places = [index for index, digest in enumerate(digests) if digest in wanted]
            if places:
                images = pack.read_row_group(group, columns=[column])[column]
                found.update((digests[index], images[index].as_py()) for index in places)
    return found


def _empty(manifest: Manifest, columns: list[str]) -> pa.Table:
    kinds = {one.name: one for one in manifest.columns}
    return schema_of([stored_without_rows(kinds[name]) for name in columns]).empty_table()


def _path(folder: Path, file: File) -> Path:
    """Where a file is; a manifest from elsewhere may name none outside its own folder."""
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts or "\\" in file.path or "\0" in file.path:
        raise _unreadable(folder, file, ValueError("it is not below the table's folder"))
    return folder / path


def _unreadable(folder: Path, file: File, error: Exception) -> DovetailError:
    return DovetailError(
        f"Cannot read {file.path!r} of the prediction table {folder}.",
        f"{error}.",
        "Download the table's whole folder again.",
    )
