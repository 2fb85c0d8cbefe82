"""Copies of files that are no longer what was logged, found before they are sent."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow_dovetail.journal import Progress, entries, staging
from mlflow_dovetail.run_folder import RunFolder, SegmentReader, sha256_of

_SUFFIX = ".damaged"


def set_damaged_aside(folder: RunFolder, progress: Progress) -> list[str]:
    """Take copies that do not have the checksum of their entry out of what is sent, and keep them beside it.

    Args:
        folder: Of the run.
        progress: What the store has: only what it has not is read.

    Returns:
        For each of them, where it belongs among the artifacts and where it lies now.
    """
    damaged = []
    for entry in _unsent(folder, progress):
        copy = staging.find(folder, entry.payload)
        if copy is not None and entry.sha256 and sha256_of(copy) != entry.sha256:
            aside = copy.rename(copy.with_name(copy.name + _SUFFIX))
            damaged.append(f"{entry.path}, kept as {aside.relative_to(folder.path)}")
    return damaged


def _unsent(folder: RunFolder, progress: Progress) -> Iterator[entries.File]:
    yield from list(progress.waiting.values())
    for number in folder.segments():
        reader = SegmentReader(folder.segment(number), progress.offsets.get(str(number), 0))
        before = -1
        while reader.offset != before:
            before = reader.offset
            yield from _files(reader.read())


def _files(payloads: Iterator[bytes]) -> Iterator[entries.File]:
    for payload in payloads:
        try:
            entry = entries.decode(payload)
        except ValueError:  # of a kind that this version does not know
            continue
        if isinstance(entry, entries.File):
            yield entry
