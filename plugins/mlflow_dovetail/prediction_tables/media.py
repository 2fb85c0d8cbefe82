"""Keeping images in the trainer: each picture once, as raw pixels, named by its digest."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlflow_dovetail.prediction_tables.images import UNREADABLE, Images, pixels
from mlflow_dovetail.prediction_tables.streams import LONGEST_RECORD, MEDIA
from mlflow_dovetail.prediction_tables.streams_appending import Appender
from mlflow_dovetail.prediction_tables.values import Given

MOST_BYTES = 2 << 30
MOST_COUNTED = 200_000
_FORM = struct.Struct("<16sBBxxII")  # digest, bytes a level, channels, height, width
_WRITE_AT_BYTES = 64 << 20

NO_PIXELS = "images without pixels"
TOO_MANY = "images beyond the table's limit"
NOT_READ = "images that cannot be read"
TOO_LARGE = "images of more than 64 MiB"


class RawImage(NamedTuple):
    """An image of a media log: `levels` is height × width, or height × width × 3 or 4."""

    digest: str
    levels: np.ndarray


class MediaLog:
    """Appends images that this process has not kept before.

    A picture that comes again, in a later epoch, is known by a print of all its pixels, for a quarter of what naming
    it takes: see `Images.prints`.

    Args:
        folder: Of the table.
        writer: Which of several writers it is.
        most_images: How many different ones it keeps.
        most_bytes: How much raw pixels it keeps.
        attempt: Which one at the run's training this is.

    Attributes:
        left_out: How many images were left out since it was last emptied, by cause; one that comes again is counted
            once, of the first `MOST_COUNTED` at least.
    """

    def __init__(self, folder: Path, writer: str, most_images: int, most_bytes: int, attempt: int = 1) -> None:
        self._file = Appender(folder, writer, "media", attempt)
        self._room_images = most_images
        self._room_bytes = most_bytes
        self._seen: set[bytes] = set()
        self._most_known = most_images
        self._known: dict[Hashable, str] = {}  # print -> digest
        self._counted: set[Hashable] = set()  # prints of images that were left out
        self._waiting: list[tuple[bytes, np.ndarray]] = []
        self._waiting_bytes = 0
        self.left_out: Counter[str] = Counter()

    def keep_rows(self, images: Images, rows: Sequence[int]) -> list[str | None]:
        """The digests of the images of some rows; None where there is no image or no room for it.

        Args:
            images: Of the whole batch.
            rows: Which of them.
        """
        prints = images.prints(rows)
        found = [self._known.get(one) for one in prints]
        new = [place for place, one in enumerate(prints) if one is not None and found[place] is None]
        readable = [place for place in new if prints[place] != UNREADABLE]
        self.left_out[NOT_READ] += len(new) - len(readable)
        fresh = images.take([rows[place] for place in readable]) if self._room_images else [None] * len(readable)
        for place, image in zip(readable, fresh, strict=True):
            found[place] = self._known.get(prints[place])
            if not found[place] and not self._room_images:  # no look at what would only be left out
                self._leave_out(prints[place], TOO_MANY)
            elif not found[place]:
                found[place] = self._keep(image, prints[place])
        return found

    def write(self) -> None:
        """Hand what waits to the operating system.

        Raises:
            OSError: It could not be written; it is forgotten, and kept when it is seen again.
        """
        try:
            waiting = [(MEDIA, (head, levels.reshape(-1).view(np.uint8).data)) for head, levels in self._waiting]
            self._file.append(waiting)
        except OSError:
            self.forget()
            raise
        self._waiting, self._waiting_bytes = [], 0

    def forget(self) -> None:
        """Take back what waits: its rows are not kept, and its pixels are the caller's, who may change them."""
        self._seen.difference_update(head[:16] for head, _ in self._waiting)
        self._known.clear()
        self._room_images += len(self._waiting)
        self._room_bytes += self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0

    def close(self) -> None:
        """Close the file; what is kept later goes to another."""
        self._file.close()

    def _keep(self, image: Given, print_: Hashable) -> str | None:
        """The digest of an image that is kept, in hex; None where there is no room for it."""
        levels = pixels(image)
        if levels is None:
            self.left_out[NO_PIXELS] += 1
            return None
        form = (levels.itemsize, levels.shape[2] if levels.ndim == 3 else 1, *levels.shape[:2])
        digest = blake2b(repr(form).encode(), digest_size=16)
        digest.update(levels.data)
        key = digest.digest()
        if key not in self._seen:
            if cause := self._why_not(levels.nbytes):
                self._leave_out(print_, cause)
                return None
            self._add(key, _FORM.pack(key, *form), levels)
        if len(self._known) < self._most_known:
            self._known[print_] = key.hex()
        return key.hex()

    def _leave_out(self, print_: Hashable, cause: str) -> None:
        if print_ not in self._counted:
            self.left_out[cause] += 1
            if len(self._counted) < MOST_COUNTED:
                self._counted.add(print_)

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
