"""Compaction: incremental, resumable after a kill at any point, whole-or-nothing, and the stored form it has."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from mlflow_dovetail.prediction_tables import compaction, packs, schema
from mlflow_dovetail.prediction_tables.compaction import compact
from mlflow_dovetail.prediction_tables.policies import First
from mlflow_dovetail.prediction_tables.reading import read_media, read_table
from mlflow_dovetail.prediction_tables.reading_manifests import read_manifest
from mlflow_dovetail.prediction_tables.schema import Column, File, Manifest
from mlflow_dovetail.prediction_tables.writer import TableWriter


@pytest.fixture
def at_once(monkeypatch):
    """Rows do not wait."""
    monkeypatch.setattr(compaction, "WAIT_SECONDS", 0)
    monkeypatch.setattr(compaction, "_WAIT_SHARE", 0)


def _batch(first, rows=10, levels=256):
    numbers = np.arange(first, first + rows)
    images = np.broadcast_to((numbers % levels).astype(np.uint8)[:, None, None], (rows, 8, 8))
    return {"id": numbers, "image": images, "epoch": first // 100}


def _files(table):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(table.target.rglob("*.parquet"))}


def test_no_table_is_none(table):
    assert table.compact() is None
    table.writer()
    assert table.compact(is_over=False) is None
    assert table.compact().rows == 0


def test_what_was_written_never_changes_and_nothing_is_written_twice(table, at_once):
    writer = table.writer()
    seen = {}
    for step in range(6):
        writer.append(_batch(step * 10))
        manifest = table.compact(is_over=step == 5)
        files = _files(table)
        assert {path: files[path] for path in seen} == seen
        assert len(files) == len(seen) + 2
        seen = files
        assert manifest.rows == step * 10 + 10
        assert table.column("id") == [str(row) for row in range(manifest.rows)]
        assert len(table.media(table.column("image"))) == manifest.rows
    assert {str(path.relative_to(table.target)) for path in seen} == {
        one.path for one in (*table.manifest.data, *table.manifest.media)
    }


def test_compacting_again_changes_nothing(table, at_once):
    table.writer().append(_batch(0))
    table.compact(is_over=False)
    files, manifest = _files(table), (table.target / "manifest.json").stat().st_mtime_ns
    for is_over in (False, True, True, False):
        table.compact(is_over=is_over)
        assert _files(table) == files
        assert (table.target / "manifest.json").stat().st_mtime_ns == manifest


def test_rows_wait_until_they_are_a_minute_old(table, monkeypatch):
    table.writer().append(_batch(0))
    assert table.compact(is_over=False) is None
    assert not table.target.exists()
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert table.compact(is_over=False).rows == 10


def test_rows_wait_longer_in_a_long_run(table, monkeypatch):
    table.writer().append(_batch(0))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 36_000)
    table.writer().append(_batch(10))
    later = now + 36_000 + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert table.compact(is_over=False).rows == 20
    table.writer().append(_batch(20))
    monkeypatch.setattr(time, "time", lambda: later + 1000)
    assert table.compact(is_over=False).rows == 20
    monkeypatch.setattr(time, "time", lambda: later + 2000)
    assert table.compact(is_over=False).rows == 30


def test_full_shards_do_not_wait(table, monkeypatch):
    monkeypatch.setattr(compaction, "SHARD_ROWS", 1000)
    monkeypatch.setattr(compaction, "SHARD_BYTES", 40_000)
    monkeypatch.setattr(compaction, "_LOOK_SECONDS", 0)
    table.writer().append({"n": np.arange(10_000)})
    table.writer().append({"n": np.arange(10)})
    assert table.compact(is_over=False).rows == 10_000
    assert table.compact(is_over=False).rows == 10_000
    assert table.compact().rows == 10_010


def test_shards_are_cut_by_rows(table):
    writer = table.writer()
    for _ in range(25):
        writer.append({"n": np.zeros(10_000)})
    assert [one.rows for one in table.compact().data] == [100_000, 100_000, 50_000]


def test_shards_are_cut_by_bytes(table):
    writer = table.writer()
    for _ in range(10):
        writer.append({"t": ["x" * 1_000_000] * 20})
    assert [one.rows for one in table.compact().data] == [80, 80, 40]


def test_packs_are_cut_by_bytes(table, monkeypatch):
    monkeypatch.setattr(packs, "PACK_BYTES", 20_000)
    random = np.random.default_rng(0)
    table.writer().append({"image": random.integers(0, 256, (40, 40, 40), dtype=np.uint8)})
    manifest = table.compact()
    assert sum(one.rows for one in manifest.media) == 40
    assert len(manifest.media) > 2
    assert all(one.size_bytes < 30_000 for one in manifest.media)
    assert len(table.media(table.column("image"))) == 40


def test_raw_files_go_when_it_is_over_and_the_run_may_go_on(table, at_once):
    first = table.writer()
    first.append(_batch(0))
    table.compact(is_over=False)
    assert list(table.source.glob("*.rows"))
    first.close()
    table.compact()
    assert not [*table.source.glob("*.rows"), *table.source.glob("*.media")]
    writer = table.writer(most_images=0)
    writer.append(_batch(10))
    assert table.compact(is_over=False).rows == 20
    writer.append(_batch(20))
    manifest = table.compact()
    assert manifest.rows == 30
    assert manifest.left_out == {"images beyond the table's limit": 20}
    assert table.column("id") == [str(row) for row in range(30)]
    assert table.compact() == manifest


def test_who_writes_on_when_it_is_said_to_be_over_loses_nothing(table):
    """A rank that is slower than the one whose end ends the run."""
    slow = table.writer(writer="rank-0001")
    slow.append(_batch(0))
    assert table.compact().rows == 10
    slow.append(_batch(10))
    assert table.compact().rows == 20
    slow.close()
    assert table.compact().rows == 20
    assert table.column("id") == [str(row) for row in range(20)]
    assert not [*table.source.glob("*.rows"), *table.source.glob("*.media")]


def test_what_was_left_out_before_a_run_went_on_is_still_counted(table, at_once):
    writer = table.writer(policy=First(10))
    writer.append(_batch(0))
    assert table.compact(is_over=False) is None  # the epoch may go on
    writer.append(_batch(0))
    assert table.compact().left_out == {"rows left out by the policy": 10}
    table.writer().append(_batch(10))
    manifest = table.compact()
    assert (manifest.rows, manifest.left_out) == (20, {"rows left out by the policy": 10})


def test_what_is_left_out_is_not_read_again_at_each_call(table, monkeypatch):
    writer = table.writer(policy=First(10))
    writer.append(_batch(0))
    writer.append(_batch(0))
    looks = []
    original = compaction.MergedRows
    monkeypatch.setattr(compaction, "MergedRows", lambda *a, **k: looks.append(1) or original(*a, **k))
    for second, expected in ((0, 0), (61, 1), (62, 1), (123, 2), (124, 2)):
        later = time.time() + second
        monkeypatch.setattr(compaction.time, "time", lambda later=later: later)
        writer.append(_batch(0))
        table.compact(is_over=False)
        monkeypatch.undo()
        monkeypatch.setattr(compaction, "MergedRows", lambda *a, **k: looks.append(1) or original(*a, **k))
        assert len(looks) == expected


# For each step of a compaction: kills it there, on a copy of the table, and then lets another one come to the end.
KILLED = """
import os, shutil, sys
from pathlib import Path
from mlflow_dovetail.prediction_tables import compaction, packs, settling
from mlflow_dovetail.prediction_tables.compaction import compact

settling._TOGETHER_BATCHES = 5
compaction.SHARD_ROWS = 1000
packs.PACK_BYTES = 1000
source, target, calls, after = Path(sys.argv[1]), Path(sys.argv[2]), 0, 0

def dying(original):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == after:
            os.kill(os.getpid(), 9)
        return original(*arguments, **named)
    return call

def compact_in_child(folder):
    child = os.fork()
    if child == 0:
        compact(folder / "source", folder / "target", is_over=True)
        os._exit(0)
    return os.waitpid(child, 0)[1]

# Every change of a file goes through one of these.
os.fsync, os.utime = dying(os.fsync), dying(os.utime)
Path.replace, Path.unlink, Path.mkdir = dying(Path.replace), dying(Path.unlink), dying(Path.mkdir)
status = 9
shutil.copytree(source, target / "0")
compact(target / "0", target / "unharmed", is_over=True)
for killed_at in range(1, 100):
    after, folder = 0, target / str(killed_at)
    shutil.copytree(source, folder / "source")
    after, calls = killed_at, 0
    status = compact_in_child(folder)
    after = 0
    if compact_in_child(folder) != 0:
        sys.exit(1)
    print(status, flush=True)
    if status == 0:
        break
"""


def test_a_kill_at_every_step_loses_and_doubles_nothing(table, tmp_path):
    writers = [table.writer(writer=rank, most_images=10) for rank in "01"]
    for step in range(30):
        writers[step % 2].append(_batch(step * 100, 100, levels=16))
    command = [sys.executable, "-c", KILLED, str(table.source), str(tmp_path / "killed")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *killed, last = done.stdout.split()
    assert set(killed) == {str(int(signal.SIGKILL))}
    assert last == "0"
    assert len(killed) >= 15
    expected = read_manifest(tmp_path / "killed" / "unharmed")
    assert (len(expected.data), len(expected.media)) == (3, 2)
    # Each writer has kept 10 of 16, of which they share 6.
    assert expected.left_out == {"images beyond the table's limit": 2 * 6 + 4}
    assert sum(one.rows for one in expected.media) == 10
    for step in range(1, len(killed) + 2):
        folder = tmp_path / "killed" / str(step)
        assert read_manifest(folder / "target") == expected
        rows = read_table(folder / "target", ["id", "image"]).to_pydict()
        assert sorted(map(int, rows["id"])) == list(range(3000))
        assert len(read_media(folder / "target", rows["image"])) == sum(one.rows for one in expected.media)
        assert sorted(path.name for path in (folder / "source").iterdir()) == [
            "columns.json",
            "over.json",
            "table.json",
        ]
        assert not list((folder / "target").rglob(".*"))
        assert len(list((folder / "target" / "data").iterdir())) == 3


def test_ten_tables_of_two_hundred_epochs(tmp_path, at_once):
    writers = [TableWriter(tmp_path / "tables", f"t{index}") for index in range(10)]
    for epoch in range(200):
        for writer in writers:
            writer.append({"id": ["a", "b"], "epoch": epoch, "loss": [0.5, epoch / 10]})
        if epoch % 50 == 0:
            compact(writers[0].folder, tmp_path / "out" / "t0", is_over=False)
    for index, writer in enumerate(writers):
        out = tmp_path / "out" / f"t{index}"
        assert compact(writer.folder, out, is_over=True).rows == 400
        assert read_table(out, ["epoch"])["epoch"].to_pylist() == [epoch for epoch in range(200) for _ in "ab"]


MEASURED = """
import re, sys
from pathlib import Path
from mlflow_dovetail.prediction_tables import compaction
from mlflow_dovetail.prediction_tables.compaction import compact

compaction.SHARD_BYTES = 8 << 20
source, target = map(Path, sys.argv[1:])
compact(source / "small", target / "small", is_over=True)  # the imports
def peak_kilobytes():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak_kilobytes()
compact(source / "large", target / "large", is_over=True)
print(peak_kilobytes() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process's peak is read from /proc")
def test_memory_is_bounded_by_a_shard(tmp_path):
    tables, out = tmp_path / "tables", tmp_path / "out"
    TableWriter(tables, "small").append({"n": [1]})
    writer = TableWriter(tables, "large")
    for _ in range(200):
        writer.append({f"c{index}": ["x" * 1000] * 50 for index in range(10)})  # 100 MB
    command = [sys.executable, "-c", MEASURED, str(tables), str(out)]
    kilobytes = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert read_manifest(out / "large").rows == 10_000
    assert kilobytes < 50_000


def test_a_shard_is_a_plain_parquet_file(table):
    table.writer().append({"id": ["a"], "probabilities": [[0.5, 0.5]], "loss": [1.0], "label": [3], "other": [{}]})
    table.compact()
    shard = pq.ParquetFile(table.target / "data" / "part-00001.parquet")
    assert str(shard.schema_arrow.remove_metadata()).splitlines() == [
        "id: string",
        "probabilities: list<element: float>",
        "  child 0, element: float",
        "loss: double",
        "label: int64",
        "other: string",
    ]
    assert shard.metadata.row_group(0).column(0).compression == "ZSTD"


def test_the_stored_form_is_what_version_1_says():
    """Whoever changes what is stored changes the version too, and keeps reading the earlier one."""
    manifest = Manifest(
        table="val",
        columns=(Column("id", "id"), Column("label", "class", ("cat", "dog"))),
        rows=3,
        data=(File("data/part-00001.parquet", 3, 100),),
        media=(File("media/pack-00001.parquet", 2, 50),),
        policy="first 3",
        left_out={"rows left out by the policy": 4},
    )
    assert msgspec.json.encode(manifest) == (
        b'{"table":"val","columns":[{"name":"id","kind":"id"},{"name":"label","kind":"class","classes":["cat","dog"]}],'
        b'"rows":3,"data":[{"path":"data/part-00001.parquet","rows":3,"size_bytes":100}],'
        b'"media":[{"path":"media/pack-00001.parquet","rows":2,"size_bytes":50}],'
        b'"policy":"first 3","left_out":{"rows left out by the policy":4}}'
    )
    assert schema.VERSION == 1
    assert schema.MEDIA_COLUMNS == ("digest", "format", "width", "height", "image", "thumbnail")
    kinds = ("id", "image", "text", "class", "probabilities", "number", "json")
    assert schema.Kind.__args__ == kinds


def test_a_table_of_a_later_version_is_not_touched(table):
    table.writer().append(_batch(0))
    path = table.source / "table.json"
    record = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**record, "version": 2, "policy": {"type": "unheard of"}}))
    with pytest.raises(Exception, match="pip install --upgrade"):
        table.compact()
    assert list(table.source.glob("*.rows"))
    assert list(table.root.iterdir()) == [table.tables]
