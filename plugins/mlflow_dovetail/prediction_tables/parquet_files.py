"""The numbered Parquet files of a table: each is written once, whole, and says up to where the raw files are in it.

Since the file itself holds its place in the raw files, there is nothing else to keep in step with it: whoever is killed
at any point goes on behind the last file that is there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

# What `pyarrow.parquet.write_table` takes.
Option: TypeAlias = Any
_KEY = b"dovetail.place"


class Place(msgspec.Struct, omit_defaults=True):
    """Up to where raw files have been read: offsets by file name, and what they say was left out, by cause."""

    offsets: dict[str, int] = {}
    left_out: dict[str, int] = {}


class Series:
    """The files `<prefix>-00001.parquet`, ... of one folder.

    Args:
        folder: In which they are; made when there is the first.
        prefix: "part" or "pack".
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self._prefix = prefix

    def paths(self) -> list[Path]:
        """The files, in order."""
        return sorted(self.folder.glob(f"{self._prefix}-*.parquet"))

    def place(self) -> Place:
        """Where the last file ends in the raw files."""
        paths = self.paths()
        if not paths:
            return Place()
        stored = (pq.read_schema(paths[-1]).metadata or {}).get(_KEY, b"{}")
        return msgspec.json.decode(stored, type=Place)

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
