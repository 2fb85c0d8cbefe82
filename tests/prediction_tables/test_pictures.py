"""Images that are enlarged: the first of the page are more than thumbnails."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from mlflow_dovetail.prediction_tables.pictures import read_pictures
from mlflow_dovetail.prediction_tables.views import LARGE_IMAGES, write_views
from prediction_tables.conftest import TableOnDisk


def sizes(page: str) -> list[tuple[int, int]]:
    """Of the images in a page, in order."""
    found = re.findall(r"data:image/\w+;base64,([\w+/=]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(one))).size for one in found]


def test_the_pages_first_images_are_large_and_the_later_ones_thumbnails(table: TableOnDisk):
    count = LARGE_IMAGES + 20
    images = np.random.default_rng(0).integers(0, 256, (count, 100, 80), np.uint8)
    table.writer().append({"id": [f"e{place}" for place in range(count)], "image": images, "loss": np.arange(count)})
    write_views(table.target, table.compact(), {})
    found = sizes((table.target / "index.html").read_text())
    assert found == [(80, 100)] * LARGE_IMAGES + [(51, 64)] * 20


@pytest.mark.parametrize(
    ("shape", "kind", "size"),
    [
        ((8, 8), np.uint8, (8, 8)),
        ((64, 20), np.uint8, (20, 64)),
        ((65, 20, 3), np.uint8, (20, 65)),
        ((300, 900, 4), np.uint8, (256, 85)),
        ((300, 900), np.uint16, (64, 21)),
        ((1, 1), np.uint8, (1, 1)),
    ],
)
def test_sizes(table: TableOnDisk, shape, kind, size):
    table.writer().append({"id": ["a"], "image": [np.random.default_rng(0).integers(0, 256, shape).astype(kind)]})
    table.compact()
    (digest,) = table.column("image")
    found = read_pictures(table.target, [digest, "f" * 32])
    assert found.keys() == {digest}
    with Image.open(io.BytesIO(found[digest])) as image:
        assert image.size == size
