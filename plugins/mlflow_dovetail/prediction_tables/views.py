"""What people look at: the table's page, and the list that MLflow's own artifact viewer shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_dovetail.prediction_tables import schema
from mlflow_dovetail.prediction_tables.mlflow_table import write_mlflow_table
from mlflow_dovetail.prediction_tables.page import render_page
from mlflow_dovetail.prediction_tables.page.cells import text
from mlflow_dovetail.prediction_tables.page.choice import ROWS, choose
from mlflow_dovetail.prediction_tables.page.columns import reading_order, show_columns, use_classes
from mlflow_dovetail.prediction_tables.page.outcomes import read_outcomes
from mlflow_dovetail.prediction_tables.pictures import read_pictures
from mlflow_dovetail.prediction_tables.reading import read_last_epoch, read_media, read_table
from mlflow_dovetail.prediction_tables.schema import Manifest
from mlflow_dovetail.run_folder import write_whole

PAGE = "index.html"
BEYOND = "rows of later epochs, which an earlier attempt had come to"
# The page's first images, of what is most worth a look, are larger than thumbnails: 10 kB each or so.
LARGE_IMAGES = 100
_LONGEST_TEXT = 40
_NOT_IN_A_TERMINAL = ("image", "probabilities", "json")


def write_views(folder: Path, manifest: Manifest, run: Mapping[str, str], *, is_piece: bool = False) -> None:
    """Write them beside the manifest.

    Args:
        folder: Of the table, compacted.
        manifest: Its own.
        run: What the page says of the run: name -> value.
        is_piece: The run has rows of the table in other run folders too, which are not in the views.

    Raises:
        OSError: There is no room.
        DovetailError: A file of the table is missing or damaged.
    """
    table = read_last_epoch(folder)
    left_out, unread = manifest.left_out, manifest.rows - len(table)
    if manifest.rows <= ROWS:
        every = read_table(folder)
        table = _up_to_last_epoch(every, table)
        left_out = left_out | ({BEYOND: len(every) - len(table)} if len(table) < len(every) else {})
        unread = 0
    # Else the page holds this epoch alone: the others are not read, which would take memory and time for all.
    manifest = msgspec.structs.replace(manifest, rows=len(table), left_out=left_out)

    def images(digests: Sequence[str]) -> Mapping[str, bytes]:
        return read_media(folder, digests) | read_pictures(folder, digests[:LARGE_IMAGES])

    page = render_page(table, manifest, images, title=manifest.table, run=run, is_piece=is_piece, unread=unread)
    write_whole(folder / PAGE, page)
    write_mlflow_table(folder, table, manifest)


def _up_to_last_epoch(table: pa.Table, last: pa.Table) -> pa.Table:
    if schema.EPOCH not in table.column_names or not len(last):
        return table
    is_beyond = pc.greater(table[schema.EPOCH], last[schema.EPOCH][0])
    return table.filter(pc.invert(pc.fill_null(is_beyond, False)))


def worst_first(table: pa.Table, manifest: Manifest, most: int) -> tuple[list[str], list[list[str]], str]:
    """The rows of the last epoch that are worth a look, at most so many, for a terminal.

    Returns:
        Heads and cells in the order and in the words of the table's page, and the order of the rows in words.
    """
    outcomes = read_outcomes(table, manifest)
    choice = choose(outcomes)
    last = set(outcomes.rows_of_last_epoch().tolist())
    chosen = table.take(pa.array([row for row in choice.rows.tolist() if row in last][:most], pa.int64()))
    heads, cells = _in_words(chosen, manifest)
    return heads, cells, choice.order


def _in_words(rows: pa.Table, manifest: Manifest) -> tuple[list[str], list[list[str]]]:
    outcomes = read_outcomes(rows, manifest)
    columns = sorted((one for one in manifest.columns if one.kind not in _NOT_IN_A_TERMINAL), key=reading_order)
    shown = show_columns(rows, columns, outcomes, outcomes.rows_of_last_epoch(), _LONGEST_TEXT)
    names = list(use_classes(shown, outcomes.names, ()).values())
    most = 2 * _LONGEST_TEXT  # what was shortened says of how many characters it is the beginning
    cells = [[text(one.kind, value, one.classes or names, most) for value in one.values] for one in shown]
    return [one.title for one in shown], [list(row) for row in zip(*cells, strict=True)]
