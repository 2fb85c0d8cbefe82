"""Names by content: the same as without a memory, for a fraction of the looks."""

from __future__ import annotations

import hashlib

import pytest
import torch

from mlflow_dovetail.prediction_tables import images_named
from mlflow_dovetail.prediction_tables.images_named import NamedBatches

LOOKS: list[int] = []


def by_content(images: torch.Tensor) -> list[str]:
    LOOKS.append(len(images))
    return [hashlib.blake2b(one.numpy().tobytes()).hexdigest() for one in images]


@pytest.fixture
def named() -> NamedBatches:
    LOOKS.clear()
    return NamedBatches(by_content)


@pytest.mark.parametrize("shape", [(5, 3, 224, 224), (5, 28, 28), (0, 3, 8, 8)], ids=str)
def test_a_batch_that_comes_again_at_its_place_is_looked_at_once(named, shape):
    batches = [torch.rand(shape) for _ in range(3)]
    for _ in range(4):
        for place, batch in enumerate(batches):
            assert named.look(place, batch).names == by_content(batch)
    assert len(LOOKS) == 3 + 12


def test_another_order_split_or_picture_has_its_own_names(named):
    images = torch.rand(6, 3, 224, 224)
    changed = images.clone()
    changed[4, :, 100:107, 50:57] = 0
    for batch in (images, images.flip(0), images[:4], changed, images):
        assert named.look("val", batch).names == by_content(batch)
    assert len(LOOKS) == 10


def test_images_that_differ_in_a_pixel_have_their_own_names(named):
    images = torch.zeros(2, 512, 512)
    images[1, 101, 205] = 1
    for batch in (images, images.flip(0)):
        assert named.look("val", batch).names == by_content(batch)


def test_what_is_remembered_is_bounded(named, monkeypatch):
    monkeypatch.setattr(images_named, "MOST_EXAMPLES", 10)
    named = NamedBatches(by_content)
    batches = [torch.rand(4, 8, 8) for _ in range(4)]
    for _ in range(2):
        for place, batch in enumerate(batches):
            named.look(place, batch)
    assert len(LOOKS) == 2 + 4  # two batches are known, two are looked at again
