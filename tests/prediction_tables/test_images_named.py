"""Names by content: the same as without a memory, for a fraction of the looks."""

from __future__ import annotations

import hashlib

import pytest
import torch

from mlflow_dovetail.prediction_tables import images_named
from mlflow_dovetail.prediction_tables.images_named import NamedImages

LOOKS: list[int] = []


def by_content(images: torch.Tensor) -> list[str]:
    LOOKS.append(len(images))
    return [hashlib.blake2b(one.numpy().tobytes()).hexdigest() for one in images]


@pytest.fixture
def named() -> NamedImages:
    LOOKS.clear()
    return NamedImages(by_content)


@pytest.mark.parametrize("shape", [(5, 3, 224, 224), (5, 28, 28), (0, 3, 8, 8)], ids=str)
def test_images_that_come_again_are_looked_at_once(named, shape):
    batches = [torch.rand(shape) for _ in range(3)]
    expected = [by_content(batch) for batch in batches]
    LOOKS.clear()
    assert [named.look(batch).names for _ in range(4) for batch in batches] == expected * 4
    assert sum(LOOKS) == 3 * shape[0]


def test_in_another_order_or_split_only_a_picture_that_changed_is_looked_at(named):
    images = torch.rand(6, 3, 224, 224)
    changed = images.clone()
    changed[4, :, 100:107, 50:57] = 0
    batches = (images, images.flip(0), images[:4], changed, images)
    expected = [by_content(batch) for batch in batches]
    LOOKS.clear()
    assert [named.look(batch).names for batch in batches] == expected
    assert LOOKS == [6, 1]


def test_images_that_differ_in_a_pixel_have_their_own_names(named):
    images = torch.zeros(2, 512, 512)
    images[1, 101, 205] = 1
    for batch in (images, images.flip(0)):
        assert named.look(batch).names == by_content(batch)


def test_what_is_remembered_is_bounded(named, monkeypatch):
    monkeypatch.setattr(images_named, "MOST_EXAMPLES", 10)
    batches = [torch.rand(4, 8, 8) for _ in range(4)]
    for _ in range(2):
        for batch in batches:
            named.look(batch)
    assert LOOKS == [4, 4, 4, 4, 2, 4]  # of the third batch two are known, of the fourth none
