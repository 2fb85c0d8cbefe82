"""The raw files of a table in the run folder, as the trainer appends to them.

<run folder>/tables/<table>/
  table.json                    its name, policy, and what was said of its columns
  columns.json                  the columns, since the first append
  <writer>.a<attempt>.<time>.rows    records of Arrow record batches and of counts, one file a process
  <writer>.a<attempt>.<time>.media   records of raw pixels
  over.json                     what of these is in the shards and packs, and may be removed

Each record is framed with its length and checksum, and begins with its kind and the second of its writing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec
import pyarrow as pa

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.columns import StoredColumn
from mlflow_dovetail.prediction_tables.policies import Policy
from mlflow_dovetail.prediction_tables.schema import Column
from mlflow_dovetail.run_folder import SegmentReader
from mlflow_dovetail.run_folder.framing import HEADER, LONGEST_PAYLOAD, MARKER

VERSION = 1
MOST_IMAGES = 20_000
ROWS, LEFT_OUT, MEDIA = b"rows", b"left", b"imag"
LONGEST_RECORD = LONGEST_PAYLOAD - 8
_HEAD = struct.Struct("<4sI")  # kind, second since the epoch; 8 bytes, so that Arrow's buffers stay aligned
_SAFE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,47}")
_STEM = re.compile(r"(?P<writer>.+?)(\.a(?P<attempt>\d{4,}))?\.\d{20}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*-[0-9a-f]{16}|.*\.")
_CLAIM_SECONDS = 2.0
# Of one writev: Linux takes 1,024 parts and 2 GiB.
_MOST_PARTS = 1000
_MOST_BYTES = 1 << 28


class TableRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`table.json`, written when the table is made; the first of several writers says it.

    Attributes:
        most_images: How many different ones the table keeps, of all writers together.
        piece: What tells its files from those of the run's other run folders; empty in the folder the run began in.
    """

    name: str
    made_at: float
    policy: Policy
    said: tuple[Column, ...] = ()
    most_images: int = MOST_IMAGES
    piece: str = ""
    version: int = VERSION


class Record(NamedTuple):
    """One record: what follows its head, and where it ends in its file."""

    kind: bytes
    second: int
    content: memoryview
    end: int


def folder_name(name: str) -> str:
    """A folder's name for a table's: the same where any disk can hold it, else what is safe of it and a digest.

    Two names never share a folder, also on a disk that does not tell cases apart.
    """
    if _SAFE.fullmatch(name) and not _RESERVED.fullmatch(name):
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    readable = re.sub(r"[^a-z0-9_]+", "-", name[:200].lower()).strip("-")[:31]
    return f"{readable or 'table'}-{digest}"


class Appender:
    """Appends records to a file of its own, each batch of records with one call.

    The file is made when it is opened, or at the first append.

    Args:
        folder: Of the table.
        writer: Which of several writers it is.
        suffix: "rows" or "media".
        attempt: Which one at the run's training it belongs to, from 1.
    """

    def __init__(self, folder: Path, writer: str, suffix: str, attempt: int = 1) -> None:
        self._stem = folder / f"{folder_name(writer)}.a{attempt:04d}"
        self._suffix = suffix
        self._descriptor = -1

    def append(self, records: Sequence[tuple[bytes, Sequence[memoryview | bytes]]]) -> None:
        """Append records, each its kind and its content in parts.

        Raises:
            OSError: Not all of it could be written; what was is taken back, or readers step over it.
        """
        self.open()
        second = int(time.time())
        parts: list[bytes | memoryview] = []
        length = 0
        for kind, content in records:
            head = _HEAD.pack(kind, second)
            parts += [_frame_head(head, content), head, *content]
            length += sum(map(len, content))
            if len(parts) > _MOST_PARTS - 8 or length > _MOST_BYTES:
                self._write(parts)
                parts, length = [], 0
        if parts:
            self._write(parts)

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


def read_records(path: Path, offset: int, *, ended: bool = False) -> Iterator[Record]:
    """Every whole record from an offset on.

    Args:
        path: Of the file.
        offset: Of the first byte to read: 0 or a record's `end`.
        ended: Nobody writes to it any more.
    """
    reader, before = SegmentReader(path, offset), -1
    while reader.offset != before:
        before = reader.offset
        for payload in reader.read(ended=ended):
            if len(payload) >= _HEAD.size:
                kind, second = _HEAD.unpack_from(payload)
                yield Record(kind, second, memoryview(payload)[_HEAD.size :], reader.offset)


def first_second(path: Path, offset: int) -> int | None:
    """When the record at an offset was written, without reading more of it; None where there is none."""
    with path.open("rb") as file:
        file.seek(offset)
        head = file.read(HEADER.size + _HEAD.size)
    return _HEAD.unpack_from(head, HEADER.size)[1] if len(head) == HEADER.size + _HEAD.size else None


def read_batch(content: memoryview, schema: pa.Schema) -> pa.RecordBatch | None:
    """The rows of a record; None where they are damaged in a way that the checksum does not show."""
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(content), schema)
        batch.validate(full=True)  # a run folder may come from elsewhere
    except (pa.ArrowException, OSError):
        return None
    return batch


class Stream(NamedTuple):
    """What one writer appended in one attempt: its files, the oldest first."""

    attempt: int
    writer: str
    paths: list[Path]


def streams(folder: Path, suffix: str) -> list[Stream]:
    """What was appended, by attempt and then by writer: in order of their numbers where they are numbers."""
    found: dict[tuple[int, tuple[int, int, str]], Stream] = {}
    for path in sorted(folder.glob(f"*.{suffix}")):
        named = _STEM.fullmatch(path.stem)
        if named:
            attempt, writer = int(named["attempt"] or 1), named["writer"]
            found.setdefault((attempt, _order(writer)), Stream(attempt, writer, [])).paths.append(path)
    return [found[key] for key in sorted(found)]


def _order(writer: str) -> tuple[int, int, str]:
    return (0, int(writer), "") if writer.isdigit() else (1, 0, writer)


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


def read_columns(folder: Path) -> tuple[StoredColumn, ...] | None:
    """The columns of a table; None before its first append."""
    try:
        return msgspec.json.decode((folder / "columns.json").read_bytes(), type=tuple[StoredColumn, ...])
    except FileNotFoundError:
        return None


def read_table_record(folder: Path) -> TableRecord | None:
    """What a table is; None where there is none.

    Raises:
        DovetailError: It was made by a later version.
    """
    try:
        content = (folder / "table.json").read_bytes()
    except FileNotFoundError:
        return None
    if msgspec.json.decode(content, type=_OnlyVersion).version > VERSION:
        raise DovetailError(
            f"Cannot read the table's rows in {folder}.",
            "They were written by a later version of Dovetail.",
            "Update it: pip install --upgrade mlflow-dovetail.",
        )
    return msgspec.json.decode(content, type=TableRecord)


def encode_counts(counts: Mapping[str, int]) -> bytes:
    """What was left out, by cause, as a record's content."""
    return msgspec.json.encode(counts)


def decode_counts(content: memoryview) -> dict[str, int]:
    """What `encode_counts` made."""
    return msgspec.json.decode(content, type=dict[str, int])


class _OnlyVersion(msgspec.Struct):
    version: int = VERSION
