"""Images of a table in a size that can be looked at: between a thumbnail and the whole."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, features

from mlflow_dovetail.prediction_tables.packs import THUMBNAIL_PIXELS
from mlflow_dovetail.prediction_tables.reading import read_media

SIDE_PIXELS = 256
# Whole images may be large: so many are in memory at a time.
_AT_ONCE = 10
_MODES = ("L", "RGB", "RGBA")  # of 8 bits


def read_pictures(folder: Path, digests: Sequence[str]) -> dict[str, bytes]:
    """Images by their digests, as PNG or WebP files with no side above 256 pixels; absent where the table has none.

    Of images of 16 bits, thumbnails.

    Args:
        folder: Of the table.
        digests: As in the rows; a hundred or so.

    Raises:
        DovetailError: It is no table, or a pack of it is missing or damaged.
    """
    found: dict[str, bytes] = {}
    for start in range(0, len(digests), _AT_ONCE):
        batch = digests[start : start + _AT_ONCE]
        thumbnails = read_media(folder, batch)
        wholes = read_media(folder, batch, thumbnails=False)
        found |= {digest: _picture(wholes[digest], thumbnail) for digest, thumbnail in thumbnails.items()}
    return found


def _picture(whole: bytes, thumbnail: bytes) -> bytes:
    with Image.open(io.BytesIO(whole)) as image:
        if max(image.size) <= THUMBNAIL_PIXELS or image.mode not in _MODES:
            return thumbnail
        image.thumbnail((SIDE_PIXELS, SIDE_PIXELS))
        content = io.BytesIO()
        form = "WEBP" if features.check("webp") else "PNG"
        image.save(content, form, quality=75, method=2)
        return content.getvalue()
