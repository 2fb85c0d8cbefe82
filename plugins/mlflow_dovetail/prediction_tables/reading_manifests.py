"""The manifest of a table: of one piece, or of all that its run folders have brought."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.parquet_files import add
from mlflow_dovetail.prediction_tables.schema import VERSION, Column, File, Manifest
from mlflow_dovetail.prediction_tables.versions import decode

_NAME = re.compile(r"manifest(-[0-9a-f]{8})?\.json")


def is_manifest(name: str) -> bool:
    """Whether a file of that name is the manifest of a table or of a piece of it."""
    return _NAME.fullmatch(name) is not None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a table: of all its pieces together.

    Raises:
        DovetailError: There is none, one is damaged, or of a later version.
    """
    pieces = [_read(path) for path in sorted(folder.glob("manifest*.json")) if is_manifest(path.name)]
    if not pieces:
        raise _no_table(folder, "there is no such file")
    return joined(pieces)


def joined(pieces: Sequence[Manifest]) -> Manifest:
    """Pieces of a table as one, in the order in which they were begun.

    Where the run went on, its attempts follow those before; another machine of a training counts them as the run does.
    """
    if len(pieces) == 1:
        return pieces[0]
    ordered = sorted(pieces, key=lambda one: one.begun_at)
    columns: dict[str, Column] = {one.name: one for piece in ordered for one in piece.columns}
    data: list[File] = []
    left_out: dict[str, int] = {}
    before = begun_with = 0
    for piece in ordered:
        begun_with = begun_with if piece.is_other_host else before
        shifted = [_shifted(file, begun_with) for file in piece.data]
        if not piece.is_other_host:
            before = max([before, *(attempt for file in shifted for attempt, _ in file.attempts)])
        data += shifted
        add(left_out, piece.left_out)
    return Manifest(
        table=ordered[0].table,
        columns=tuple(columns.values()),
        rows=sum(one.rows for one in ordered),
        data=tuple(data),
        media=tuple(file for one in ordered for file in one.media),
        policy="; then ".join(dict.fromkeys(one.policy for one in ordered)),
        left_out=dict(sorted(left_out.items())),
        begun_at=ordered[0].begun_at,
    )


def _shifted(file: File, before: int) -> File:
    attempts = file.attempts or ((1, file.rows),)
    shifted = tuple((attempt + before, rows) for attempt, rows in attempts)
    return msgspec.structs.replace(file, attempts=shifted)


def _read(path: Path) -> Manifest:
    try:
        return decode(path.read_bytes(), Manifest, VERSION, path.parent)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _no_table(path.parent, str(error)) from error


def _no_table(folder: Path, why: str) -> DovetailError:
    return DovetailError(
        f"{folder} is no prediction table.",
        f"It has no manifest.json that can be read: {why}.",
        "Name a folder predictions/<table> of a run's artifacts.",
    )
