"""The stored form of a table, version 1: what a column may hold, and the manifest that names the files.

Among a run's artifacts a table `val` is

- `predictions/val/manifest.json`: a `Manifest`;
- `predictions/val/data/part-00001.parquet` and so on: the rows, in the order in which they were logged;
- `predictions/val/media/pack-00001.parquet` and so on: each image once, by its content: see `MEDIA_COLUMNS`.

A run that went on from another run folder (on another machine, or where the first was deleted), and the other machines
of a training, add a piece each: `manifest-<piece>.json`, `part-<piece>-00001.parquet`, `pack-<piece>-00001.parquet`,
where `<piece>` is 8 hex digits. The table is all pieces together, in the order of their `begun_at`.

Every Parquet file can be read alone, with pandas, polars or DuckDB. A column that has been released is never given
another meaning.
"""

from __future__ import annotations

from typing import Literal

import msgspec

VERSION = 1

Kind = Literal["id", "image", "text", "class", "probabilities", "number", "json"]
"""What a column holds, and its Arrow type:

- `id`: the example's name, the same in every run that has seen the example; string.
- `image`: the digest of an image; string, null where the image was left out. It may be in no pack, where several
  writers together have kept more images than the table holds.
- `text`: string.
- `class`: one of a set; string or int64.
- `probabilities`: one number a class, in the order of `Column.classes`; list<float32>.
- `number`: float64 or int64; a truth value is 0 or 1.
- `json`: anything else, as JSON; string.
"""

# Columns with a meaning; all but the first may be missing.
ID = "id"
IMAGE = "image"
TEXT = "text"
LABEL = "label"
PREDICTION = "prediction"
PROBABILITIES = "probabilities"
LOSS = "loss"
EPOCH = "epoch"
STEP = "step"

# Of a pack. `digest`: BLAKE2b of shape, type and pixels, 32 hex digits. `image` and `thumbnail` are whole files of
# `format` ("png" or "webp"); the thumbnail has no side above 64 pixels.
MEDIA_COLUMNS = ("digest", "format", "width", "height", "image", "thumbnail")


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column.

    Attributes:
        name: As it was logged.
        kind: What it holds.
        classes: The names of the classes 0, 1, ... of a `class` column of numbers or of `probabilities`; empty where
            nobody has said them.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file of the table.

    Attributes:
        path: Below the manifest's folder.
        rows: How many rows or images it has.
        size_bytes: Its size.
        last_epoch: The greatest in its rows; None where they have no numbers.
        attempts: Which attempt at the run's training said its rows, with their number; empty where it was the first.
    """

    path: str
    rows: int
    size_bytes: int
    last_epoch: float | None = None
    attempts: tuple[tuple[int, int], ...] = ()


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """`manifest.json`.

    Attributes:
        table: Its name.
        columns: In the order in which they were first logged.
        rows: In all files of `data`.
        data: The rows' files, in order.
        media: The packs.
        policy: Which rows were kept, in words: such as "all", "first 1000", "worst 500 by loss an epoch".
        left_out: How many rows, or images, were left out, by cause.
        begun_at: When the table was made, in seconds since the epoch; it orders the pieces of a table.
        is_other_host: It is the piece of another machine of the training: its attempts have the run's own numbers.
        version: Of this format.
    """

    table: str
    columns: tuple[Column, ...]
    rows: int
    data: tuple[File, ...]
    media: tuple[File, ...] = ()
    policy: str = "all"
    left_out: dict[str, int] = {}
    begun_at: float = 0.0
    is_other_host: bool = False
    version: int = VERSION

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((one for one in self.columns if one.name == name), None)
