"""Appending: one write an entry, times that never repeat, and a disk that is full."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from journals import Writing

from mlflow_dovetail.errors import Degraded
from mlflow_dovetail.journal import JournalWriter, clock_ms, entries, writer
from mlflow_dovetail.journal.entries import Close, Entry, Metrics, Params, Start, Trouble
from mlflow_dovetail.run_folder import RunFolder, SegmentReader

Write = Callable[..., Writing]


def read(folder: RunFolder, number: int = 1) -> list[Entry]:
    reader, found = SegmentReader(folder.segment(number)), []
    while more := [entries.decode(payload) for payload in reader.read()]:
        found += more
    return found


def metrics_of(folder: RunFolder) -> list[tuple[int, dict[str, float]]]:
    return [(entry.step, entry.values) for entry in read(folder) if isinstance(entry, Metrics)]


@pytest.fixture
def full_disk(folder: RunFolder) -> Iterator[Callable[[bool], None]]:
    """`full_disk(True)` lets no file grow beyond 4 KiB more than the journal has now, as a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def set_full(is_full: bool) -> None:
        size = folder.segment(1).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096 if is_full else before[0], before[1]))

    yield set_full
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_journal_begins_and_ends_with_its_writer(folder: RunFolder, write: Write):
    writing = write("resume", 3)
    assert not entries.is_closed(folder.segment(1))
    writing.metrics(7, loss=0.5)
    writing.writer.close()
    start, metrics, close = read(folder)
    assert isinstance(start, Start) and (start.kind, start.attempt) == ("resume", 3)
    assert isinstance(metrics, Metrics) and (metrics.step, metrics.values) == (7, {"loss": 0.5})
    assert isinstance(close, Close)
    assert entries.is_closed(folder.segment(1))
    assert entries.kind_of(folder.segment(1)) == "resume"
    assert writing.writer.is_closed
    writing.writer.close()


def test_what_was_logged_is_there_before_the_call_returns(folder: RunFolder, write: Write):
    writing = write()
    for step in range(50):
        writing.metrics(step, loss=step / 7)
        assert metrics_of(folder)[-1] == (step, {"loss": step / 7})


def test_times_rise_strictly_within_a_step(folder: RunFolder, write: Write):
    writing = write()
    for number in range(300):
        writing.metrics(number // 100, same=1.0)
    times = [(entry.step, entry.time_ms) for entry in read(folder) if isinstance(entry, Metrics)]
    assert all(before < after for before, after in itertools.pairwise(times))


def test_the_clock_never_goes_back_when_the_walls_is_set(monkeypatch: pytest.MonkeyPatch):
    before = clock_ms()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= clock_ms() < before + 5_000
    monkeypatch.undo()
    assert abs(clock_ms() - time.time() * 1000) < 60_000


def test_threads_write_whole_records(folder: RunFolder, write: Write):
    writing = write()

    def log(thread: int) -> None:
        for step in range(200):
            writing.metrics(step, **{f"thread{thread}": float(step)})

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = metrics_of(folder)
    assert len(found) == 800
    for number in range(4):
        assert [step for step, values in found if f"thread{number}" in values] == list(range(200))


def test_a_forked_child_appends_to_the_same_journal_and_closes_nothing(folder: RunFolder):
    code = """
import os, sys
from pathlib import Path
from mlflow_dovetail.journal import JournalWriter
from mlflow_dovetail.run_folder import RunFolder
writer = JournalWriter(RunFolder.open(Path(sys.argv[1])), "create", 1)
child = os.fork()
for step in range(500):
    writer.metrics({"child" if child == 0 else "parent": float(step)}, step)
if child == 0:
    writer.close()
    os._exit(0)
os.waitpid(child, 0)
writer.close()
"""
    subprocess.run([sys.executable, "-c", code, str(folder.path)], check=True, timeout=60)
    found = read(folder)
    steps = [next(iter(entry.values)) for entry in found if isinstance(entry, Metrics)]
    assert (steps.count("child"), steps.count("parent")) == (500, 500)
    assert sum(isinstance(entry, Close) for entry in found) == 1 and isinstance(found[-1], Close)


def test_a_full_disk_stops_nothing_and_loses_nothing_once_there_is_room(
    folder: RunFolder, write: Write, full_disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(writer, "_TRY_AGAIN_MS", 0)
    writing = write()
    writing.metrics(0, loss=0.0)
    full_disk(True)
    for step in range(1, 500):
        writing.metrics(step, loss=float(step))
    assert 0 < len(metrics_of(folder)) < 500
    full_disk(False)
    for step in range(500, 600):
        writing.metrics(step, loss=float(step))
    assert metrics_of(folder) == [(step, {"loss": float(step)}) for step in range(600)]
    troubles = [entry for entry in read(folder) if isinstance(entry, Trouble)]
    assert [entry.count for entry in troubles] == [1]
    assert "File too large" in troubles[0].cause or "full" in troubles[0].cause
    assert sum("Make room where" in record.getMessage() for record in caplog.records) == len(
        {record.getMessage() for record in caplog.records}
    )


def test_more_than_memory_may_hold_is_counted_and_logging_recovers(
    folder: RunFolder, write: Write, full_disk, monkeypatch: pytest.MonkeyPatch
):
    """A disk that stays full for long: what is lost is counted, and what comes after it is written again."""
    monkeypatch.setattr(writer, "_TRY_AGAIN_MS", 0)
    monkeypatch.setattr(writer, "_HELD_BYTES", 10_000)
    writing = write()
    full_disk(True)
    for step in range(2000):
        writing.metrics(step, loss=float(step))
    full_disk(False)
    for step in range(2000, 2010):
        writing.metrics(step, loss=float(step))
    writing.end()
    steps = [step for step, _ in metrics_of(folder)]
    assert steps == sorted(set(steps))
    assert steps[-10:] == list(range(2000, 2010))
    lost = [entry.count for entry in read(folder) if isinstance(entry, Trouble) and "lost" in entry.cause]
    assert sum(lost) == 2010 - len(steps)


def test_strict_raises_when_something_cannot_be_recorded_and_keeps_it_all_the_same(
    folder: RunFolder, write: Write, full_disk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "_TRY_AGAIN_MS", 0)
    monkeypatch.setenv("DOVETAIL_STRICT", "1")
    writing = write()
    with pytest.raises(Degraded, match=r"no picture of key\. Draw it"):
        writing.writer.trouble("no picture of key", "Draw it.")
    full_disk(True)
    with pytest.raises(Degraded, match="Make room where"):
        for step in range(500):
            writing.metrics(step, loss=float(step))
    full_disk(False)
    writing.metrics(500, loss=1.0)
    steps = [step for step, _ in metrics_of(folder)]
    assert steps == [*range(len(steps) - 1), 500]


def test_trouble_is_counted_each_time_and_said_once(folder: RunFolder, write: Write, caplog: pytest.LogCaptureFixture):
    writing = write()
    for _ in range(3):
        writing.writer.trouble("no such thing", "Bring one.")
    assert [(entry.cause, entry.count) for entry in read(folder) if isinstance(entry, Trouble)] == [
        ("no such thing", 1)
    ] * 3
    assert caplog.text.count("no such thing") == 1


def test_what_is_logged_after_the_close_is_said_and_kept_nowhere(
    folder: RunFolder, write: Write, caplog: pytest.LogCaptureFixture
):
    writing = write()
    writing.end()
    size = folder.segment(1).stat().st_size
    for step in range(100):
        writing.metrics(step, late=1.0)
    assert folder.segment(1).stat().st_size == size
    assert writing.writer._held_bytes == 0
    assert "closed" in caplog.text
    assert "Make room" not in caplog.text


def test_text_that_is_no_unicode_is_escaped_and_nothing_else_is_lost(folder: RunFolder, write: Write):
    writing = write()
    name = os.fsdecode(b"caf\xe9")
    writing.params({name: name, "lr": "0.1"})
    writing.writer.metrics({name: 1.0, "loss": 2.0}, 3)
    writing.writer.append(entries.File(clock_ms(), f"files/{name}", "1", 0, ""))
    _, params, metrics, file = read(folder)
    assert isinstance(params, Params) and params.values == {"caf\\udce9": "caf\\udce9", "lr": "0.1"}
    assert isinstance(metrics, Metrics) and metrics.values == {"caf\\udce9": 1.0, "loss": 2.0}
    assert isinstance(file, entries.File) and file.path == "files/caf\\udce9"


def test_an_entry_that_no_reader_would_take_is_refused_and_counted(folder: RunFolder, write: Write):
    writing = write()
    writing.params({"huge": "x" * (65 << 20)})
    writing.metrics(1, loss=1.0)
    writing.end()
    found = read(folder)
    assert any(isinstance(entry, Trouble) and "64 MiB" in entry.cause for entry in found)
    assert metrics_of(folder) == [(1, {"loss": 1.0})]


def test_a_journal_survives_the_death_of_its_writer(folder: RunFolder, tmp_path: Path):
    code = """
import os, signal, sys
from pathlib import Path
from mlflow_dovetail.journal import JournalWriter
from mlflow_dovetail.run_folder import RunFolder
writer = JournalWriter(RunFolder.open(Path(sys.argv[1])), "create", 1)
for step in range(1000):
    writer.metrics({"loss": step / 3}, step)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code, str(folder.path)], timeout=60).returncode == -9
    assert metrics_of(folder) == [(step, {"loss": step / 3}) for step in range(1000)]
    assert folder.life(1) == "dead"


def test_writers_of_one_folder_have_a_segment_each(folder: RunFolder):
    writers = [JournalWriter(folder, "append", 1) for _ in range(3)]
    assert [one.number for one in writers] == [1, 2, 3]
    for one in writers:
        one.close()
