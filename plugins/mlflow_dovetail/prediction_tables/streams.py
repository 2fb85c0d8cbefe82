"""The raw files of a table in the run folder, as the trainer appends to them.

<run folder>/tables/<table>/
  table.json                    its name, policy, and what was said of its columns
  columns.json                  the columns, since the first append
  <writer>.a<attempt>.<time>.rows    records of Arrow record batches and of counts, one file a process;
                                     one that says that the process gave up
  <writer>.a<attempt>.<time>.media   records of raw pixels
  over.json                     what of these is in the shards and packs, and may be removed

Each record is framed with its length and checksum, and begins with its kind and the second of its writing.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from mlflow_dovetail.prediction_tables.columns import StoredColumn
from mlflow_dovetail.prediction_tables.policies import Policy
from mlflow_dovetail.prediction_tables.schema import Column
from mlflow_dovetail.prediction_tables.versions import decode
from mlflow_dovetail.run_folder import SegmentReader
from mlflow_dovetail.run_folder.framing import HEADER, LONGEST_PAYLOAD

VERSION = 1
MOST_IMAGES = 20_000
ROWS, LEFT_OUT, MEDIA, GIVEN_UP = b"rows", b"left", b"imag", b"gave"
LONGEST_RECORD = LONGEST_PAYLOAD - 8
HEAD = struct.Struct("<4sI")  # kind, second since the epoch; 8 bytes, so that Arrow's buffers stay aligned
_SAFE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,47}")
_STEM = re.compile(r"(?P<writer>.+?)(\.a(?P<attempt>\d{4,}))?\.\d{20}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*-[0-9a-f]{16}|.*\.")


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
            if len(payload) >= HEAD.size:
                kind, second = HEAD.unpack_from(payload)
                yield Record(kind, second, memoryview(payload)[HEAD.size :], reader.offset)


def first_second(path: Path, offset: int) -> int | None:
    """When the record at an offset was written, without reading more of it; None where there is none."""
    with path.open("rb") as file:
        file.seek(offset)
        head = file.read(HEADER.size + HEAD.size)
    return HEAD.unpack_from(head, HEADER.size)[1] if len(head) == HEADER.size + HEAD.size else None


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
    return decode(content, TableRecord, VERSION, folder)


def encode_counts(counts: Mapping[str, int]) -> bytes:
    """What was left out, by cause, as a record's content."""
    return msgspec.json.encode(counts)


def decode_counts(content: memoryview) -> dict[str, int]:
    """What `encode_counts` made."""
    return msgspec.json.decode(content, type=dict[str, int])
