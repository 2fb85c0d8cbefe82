"""What entries mean to a store: names, attempts, best values, non-finite ones, troubles."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable

import msgspec
import pytest
from journals import Writing, points, send

from mlflow_dovetail.journal import entries
from mlflow_dovetail.journal.entries import Metrics, Start
from mlflow_dovetail.journal.progress import Progress
from mlflow_dovetail.journal.stored_names import apart, artifact_path, metric_name
from mlflow_dovetail.journal.translate import Outgoing, bounded_json, told, translate
from mlflow_dovetail.run_folder import RunFolder, frame
from mlflow_dovetail.store import MemoryStore

Write = Callable[..., Writing]


@pytest.mark.parametrize(
    ("given_name", "stored"),
    [
        ("loss", "loss"),
        ("val/acc top-1: a.b c_d", "val/acc top-1: a.b c_d"),
        ("acc@1", "acc_1"),
        ("f(x)", "f_x_"),
        ("naïve", "naïve"),
        ("", "_"),
        ("/", "_"),
        ("/a//b/", "a/b"),
        ("../up", "_/up"),
        ("..up", "_up"),
        ("a/./b", "a/b"),
        ("a\nb\0c", "a_b_c"),
        ("☂", "_"),
    ],
)
def test_metric_names_that_mlflow_refuses_are_mapped(given_name: str, stored: str):
    assert metric_name(given_name) == stored


@pytest.mark.parametrize(
    ("given_path", "stored"),
    [
        ("plots/a#b?.png", "plots/a_b_.png"),
        ("../../etc/passwd", "_/_/etc/passwd"),
        ("/absolute/path", "absolute/path"),
        ("back\\slash", "back/slash"),
        ("50%, ü & 1+1.txt", "50%, ü & 1+1.txt"),
        ("", "_"),
    ],
)
def test_paths_that_would_be_cut_or_leave_the_folder_are_mapped(given_path: str, stored: str):
    assert artifact_path(given_path) == stored


def texts(count: int, longest: int) -> list[str]:
    """By chance, mostly of the signs that matter."""
    chance = random.Random(11)
    signs = "/././..ab-_: \\#?%@é☂\0\n"
    return [
        "".join(chance.choice(signs) if chance.random() < 0.9 else chr(chance.randrange(0x2FFF)) for _ in range(length))
        for length in (chance.randrange(longest) for _ in range(count))
    ]


def test_every_name_becomes_one_that_mlflow_takes():
    from mlflow.utils.validation import _validate_metric_name

    for name in texts(2000, 20) + texts(200, 400):
        stored = metric_name(name)
        _validate_metric_name(stored)
        _validate_metric_name(apart(stored, name))
        assert metric_name(stored) == stored


def test_every_path_becomes_one_that_mlflow_takes():
    from mlflow.utils.validation import path_not_unique

    for path in texts(2000, 20) + texts(200, 400):
        stored = artifact_path(path)
        assert not path_not_unique(stored) and not stored.startswith("/") and ".." not in stored.split("/")
        assert artifact_path(stored) == stored


def test_names_that_become_one_are_kept_apart_and_told(folder: RunFolder, write: Write, memory: MemoryStore):
    writing = write()
    names = ["top@1", "top_1", "top#1", "k" * 300, "k" * 299 + "!"]
    for step in range(2):
        writing.writer.metrics({name: float(index) for index, name in enumerate(names)}, step)
    writing.params({"a@b": "1", "a#b": "2", "a_b": "3"})
    writing.tags({"t@": "1", "t#": "2"})
    writing.end()
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert sorted(run.metrics.values()) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert all(len(values) == 2 for values in points(memory, run.run_id).values())
    assert sorted(value for key, value in run.params.items() if key.startswith("a_b")) == ["1", "2", "3"]
    assert {value for key, value in run.tags.items() if key.startswith("t_")} == {"1", "2"}
    renamed = json.loads(run.tags["dovetail.renamed"])
    assert {renamed.get(stored, stored): run.metrics[stored] for stored in run.metrics} == {
        name: float(index) for index, name in enumerate(names)
    }


def test_a_name_that_was_taken_by_a_mapped_one_is_itself_kept_apart(
    folder: RunFolder, write: Write, memory: MemoryStore
):
    writing = write()
    writing.writer.metrics({"a@b": 1.0}, 0)
    sent = write("append")
    sent.writer.metrics({"a_b": 2.0}, 0)
    sent.end()
    writing.end()
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert sorted(run.metrics.values()) == [1.0, 2.0] and run.metrics["a_b"] == 1.0


def test_values_that_are_not_finite_are_sent_and_counted(folder: RunFolder, write: Write, memory: MemoryStore):
    writing = write()
    for step, value in enumerate([1.0, math.nan, math.inf, math.nan, -math.inf]):
        writing.metrics(step, loss=value)
    writing.end()
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert json.loads(run.tags["dovetail.nonfinite"]) == {"loss": {"nan": 2, "inf": 1, "-inf": 1}}
    assert len(memory.metric_history(run.run_id, "loss")) == 5
    assert "best/loss" not in run.metrics  # of one finite value there is nothing to tell


@pytest.mark.parametrize(
    ("key", "values", "best"),
    [
        ("val/loss", [3.0, 1.0, 2.0], (1.0, 1)),
        ("valAccuracy", [0.1, 0.9, 0.5], (0.9, 1)),
        ("f1", [0.1, 0.9, 0.9], (0.9, 1)),
        ("throughput", [1.0, 9.0, 2.0], None),
        ("gloss", [1.0, 9.0, 2.0], None),
        ("roadmap", [1.0, 9.0, 2.0], None),
    ],
)
def test_the_best_value_of_a_metric_whose_name_tells_its_direction(
    folder: RunFolder, write: Write, memory: MemoryStore, key: str, values: list[float], best: tuple[float, int] | None
):
    writing = write()
    for step, value in enumerate(values):
        writing.writer.metrics({key: value}, step)
    writing.end()
    run = memory.get_run(send(folder, memory).progress.run_id)
    found = json.loads(run.tags.get("dovetail.best", "{}")).get(key)
    assert (found and (found["value"], found["step"])) == best
    assert run.metrics.get(f"best/{key}") == (best[0] if best else None)
    assert run.metrics[key] == values[-1]


def test_the_monitors_direction_counts_more_than_the_name(folder: RunFolder, write: Write, memory: MemoryStore):
    writing = write()
    writing.monitor("loss", "max")
    for step, value in enumerate([1.0, 3.0, 2.0]):
        writing.metrics(step, loss=value)
    writing.end()
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert run.metrics["best/loss"] == 3.0


def test_a_best_metric_of_the_users_own_stays_theirs(folder: RunFolder, write: Write, memory: MemoryStore):
    writing = write()
    writing.monitor("loss", "min")
    for step, value in enumerate([3.0, 1.0, 2.0]):
        writing.writer.metrics({"best/loss": -value, "loss": value}, step)
    writing.end()
    sent = points(memory, send(folder, memory).progress.run_id)
    assert sent == {"loss": [(0, 3.0), (1, 1.0), (2, 2.0)], "best/loss": [(0, -3.0), (1, -1.0), (2, -2.0)]}


def test_a_resumed_training_keeps_one_series_and_puts_repeated_steps_beside_it(
    folder: RunFolder, write: Write, memory: MemoryStore
):
    first = write()
    for step in range(10):
        first.metrics(step, loss=float(step), **{"test/once": 1.0} if step == 0 else {})
    first.end("KILLED", "SIGTERM")
    second = write("resume", 2)
    for step in range(6, 14):  # from a checkpoint at step 6
        second.metrics(step, loss=100.0 + step)
    second.metrics(0, **{"test/once": 2.0})
    second.end()
    run_id = send(folder, memory).progress.run_id
    sent = points(memory, run_id)
    assert sent["loss"] == [(step, float(step)) for step in range(10)] + [(s, 100.0 + s) for s in range(10, 14)]
    assert sent["attempt_2/loss"] == [(step, 100.0 + step) for step in range(6, 10)]
    assert sorted(sent["test/once"]) == [(0, 1.0), (0, 2.0)]  # a metric without steps is no series
    run = memory.get_run(run_id)
    assert (run.status, run.tags["dovetail.attempt"]) == ("FINISHED", "2")
    assert run.tags.get("dovetail.end.cause", "") == ""


def test_an_appending_writer_is_no_attempt_and_decides_nothing(folder: RunFolder, write: Write, memory: MemoryStore):
    first = write()
    first.metrics(5, loss=1.0)
    first.end("FAILED", "exception: ValueError: x")
    adding = write("append")
    adding.metrics(3, loss=2.0)
    adding.end("FINISHED")
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert (run.status, run.tags["dovetail.attempt"]) == ("FAILED", "1")
    assert run.tags["dovetail.end.cause"] == "exception: ValueError: x"
    assert points(memory, run.run_id)["loss"] == [(3, 2.0), (5, 1.0)]


def test_troubles_are_added_up_in_the_status_tag(folder: RunFolder, write: Write, memory: MemoryStore):
    writing = write()
    for _ in range(3):
        writing.writer.trouble("values of x are no numbers")
    writing.writer.trouble("another thing")
    writing.end()
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert run.tags["dovetail.status.journal"] == "degraded: values of x are no numbers ×3; another thing ×1"


def test_threads_and_children_that_gave_one_time_to_equal_values_lose_none():
    progress, outgoing = Progress("memory:"), Outgoing()
    translate(Start(1000, "create", 1), "1", progress, outgoing)
    for time_ms in (1000, 1000, 1000, 999, 2000):
        translate(Metrics(time_ms, 0, {"hits": 1.0}), "1", progress, outgoing)
    times = [point.timestamp_ms for point in outgoing.points]
    assert times == [1000, 1001, 1002, 1003, 2000]


def test_threads_at_steps_of_their_own_lose_none():
    progress, outgoing = Progress("memory:"), Outgoing()
    translate(Start(1000, "create", 1), "1", progress, outgoing)
    for number in range(100):
        translate(Metrics(1000 + number // 50, number % 4, {"hits": 1.0}), "1", progress, outgoing)
    assert len({(point.step, point.timestamp_ms) for point in outgoing.points}) == 100
    assert max(point.timestamp_ms for point in outgoing.points) < 1100


def test_a_time_that_the_user_gives_is_kept_whatever_was_logged_before():
    progress, outgoing = Progress("memory:"), Outgoing()
    translate(Start(1, "create", 1), "1", progress, outgoing)
    times = [1_790_000_000_000, 1_600_000_000_000, 1_500_000_000_000, 1_790_000_000_001]
    for time_ms in times:
        translate(Metrics(time_ms, 0, {"loss": 1.0}), "1", progress, outgoing)
    assert [point.timestamp_ms for point in outgoing.points] == times


def test_an_entry_of_the_future_costs_itself_and_is_said(folder: RunFolder, write: Write, memory: MemoryStore):
    writing = write()
    os.write(writing.writer._descriptor, frame(msgspec.msgpack.encode(["zz", 1, {"new": True}])))
    writing.writer.append(entries.Metrics(5, 1, {"loss": 1.0}))
    writing.end()
    run = memory.get_run(send(folder, memory).progress.run_id)
    assert "of a kind that this version does not know ×1" in run.tags["dovetail.status.journal"]
    assert (run.metrics, run.status) == ({"loss": 1.0}, "FINISHED")


def test_a_field_that_a_later_version_adds_is_read_over():
    later = msgspec.msgpack.encode(["m", 5, 1, {"loss": 1.0}, "a field of the future"])
    assert entries.decode(later) == Metrics(5, 1, {"loss": 1.0})


def test_a_table_in_a_tag_is_json_within_its_length_and_counts_what_it_left_out():
    for size in (0, 1, 3, 10, 50, 400):
        table = {f"key {number}": "x" * (number * 7 % 90) for number in range(size)}
        for at_most in (100, 1000, 8000):
            text = bounded_json(table, at_most)
            kept = json.loads(text)
            note = kept.pop("…", None)
            assert len(text) <= at_most
            assert kept.items() <= table.items()
            assert note == (f"and {size - len(kept)} more" if len(kept) < size else None)


def test_the_tags_about_the_recording_fit_whatever_is_told():
    progress, outgoing = Progress("memory:"), Outgoing()
    translate(Start(1, "create", 1), "1", progress, outgoing)
    for number in range(2000):
        translate(Metrics(number, number, {f"loss@{number}" * 5: math.nan}), "1", progress, outgoing)
        progress.troubles[f"cause {number}"] = number
    assert all(0 < len(value) <= 8000 for value in told(progress).values())
