"""Reading what was downloaded: whole, in part, and with a clear word where something is wrong."""

from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pandas as pd
import pytest

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.reading import read_manifest, read_media, read_table
from mlflow_dovetail.prediction_tables.schema import File


@pytest.fixture
def stored(table):
    writer = table.writer()
    for epoch in range(3):
        images = np.full((2, 8, 8), epoch, np.uint8)
        writer.append({"id": ["a", "b"], "image": images, "loss": [0.5, 1.5], "epoch": epoch})
    table.compact()
    return table


def test_columns_are_read_in_the_order_that_was_asked_for(stored):
    assert stored.read(["epoch", "id"]).schema.names == ["epoch", "id"]
    assert stored.read().schema.names == ["id", "image", "loss", "epoch"]
    assert stored.read([]).num_columns == 0


def test_a_moved_folder_is_read_as_well(stored, tmp_path):
    shutil.move(stored.target, tmp_path / "elsewhere")
    assert read_table(tmp_path / "elsewhere").num_rows == 6
    assert len(read_media(tmp_path / "elsewhere", read_table(tmp_path / "elsewhere")["image"].to_pylist())) == 3


def test_pandas_reads_a_shard_alone(stored):
    frame = pd.read_parquet(stored.target / "data" / "part-00001.parquet")
    assert list(frame["epoch"]) == [0, 0, 1, 1, 2, 2]


def test_media_that_are_not_there_are_absent(stored):
    assert stored.media(["f" * 32]) == {}
    assert stored.media([]) == {}


def test_an_unknown_column_is_named(stored):
    with pytest.raises(DovetailError, match=r"columns other.*It has id, image, loss, epoch"):
        stored.read(["other"])


def _change(stored, **fields):
    path = stored.target / "manifest.json"
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **fields}))


def test_a_later_version_says_what_to_do(stored):
    _change(stored, version=2, columns="of another form")
    with pytest.raises(DovetailError, match=r"format 2; this Dovetail knows 1.*pip install --upgrade"):
        stored.read()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"version": "1"}', b'{"table": 1}', b"\xff"])
def test_what_is_no_manifest_says_what_to_name(tmp_path, content):
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DovetailError, match="Name a folder predictions/<table>"):
        read_manifest(tmp_path)


OUTSIDE = ["/etc/passwd", "../secret.parquet", "data/../../secret.parquet", "..\\secret.parquet", "data/\0"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_manifest_cannot_name_a_file_outside_its_folder(stored, path):
    shutil.copy(stored.target / "data" / "part-00001.parquet", stored.target.parent / "secret.parquet")
    _change(stored, data=[msgspec.to_builtins(File(path, 1, 1))], media=[msgspec.to_builtins(File(path, 1, 1))])
    with pytest.raises(DovetailError, match="not below the table's folder"):
        stored.read()
    with pytest.raises(DovetailError, match="not below the table's folder"):
        stored.media(["f" * 32])


@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_file_that_is_missing_or_damaged_is_named(stored, damage):
    digests = stored.column("image")
    for path in (stored.target / "data" / "part-00001.parquet", stored.target / "media" / "pack-00001.parquet"):
        content = path.read_bytes()
        path.unlink()
        if damage != "gone":
            path.write_bytes(content[:-50] if damage == "cut" else b"")
    with pytest.raises(DovetailError, match=r"part-00001.*Download the table's whole folder again"):
        stored.read()
    with pytest.raises(DovetailError, match=r"pack-00001.*Download the table's whole folder again"):
        stored.media(digests)
