"""Sending: in order, each point exactly once, whatever fails and however often."""

from __future__ import annotations

import importlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from journals import Writing, artifacts, new_folder, points, send

from mlflow_dovetail import names, store
from mlflow_dovetail.errors import RunFolderBusy, RunNotFound, StoreRefused, StoreUnavailable
from mlflow_dovetail.journal import OutOfTime, Progress, Sender, entries, is_complete, sending, staging
from mlflow_dovetail.records import MetricPoint
from mlflow_dovetail.run_folder import Ending, Lease, RunFolder, write_whole
from mlflow_dovetail.store import MemoryStore, RunStore

Write = Callable[..., Writing]
SENDING = importlib.import_module("mlflow_dovetail.journal.sending")  # the package has a function of that name


class FailingStore:
    """A store whose n-th call fails: before it did anything, or after, with its answer lost."""

    def __init__(self, store: RunStore, fail_at: int, *, after: bool) -> None:
        self._store, self._fail_at, self._after = store, fail_at, after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        return self._failing(value) if callable(value) else value

    def _failing(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self._fail_at and not self._after:
                raise StoreUnavailable("Cannot go on.", "The connection was reset.", "Try again.")
            answer = verb(*args, **kwargs)
            if self.calls == self._fail_at:
                raise StoreUnavailable("Cannot go on.", "The answer was lost.", "Try again.")
            return answer

        return call


def write_a_whole_run(folder: RunFolder) -> None:
    """Everything that a journal can hold, in two attempts."""
    first = Writing(folder)
    first.params({"lr": "0.1", "long": "x" * 7000})
    first.tags({"who": "me", "mlflow.note.content": "a note"})
    first.input("digits")
    first.monitor("loss", "min")
    for step in range(40):
        first.writer.metrics({"loss": 40.0 - step, "acc@1": float("nan") if step == 3 else step / 40}, step)
    first.file("notes.txt", b"first")
    first.file("deep/er/a.bin", bytes(1000))
    first.end("KILLED", "SIGTERM")
    second = Writing(folder, "resume", 2)
    second.params({"lr": "0.2", "new": "1"})
    second.file("notes.txt", b"second")
    for step in range(30, 60):
        second.writer.metrics({"loss": 40.0 - step, "acc@1": step / 40}, step)
    second.end("FINISHED")


def state(store: RunStore, run_id: str, into: Path) -> dict[str, Any]:
    run = store.get_run(run_id)
    own = {"mlflow.runName", names.TAG_TOKEN}
    return {
        "points": repr(points(store, run_id)),
        "params": run.params,
        "tags": {key: value for key, value in run.tags.items() if key not in own and not key.startswith("mlflow.user")},
        "inputs": run.inputs,
        "status": run.status,
        "end": run.end_time_ms,
        "artifacts": artifacts(store, run_id, into),
    }


def copy_of(folder: RunFolder, root: Path) -> RunFolder:
    """The folder again under a token of its own, never sent."""
    copy = new_folder(root)
    for part in ("journal", "lease", "artifacts"):
        shutil.copytree(folder.path / part, copy.path / part, dirs_exist_ok=True)
    return copy


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
def test_a_failure_at_any_call_costs_nothing_and_doubles_nothing(
    folder: RunFolder, tmp_path: Path, run_store: RunStore, after: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(SENDING, "_POINTS_AT_ONCE", 50)
    monkeypatch.setattr(names, "MAX_METRICS_PER_BATCH", 20)
    write_a_whole_run(folder)
    counting = FailingStore(run_store, 0, after=after)
    expected = state(run_store, send(copy_of(folder, tmp_path), counting).progress.run_id, tmp_path / "expected")
    assert expected["artifacts"]["notes.txt"] == b"second"
    assert counting.calls > 15
    every = 1 if isinstance(run_store, MemoryStore) else 7
    for fail_at in range(1, counting.calls + 1, every):
        copy = copy_of(folder, tmp_path)
        failing = FailingStore(run_store, fail_at, after=after)
        try:
            done = Sender(copy, failing).send()
        except StoreUnavailable:
            done = False
        sender = send(copy, run_store)
        assert state(run_store, sender.progress.run_id, tmp_path / "found") == expected, (fail_at, done)
        assert len(run_store.search(names.TAG_TOKEN, copy.token)) == 1


def test_sending_again_changes_nothing_and_asks_for_nothing(folder: RunFolder, memory: MemoryStore, tmp_path: Path):
    write_a_whole_run(folder)
    run_id = send(folder, memory).progress.run_id
    before = state(memory, run_id, tmp_path / "before")
    counting = FailingStore(memory, 0, after=False)
    send(folder, counting)
    assert counting.calls <= 1
    assert state(memory, run_id, tmp_path / "after") == before


def test_sending_while_it_is_written_gives_the_same_as_sending_at_the_end(
    folder: RunFolder, write: Write, memory: MemoryStore
):
    writing = write()
    for step in range(300):
        writing.metrics(step, loss=1.0, same=2.0)
        if step % 7 == 0:
            sender = Sender(folder, memory)
            assert not sender.send()
            assert memory.get_run(sender.progress.run_id).status == "RUNNING"
    writing.end()
    sent = points(memory, send(folder, memory).progress.run_id)
    assert sent["loss"] == [(step, 1.0) for step in range(300)] and sent["same"] == [(s, 2.0) for s in range(300)]


def test_equal_values_at_one_step_are_all_there(folder: RunFolder, write: Write, run_store: RunStore):
    writing = write()
    for _ in range(500):
        writing.metrics(0, hits=1.0)
    writing.end()
    assert points(run_store, send(folder, run_store).progress.run_id)["hits"] == [(0, 1.0)] * 500


def test_a_lost_or_damaged_progress_doubles_nothing(folder: RunFolder, run_store: RunStore, tmp_path: Path):
    write_a_whole_run(folder)
    run_id = send(folder, run_store).progress.run_id
    before = state(run_store, run_id, tmp_path / "before")
    (file,) = folder.sent.iterdir()
    for content in (b"", b"{", b'{"version": 1}'):
        file.write_bytes(content)
        assert send(folder, run_store).progress.run_id == run_id
        assert state(run_store, run_id, tmp_path / "after") == before


def test_the_time_is_kept_and_what_was_sent_is_acknowledged(
    folder: RunFolder, memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(SENDING, "_POINTS_AT_ONCE", 10)
    write_a_whole_run(folder)

    class Slow(FailingStore):
        def log_metrics(self, run_id: str, batch: Sequence[MetricPoint]) -> None:
            time.sleep(0.02)
            memory.log_metrics(run_id, batch)

    turns = 0
    while True:
        turns += 1
        assert turns < 50
        try:
            if Sender(folder, Slow(memory, 0, after=False), deadline=time.monotonic() + 0.05).send():
                break
        except OutOfTime:
            continue
    assert turns > 2
    assert len(points(memory, Sender(folder, memory).progress.run_id)["loss"]) == 60


def test_a_deleted_run_is_said_to_be_missing(folder: RunFolder, write: Write, memory: MemoryStore):
    write()
    Sender(folder, memory).send()
    with pytest.raises(RunNotFound):
        Sender(folder, _with_uri(MemoryStore(), memory.uri)).store.get_run(Sender(folder, memory).progress.run_id)
    progress = Progress.load(folder, memory.uri)
    progress.run_id = "0" * 32
    progress.save(folder)
    write().metrics(1, loss=1.0)
    with pytest.raises(RunNotFound):
        Sender(folder, memory).send()


def _with_uri(memory: MemoryStore, uri: str) -> MemoryStore:
    assert memory.uri == uri
    return memory


# What a store refuses


def test_a_refused_point_costs_itself_alone(folder: RunFolder, write: Write, memory: MemoryStore):
    class Refusing(FailingStore):
        def log_metrics(self, run_id: str, batch: Sequence[MetricPoint]) -> None:
            if any(point.step == 77 and point.key == "loss" for point in batch):
                raise StoreRefused("Cannot log.", "Seventy-seven is not liked.", "Log another.")
            memory.log_metrics(run_id, batch)

    writing = write()
    for step in range(200):
        writing.metrics(step, loss=1.0, acc=2.0)
    writing.end()
    run_id = send(folder, Refusing(memory, 0, after=False)).progress.run_id
    sent = points(memory, run_id)
    assert [step for step, _ in sent["loss"]] == [step for step in range(200) if step != 77]
    assert len(sent["acc"]) == 200
    assert "Seventy-seven is not liked. ×1" in memory.get_run(run_id).tags["dovetail.status.journal"]


@pytest.mark.parametrize("verb", ["set_tags", "log_params"])
def test_a_refused_param_or_tag_costs_no_other(folder: RunFolder, write: Write, memory: MemoryStore, verb: str):
    class Refusing(FailingStore):
        def _checked(self, put: Callable[..., None], run_id: str, values: Mapping[str, str]) -> None:
            if "bad" in values:
                raise StoreRefused("Cannot log.", "Bad is bad.", "Log another.")
            put(run_id, values)

        def __getattr__(self, name: str) -> Any:
            found = super().__getattr__(name)
            return (lambda run_id, values: self._checked(found, run_id, values)) if name == verb else found

    writing = write()
    (writing.params if verb == "log_params" else writing.tags)({"a": "1", "bad": "2", "c": "3"})
    writing.end()
    run = memory.get_run(send(folder, Refusing(memory, 0, after=False)).progress.run_id)
    there = run.params if verb == "log_params" else run.tags
    assert (there["a"], there["c"], "bad" in there) == ("1", "3", False)
    assert "bad refused: Bad is bad. ×1" in run.tags["dovetail.status.journal"]
    assert run.status == "FINISHED"


def test_params_that_change_are_told_by_attempt_and_stop_nothing(folder: RunFolder, write: Write, run_store: RunStore):
    long = {f"long {number}": "x" * 7000 for number in range(3)}
    write().params({"lr": "0.1", "same": "1", **long})
    first = send_open(folder, run_store)
    second = write("resume", 2)
    second.params({"lr": "0.2", "same": "1", "new": "3", **long})
    second.params({"lr": "0.3"})
    second.end("FAILED")
    send_open(folder, run_store)
    third = write("resume", 3)
    third.params({"lr": "0.4"})
    third.end()
    run = run_store.get_run(send_open(folder, run_store).progress.run_id)
    assert run.run_id == first.progress.run_id
    assert (run.params["lr"], run.params["same"], run.params["new"]) == ("0.1", "1", "3")
    assert json.loads(run.tags["dovetail.changed_params"]) == {"2": {"lr": "0.3"}, "3": {"lr": "0.4"}}


def send_open(folder: RunFolder, store: RunStore) -> Sender:
    sender = Sender(folder, store)
    sender.send()
    return sender


def test_more_changed_params_than_a_tag_holds_are_told_in_part_at_every_resume(
    folder: RunFolder, write: Write, memory: MemoryStore
):
    names_of_all = [f"a.rather.long.name.of.a.param.number.{number}" for number in range(300)]
    for attempt in (1, 2, 3):
        writing = write("create" if attempt == 1 else "resume", attempt)
        writing.params(dict.fromkeys(names_of_all, f"{attempt}" * 100))
        writing.end()
        run = memory.get_run(send(folder, memory).progress.run_id)
    text = run.tags["dovetail.changed_params"]
    assert len(text) <= 8000
    assert "more" in json.loads(text)["3"]["…"]
    assert run.status == "FINISHED"


def test_somebody_elses_words_in_the_tag_of_changed_params_stop_nothing(
    folder: RunFolder, write: Write, memory: MemoryStore
):
    write().params({"lr": "1"})
    run_id = send_open(folder, memory).progress.run_id
    memory.set_tags(run_id, {"dovetail.changed_params": "not json {"})
    again = write("resume", 2)
    again.params({"lr": "2"})
    again.end()
    send_open(folder, memory)
    assert json.loads(memory.get_run(run_id).tags["dovetail.changed_params"]) == {"2": {"lr": "2"}}


# Files


def test_a_later_file_of_a_path_replaces_the_earlier_one_and_its_copy_goes(
    folder: RunFolder, write: Write, memory: MemoryStore, tmp_path: Path
):
    writing = write()
    copies = [writing.file("last.ckpt", content) for content in (b"one", b"two", b"three")]
    run_id = send_open(folder, memory).progress.run_id
    assert artifacts(memory, run_id, tmp_path / "a") == {"last.ckpt": b"three"}
    assert [staging.find(folder, copy) is not None for copy in copies] == [False, False, True]
    writing.file("last.ckpt", b"four")
    writing.end()
    send(folder, memory)
    assert artifacts(memory, run_id, tmp_path / "b") == {"last.ckpt": b"four"}


def test_a_file_that_cannot_be_stored_waits_and_the_rest_goes_on(
    folder: RunFolder, write: Write, memory: MemoryStore, tmp_path: Path
):
    class NoArtifacts(FailingStore):
        tried = 0

        def log_artifact(self, *_: object) -> None:
            NoArtifacts.tried += 1
            raise StoreUnavailable("Cannot store it.", "The bucket does not answer.", "Wait.")

    writing = write()
    for number in range(5):
        writing.file(f"{number}.bin", b"x" * number)
    writing.metrics(1, loss=0.5)
    writing.end("FAILED", "exception: ValueError: x")
    sender = Sender(folder, NoArtifacts(memory, 0, after=False))
    assert not sender.send()
    run = memory.get_run(sender.progress.run_id)
    assert (run.status, run.metrics["loss"]) == ("FAILED", 0.5)
    assert "not stored yet, The bucket does not answer. ×5" in run.tags["dovetail.status.journal"]
    assert NoArtifacts.tried == 1  # each may take minutes, and the recorder has other work
    send(folder, memory)
    run = memory.get_run(run.run_id)
    assert run.tags["dovetail.status.journal"] == "ok"
    assert len(artifacts(memory, run.run_id, tmp_path / "a")) == 5


def test_a_copy_that_somebody_has_deleted_is_said_to_be_lost(folder: RunFolder, write: Write, memory: MemoryStore):
    writing = write()
    (folder.artifacts / writing.file("gone.txt", b"x")).unlink()
    writing.file("there.txt", b"y")
    writing.end()
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert [file.path for file in memory.list_artifacts(run.run_id)] == ["there.txt"]
    assert "gone.txt is lost: its copy is gone ×1" in run.tags["dovetail.status.journal"]


def test_a_linked_file_is_copied_and_sent_also_when_the_trainer_has_deleted_it(
    folder: RunFolder, write: Write, memory: MemoryStore, tmp_path: Path
):
    source = tmp_path / "last.ckpt"
    source.write_bytes(b"weights")
    writing = write()
    size, digest = staging.pin(folder, source, "0001-1")
    writing.writer.append(entries.File(1, "checkpoints/last.ckpt", "0001-1", size, digest))
    writing.end()
    source.unlink()  # by the trainer, which keeps only the best
    run_id = send(folder, memory).progress.run_id
    assert artifacts(memory, run_id, tmp_path / "a") == {"checkpoints/last.ckpt": b"weights"}
    assert list(folder.artifacts.glob("*.pin")) == []


def test_a_linked_file_that_is_being_rewritten_is_copied_later(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = tmp_path / "last.ckpt"
    source.write_bytes(b"a" * 100)
    staging.pin(folder, source, "1")
    copy_file = staging.copy_file

    def copy_while_it_changes(link: Path, copy: Path) -> tuple[int, str]:
        done = copy_file(link, copy)
        with source.open("ab") as file:
            file.write(b"more")
        return done

    monkeypatch.setattr(staging, "copy_file", copy_while_it_changes)
    staging.stage(folder)
    assert staging.is_pinned(folder, "1") and staging.find(folder, "1") is None
    monkeypatch.undo()
    staging.stage(folder)
    found = staging.find(folder, "1")
    assert found and found.read_bytes() == b"a" * 100 + b"more" and not staging.is_pinned(folder, "1")


def test_two_who_stage_at_once_disturb_each_other_in_nothing(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The recorder and the trainer at its end: the slower one finds a link gone, and goes on with the others."""
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(b"%d" % number)
        staging.pin(folder, tmp_path / f"{number}", f"{number}")
    copy_file = staging.copy_file

    def copy_while_another_is_done(link: Path, copy: Path) -> tuple[int, str]:
        done = copy_file(link, copy)
        if link.name == "0.pin":
            link.unlink()
        return done

    monkeypatch.setattr(staging, "copy_file", copy_while_another_is_done)
    staging.stage(folder)
    found = [staging.find(folder, f"{number}") for number in range(3)]
    assert [path and path.read_bytes() for path in found] == [b"0", b"1", b"2"]


def test_large_copies_are_given_back_and_fetched_again_for_another_store(tmp_path: Path, database: str):
    home, other = store.open(database, "home"), MemoryStore()
    folder = new_folder(tmp_path, tracking_uri=home.uri)
    writing = Writing(folder)
    large, small = writing.file("a/model.ckpt", b"w" * (2 << 20)), writing.file("small.txt", b"s")
    writing.end()
    send(folder, home)
    assert staging.find(folder, large) is None and staging.find(folder, small) is not None
    run_id = send(folder, other).progress.run_id
    assert artifacts(other, run_id, tmp_path / "a") == {"a/model.ckpt": b"w" * (2 << 20), "small.txt": b"s"}
    assert other.get_run(run_id).tags["dovetail.status.journal"] == "ok"


def test_what_the_recorder_makes_is_sent_again_when_it_changes(
    folder: RunFolder, write: Write, memory: MemoryStore, tmp_path: Path
):
    writing = write()
    for content in (b"one line\n", b"one line\ntwo lines\n"):
        write_whole(folder.captured / "console.log", content)
        run_id = send_open(folder, memory).progress.run_id
        assert artifacts(memory, run_id, tmp_path / "a") == {"console.log": content}
    writing.end()
    send(folder, memory)
    write_whole(folder.captured / "console.log", b"later\n")
    assert not is_complete(folder, Progress.load(folder, memory.uri))
    send(folder, memory)
    assert artifacts(memory, run_id, tmp_path / "a") == {"console.log": b"later\n"}


# Endings


def test_a_run_is_running_then_ended_then_running_again(folder: RunFolder, write: Write, run_store: RunStore):
    seen = []
    for attempt, (status, cause) in enumerate([("FAILED", "vanished"), ("KILLED", "SIGINT"), ("FINISHED", "")], 1):
        writing = write("create" if attempt == 1 else "resume", attempt)
        run = run_store.get_run(send_open(folder, run_store).progress.run_id)
        seen.append((run.status, run.end_time_ms is not None, run.tags["dovetail.attempt"]))
        writing.end(status, cause)
        run = run_store.get_run(send(folder, run_store).progress.run_id)
        seen.append((run.status, run.tags.get("dovetail.end.cause", ""), run.end_time_ms is not None))
    assert seen == [
        ("RUNNING", False, "1"),
        ("FAILED", "vanished", True),
        ("RUNNING", True, "2"),
        ("KILLED", "SIGINT", True),
        ("RUNNING", True, "3"),
        ("FINISHED", "", True),
    ]


def test_a_writer_that_goes_on_after_its_end_ends_again(folder: RunFolder, write: Write, memory: MemoryStore):
    """A test after a fit."""
    writing = write()
    writing.writer.append(entries.End(writing.writer.metrics({"loss": 1.0}, 1), "FINISHED", ""))
    run_id = send_open(folder, memory).progress.run_id
    assert memory.get_run(run_id).status == "FINISHED"
    writing.metrics(2, **{"test/loss": 2.0})
    writing.end("FAILED", "exception: ValueError: x")
    send(folder, memory)
    run = memory.get_run(run_id)
    assert (run.status, run.metrics["test/loss"]) == ("FAILED", 2.0)


def test_a_writer_that_is_gone_without_a_word_has_the_ending_that_was_found(
    folder: RunFolder, write: Write, memory: MemoryStore
):
    writing = write()
    writing.metrics(1, loss=1.0)
    kill(folder, 1)
    folder.write_ending(1, Ending("FAILED", "vanished", 1_800_000_000_000))
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert (run.status, run.tags["dovetail.end.cause"]) == ("FAILED", "vanished")
    assert run.end_time_ms == 1_800_000_000_000


def kill(folder: RunFolder, number: int, **lease: str) -> None:
    """As if the segment's writer were dead, or elsewhere."""
    theirs = msgspec.structs.replace(Lease.own(), **(lease or {"start": "1"}))
    write_whole(folder.leases / f"{number:04d}.json", msgspec.json.encode(theirs))


def test_an_ending_that_was_found_too_late_counts_for_nothing(folder: RunFolder, write: Write, memory: MemoryStore):
    writing = write()
    writing.end("FINISHED")
    folder.write_ending(1, Ending("FAILED", "vanished", 1))
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert (run.status, run.tags.get("dovetail.end.cause", "")) == ("FINISHED", "")


def test_a_torn_end_of_a_dead_writer_does_not_keep_a_run_open(folder: RunFolder, write: Write, memory: MemoryStore):
    writing = write()
    writing.metrics(1, loss=1.0)
    for lease in ({"start": "1"}, {"host": "elsewhere", "boot_id": "other"}):
        with folder.segment(1).open("ab") as file:
            file.write(b"\xd7DT\x01half")
        kill(folder, 1, **lease)
        folder.write_ending(1, Ending("FAILED", "vanished", 5))
        run = memory.get_run(send(folder, memory).progress.run_id)
        assert run.status == "FAILED"
        assert "cannot be read" in run.tags["dovetail.status.journal"]


@pytest.mark.parametrize("number", range(6))
def test_a_damaged_record_of_any_kind_costs_itself_and_the_run_still_ends(
    folder: RunFolder, write: Write, memory: MemoryStore, number: int
):
    """Start, metrics, params, metrics, end, close: the first says what the segment is, the last that it is over."""
    writing = write()
    writing.metrics(1, loss=1.0)
    writing.params({"lr": "1"})
    writing.metrics(2, loss=2.0)
    writing.end("KILLED", "SIGTERM")
    data = bytearray(folder.segment(1).read_bytes())
    starts = [index for index in range(len(data)) if data[index : index + 4] == b"\xd7DT\x01"]
    assert len(starts) == 6
    data[starts[number] + 12] ^= 0x40
    folder.segment(1).write_bytes(data)
    kill(folder, 1)
    folder.write_ending(1, Ending("FAILED", "vanished", 5))
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert run.status == ("FAILED" if number == 4 else "KILLED")
    assert len(points(memory, run.run_id).get("loss", [])) == 2 - (number in (1, 3))
    assert "bytes of segment 1 of the journal cannot be read" in run.tags["dovetail.status.journal"]


def test_a_segment_that_holds_nothing_ends_with_its_writer(folder: RunFolder, write: Write, memory: MemoryStore):
    """Its writer was killed before its first entry, or had no room for it."""
    folder.new_segment()
    kill(folder, 1)
    assert not Sender(folder, memory).send()
    folder.write_ending(1, Ending("FAILED", "vanished", 5))
    assert memory.get_run(send(folder, memory).progress.run_id).status == "FAILED"


def test_an_attempt_whose_writer_nobody_can_ask_does_not_keep_a_resumed_run_open(
    folder: RunFolder, write: Write, memory: MemoryStore
):
    """A container or a machine that is gone: the run went on elsewhere, in the same folder, and has ended there."""
    write().metrics(1, loss=1.0)
    kill(folder, 1, pid_namespace="pid:[1]")
    again = write("resume", 2)
    again.metrics(2, loss=2.0)
    assert memory.get_run(send_open(folder, memory).progress.run_id).status == "RUNNING"
    again.end("FINISHED")
    assert memory.get_run(send_open(folder, memory).progress.run_id).status == "FINISHED"


# More than one folder, more than one store


def test_one_folder_goes_to_two_stores_as_the_same_run(
    folder: RunFolder, memory: MemoryStore, database: str, tmp_path: Path
):
    write_a_whole_run(folder)
    with store.open(database, "second") as other:
        first, second = send(folder, memory), send(folder, other)
        assert state(memory, first.progress.run_id, tmp_path / "a") == state(
            other, second.progress.run_id, tmp_path / "b"
        )
    assert len(list(folder.sent.iterdir())) == 2


def test_a_late_sending_does_not_end_a_run_that_another_machine_has_resumed(
    tmp_path: Path, memory: MemoryStore, write: Write, folder: RunFolder
):
    """Machine A was cut off and killed; B resumed the run from the store; then A's folder is sent."""
    here = write()
    here.metrics(1, loss=1.0)
    run_id = send_open(folder, memory).progress.run_id
    here.metrics(2, loss=2.0)
    there = new_folder(tmp_path / "b", token=folder.token, run_id=run_id)
    training = Writing(there, "resume", 2)
    training.metrics(3, loss=3.0)
    send_open(there, memory)
    kill(folder, 1)
    folder.write_ending(1, Ending("FAILED", "vanished", 5))
    send(folder, memory)
    run = memory.get_run(run_id)
    assert (run.status, run.tags["dovetail.attempt"]) == ("RUNNING", "2")
    training.end("FINISHED")
    send(there, memory)
    send(folder, memory)
    run = memory.get_run(run_id)
    assert (run.status, run.tags.get("dovetail.end.cause", "")) == ("FINISHED", "")
    assert points(memory, run_id)["loss"] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_run_that_goes_on_in_another_folder_keeps_what_was_told_of_it(
    tmp_path: Path, memory: MemoryStore, folder: RunFolder, write: Write
):
    first = write()
    for step, value in enumerate([0.5, 0.9, 0.7, float("nan")]):
        first.writer.metrics({"val@acc": value}, step)
    first.end("KILLED")
    run_id = send(folder, memory).progress.run_id
    there = new_folder(tmp_path / "b", token=folder.token, run_id=run_id)
    second = Writing(there, "resume", 2)
    for step, value in enumerate([0.6, 0.8], 3):
        second.writer.metrics({"val@acc": value}, step)
    second.end()
    send(there, memory)
    run = memory.get_run(run_id)
    assert json.loads(run.tags["dovetail.best"]) == {"val@acc": {"value": 0.9, "step": 1}}
    assert json.loads(run.tags["dovetail.renamed"])["val_acc"] == "val@acc"
    assert json.loads(run.tags["dovetail.nonfinite"]) == {"val@acc": {"nan": 1}}
    assert points(memory, run_id)["attempt_2/val_acc"] == [(3, 0.6)]
    assert run.metrics["best/val_acc"] == 0.9


def test_only_one_sends_at_a_time(folder: RunFolder):
    with sending(folder), pytest.raises(RunFolderBusy, match="it sends everything by itself"), sending(folder):
        pass
    with sending(folder):
        pass
