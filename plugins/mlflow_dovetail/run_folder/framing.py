"""Records in an append-only file: marker, length, CRC-32, payload.

A reader takes what is whole, waits for what is still being written, and steps over what is damaged to the next record
that is whole: a torn or flipped record costs itself and no other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

MARKER = b"\xd7DT\x01"
HEADER = struct.Struct("<4sII")  # marker, length of the payload in bytes, its CRC-32
LONGEST_PAYLOAD = 1 << 26
_READ_AT_ONCE = 1 << 20


def frame(payload: bytes) -> bytes:
    """A payload as a record, to be appended with one `write()`."""
    return HEADER.pack(MARKER, len(payload), crc32(payload)) + payload


class SegmentReader:
    """Reads the records of one file, from an offset, also while another process appends to it.

    Args:
        path: Of the file.
        offset: Of the first byte to read; a number that `offset` has had.

    Attributes:
        offset: Behind the last record that was given out, or the last damage that was stepped over.
        damaged_bytes: How many bytes were stepped over.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self.offset = offset
        self.damaged_bytes = 0

    def read(self, *, ended: bool = False) -> Iterator[bytes]:
        """Every whole payload that is there now, about 1 MiB of them at most.

        Args:
            ended: The writer is gone: an incomplete record at the end is damage, not one that is still being written.
        """
        data, is_all = self._bytes_from(self.offset)
        position, start = 0, self.offset
        while position < len(data):
            end = _end_of_record(data, position)
            if end is None:
                following = _next_whole(data, position + 1)
                if following is None:
                    if not ended or (position and not is_all):
                        return  # it is being written, or goes on behind what was read
                    following = len(data)
                self.damaged_bytes += following - position
                position = following
                self.offset = start + position
                continue
            payload = data[position + HEADER.size : end]
            position = end
            self.offset = start + position
            yield payload

    def _bytes_from(self, offset: int) -> tuple[bytes, bool]:
        """What follows `offset`, and whether that is all there is."""
        with self._path.open("rb") as file:
            file.seek(offset)
            data = file.read(_READ_AT_ONCE)
            is_all = len(data) < _READ_AT_ONCE
            if not is_all and _end_of_record(data, 0) is None:
                more = file.read(LONGEST_PAYLOAD)  # a record that is longer than what is read at once
                data, is_all = data + more, len(more) < LONGEST_PAYLOAD
        return data, is_all


def first_payload(path: Path) -> bytes | None:
    """The payload of the first record, when it is whole and a short one (at most 128 bytes with its header)."""
    with path.open("rb") as file:
        data = file.read(128)
    end = _end_of_record(data, 0)
    return data[HEADER.size : end] if end is not None else None


def last_payload(path: Path) -> bytes | None:
    """The payload of the last record, when it is whole and a short one (at most 128 bytes with its header)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 128))
        data = file.read()
    start = data.rfind(MARKER)
    end = _end_of_record(data, start) if start >= 0 else None
    return data[start + HEADER.size : end] if end == len(data) else None


def _end_of_record(data: bytes, position: int) -> int | None:
    """Where the record at `position` ends; None when it is incomplete or damaged."""
    body = position + HEADER.size
    if body > len(data):
        return None
    marker, length, checksum = HEADER.unpack_from(data, position)
    end = body + length
    if marker != MARKER or end > len(data) or crc32(memoryview(data)[body:end]) != checksum:
        return None
    return int(end)


def _next_whole(data: bytes, position: int) -> int | None:
    """Where the next whole record begins."""
    while (position := data.find(MARKER, position)) >= 0:
        if _end_of_record(data, position) is not None:
            return position
        position += 1
    return None
