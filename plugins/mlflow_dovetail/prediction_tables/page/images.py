"""Thumbnails inside the page: each once, as long as there is room."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence

Thumbnails = Callable[[Sequence[str]], Mapping[str, bytes]]
"""From digests to whole image files; what is not known is left out."""

# A page never trusts a name for what bytes are, and takes no SVG, which could hold a script.
_BEGINNINGS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))


def embed(digests: Sequence[str], thumbnails: Thumbnails, *, room_bytes: int) -> tuple[list[str | None], int, int]:
    """Data URIs of images, in order.

    Args:
        room_bytes: For all of them together; the first that does not fit ends it.

    Returns:
        One a digest, None where there is none; how many were not found or are no image; how many found no room.
    """
    known = thumbnails(digests) if digests else {}
    uris: list[str | None] = [_uri(known.get(digest, b"")) for digest in digests]
    missing, used = uris.count(None), 0
    for i, uri in enumerate(uris):
        used += len(uri or "")
        if used > room_bytes:
            left = uris[i:]
            return [*uris[:i], *[None] * len(left)], missing, len(left) - left.count(None)
    return uris, missing, 0


def _uri(image: bytes) -> str | None:
    kind = next((kind for beginning, kind in _BEGINNINGS if image.startswith(beginning)), None)
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}" if kind else None
