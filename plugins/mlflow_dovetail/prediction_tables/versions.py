"""The version of a table's JSON files: what a later Dovetail has written is refused, not misread."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from mlflow_dovetail.errors import DovetailError

Stored = TypeVar("Stored")


class _OnlyVersion(msgspec.Struct):
    version: int = 1


def decode(content: bytes, kind: type[Stored], known: int, folder: Path) -> Stored:
    """What a file of a table says.

    Args:
        content: Of the file: JSON with a `version`, which is 1 where it is missing.
        kind: What it is read as.
        known: The latest version that can be.
        folder: Of the table, for the error.

    Raises:
        msgspec.DecodeError: It is damaged.
        DovetailError: It is of a later version.
    """
    version = msgspec.json.decode(content, type=_OnlyVersion).version
    if version > known:
        raise DovetailError(
            f"Cannot read the prediction table {folder}.",
            f"It has format {version}; this Dovetail knows {known}.",
            "Update it: pip install --upgrade mlflow-dovetail.",
        )
    return msgspec.json.decode(content, type=kind)
