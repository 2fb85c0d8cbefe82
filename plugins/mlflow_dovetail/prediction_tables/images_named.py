"""Naming examples by the content of their images, which takes a look at every pixel: only where they are new."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from mlflow_dovetail.prediction_tables.images import Images
from mlflow_dovetail.prediction_tables.values import Given, take

# About 25 MB of prints and names.
MOST_EXAMPLES = 200_000


class Named(NamedTuple):
    """The images of a batch: what tells each from all others in this process, and its name everywhere."""

    prints: list[Hashable]
    names: list[str]


class NamedBatches:
    """Remembers the names of batches of images that come again, as those of a validation do in every epoch.

    A batch is known by its place and by every image's print: see `Images.prints`.

    Args:
        name: Of each image of a batch by its content.
    """

    def __init__(self, name: Callable[[Given], list[str]]) -> None:
        self._name = name
        self._named: dict[Hashable, Named] = {}
        self._room = MOST_EXAMPLES

    def look(self, place: Hashable, images: Given) -> Named:
        """The prints and names of a batch.

        Args:
            place: Where it comes again: such as the data loader's name and the number of the batch.
            images: A tensor, (n, height, width) or (n, channels, height, width).
        """
        batch = Images(take(images, is_image_column=True))
        prints = batch.prints(range(len(batch)))
        known = self._named.get(place)
        if known is not None and known.prints == prints:
            return known
        found = Named(prints, self._name(images))
        if known is not None or len(batch) <= self._room:
            self._room += (len(known.prints) if known else 0) - len(batch)
            self._named[place] = found
        return found
