"""The page as bytes: the template with its values, and a policy that lets nothing in or out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlflow_dovetail.prediction_tables.page import cells, wording
from mlflow_dovetail.prediction_tables.page.choice import Choice
from mlflow_dovetail.prediction_tables.page.columns import Shown
from mlflow_dovetail.prediction_tables.page.figures import LISTED_CLASSES, Scores, head_figures, score_classes
from mlflow_dovetail.prediction_tables.page.images import Thumbnails, embed
from mlflow_dovetail.prediction_tables.page.matrix import lay_out
from mlflow_dovetail.prediction_tables.page.outcomes import read_outcomes
from mlflow_dovetail.prediction_tables.page.payload import Payload, encode, fit_payload
from mlflow_dovetail.prediction_tables.page.scatter import SIDE, draw_scatter
from mlflow_dovetail.prediction_tables.schema import Manifest

if TYPE_CHECKING:
    import jinja2

LIMIT_BYTES = 25_000_000
STATIC_ROWS = 100
# Of a row of these, shared among its columns.
_STATIC_CHARACTERS = 3000

# What the page takes at most beside its rows' JSON and its images, with every name as long as it may be.
_REST_BYTES = 5_000_000

_PIECE = (
    "The table has rows in other run folders too, which are not counted here; `load_predictions` reads all of them."
)

_ASSETS = Path(__file__).parent / "assets"
# In the order in which they build on one another; one script.
_SCRIPTS = ("data", "selection", "listing", "filters", "example", "overview", "main")


def render_page(
    table: pa.Table,
    manifest: Manifest,
    thumbnails: Thumbnails,
    *,
    title: str,
    run: Mapping[str, str],
    is_piece: bool = False,
    unread: int = 0,
) -> bytes:
    """Render one table as a page that needs neither a network nor a server; the same input gives the same bytes.

    Args:
        table: All rows in the order in which they were logged, or those of the last epoch; columns that the manifest
            does not name are ignored.
        manifest: Of the table.
        thumbnails: Called once at most, with at most 5,000 digests for each column of images.
        title: The heading.
        run: What is said of the run: name -> value; nothing where the value is empty.
        is_piece: The table has rows elsewhere too.
        unread: How many rows more it has here, where only the last epoch's were given.

    Returns:
        UTF-8; `LIMIT_BYTES` at most. Of a table of more than 5,000 rows the page holds some, and says by which rule;
        its figures are over all rows of the last epoch.
    """
    outcomes = read_outcomes(table, manifest)
    scores = score_classes(outcomes)
    listed = _listed(scores)
    payload = fit_payload(table, manifest, outcomes, listed, unread)
    room = LIMIT_BYTES - _REST_BYTES - len(encode(payload, [], None).encode())
    images, missing, no_room = embed(payload.digests, thumbnails, room_bytes=room)
    rows, static = _static_rows(payload, images)
    page = _template().render(
        css=_asset("page.css"),
        script=_script(),
        policy=_policy(),
        title=cells.shorten(title),
        run={cells.shorten(name): cells.shorten(value) for name, value in run.items() if value},
        figures=head_figures(outcomes),
        notes=[*_rule(payload.choice, is_piece=is_piece), *payload.notes, *_notes(table, manifest, missing, no_room)],
        scores=scores,
        classes=payload.classes,
        code_of={old: new for new, old in enumerate(payload.classes)},
        listed=[one for one in scores.classes if one.code in listed] if scores else [],
        matrix=lay_out(scores.confusion, payload.classes) if scores else None,
        scatter=draw_scatter(outcomes, payload.choice.rows),
        side=SIDE,
        columns=payload.columns,
        rows=rows,
        data=encode(payload, [None if i in static else image for i, image in enumerate(images)], outcomes.last_epoch()),
        words=wording,
    )
    return page.encode()


def _listed(scores: Scores | None) -> set[int]:
    if scores is None:
        return set()
    largest = sorted(scores.classes, key=lambda one: -one.support)[:LISTED_CLASSES]
    return {*(one.code for one in largest), *scores.confusion.codes}


def _static_rows(payload: Payload, images: list[str | None]) -> tuple[list[list[dict[str, Any]]], set[int]]:
    """The first rows as they stand in the page without its script, and which images they bring with them."""
    place = {digest: i for i, digest in enumerate(payload.digests)}
    names = list(payload.classes.values())
    characters = max(cells.NAME_CHARACTERS, _STATIC_CHARACTERS // max(len(payload.columns), 1))
    static: set[int] = set()

    def cell(column: Shown, row: int) -> dict[str, Any]:
        value = column.values[row]
        if column.kind != "image":
            return {"kind": column.kind, "text": cells.text(column.kind, value, column.classes or names, characters)}
        image = None if value is None else place[value]
        if image is None or images[image] is None:
            return {"kind": "image", "text": ""}
        if image in static:  # the page has each image once
            return {"kind": "image", "text": "as above"}
        static.add(image)
        return {"kind": "image", "image": image, "source": images[image]}

    count = min(STATIC_ROWS, len(payload.choice.rows))
    return [[cell(column, row) for column in payload.columns] for row in range(count)], static


def _rule(choice: Choice, *, is_piece: bool) -> list[str]:
    return [choice.rule.replace("of the table", "of this run folder"), _PIECE] if is_piece else [choice.rule]


def _notes(table: pa.Table, manifest: Manifest, missing: int, no_room: int) -> list[str]:
    notes = []
    if manifest.policy != "all":
        notes.append(f"Rows were kept by this rule while logging: {cells.shorten(manifest.policy)}.")
    left_out = ", ".join(f"{wording.count(n)} ({cells.shorten(cause)})" for cause, n in manifest.left_out.items() if n)
    if left_out:
        notes.append(f"Left out while logging: {left_out}.")
    if manifest.rows != table.num_rows:
        notes.append(f"The table says it has {wording.count(manifest.rows, 'row')}; {table.num_rows:,} were found.")
    if missing:
        notes.append(f"{wording.count(missing, 'image')} could not be found.")
    if no_room:
        notes.append(
            f"{wording.count(no_room, 'image')} found no room in a page of {LIMIT_BYTES / 1e6:.0f} MB: "
            "the later rows have none."
        )
    return notes


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    return "".join(_asset(f"{name}.js") for name in _SCRIPTS)


@cache
def _policy() -> str:
    """A Content-Security-Policy under which only this style and this script work, and only images of the page."""
    style, script = (_digest(text) for text in (_asset("page.css"), _script()))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _template() -> jinja2.Template:
    import jinja2  # MLflow's Flask brings it; only the recorder renders

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html")
