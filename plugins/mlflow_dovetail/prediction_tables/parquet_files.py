"""The numbered Parquet files of a table: each is written once, whole, and says up to where the raw files are in it.

Since the file itself holds its place in the raw files, there is nothing else to keep in step with it: whoever is killed
at any point goes on behind the last file that is there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_dovetail.prediction_tables.schema import EPOCH, File

# What `pyarrow.parquet.write_table` takes.
Option: TypeAlias = Any
_KEY = b"dovetail.place"


class Place(msgspec.Struct, omit_defaults=True):
    """Up to where raw files have been read: offsets by file name, and what they say was left out, by cause.

    `attempts` is of the file itself: see `schema.File`.
    """

    offsets: dict[str, int] = {}
    left_out: dict[str, int] = {}
    attempts: tuple[tuple[int, int], ...] = ()


class Series:
    """The files `<prefix>-00001.parquet`, ... of one folder, or `<prefix>-<piece>-00001.parquet`, ...

    Args:
        folder: In which they are; made when there is the first.
        prefix: "part" or "pack".
        piece: Of the table.
    """

    def __init__(self, folder: Path, prefix: str, piece: str = "") -> None:
        self.folder = folder
        self._prefix = f"{prefix}-{piece}" if piece else prefix

    def paths(self) -> list[Path]:
        """The files, in order."""
        return sorted(self.folder.glob(f"{self._prefix}-?????.parquet"))

    def place(self) -> Place:
        """Where the last file ends in the raw files."""
        paths = self.paths()
        return place_of(pq.read_schema(paths[-1])) if paths else Place()

    def write(self, table: pa.Table, place: Place, **options: Option) -> None:
        """Write the next file, so that it is there whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = self.paths()
        number = 1 + (int(paths[-1].stem.rpartition("-")[2]) if paths else 0)
        path = self.folder / f"{self._prefix}-{number:05d}.parquet"
        beside = path.with_name(f".{path.name}")
        table = table.replace_schema_metadata({_KEY: msgspec.json.encode(place)})
        pq.write_table(table, beside, **options)
        _sync(beside)
        beside.replace(path)

    def clean(self) -> None:
        """Remove what a killed process left half written."""
        for path in self.folder.glob(f".{self._prefix}-*.parquet"):
            path.unlink(missing_ok=True)


def place_of(schema: pa.Schema) -> Place:
    """What a file says of itself."""
    return msgspec.json.decode((schema.metadata or {}).get(_KEY, b"{}"), type=Place)


def describe(path: Path, name: str) -> File:
    """What a manifest says of a file; `name` is its path there."""
    about = pq.read_metadata(path)
    attempts = place_of(about.schema.to_arrow_schema()).attempts
    return File(name, about.num_rows, path.stat().st_size, max(last_epochs(about), default=None), attempts)


def last_epochs(about: pq.FileMetaData) -> list[float]:
    """Of each group of rows that has them the greatest finite epoch, by the file's own statistics."""
    return [epoch for epoch in map(partial(last_epoch, about), range(about.num_row_groups)) if epoch is not None]


def last_epoch(about: pq.FileMetaData, group: int) -> float | None:
    """The greatest epoch in a group of rows; None where there is none that is a finite number."""
    rows = about.row_group(group)
    place = about.schema.names.index(EPOCH) if EPOCH in about.schema.names else None
    found = rows.column(place).statistics if place is not None else None
    greatest = found.max if found is not None and found.has_min_max else None
    return float(greatest) if isinstance(greatest, (int, float)) and math.isfinite(greatest) else None


def add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    """Add counts to counts."""
    for key, number in more.items():
        counts[key] = counts.get(key, 0) + number


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
