"""Records in a file: whole ones are read, whatever else stands there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_dovetail.run_folder import SegmentReader, frame, last_payload
from mlflow_dovetail.run_folder.framing import HEADER, MARKER

PAYLOADS = [b"first", b"", b"a longer one, of more bytes", bytes(range(256))[:40], b"last"]
WRITER = """
import os, sys
from mlflow_dovetail.run_folder import frame
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(3000):
    os.write(descriptor, frame(b"%d " % number * (1 + number % 700)))
"""


def written(path: Path, *records: bytes) -> Path:
    path.write_bytes(b"".join(records))
    return path


def read_all(reader: SegmentReader, *, ended: bool = False) -> list[bytes]:
    found: list[bytes] = []
    while more := list(reader.read(ended=ended)):
        found += more
    return found


def test_what_was_framed_is_read_in_order(tmp_path: Path):
    reader = SegmentReader(written(tmp_path / "s", *map(frame, PAYLOADS)))
    assert read_all(reader) == PAYLOADS
    assert (reader.offset, reader.damaged_bytes) == ((tmp_path / "s").stat().st_size, 0)
    assert read_all(reader) == []


def test_reading_goes_on_from_every_offset_that_it_has_given(tmp_path: Path):
    path = written(tmp_path / "s", *map(frame, PAYLOADS))
    reader = SegmentReader(path)
    for number, _ in enumerate(reader.read()):
        assert read_all(SegmentReader(path, reader.offset)) == PAYLOADS[number + 1 :]


@pytest.mark.parametrize("ended", [False, True])
def test_a_flipped_byte_anywhere_costs_the_record_it_is_in_and_no_other(tmp_path: Path, ended: bool):
    records = [frame(payload) for payload in PAYLOADS]
    whole = b"".join(records)
    bounds = [sum(map(len, records[:number])) for number in range(len(records) + 1)]
    for position in range(len(whole)):
        for flip in (0xFF, 0x01, 0x80):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            hit = next(number for number in range(len(records)) if position < bounds[number + 1])
            reader = SegmentReader(written(tmp_path / "s", bytes(damaged)))
            found = read_all(reader, ended=ended)
            assert found == PAYLOADS[:hit] + PAYLOADS[hit + 1 :], (position, flip)
            is_seen = ended or hit < len(records) - 1  # the last may be one that is still being written
            assert reader.damaged_bytes == (len(records[hit]) if is_seen else 0)


def test_a_torn_record_at_the_end_waits_for_its_rest_while_its_writer_lives(tmp_path: Path):
    records = [frame(payload) for payload in PAYLOADS]
    for cut in range(len(records[-1])):
        path = written(tmp_path / "s", *records[:-1], records[-1][:cut])
        reader = SegmentReader(path)
        assert read_all(reader) == PAYLOADS[:-1]
        with path.open("ab") as file:
            file.write(records[-1][cut:])
        assert read_all(reader) == PAYLOADS[-1:]
        assert reader.damaged_bytes == 0


def test_a_torn_record_is_given_up_when_its_writer_is_gone(tmp_path: Path):
    reader = SegmentReader(written(tmp_path / "s", frame(b"whole"), frame(b"torn")[:-1]))
    assert read_all(reader, ended=True) == [b"whole"]
    assert reader.offset == (tmp_path / "s").stat().st_size
    assert reader.damaged_bytes == len(frame(b"torn")) - 1


def test_half_a_record_before_a_whole_one_is_stepped_over(tmp_path: Path):
    """As a full disk leaves it: a part, and later the record again."""
    for cut in range(1, len(frame(PAYLOADS[2]))):
        reader = SegmentReader(written(tmp_path / "s", frame(b"a"), frame(PAYLOADS[2])[:cut], frame(PAYLOADS[2])))
        assert read_all(reader) == [b"a", PAYLOADS[2]]


def test_a_length_that_was_flipped_to_a_huge_one_costs_one_record(tmp_path: Path):
    lying = HEADER.pack(MARKER, 0xFFFFFFFF, 0) + b"payload"
    reader = SegmentReader(written(tmp_path / "s", frame(b"a"), lying, frame(b"b")))
    assert read_all(reader) == [b"a", b"b"]
    assert reader.damaged_bytes == len(lying)


def test_random_bytes_between_records_are_stepped_over(tmp_path: Path):
    chance = random.Random(7)
    for _ in range(200):
        parts, expected = [], []
        for number in range(6):
            parts.append(chance.randbytes(chance.randrange(40)) if chance.random() < 0.5 else b"")
            expected.append(b"%d" % number * chance.randrange(50))
            parts.append(frame(expected[-1]))
        assert read_all(SegmentReader(written(tmp_path / "s", *parts)), ended=True) == expected


@pytest.mark.parametrize("size", [(1 << 20) - 12, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_records_longer_than_what_is_read_at_once(tmp_path: Path, size: int):
    payloads = [b"before", os.urandom(size), b"between", os.urandom(size), b"after"]
    reader = SegmentReader(written(tmp_path / "s", *map(frame, payloads)))
    assert read_all(reader) == payloads
    assert reader.damaged_bytes == 0


def test_damage_in_a_long_record_costs_that_one(tmp_path: Path):
    long = bytearray(frame(os.urandom(3 << 20)))
    long[2 << 20] ^= 1
    reader = SegmentReader(written(tmp_path / "s", frame(b"before"), bytes(long), frame(b"after")))
    assert read_all(reader) == [b"before", b"after"]
    assert reader.damaged_bytes == len(long)


def test_what_is_read_at_once_is_bounded(tmp_path: Path):
    path = written(tmp_path / "s", *[frame(bytes(1000))] * 5000)
    assert len(list(SegmentReader(path).read())) < 1100
    assert len(read_all(SegmentReader(path))) == 5000


def test_reading_while_another_process_appends(tmp_path: Path):
    path = written(tmp_path / "s")
    reader, found = SegmentReader(path), []
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        found += list(reader.read())
    found += read_all(reader)
    assert process.wait(1) == 0
    assert found == [b"%d " % number * (1 + number % 700) for number in range(3000)]
    assert reader.damaged_bytes == 0


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([frame(b"x" * 300), frame(b"end")], b"end"),
        ([frame(b"end")], b"end"),
        ([frame(b"end")[:-1]], None),
        ([frame(b"end"), b"\0"], None),
        ([frame(b"end"), frame(b"torn")[:5]], None),
        ([b"no record"], None),
        ([], None),
        ([frame(b"x" * 300)], None),
    ],
)
def test_the_last_record_is_found_when_it_is_whole_and_short(tmp_path: Path, records: list[bytes], expected):
    assert last_payload(written(tmp_path / "s", *records)) == expected
