"""`table.json`, which MLflow's own artifact viewer shows: few rows, whose images are files of their own."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from PIL import Image

from mlflow_dovetail import names
from mlflow_dovetail.prediction_tables import schema
from mlflow_dovetail.prediction_tables.page.choice import choose
from mlflow_dovetail.prediction_tables.page.outcomes import read_outcomes
from mlflow_dovetail.prediction_tables.pictures import read_pictures
from mlflow_dovetail.prediction_tables.schema import Column, Manifest
from mlflow_dovetail.run_folder import write_whole

# The viewer draws every row, and asks the server for each image.
ROWS = 100
SHARED_ROWS = 50
IMAGES = "thumbnails"

_LONGEST_CELL = 500
# It shows them in a box of about 130 pixels.
_ENLARGED_PIXELS = 128
_FEW_PIXELS = 32
# The viewer groups runs by the first column that is no image, and compares the next.
_FIRST = (schema.ID, schema.PREDICTION, schema.LABEL, schema.TEXT, schema.LOSS)


def write_mlflow_table(folder: Path, table: pa.Table, manifest: Manifest) -> None:
    """Write `table.json` beside the manifest, and its images.

    Args:
        folder: Of the table, as it lies among the run's artifacts.
        table: Its rows; those of earlier epochs are not needed.
        manifest: Its own.

    Raises:
        OSError: There is no room.
        DovetailError: A pack of the table is missing or damaged.
    """
    rows = choose_rows(table, manifest)
    columns = sorted((one for one in manifest.columns if one.name in rows.column_names), key=_rank)
    images = [rows[one.name].to_pylist() for one in columns if one.kind == "image"]
    if images:  # the viewer takes a column for one of images by its first row
        order = sorted(range(rows.num_rows), key=lambda row: sum(one[row] is None for one in images))
        rows = rows.take(np.array(order, np.int64))  # of an empty list Arrow makes no indices
    files = _write_images(folder, sorted({digest for one in images for digest in one if digest is not None}))
    root = f"{names.ARTIFACT_PREDICTIONS}/{folder.name}"
    cells = [[_cell(one, value, files, root) for value in rows[one.name].to_pylist()] for one in columns]
    shown = {"columns": [one.name for one in columns], "data": [list(row) for row in zip(*cells, strict=True)]}
    write_whole(folder / names.PREDICTIONS_LIST, msgspec.json.encode(shown))


def choose_rows(table: pa.Table, manifest: Manifest) -> pa.Table:
    """100 rows of the last epoch at most: 50 examples that are the same in every run, then the worst; of both, the
    worst first.

    The former are those whose ids have the smallest hashes. The viewer takes the rows of several runs in this order,
    and runs are wrong on different examples: without them it would show one run beside empty cells.
    """
    outcomes = read_outcomes(table, manifest)
    last = outcomes.rows_of_last_epoch()
    chosen = choose(outcomes).rows
    worst = chosen[np.isin(chosen, last)].tolist()
    shared = _by_hash(table, last) if manifest.column(schema.ID) else set()
    first = [row for row in worst if row in shared]
    ordered = dict.fromkeys([*first, *sorted(shared - set(first)), *worst])
    return table.take(np.array(list(ordered)[:ROWS], np.int64))


def _by_hash(table: pa.Table, rows: np.ndarray) -> set[int]:
    ids = table[schema.ID].take(rows).to_pylist()
    hashed = [
        (blake2b(one.encode(), digest_size=8).digest(), row)
        for one, row in zip(ids, rows.tolist(), strict=True)
        if one is not None
    ]
    return {row for _, row in sorted(hashed)[:SHARED_ROWS]}


def _rank(column: Column) -> tuple[bool, int]:
    return column.kind != "image", _FIRST.index(column.name) if column.name in _FIRST else len(_FIRST)


def _cell(column: Column, value: Any, files: Mapping[str, str], root: str) -> Any:  # noqa: ANN401 - what a column holds
    """As `mlflow.log_table` writes it; an image is named by its path among the run's artifacts."""
    if column.kind == "image":
        path = f"{root}/{files[value]}" if value in files else None
        return path and {"type": "image", "filepath": path, "compressed_filepath": path}
    if column.kind == "probabilities":
        return value and ", ".join(f"{one:.3f}" for one in value)
    if column.kind == "class" and isinstance(value, int) and 0 <= value < len(column.classes):
        return column.classes[value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return f"{value[:_LONGEST_CELL]}…" if isinstance(value, str) and len(value) > _LONGEST_CELL else value


def _write_images(folder: Path, digests: Sequence[str]) -> dict[str, str]:
    """These images as files, which is how the viewer takes them; their paths in the folder by digest."""
    there = {path.stem: f"{IMAGES}/{path.name}" for path in (folder / IMAGES).glob("*.*")}
    for digest, picture in read_pictures(folder, [one for one in digests if one not in there]).items():
        content = _enlarged(picture)
        there[digest] = f"{IMAGES}/{digest}.{'webp' if content[:4] == b'RIFF' else 'png'}"
        (folder / IMAGES).mkdir(exist_ok=True)
        write_whole(folder / there[digest], content)
    return there


def _enlarged(picture: bytes) -> bytes:
    """Few pixels as squares that can be seen: the viewer leaves an image as small as it is."""
    with Image.open(io.BytesIO(picture)) as image:
        longest = max(image.size)
        if longest > _FEW_PIXELS:
            return picture
        factor = -(-_ENLARGED_PIXELS // longest)
        content = io.BytesIO()
        large = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        large.save(content, "PNG")
        return content.getvalue()
