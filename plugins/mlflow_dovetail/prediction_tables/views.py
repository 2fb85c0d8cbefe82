"""What people look at: the table's page, and the list that MLflow's own artifact viewer shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from mlflow_dovetail import names
from mlflow_dovetail.prediction_tables import schema
from mlflow_dovetail.prediction_tables.page import render_page
from mlflow_dovetail.prediction_tables.page.choice import choose
from mlflow_dovetail.prediction_tables.page.outcomes import read_outcomes
from mlflow_dovetail.prediction_tables.reading import read_media, read_table
from mlflow_dovetail.prediction_tables.schema import Manifest
from mlflow_dovetail.run_folder import write_whole

PAGE = "index.html"
# MLflow's viewer draws every row, and asks the server for each image.
LISTED_ROWS = 100
_LONGEST_CELL = 500


def write_views(folder: Path, manifest: Manifest, run: Mapping[str, str]) -> None:
    """Write them beside the manifest.

    Args:
        folder: Of the table, compacted.
        manifest: Its own.
        run: What the page says of the run: name -> value.

    Raises:
        OSError: There is no room.
        DovetailError: A file of the table is missing or damaged.
    """
    table = read_table(folder)
    page = render_page(table, manifest, lambda digests: read_media(folder, digests), title=manifest.table, run=run)
    write_whole(folder / PAGE, page)
    rows, _ = worst_first(table, manifest, LISTED_ROWS)
    images = _write_images(folder, rows, manifest)
    write_whole(folder / names.PREDICTIONS_LIST, msgspec.json.encode(_as_mlflow_lists(folder, rows, manifest, images)))


def worst_first(table: pa.Table, manifest: Manifest, most: int) -> tuple[pa.Table, str]:
    """The rows of the last epoch that are worth a look, at most so many, and their order in words."""
    outcomes = read_outcomes(table, manifest)
    choice = choose(outcomes)
    last = set(outcomes.rows_of_last_epoch().tolist())
    return table.take([row for row in choice.rows.tolist() if row in last][:most]), choice.order


def _write_images(folder: Path, rows: pa.Table, manifest: Manifest) -> dict[str, str]:
    """The thumbnails of these rows as files, which is how MLflow's viewer takes them; their names by digest."""
    digests = {
        digest
        for column in manifest.columns
        if column.kind == "image"
        for digest in rows[column.name].to_pylist()
        if digest
    }
    files: dict[str, str] = {}
    for digest, image in sorted(read_media(folder, digests).items()):
        files[digest] = f"thumbnails/{digest}.{'webp' if image[:4] == b'RIFF' else 'png'}"
        target = folder / files[digest]
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            write_whole(target, image)
    return files


def _as_mlflow_lists(folder: Path, rows: pa.Table, manifest: Manifest, images: Mapping[str, str]) -> dict[str, Any]:
    """As `mlflow.log_table` writes it; images are named by their path among the run's artifacts."""
    root = f"{names.ARTIFACT_PREDICTIONS}/{folder.name}"

    def cell(column: schema.Column, value: Any) -> Any:  # noqa: ANN401 - what a column holds
        if column.kind == "image":
            path = images.get(value)
            return path and {"type": "image", "filepath": f"{root}/{path}", "compressed_filepath": f"{root}/{path}"}
        if column.kind == "probabilities":
            return value and ", ".join(f"{one:.3f}" for one in value)
        if column.kind == "class" and column.classes and isinstance(value, int) and 0 <= value < len(column.classes):
            return column.classes[value]
        if isinstance(value, str) and len(value) > _LONGEST_CELL:
            return f"{value[:_LONGEST_CELL]}…"
        return value

    # Images first, then what the model said of them: the viewer has room for a few columns.
    order = (schema.IMAGE, schema.TEXT, schema.LABEL, schema.PREDICTION, schema.LOSS)
    ranked = sorted(manifest.columns, key=lambda one: order.index(one.name) if one.name in order else len(order))
    columns = [one for one in ranked if one.name in rows.column_names]
    lists = [[cell(column, value) for value in rows[column.name].to_pylist()] for column in columns]
    return {"columns": [one.name for one in columns], "data": [list(row) for row in zip(*lists, strict=True)]}
