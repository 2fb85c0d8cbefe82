"""From raw pixels to packs: whole image files and thumbnails in Parquet, each picture once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, features

from mlflow_dovetail.prediction_tables.media import RawImage, read_image
from mlflow_dovetail.prediction_tables.parquet_files import Place, Series
from mlflow_dovetail.prediction_tables.schema import MEDIA_COLUMNS
from mlflow_dovetail.prediction_tables.streams import MOST_IMAGES, read_records, streams

PACK_BYTES = 32 << 20
THUMBNAIL_PIXELS = 64
_GROUP_BYTES = 1 << 20
_LONGEST_SIDE_OF_WEBP = 16_383
_TYPES = (pa.string(), pa.string(), pa.int32(), pa.int32(), pa.binary(), pa.binary())
SCHEMA = pa.schema(list(zip(MEDIA_COLUMNS, _TYPES, strict=True)))

Row = tuple[str, str, int, int, bytes, bytes]


def encode(raw: RawImage) -> Row:
    """An image as a row of a pack, without loss of a single level.

    Lossless WebP is a quarter of PNG's time at the same size, and its thumbnails a tenth of the size; PNG is for what
    WebP cannot hold (16 bits, sides above 16,383 pixels) and for images that are no larger than their thumbnail.
    """
    image = Image.fromarray(raw.levels)
    is_small = max(image.size) <= THUMBNAIL_PIXELS
    is_deep = raw.levels.dtype != np.uint8
    is_png = is_small or is_deep or max(image.size) > _LONGEST_SIDE_OF_WEBP
    form = "png" if is_png or not features.check("webp") else "webp"
    whole = _file(image, form, lossless=True)
    thumbnail = whole if is_small and not is_deep else _file(_thumbnail(raw.levels), form, lossless=False)
    return raw.digest, form, image.width, image.height, whole, thumbnail


def pack(source: Path, series: Series, *, most: int = MOST_IMAGES, ended: bool) -> int:
    """Put the images of a table that are in no pack yet into new ones, with at most one pack in memory.

    Args:
        source: The table's folder of raw files.
        series: Its packs.
        most: So many images are in all packs together; each writer alone has kept to that already.
        ended: Nobody writes to the raw files any more.

    Returns:
        How many different images of the raw files are left out, because there are more: known when nobody writes to
        them any more.
    """
    place, known = series.place(), _packed(series)
    beyond = set[str]()
    rows: list[Row] = []
    size = 0
    for name, raw, end in _raw_images(source, dict(place.offsets), ended=ended):
        if len(known) >= most:
            if not ended:  # or all that is beyond would be read at each call
                break
            beyond |= {raw.digest} - known if raw else set()
            continue
        place.offsets[name] = end
        if raw is None or raw.digest in known:
            continue
        known.add(raw.digest)
        rows.append(encode(raw))
        size += _size(rows[-1:])
        if size >= PACK_BYTES:
            _write(series, rows, place)
            rows, size = [], 0
    if rows:
        _write(series, rows, place)
    return len(beyond)


def _raw_images(source: Path, offsets: dict[str, int], *, ended: bool) -> Iterator[tuple[str, RawImage | None, int]]:
    """Each record behind these offsets: its file, its image, and where it ends; no image where it is damaged."""
    for stream in streams(source, "media"):
        for path in stream.paths:
            for record in read_records(path, offsets.get(path.name, 0), ended=ended):
                try:
                    yield path.name, read_image(record.content), record.end
                except ValueError:
                    yield path.name, None, record.end


def _packed(series: Series) -> set[str]:
    return {one for path in series.paths() for one in pq.read_table(path, columns=["digest"])["digest"].to_pylist()}


def _write(series: Series, rows: list[Row], place: Place) -> None:
    arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), _TYPES, strict=True)]
    series.write(
        pa.table(arrays, schema=SCHEMA),
        place,
        row_group_size=max(1, min(len(rows), _GROUP_BYTES * len(rows) // max(1, _size(rows)))),
        compression={one.name: "none" if one.type == pa.binary() else "zstd" for one in SCHEMA},
        use_dictionary=["format"],
        write_statistics=["digest"],
    )


def _size(rows: list[Row]) -> int:
    return sum(len(row[4]) + len(row[5]) for row in rows)


def _thumbnail(levels: np.ndarray) -> Image.Image:
    if levels.dtype != np.uint8:  # its greatest level is white: many cameras use 12 bits of the 16
        levels = (levels * (255.0 / max(1, int(levels.max())))).astype(np.uint8)
    image = Image.fromarray(levels)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    return image


def _file(image: Image.Image, form: str, *, lossless: bool) -> bytes:
    content = io.BytesIO()
    if form == "png":
        image.save(content, "PNG", compress_level=3)
    elif lossless:
        image.save(content, "WEBP", lossless=True, exact=True, quality=20, method=0)
    else:
        image.save(content, "WEBP", quality=75, method=2)
    return content.getvalue()
