"""`table.json` and its images, as MLflow's viewer takes them."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlflow_dovetail.prediction_tables.columns import Image as Kind
from mlflow_dovetail.prediction_tables.columns import Number, Text
from mlflow_dovetail.prediction_tables.mlflow_table import ROWS, SHARED_ROWS, choose_rows, write_mlflow_table
from mlflow_dovetail.prediction_tables.views import worst_first, write_views
from prediction_tables.conftest import TableOnDisk

COUNT = 400


def shown(table: TableOnDisk, **columns: Any) -> list[dict[str, Any]]:
    """The rows of the table's `table.json`."""
    with_rows(table, **columns)
    write_mlflow_table(table.target, table.read(), table.manifest)
    found = json.loads((table.target / "table.json").read_text())
    return [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]


def with_rows(table: TableOnDisk, **columns: Any) -> None:
    table.writer().append(columns)
    table.compact()


def picture(table: TableOnDisk, cell: dict[str, str]) -> Image.Image:
    assert cell["type"] == "image" and cell["filepath"] == cell["compressed_filepath"]
    return Image.open(io.BytesIO((table.root / "captured" / cell["filepath"]).read_bytes()))


def test_runs_that_are_wrong_on_different_examples_show_the_same_ones_first(tmp_path, on_disk):
    ids, chosen = [f"e{number}" for number in range(COUNT)], []
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        order = random.permutation(COUNT)  # each run has an order of its own
        table = on_disk(tmp_path / str(seed))
        wrong = {"label": np.zeros(COUNT, int), "prediction": (random.random(COUNT) < 0.4).astype(int)}
        with_rows(table, id=[ids[place] for place in order], **wrong, loss=random.random(COUNT))
        chosen.append(choose_rows(table.read(), table.manifest).to_pylist())
    first, second = ({row["id"] for row in rows[:SHARED_ROWS]} for rows in chosen)
    assert first == second and len(first) == SHARED_ROWS
    for rows in chosen:
        assert len(rows) == ROWS == len({row["id"] for row in rows})
        mistakes = [row["prediction"] == 1 for row in rows[:SHARED_ROWS]]
        assert mistakes == sorted(mistakes, reverse=True) and any(mistakes) and not all(mistakes)
        assert all(row["prediction"] == 1 for row in rows[SHARED_ROWS:]), "then the worst ones"


def test_only_the_last_epoch_and_each_example_once(table: TableOnDisk):
    rows = shown(table, id=["a", "b", "a", "b", "b"], label=0, prediction=[0, 0, 1, 0, 1], epoch=[0, 0, 1, 1, 1])
    assert sorted((row["id"], row["prediction"]) for row in rows) == [("a", 1), ("b", 1)]


def test_without_ids_the_worst_are_shown(table: TableOnDisk):
    rows = shown(table, label=0, prediction=[0] * 200 + [1] * 7, loss=np.arange(207.0))
    assert len(rows) == ROWS and [row["loss"] for row in rows[:7]] == [206, 205, 204, 203, 202, 201, 200]


def test_columns_stand_as_the_viewer_compares_them(table: TableOnDisk):
    columns = {"extra": [1], "loss": [0.5], "label": [1], "text": ["t"], "id": ["a"], "prediction": [0]}
    (row,) = shown(table, **columns, image=np.zeros((1, 4, 4), np.uint8))
    assert list(row) == ["image", "id", "prediction", "label", "text", "loss", "extra"]


@pytest.mark.parametrize(
    ("shape", "kind", "size"),
    [
        ((8, 8), np.uint8, (128, 128)),
        ((28, 20, 3), np.uint8, (100, 140)),
        ((1, 32), np.uint16, (128, 4)),
        ((1, 1), np.uint8, (128, 128)),
        ((33, 48), np.uint8, (48, 33)),
        ((200, 100, 4), np.uint8, (100, 200)),
        ((300, 900, 3), np.uint8, (256, 85)),
        ((300, 900), np.uint16, (64, 21)),
    ],
)
def test_an_image_has_sides_that_can_be_looked_at(table: TableOnDisk, shape, kind, size):
    levels = np.random.default_rng(0).integers(0, 256, shape).astype(kind)
    (row,) = shown(table, id=["a"], image=[levels])
    with picture(table, row["image"]) as image:
        assert image.size == size
        image.load()


def test_pixels_are_enlarged_as_squares(table: TableOnDisk):
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    (row,) = shown(table, id=["a"], image=[levels])
    with picture(table, row["image"]) as image:
        assert (np.asarray(image) == np.kron(levels, np.ones((16, 16), np.uint8))).all()


def test_an_example_without_an_image_stands_last(table: TableOnDisk):
    """The viewer takes a column for one of images by its first row."""
    images = [None, np.zeros((4, 4), np.uint8), np.zeros((0, 4), np.uint8), np.ones((4, 4), np.uint8)]
    rows = shown(table, id=["a", "b", "c", "d"], label=0, prediction=[1, 0, 1, 0], image=images)
    assert [row["id"] for row in rows] == ["b", "d", "a", "c"]
    assert [row["image"] is None for row in rows] == [False, False, True, True]


def test_what_json_cannot_hold_and_what_is_long(table: TableOnDisk):
    columns = {
        "text": ["x" * 1_000_000, "\0\u202e"],
        "loss": [float("nan"), 1 / 3],
        "probabilities": [[0.25, 0.75]] * 2,
    }
    first, second = sorted(shown(table, id=["a", "b"], **columns), key=lambda row: row["id"])
    assert first["loss"] is None and second["loss"] == 0.333333
    assert len(first["text"]) == 501 and second["text"] == "\0\u202e" and second["probabilities"] == "0.250, 0.750"
    assert (table.target / "table.json").stat().st_size < 10_000


def test_views_made_again_write_no_image_twice(table: TableOnDisk):
    shown(table, id=["a"], image=np.zeros((1, 4, 4), np.uint8), epoch=0)
    (image,) = (table.target / "thumbnails").iterdir()
    before = image.stat().st_mtime_ns
    write_mlflow_table(table.target, table.read(), table.manifest)
    assert [one.stat().st_mtime_ns for one in (table.target / "thumbnails").iterdir()] == [before]


@pytest.mark.parametrize("name", [None, "n", "id", "image"])
def test_a_table_without_rows(table: TableOnDisk, name):
    columns = {"n": Number, "id": Text, "image": Kind}
    writer = table.writer(columns={name: columns[name]} if name else {})
    writer.append({name: []} if name else {})
    writer.close()
    write_views(table.target, table.compact(), {})
    listed = {"columns": [name] if name else [], "data": []}
    assert json.loads((table.target / "table.json").read_text()) == listed
    assert worst_first(table.read(), table.manifest, 10)[1] == []
