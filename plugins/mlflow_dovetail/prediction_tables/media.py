"""Keeping images in the trainer: each picture once, as raw pixels, named by its digest."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlflow_dovetail.prediction_tables.images import Images, pixels
from mlflow_dovetail.prediction_tables.streams import LONGEST_RECORD, MEDIA
from mlflow_dovetail.prediction_tables.streams_appending import Appender
from mlflow_dovetail.prediction_tables.values import Given

MOST_BYTES = 2 << 30
_FORM = struct.Struct("<16sBBxxII")  # digest, bytes a level, channels, height, width
_WRITE_AT_BYTES = 64 << 20

NO_PIXELS = "images without pixels"
TOO_MANY = "images beyond the table's limit"
TOO_LARGE = "images of more than 64 MiB"


class RawImage(NamedTuple):
    """An image of a media log: `levels` is height × width, or height × width × 3 or 4."""

    digest: str
    levels: np.ndarray


class MediaLog:
    """Appends images that this process has not kept before.

    An example that comes again, in a later epoch, is known by its id and a grid of its pixels, and costs no more than
    that: its picture is looked at again where the grid has changed, so only a smaller change than a thirty-second part
    of both sides goes unseen.

    Args:
        folder: Of the table.
        writer: Which of several writers it is.
        most_images: How many different ones it keeps.
        most_bytes: How much raw pixels it keeps.
        attempt: Which one at the run's training this is.

    Attributes:
        left_out: How many images were left out since it was last emptied, by cause.
    """

    def __init__(self, folder: Path, writer: str, most_images: int, most_bytes: int, attempt: int = 1) -> None:
        self._file = Appender(folder, writer, "media", attempt)
        self._room_images = most_images
        self._room_bytes = most_bytes
        self._seen: set[bytes] = set()
        self._most_known = most_images
        self._known: dict[tuple[str | None, int | None], str] = {}  # id and print -> digest
        self._waiting: list[tuple[bytes, np.ndarray]] = []
        self._waiting_bytes = 0
        self.left_out: Counter[str] = Counter()

    def keep_rows(self, images: Images, rows: Sequence[int], ids: Sequence[str | None] | None) -> list[str | None]:
        """The digests of the images of some rows; None where there is no image or no room for it.

        Args:
            images: Of the whole batch.
            rows: Which of them.
            ids: Of the examples in these rows; None where they have none.
        """
        if ids is None:
            return [self.keep(image) for image in images.take(rows)]
        prints = images.prints(rows)
        examples = list(zip(ids, prints, strict=True))
        found = [self._known.get(example) for example in examples]
        new = [place for place, digest in enumerate(found) if digest is None and prints[place] is not None]
        fresh = images.take([rows[place] for place in new]) if self._room_images else [None] * len(new)
        for place, image in zip(new, fresh, strict=True):
            if not self._room_images:  # no look at what would only be left out
                self.left_out[TOO_MANY] += 1
                continue
            found[place] = self.keep(image)
            if (digest := found[place]) and ids[place] is not None and len(self._known) < self._most_known:
                self._known[examples[place]] = digest
        return found

    def keep(self, image: Given) -> str | None:
        """The digest of an image that is kept, in hex; None where there is no image or no room for it."""
        levels = pixels(image)
        if levels is None:
            if image is not None:
                self.left_out[NO_PIXELS] += 1
            return None
        form = (levels.itemsize, levels.shape[2] if levels.ndim == 3 else 1, *levels.shape[:2])
        digest = blake2b(repr(form).encode(), digest_size=16)
        digest.update(levels.data)
        key = digest.digest()
        if key not in self._seen:
            if cause := self._why_not(levels.nbytes):
                self.left_out[cause] += 1
                return None
            self._add(key, _FORM.pack(key, *form), levels)
        return key.hex()

    def write(self) -> None:
        """Hand what waits to the operating system.

        Raises:
            OSError: It could not be written; it is forgotten, and kept when it is seen again.
        """
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        try:
            self._file.append([(MEDIA, (head, levels.reshape(-1).view(np.uint8).data)) for head, levels in waiting])
        except OSError:
            self._seen.difference_update(head[:16] for head, _ in waiting)
            self._known.clear()
            raise

    def close(self) -> None:
        """Close the file; what is kept later goes to another."""
        self._file.close()

    def _why_not(self, size_bytes: int) -> str:
        if size_bytes > LONGEST_RECORD - _FORM.size:
            return TOO_LARGE
        if not self._room_images or size_bytes > self._room_bytes:
            self._room_images = 0  # a smaller one that would still fit is not waited for
            return TOO_MANY
        return ""

    def _add(self, key: bytes, head: bytes, levels: np.ndarray) -> None:
        self._seen.add(key)
        self._waiting.append((head, levels))
        self._room_images -= 1
        self._room_bytes -= levels.nbytes
        self._waiting_bytes += levels.nbytes
        if self._waiting_bytes > _WRITE_AT_BYTES:
            self.write()


def read_image(content: memoryview) -> RawImage:
    """An image of a record that `MediaLog` wrote.

    Raises:
        ValueError: It is none.
    """
    if len(content) < _FORM.size:
        raise ValueError("the record is too short")
    digest, itemsize, channels, height, width = _FORM.unpack_from(content)
    if (itemsize, channels) not in ((1, 1), (2, 1), (1, 3), (1, 4)):
        raise ValueError("the record is no image")
    levels = np.frombuffer(content[_FORM.size :], np.uint8 if itemsize == 1 else "<u2")
    shape = (height, width) if channels == 1 else (height, width, channels)
    return RawImage(digest.hex(), levels.reshape(shape))
