"""Appending: durable when it returns, constant in cost, safe from threads, forks and several writers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables import streams_appending
from mlflow_dovetail.prediction_tables import writer as writer_module
from mlflow_dovetail.prediction_tables.columns import Class, Text
from mlflow_dovetail.prediction_tables.compaction import compact
from mlflow_dovetail.prediction_tables.policies import First, PerClass, Worst
from mlflow_dovetail.prediction_tables.reading import read_table
from mlflow_dovetail.prediction_tables.reading_manifests import read_manifest
from mlflow_dovetail.prediction_tables.streams import folder_name
from mlflow_dovetail.prediction_tables.streams_appending import write_first
from mlflow_dovetail.prediction_tables.writer import TableWriter

# Each time it is told to, begins a process that appends batches of 1 to 50 rows with images to a table of its own and
# tells which has returned, kills it in the middle, and tells the last row of which it knew that it was appended.
KILLER = """
import os, signal, sys, time
import numpy as np
from pathlib import Path
from mlflow_dovetail.prediction_tables.writer import TableWriter

def append(folder, told):
    writer = TableWriter(folder, "val")
    row = 0
    while True:
        size = row % 50 + 1
        numbers = np.arange(row, row + size)
        images = np.broadcast_to((numbers % 16).astype(np.uint8)[:, None, None], (size, 40, 40))
        writer.append({"id": numbers, "image": images, "text": ["x" * 300] * size})
        row += size
        os.write(told, b"%d\\n" % row)

for attempt in range(int(sys.argv[2])):
    hears, told = os.pipe()
    child = os.fork()
    if child == 0:
        append(Path(sys.argv[1]) / str(attempt) / "tables", told)
    os.close(told)
    first = os.read(hears, 100)
    time.sleep(0.003 * attempt)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    rest = first + b"".join(iter(lambda: os.read(hears, 1 << 16), b""))
    print(int(rest.split()[-1]), flush=True)
"""
KILLS = 10


def test_what_was_appended_before_a_kill_is_kept(tmp_path, on_disk):
    command = [sys.executable, "-c", KILLER, str(tmp_path), str(KILLS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for attempt, finished in enumerate(map(int, done.stdout.split())):
        table = on_disk(tmp_path / str(attempt))
        manifest = table.compact()
        assert finished <= manifest.rows <= finished + 50
        found = table.read(["id", "image"]).to_pydict()
        assert found["id"] == [str(row) for row in range(manifest.rows)]
        assert set(found["image"]) <= table.media(found["image"]).keys()


def _one_file(table, suffix):
    (path,) = table.source.glob(f"*.{suffix}")
    return path


@pytest.mark.parametrize("cut", [1, 7, 20, 100, 500])
def test_a_torn_last_record_costs_itself_only(table, cut):
    writer = table.writer()
    for row in range(3):
        writer.append({"n": [row], "image": np.full((1, 8, 8), row, np.uint8)})
    for suffix in ("rows", "media"):
        path = _one_file(table, suffix)
        os.truncate(path, max(1, path.stat().st_size - min(cut, path.stat().st_size // 4)))
    assert table.compact().rows == 2
    assert table.column("n") == [0, 1]
    assert len(table.media(table.column("image"))) == 2


def test_a_damaged_record_costs_itself_only(table):
    writer = table.writer()
    for row in range(3):
        writer.append({"n": [row]})
    path = _one_file(table, "rows")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    table.compact()
    assert table.column("n") == [0, 2]


def test_an_append_costs_the_same_however_many_there_were(table):
    writer = table.writer()
    batch = {"id": ["x"], "n": [1.0], "epoch": 1}

    def seconds(appends):
        begun = time.process_time()
        for _ in range(appends):
            writer.append(batch)
        return time.process_time() - begun

    seconds(50)
    early = min(seconds(200) for _ in range(3))
    seconds(3000)
    late = min(seconds(200) for _ in range(3))
    assert late < 2 * early
    assert table.compact().rows == 50 + 600 + 3000 + 600


def test_a_million_rows_are_appended_fast(table):
    rows, batches = 50_000, 20
    random = np.random.default_rng(0)
    batch = {f"n{index}": random.random(rows) for index in range(8)}  # with the two below, ten columns
    batch |= {"label": random.integers(0, 10, rows), "epoch": 1}
    writer = table.writer()
    begun = time.process_time()
    for _ in range(batches):
        writer.append(batch)
    assert time.process_time() - begun < 2  # 500,000 rows a second
    manifest = table.compact()
    assert manifest.rows == rows * batches
    assert len(manifest.data) >= 5


def test_one_append_of_many_rows_is_read_whole(table):
    rows = 200_000
    table.writer().append({"n": np.arange(rows), "t": ["a" * 400] * rows})
    assert table.compact().rows == rows
    assert table.column("n") == list(range(rows))


def test_threads_append_whole_batches(table):
    writer = table.writer()

    def append(thread):
        for step in range(50):
            writer.append({"thread": [thread] * 4, "step": step, "image": np.full((4, 8, 8), step, np.uint8)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(8)))
    manifest = table.compact()
    assert manifest.rows == 8 * 50 * 4
    rows = table.read(["thread", "step"]).to_pylist()
    for thread in range(8):
        steps = [row["step"] for row in rows if row["thread"] == thread]
        assert sorted(steps) == [step for step in range(50) for _ in range(4)]
    assert manifest.media[0].rows == 50


def test_a_forked_child_writes_files_of_its_own(table):
    writer = table.writer()
    writer.append({"who": ["parent"], "n": [0]})
    with writer._lock:  # as another thread of the parent might hold it
        child = os.fork()
        if child == 0:
            writer.append({"who": ["child"] * 3, "n": [0, 1, 2]})
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    writer.append({"who": ["parent"], "n": [1]})
    assert len(list(table.source.glob("*.rows"))) == 2
    table.compact()
    assert sorted(map(tuple, (row.values() for row in table.read().to_pylist()))) == [
        ("child", 0),
        ("child", 1),
        ("child", 2),
        ("parent", 0),
        ("parent", 1),
    ]


def test_writers_of_one_table_are_joined_by_epoch_step_and_writer(table):
    writers = {rank: table.writer(writer=str(rank)) for rank in (10, 2, 0)}
    for epoch in range(3):
        for rank, writer in writers.items():
            for step in range(2):
                writer.append({"rank": rank, "epoch": epoch, "step": step, "n": [0, 1]})
    table.compact()
    found = [tuple(row.values()) for row in table.read(["epoch", "step", "rank", "n"]).to_pylist()]
    assert found == sorted(found)
    assert len(found) == 3 * 3 * 2 * 2


def test_a_second_writer_with_other_columns_is_refused(table):
    table.writer().append({"n": [1]})
    with pytest.raises(DovetailError, match="it has no 'n'"):
        table.writer(writer="1").append({"m": [1]})
    with pytest.raises(DovetailError, match="'n' are no number"):
        table.writer(writer="1").append({"n": ["a"]})
    assert table.compact().rows == 1


def test_of_two_writers_that_begin_at_once_one_says_the_columns(table):
    barrier = threading.Barrier(4)

    def append(rank):
        writer = table.writer(writer=str(rank))
        barrier.wait()
        try:
            writer.append({"x": [rank] if rank % 2 else [str(rank)]})
        except DovetailError:
            return 0
        return 1

    with ThreadPoolExecutor(4) as pool:
        kept = sum(pool.map(append, range(4)))
    assert table.compact().rows == kept == 2


@contextmanager
def _no_file_above(size):
    """As with a full disk: the system writes what still fits."""
    resource = pytest.importorskip("resource")
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_rows_that_the_disk_does_not_take_are_told_once_and_counted(table, caplog):
    writer = table.writer()
    writer.append({"t": ["before"]})
    size = _one_file(table, "rows").stat().st_size
    with _no_file_above(size + 100):
        for _ in range(3):
            writer.append({"t": ["x" * 10_000] * 2})
    assert _one_file(table, "rows").stat().st_size == size  # what was half written takes no room
    for text in ("after", "again"):
        writer.append({"t": [text]})
    manifest = table.compact()
    assert table.column("t") == ["before", "after", "again"]
    assert manifest.left_out == {"rows lost: No space left on device": 6}
    (told,) = (record.getMessage() for record in caplog.records)
    assert "'val': No space left on device. Make room where" in told


def test_of_a_batch_of_several_writes_only_what_the_disk_did_not_take_is_lost(table, monkeypatch):
    monkeypatch.setattr(streams_appending, "_MOST_BYTES", 1000)
    monkeypatch.setattr(writer_module, "_MOST_ROWS", 2)
    writer = table.writer()
    writer.append({"t": ["before"]})
    with _no_file_above(_one_file(table, "rows").stat().st_size + 15_000):
        writer.append({"t": ["x" * 5000] * 8})
    writer.append({"t": ["after"]})
    assert table.compact().left_out == {"rows lost: No space left on device": 6}
    assert [text[:6] for text in table.column("t")] == ["before", "xxxxxx", "xxxxxx", "after"]


def test_lost_rows_are_counted_when_nothing_follows_them(table):
    writer = table.writer()
    writer.append({"t": ["before"]})
    with _no_file_above(_one_file(table, "rows").stat().st_size + 100):
        writer.append({"t": ["x" * 10_000]})
    writer.close()
    assert table.compact().left_out == {"rows lost: No space left on device": 1}


def test_strictly_a_full_disk_is_an_error(table, monkeypatch):
    monkeypatch.setenv("DOVETAIL_STRICT", "1")
    writer = table.writer()
    writer.append({"t": ["before"]})
    with _no_file_above(100), pytest.raises(DovetailError, match="Make room"):
        writer.append({"t": ["x" * 10_000]})


def test_an_image_that_the_disk_did_not_take_is_kept_when_it_comes_again(table):
    writer = table.writer()
    rows = {"id": ["a"], "image": np.zeros((1, 100, 100), np.uint8)}
    writer.append({"id": ["b"], "image": np.ones((1, 8, 8), np.uint8)})
    with _no_file_above(2000):
        writer.append(rows)
    writer.append(rows)
    table.compact()
    assert len(table.media(table.column("image"))) == 2


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of 3 MiB, as often as it is told to with other options."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(["size=3m", *options]), "tmpfs", str(disk)]
        if not sys.platform.startswith("linux") or os.geteuid() or subprocess.run(command, check=False).returncode:
            pytest.skip("a disk can be mounted by root alone, and not in every container")
        return disk

    yield mount
    subprocess.run(["umount", "--lazy", str(disk)], check=False, stderr=subprocess.DEVNULL)


def test_on_a_full_disk_a_table_goes_on_when_there_is_room_again(small_disk, on_disk):
    table = on_disk(small_disk())
    writer = table.writer()
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 100, 100), dtype=np.uint8)
    (table.root / "much").write_bytes(b"x" * 2_600_000)
    for epoch in range(4):
        writer.append({"id": range(10), "image": images + np.uint8(epoch), "epoch": epoch})
        if epoch == 2:
            (table.root / "much").unlink()
    writer.close()
    manifest = table.compact()
    assert manifest.left_out == {"rows lost: No space left on device": 20}
    assert table.column("epoch") == [0] * 10 + [3] * 10
    assert len(table.media(table.column("image"))) == 20


def test_a_disk_that_can_only_be_read_stops_nobody(small_disk, on_disk, caplog):
    table = on_disk(small_disk("ro"))
    writer = table.writer()
    for _ in range(2):
        writer.append({"n": [1, 2]})
    subprocess.run(["mount", "-o", "remount,rw", str(table.root)], check=True)
    writer.append({"n": [3]})
    assert table.compact().left_out == {"rows lost: Read-only file system": 4}
    assert table.column("n") == [3]
    assert len(caplog.records) == 1


@pytest.fixture
def no_links(monkeypatch):
    """As on FAT."""

    def refuse(source, target, **_):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(source))

    monkeypatch.setattr(os, "link", refuse)


def test_without_hard_links_one_writer_says_the_columns(table, no_links):
    test_of_two_writers_that_begin_at_once_one_says_the_columns(table)


def test_without_hard_links_what_is_there_is_not_replaced(tmp_path, no_links):
    assert [write_first(tmp_path / "f", content) for content in (b"a", b"b")] == [True, False]
    assert (tmp_path / "f").read_bytes() == b"a"


def test_without_hard_links_a_claim_whose_maker_died_is_taken_over(tmp_path, no_links, monkeypatch):
    monkeypatch.setattr(streams_appending, "_CLAIM_SECONDS", 0.1)
    (tmp_path / ".f.claim").touch()
    assert write_first(tmp_path / "f", b"a")
    assert (tmp_path / "f").read_bytes() == b"a"


def test_without_writev_and_posix_flags_a_batch_is_one_write(table, monkeypatch):
    for name in ("writev", "O_CLOEXEC"):
        monkeypatch.delattr(os, name)
    table.writer().append({"n": range(5), "image": np.zeros((5, 8, 8), np.uint8)})
    table.compact()
    assert table.column("n") == list(range(5))
    assert len(table.media(table.column("image"))) == 1


def test_a_table_without_rows_has_its_columns_if_they_are_known(table):
    table.writer(columns={"text": Text, "label": Class(["a", "b"])}).append({"text": [], "label": []})
    manifest = table.compact()
    assert (manifest.rows, manifest.data) == (0, ())
    assert [(one.name, one.kind, one.classes) for one in manifest.columns] == [
        ("text", "text", ()),
        ("label", "class", ("a", "b")),
    ]
    assert table.read().to_pydict() == {"text": [], "label": []}


NAMES = ["val", "Val", "VAL", "", ".", "..", "../../etc", "/etc/passwd", "a/b", "a\\b", "a\0b", "con", "nul.txt"]
NAMES += ["x" * 5000, "x" * 5001, "-rf", "val ", "val.", "*", "é", "e\u0301", "\udcff", "\u202eval", "a\nb", "c:", "~"]


def test_any_name_is_a_folder_of_its_own_below_the_tables(tmp_path):
    names = [*NAMES, *(folder_name(name) for name in NAMES if folder_name(name) != name)]
    folders = {folder_name(name).casefold() for name in names}
    assert len(folders) == len(names)
    tables = tmp_path / "tables"
    for index, name in enumerate(names):
        TableWriter(tables, name, writer=name).append({"n": [index]})
    assert sorted(path.name for path in tables.iterdir()) == sorted(folders)
    assert list(tmp_path.iterdir()) == [tables]
    for index, name in enumerate(names):
        compact(tables / folder_name(name), tmp_path / "out" / folder_name(name), is_over=True)
        assert read_table(tmp_path / "out" / folder_name(name)).to_pydict() == {"n": [index]}
        assert read_manifest(tmp_path / "out" / folder_name(name)).table == name.replace("\udcff", "\\udcff")


def test_a_plain_name_is_its_own_folder():
    assert [folder_name(name) for name in ("val", "test-2", "my_table.1")] == ["val", "test-2", "my_table.1"]


@pytest.mark.parametrize("policy", [First(3), PerClass(3), Worst(3)], ids=lambda one: one.words)
def test_a_batch_that_was_lost_takes_no_room_of_those_after_it(table, policy):
    writer = table.writer(policy=policy, most_images=6)
    batch = {"id": ["a", "b", "c"], "label": [0] * 3, "loss": [1.0, 2.0, 3.0], "epoch": 0}
    images = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8)
    writer.append({**batch, "epoch": -1, "image": images})
    with _no_file_above(0):
        writer.append({**batch, "image": images + np.uint8(1)})
    writer.append({**batch, "image": images + np.uint8(2)})
    writer.close()
    manifest = table.compact()
    assert manifest.rows == 6 and len(table.media(table.column("image"))) == 6
