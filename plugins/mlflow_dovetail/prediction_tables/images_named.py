"""Naming examples by the content of their images, which takes long: only where they are new."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import islice
from typing import NamedTuple

from mlflow_dovetail.prediction_tables.images import Images
from mlflow_dovetail.prediction_tables.values import Given, take

# About 40 MB of prints and names.
MOST_EXAMPLES = 200_000


class Named(NamedTuple):
    """The images of a batch: what tells each from all others in this process, and its name everywhere."""

    prints: list[Hashable]
    names: list[str]


class NamedImages:
    """Remembers the names of images that come again, as those of a validation do in every epoch, in whatever order.

    An image is known by its print, which is of every pixel: see `Images.prints`.

    Args:
        name: Of each image of a batch by its content.
    """

    def __init__(self, name: Callable[[Given], list[str]]) -> None:
        self._name = name
        self._names: dict[Hashable, str] = {}

    def look(self, images: Given) -> Named:
        """The prints and names of a batch.

        Args:
            images: A tensor, (n, height, width) or (n, channels, height, width).
        """
        batch = Images(take(images, is_image_column=True))
        prints = batch.prints(range(len(batch)))
        new = [row for row, one in enumerate(prints) if one not in self._names]
        found: dict[Hashable, str] = {}
        if new:
            fresh = self._name(images if len(new) == len(prints) else images[new])
            found = dict(zip((prints[row] for row in new), fresh, strict=True))
            self._names.update(islice(found.items(), MOST_EXAMPLES - len(self._names)))
        return Named(prints, [found.get(one) or self._names[one] for one in prints])
