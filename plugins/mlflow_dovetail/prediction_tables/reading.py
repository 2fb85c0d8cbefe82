"""Reading a table that was compacted: downloaded from a store, or in a run folder's `captured/predictions/<table>`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.columns import schema_of, stored_without_rows
from mlflow_dovetail.prediction_tables.schema import VERSION, File, Manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a table.

    Raises:
        DovetailError: There is none, it is damaged, or it is of a later version.
    """
    path = folder / "manifest.json"
    try:
        content = path.read_bytes()
        version = msgspec.json.decode(content, type=_OnlyVersion).version
        if version <= VERSION:
            return msgspec.json.decode(content, type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DovetailError(
            f"{folder} is no prediction table.",
            f"It has no manifest.json that can be read: {error}.",
            "Name a folder predictions/<table> of a run's artifacts.",
        ) from error
    raise DovetailError(
        f"Cannot read the prediction table {folder}.",
        f"It has format {version}; this Dovetail knows {VERSION}.",
        "Update it: pip install --upgrade mlflow-dovetail.",
    )


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows, in the order in which they were logged; images as their digests.

    Args:
        folder: Of the table.
        columns: Which ones, in this order; all when left out.

    Raises:
        DovetailError: It is no table, a file of it is missing or damaged, or it has no such column.
    """
    manifest = read_manifest(folder)
    names = [one.name for one in manifest.columns]
    unknown = sorted(set(columns or ()) - set(names))
    if unknown:
        raise DovetailError(
            f"Cannot read the columns {', '.join(unknown)} of the table {manifest.table!r}.",
            f"It has {', '.join(names) or 'none'}.",
            "Name some of these.",
        )
    wanted = list(names if columns is None else columns)
    parts = [_read(folder, file, wanted) for file in manifest.data]
    return pa.concat_tables(parts) if parts else _empty(manifest, wanted)


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


def _read(folder: Path, file: File, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(_path(folder, file)) as part:
            return part.read(columns=columns).select(columns).replace_schema_metadata(None)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _unreadable(folder, file, error) from error


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


class _OnlyVersion(msgspec.Struct):
    version: int = VERSION
