"""Reading what was downloaded: whole, in part, and with a clear word where something is wrong."""

from __future__ import annotations

import json
import shutil

import msgspec
import numpy as np
import pandas as pd
import pytest

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables import compaction, parquet_files, settling
from mlflow_dovetail.prediction_tables.columns import Number
from mlflow_dovetail.prediction_tables.reading import files_of_last_epoch, read_last_epoch, read_media, read_table
from mlflow_dovetail.prediction_tables.reading_manifests import read_manifest
from mlflow_dovetail.prediction_tables.schema import File
from mlflow_dovetail.prediction_tables.views import write_views


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


def _say(writer, epoch, ids, loss):
    writer.append({"id": ids, "epoch": epoch, "loss": [loss] * len(ids)})


def _told(table):
    return [tuple(row.values()) for row in table.read(["epoch", "id", "loss"]).to_pylist()]


@pytest.mark.parametrize("compactions", [1, 2])
def test_what_a_resumed_run_says_again_counts_and_what_it_does_not_say_again_stays(table, compactions):
    first = table.writer(writer="1")
    _say(first, 0, ["a", "b"], 1.0)
    _say(first, 1, ["a", "b"], 2.0)
    first.close()
    if compactions == 2:
        table.compact()
    second = table.writer(writer="3", attempt=3)
    _say(second, 1, ["b", "c"], 3.0)
    _say(second, 2, ["a"], 4.0)
    manifest = table.compact()
    assert manifest.rows == 7
    assert [one.attempts for one in manifest.data] == [(), ((3, 3),)]
    assert _told(table) == [(0, "a", 1.0), (0, "b", 1.0), (1, "a", 2.0), (1, "b", 3.0), (1, "c", 3.0), (2, "a", 4.0)]
    assert table.read(["loss"])["loss"].to_pylist() == [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]


def test_within_an_attempt_an_example_is_said_as_often_as_it_was_logged(table):
    for rank in range(2):
        writer = table.writer(writer=str(rank), attempt=2)
        for step in range(2):
            writer.append({"id": ["a"], "epoch": 0, "step": step})
    table.compact()
    assert table.read().num_rows == 4


def test_rows_without_an_id_all_stand(table):
    for attempt in (1, 2):
        table.writer(attempt=attempt).append({"id": [None, None, "a"], "epoch": 0})
    table.compact()
    assert table.column("id") == [None, None, None, None, "a"]


def test_an_attempt_of_a_table_without_epochs_says_all_anew(table):
    table.writer(attempt=1).append({"id": ["a", "b"], "n": [1, 2]})
    table.writer(attempt=2).append({"id": ["a"], "n": [3]})
    table.compact()
    assert table.read().to_pydict() == {"id": ["b", "a"], "n": [2, 3]}


def _in_pieces(table, on_disk, tmp_path, more=None):
    """A run that began here, and went on from a new folder; both have uploaded to the same place."""
    elsewhere = on_disk(tmp_path / "another machine")
    for one, is_piece in ((table, False), (elsewhere, True)):
        writer = one.writer(is_piece=is_piece, most_images=1)
        for epoch in (1, 2) if is_piece else (0, 1):
            images = np.stack([np.full((8, 8), epoch, np.uint8), np.full((8, 8), 99, np.uint8)])
            rows = {"id": ["a", "b"], "image": images, "loss": float(is_piece), "epoch": epoch}
            writer.append(rows | ((more or {}) if is_piece else {}))
        one.compact()
    shutil.copytree(elsewhere.target, table.target, dirs_exist_ok=True)
    return table


def test_a_run_that_goes_on_from_another_folder_overwrites_nothing(table, on_disk, tmp_path):
    manifest = _in_pieces(table, on_disk, tmp_path).manifest
    assert _told(table) == [(0, "a", 0.0), (0, "b", 0.0), (1, "a", 1.0), (1, "b", 1.0), (2, "a", 1.0), (2, "b", 1.0)]
    assert (manifest.rows, len(manifest.data), len(manifest.media)) == (8, 2, 2)
    assert manifest.left_out == {"images beyond the table's limit": 4}
    digests = [digest for digest in table.column("image") if digest]
    assert len(digests) == 2 and len(table.media(digests)) == 2


def test_the_piece_of_another_machine_is_no_later_attempt(table, on_disk, tmp_path):
    """Two machines to epoch 9; the first goes on from epoch 4 alone, to epoch 7, and then a third piece to epoch 6."""
    second, third = on_disk(tmp_path / "second"), on_disk(tmp_path / "third")
    said = [
        (table, {"attempt": 1}, range(10), "a", 1.0),
        (second, {"writer": "rank-0001", "is_piece": True}, range(10), "b", 1.0),
        (table, {"attempt": 2}, range(4, 8), "a", 2.0),
        (third, {"is_piece": True}, range(5, 7), "a", 3.0),
    ]
    lasts = []
    for one, options, epochs, name, loss in said:
        writer = one.writer(**options)
        for epoch in epochs:
            _say(writer, epoch, [name], loss)
        one.compact(is_other_host=one is second)
        if one is not table:
            shutil.copytree(one.target, table.target, dirs_exist_ok=True)
        lasts.append(
            [tuple(row.values()) for row in read_last_epoch(table.target, ["epoch", "id", "loss"]).to_pylist()]
        )
    assert lasts == [
        [(9, "a", 1.0)],
        [(9, "a", 1.0), (9, "b", 1.0)],
        [(7, "a", 2.0), (7, "b", 1.0)],
        [(6, "b", 1.0), (6, "a", 3.0)],
    ]
    assert [row for row in _told(table) if row[0] == 5] == [(5, "b", 1.0), (5, "a", 3.0)]


def test_pieces_with_other_columns_go_below_each_other(table, on_disk, tmp_path):
    _in_pieces(table, on_disk, tmp_path, {"margin": [0.5, 0.25]})
    assert table.column("margin") == [None, None, 0.5, 0.25, 0.5, 0.25]


def test_pieces_that_cannot_be_one_table_say_so(table, on_disk, tmp_path):
    _in_pieces(table, on_disk, tmp_path, {"epoch": ["first", "second"]})
    with pytest.raises(DovetailError, match=r"went on with other columns.*one by one"):
        table.read()


EPOCHS = [
    ("whole", [0, 1, 2, 2, 1], [2, 3]),
    ("halves", [0.5, 1.5, 1.5, 0.5, 0.5], [1, 2]),
    ("with gaps", [0.0, None, 3.0, float("nan"), 3.0], [2, 4]),
    ("infinite", [0.0, 1.0, float("inf"), float("inf"), 1.0], [1, 4]),
    ("none", [None] * 5, [0, 1, 2, 3, 4]),
    ("texts", list("abcde"), [0, 1, 2, 3, 4]),
]


@pytest.mark.parametrize(("epochs", "rows"), [one[1:] for one in EPOCHS], ids=[one[0] for one in EPOCHS])
def test_the_last_epoch_is_read_alone(table, monkeypatch, epochs, rows):
    monkeypatch.setattr(compaction, "_GROUP_ROWS", 2)
    table.writer().append({"n": range(5), "epoch": epochs})
    table.compact()
    assert read_last_epoch(table.target, ["n"]).to_pydict() == {"n": rows}
    assert read_last_epoch(table.target).select(["n"]).to_pydict() == {"n": rows}


def test_of_many_epochs_only_the_last_ones_files_and_groups_are_read(table, monkeypatch):
    for module, name, rows in ((compaction, "SHARD_ROWS", 400), (settling, "_TOGETHER_ROWS", 400)):
        monkeypatch.setattr(module, name, rows)
    monkeypatch.setattr(compaction, "_GROUP_ROWS", 50)
    writer = table.writer()
    for epoch in range(40):
        _say(writer, epoch, [str(number) for number in range(100)], float(epoch))
    manifest = table.compact()
    assert len(manifest.data) == 10
    (last,) = files_of_last_epoch(manifest)
    for file in set(manifest.data) - {last}:
        (table.target / file.path).unlink()
    read = []
    original = parquet_files.pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        parquet_files.pq.ParquetFile,
        "read_row_group",
        lambda self, group, **options: read.append(group) or original(self, group, **options),
    )
    assert read_last_epoch(table.target)["loss"].to_pylist() == [39.0] * 100
    assert len(read) == 2


def test_the_last_epoch_of_a_resumed_run_is_what_the_later_attempt_said(table):
    _say(table.writer(), 5, ["a", "b"], 1.0)
    _say(table.writer(attempt=2), 5, ["b"], 2.0)
    table.compact()
    assert read_last_epoch(table.target, ["id", "loss"]).to_pydict() == {"id": ["a", "b"], "loss": [1.0, 2.0]}


def test_the_last_attempts_last_epoch_is_the_last_though_one_left_behind_came_further(table):
    for attempt, epochs in ((1, range(10)), (2, range(4, 7))):
        writer = table.writer(writer=str(attempt), attempt=attempt)
        for epoch in epochs:
            _say(writer, epoch, ["a", "b"] if attempt == 2 else ["a", "b", "c"], float(attempt))
    manifest = table.compact()
    rows = read_last_epoch(table.target, ["epoch", "id", "loss"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(6, "c", 1.0), (6, "a", 2.0), (6, "b", 2.0)]
    assert [row for row in _told(table) if row[0] > 6] == [(e, i, 1.0) for e in (7, 8, 9) for i in "abc"]
    write_views(table.target, manifest, {})
    listed = json.loads((table.target / "table.json").read_bytes())
    assert {row[listed["columns"].index("epoch")] for row in listed["data"]} == {6}


RESUMED = [
    ("within an epoch", {"epoch": 3}, [100, 200], [300, 400], [100, 200, 300, 400]),
    ("within an epoch, one validation again", {"epoch": 3}, [100, 200, 300], [300, 400], [100, 200, 300, 400]),
    ("without epochs", {}, [100, 200], [300, 400], [100, 200, 300, 400]),
    ("without epochs, from further back", {}, [100, 200, 300], [150, 250], [100, 150, 250]),
    ("without steps", {"epoch": 3}, [None, None], [None], [None]),
    ("steps as text", {"epoch": 3}, ["one", "two"], ["three"], ["three"]),
]


@pytest.mark.parametrize(("more", "first", "second", "stay"), [one[1:] for one in RESUMED], ids=[r[0] for r in RESUMED])
def test_what_was_said_at_earlier_steps_is_not_said_again(table, more, first, second, stay):
    for attempt, steps in ((1, first), (2, second)):
        said = {"step": Number} if None in first else None
        writer = table.writer(writer=str(attempt), attempt=attempt, columns=said)
        for step in steps:
            writer.append({"id": ["a", "b"], "step": [step] * 2, **more})
    table.compact()
    assert table.column("step") == [step for step in stay for _ in range(2)]
    assert read_last_epoch(table.target, ["step"]).num_rows == 2 * len(stay)


def test_the_last_epoch_of_an_empty_table_has_its_columns(table):
    table.writer(columns={"n": Number}).append({"n": []})
    table.compact()
    assert read_last_epoch(table.target).column_names == ["n"]
