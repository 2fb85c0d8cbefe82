"""What the page's script reads: the chosen rows column by column, bounded in size, and what is not among them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlflow_dovetail.prediction_tables.page import wording
from mlflow_dovetail.prediction_tables.page.choice import ROWS, Choice, choose
from mlflow_dovetail.prediction_tables.page.columns import Shown, reading_order, show_columns, use_classes
from mlflow_dovetail.prediction_tables.page.outcomes import Outcomes
from mlflow_dovetail.prediction_tables.schema import Manifest

COLUMNS = 40
LIMIT_BYTES = 8_000_000

# Tried in turn until the rows fit: how many rows, and how many characters of a text.
_STEPS = (*((ROWS, characters) for characters in (4000, 1000, 250, 60)), *((ROWS >> n, 60) for n in range(1, 13)))


@dataclass
class Payload:
    """The rows of the page.

    Args:
        choice: Which ones they are.
        columns: In the order of the page.
        classes: Names that label, prediction and probabilities share, by their code in `Outcomes`, in the page's order.
        digests: Of all images, in the order in which they are met.
        notes: Sentences on what is not there.
    """

    choice: Choice
    columns: list[Shown]
    classes: dict[int, str]
    digests: list[str]
    notes: list[str]


def fit_payload(
    table: pa.Table, manifest: Manifest, outcomes: Outcomes, listed: Collection[int], unread: int
) -> Payload:
    """As much as fits into `LIMIT_BYTES`, images aside.

    Args:
        table: Rows.
        manifest: Of the table.
        outcomes: Of these rows.
        listed: Codes of classes that are named in any case.
        unread: How many rows more the table has.
    """
    before = "earlier epochs and attempts" if any(one.attempts for one in manifest.data) else "earlier epochs"
    for rows, characters in _STEPS:
        choice = choose(outcomes, rows, unread=unread, before=before)
        payload = _build(table, manifest, outcomes, listed, choice, characters)
        if len(encode(payload, [], None).encode()) <= LIMIT_BYTES:
            break
    return payload


def encode(payload: Payload, images: Sequence[str | None], last_epoch: float | None) -> str:
    """JSON that can stand in a script element of HTML; images are named by their place among the digests."""
    place = {digest: i for i, digest in enumerate(payload.digests)}
    document = {
        "size": len(payload.choice.rows),
        "order": payload.choice.order,
        "rows": payload.choice.rows.tolist(),
        "rank": payload.choice.rank.tolist(),
        "lastEpoch": last_epoch,
        "classes": list(payload.classes.values()),
        "columns": [_encoded(column, place) for column in payload.columns],
        "digests": payload.digests,
        "images": images,
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _build(
    table: pa.Table, manifest: Manifest, outcomes: Outcomes, listed: Collection[int], choice: Choice, characters: int
) -> Payload:
    there = sorted((one for one in manifest.columns if one.name in table.column_names), key=reading_order)
    columns = show_columns(table, there[:COLUMNS], outcomes, choice.rows, characters)
    digests = dict.fromkeys(
        digest
        for row in zip(*(one.values for one in columns if one.kind == "image"), strict=True)
        for digest in row
        if digest is not None
    )
    classes = use_classes(columns, outcomes.names, listed)
    return Payload(choice, columns, classes, list(digests), _notes(table, there, columns, characters))


def _notes(table: pa.Table, there: Sequence[object], columns: Sequence[Shown], characters: int) -> list[str]:
    notes = []
    if len(there) > COLUMNS:
        notes.append(f"It shows the first {COLUMNS} of {wording.count(len(there), 'column')}.")
    if shortened := sum(one.shortened for one in columns):
        notes.append(f"{wording.count(shortened, 'text')} of more than {characters:,} characters end there.")
    return notes


def _encoded(column: Shown, place: dict[str, int]) -> dict[str, Any]:
    encoded: dict[str, Any] = {"name": column.name, "title": column.title, "kind": column.kind, "values": column.values}
    if column.kind == "image":
        encoded["values"] = [None if digest is None else place[digest] for digest in column.values]
    if column.classes is not None:
        encoded["classes"] = column.classes
    return encoded
