"""A table with its writer, its compaction and its reading, in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlflow_dovetail.prediction_tables.compaction import compact
from mlflow_dovetail.prediction_tables.reading import read_media, read_table
from mlflow_dovetail.prediction_tables.reading_manifests import read_manifest
from mlflow_dovetail.prediction_tables.schema import Manifest
from mlflow_dovetail.prediction_tables.writer import TableWriter


class TableOnDisk:
    """A table `val`, as it lies in a run folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tables = root / "tables"
        self.source = self.tables / "val"
        self.target = root / "captured" / "predictions" / "val"

    def writer(self, **options: Any) -> TableWriter:
        return TableWriter(self.tables, "val", **options)

    def compact(self, *, is_over: bool = True, is_other_host: bool = False) -> Manifest | None:
        return compact(self.source, self.target, is_over=is_over, is_other_host=is_other_host)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        return read_table(self.target, columns)

    def column(self, name: str) -> list[Any]:
        values: list[Any] = self.read([name])[name].to_pylist()
        return values

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.target)

    def media(self, digests: list[str], *, thumbnails: bool = False) -> dict[str, bytes]:
        return read_media(self.target, digests, thumbnails=thumbnails)


@pytest.fixture
def table(tmp_path: Path) -> TableOnDisk:
    return TableOnDisk(tmp_path)


@pytest.fixture
def on_disk() -> Callable[[Path], TableOnDisk]:
    """The table of a run folder."""
    return TableOnDisk
