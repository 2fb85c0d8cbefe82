"""Copies of files that wait to be sent.

A small file is copied at once. A checkpoint is linked, which takes no time whatever its size and keeps the content when
the trainer deletes or replaces the file; the recorder then makes the copy, because a file that is rewritten in place
changes under its link.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mlflow_dovetail.run_folder import RunFolder, copy_file

_PIN = ".pin"


def copy_in(folder: RunFolder, source: Path, payload: str) -> tuple[int, str]:
    """Copy a file into the run folder; size in bytes and SHA-256."""
    return copy_file(source, folder.artifacts / payload)


def pin(folder: RunFolder, source: Path, payload: str) -> tuple[int, str]:
    """Link a file into the run folder, or copy it where links cannot be made; SHA-256 is empty for a link."""
    size = source.stat().st_size  # first: the recorder may have taken the link away again at once
    try:
        os.link(source.resolve(), folder.artifacts / (payload + _PIN))
    except OSError:
        return copy_in(folder, source, payload)
    return size, ""


def stage(folder: RunFolder) -> None:
    """Turn links into copies; one whose file is being written stays for the next time.

    Raises:
        OSError: There is no room, or a file cannot be read.
    """
    for link in sorted(folder.artifacts.glob("*" + _PIN)):
        with suppress(FileNotFoundError):  # another process has done it
            _stage_one(link, link.with_suffix(""))


def _stage_one(link: Path, copy: Path) -> None:
    before = _state(link)
    copy_file(link, copy)
    if _state(link) == before:
        link.unlink(missing_ok=True)
    else:
        copy.unlink(missing_ok=True)


def find(folder: RunFolder, payload: str) -> Path | None:
    """The copy of a file; None when it is not here, or still a link."""
    path = folder.artifacts / payload
    return path if path.is_file() else None


def is_pinned(folder: RunFolder, payload: str) -> bool:
    """Whether a copy has yet to be made."""
    return (folder.artifacts / (payload + _PIN)).is_file()


def drop(folder: RunFolder, payload: str) -> None:
    """Remove a copy and its link."""
    (folder.artifacts / payload).unlink(missing_ok=True)
    (folder.artifacts / (payload + _PIN)).unlink(missing_ok=True)


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
