"""Appending to the raw files of a table: each batch with a call or, a large one, a few; each file by one process."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from mlflow_dovetail.prediction_tables.streams import HEAD, folder_name
from mlflow_dovetail.run_folder.framing import HEADER, MARKER

_CLAIM_SECONDS = 2.0
# Of one writev: Linux takes 1,024 parts and 2 GiB.
_MOST_PARTS = 1000
_MOST_BYTES = 1 << 28


class Appender:
    """Appends records to a file of its own, each batch of records with one call, or with one for each 256 MB of it.

    The file is made when it is opened, or at the first append.

    Args:
        folder: Of the table.
        writer: Which of several writers it is.
        suffix: "rows" or "media".
        attempt: Which one at the run's training it belongs to, from 1.

    Attributes:
        taken: How many records of the last batch are in the file; all, unless the disk was full.
    """

    def __init__(self, folder: Path, writer: str, suffix: str, attempt: int = 1) -> None:
        self._stem = folder / f"{folder_name(writer)}.a{attempt:04d}"
        self._suffix = suffix
        self._descriptor = -1
        self.taken = 0

    def append(self, records: Sequence[tuple[bytes, Sequence[memoryview | bytes]]]) -> None:
        """Append records, each its kind and its content in parts.

        Raises:
            OSError: Not all of it could be written; what was of a call is taken back, or readers step over it.
        """
        self.taken = 0
        self.open()
        second = int(time.time())
        parts: list[bytes | memoryview] = []
        length = 0
        for number, (kind, content) in enumerate(records, 1):
            head = HEAD.pack(kind, second)
            parts += [_frame_head(head, content), head, *content]
            length += sum(map(len, content))
            if len(parts) > _MOST_PARTS - 8 or length > _MOST_BYTES:
                self._write(parts)
                parts, length, self.taken = [], 0, number
        if parts:
            self._write(parts)
        self.taken = len(records)

    def open(self) -> None:
        """Make the file, so that it shows that this writer is there."""
        if self._descriptor < 0:
            self._descriptor = self._make()

    def close(self) -> None:
        """Close the file; what is appended later goes to another."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _make(self) -> int:
        # The latter two are of POSIX and of Windows.
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        while True:
            with suppress(FileExistsError):  # of another thread in the same nanosecond, or a clock that was set back
                descriptor = os.open(f"{self._stem}.{time.time_ns():020d}.{self._suffix}", flags, 0o644)
                _lock(descriptor, shared=True)  # until it is closed, also by the death of this process
                return descriptor

    def _write(self, parts: Sequence[bytes | memoryview]) -> None:
        before = os.fstat(self._descriptor).st_size
        try:
            if hasattr(os, "writev"):
                written = os.writev(self._descriptor, parts)
            else:  # Windows
                written = os.write(self._descriptor, b"".join(parts))
            if written != sum(len(part) for part in parts):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, before)  # the last room on a disk is for the training's own words
            raise


def is_written_to(path: Path) -> bool:
    """Whether a writer has the file open: what it appends later would be lost with the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(descriptor, shared=False)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, shared: bool) -> bool:
    """Lock a file, without waiting; whether it could be. Where there are no such locks, nobody is asked."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _frame_head(head: bytes, content: Sequence[memoryview | bytes]) -> bytes:
    checksum, length = crc32(head), len(head)
    for part in content:
        checksum = crc32(part, checksum)
        length += len(part)
    return HEADER.pack(MARKER, length, checksum)


def write_first(path: Path, content: bytes) -> bool:
    """Write a file whole, unless there is one; whether this was the one that wrote it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{time.time_ns()}")
    try:
        beside.write_bytes(content)
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links, such as FAT, or a full one
            return _claim(beside, path)
        return True
    finally:
        beside.unlink(missing_ok=True)


def _claim(beside: Path, path: Path) -> bool:
    """Give a whole file its name unless there is one, where no hard link can do both at once."""
    try:
        os.close(os.open(path.with_name(f".{path.name}.claim"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        until = time.monotonic() + _CLAIM_SECONDS
        while not path.exists() and time.monotonic() < until:  # else who claimed it has died before it wrote it
            time.sleep(0.01)
    if path.exists():
        return False
    beside.replace(path)
    return True
