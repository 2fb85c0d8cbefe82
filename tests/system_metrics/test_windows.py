"""What was polled becomes one value a window; long runs stay small; a summary is what numpy says of its windows."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy
import pytest
from hypothesis import configuration, given, settings
from hypothesis import strategies as st

from mlflow_dovetail.system_metrics.records import Stat
from mlflow_dovetail.system_metrics.windows import Window, interval_seconds, next_due, summarise

DAY = 86_400
NOT_FINITE = [math.nan, math.inf, -math.inf]
numbers = st.floats(allow_nan=False, allow_infinity=False)
anything = st.floats()
readings = st.dictionaries(st.sampled_from("abc"), anything)


@pytest.fixture(autouse=True, scope="module")
def no_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    configuration.set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))
    yield
    configuration.set_hypothesis_home_dir(None)


same_each_time = settings(max_examples=200, derandomize=True, database=None, deadline=None)


POLLS: list[tuple[str, list[dict[str, float]], dict[str, float], dict[str, float]]] = [
    ("nothing at all", [], {}, {}),
    ("no poll", [], {"rss": 7.0}, {"rss": 7.0}),
    ("one poll", [{"cpu": 40.0}], {}, {"cpu": 40.0}),
    ("all have it", [{"cpu": 10.0}, {"cpu": 20.0}, {"cpu": 60.0}], {}, {"cpu": 30.0}),
    ("2 of 5 have it", [{"x": 10.0}, {}, {"cpu": 1.0}, {"x": 20.0}, {}], {}, {"x": 15.0, "cpu": 1.0}),
    ("maximum", [{"hot": 60.0}, {"hot": 90.0}, {"hot": 63.0}], {}, {"hot": 71.0, "hot_max": 90.0}),
    ("maximum below zero", [{"hot": -9.0}, {"hot": -3.0}], {}, {"hot": -6.0, "hot_max": -3.0}),
    ("no maximum of what is absent", [{"cpu": 1.0}], {}, {"cpu": 1.0}),
    ("zero is a value", [{"cpu": 0.0}, {"cpu": 0.0}], {}, {"cpu": 0.0}),
    ("both", [{"cpu": 2.0}], {"rss": 3.0}, {"cpu": 2.0, "rss": 3.0}),
    ("the window's own wins", [{"cpu": 2.0}], {"cpu": 3.0}, {"cpu": 3.0}),
    ("only NaN", [{"cpu": math.nan}, {"cpu": math.inf}], {"rss": math.nan, "io": -math.inf}, {}),
    ("NaN is absent", [{"hot": math.nan}, {"hot": 4.0}, {"hot": math.inf}], {}, {"hot": 4.0, "hot_max": 4.0}),
    ("whole numbers", [{"cpu": 1}, {"cpu": 2}], {}, {"cpu": 1.5}),
]


@pytest.mark.parametrize(("polls", "extra", "expected"), [case[1:] for case in POLLS], ids=[case[0] for case in POLLS])
def test_a_window(polls: list[dict[str, float]], extra: dict[str, float], expected: dict[str, float]) -> None:
    window = Window(frozenset({"hot"}))
    for poll in polls:
        window.add(poll)
    assert window.close(extra) == pytest.approx(expected)


def test_the_next_window_begins_empty() -> None:
    window = Window(frozenset({"cpu"}))
    window.add({"cpu": 100.0, "gone": 1.0})
    window.close({"rss": 1.0})
    window.add({"cpu": 2.0})
    assert window.close({}) == {"cpu": 2.0, "cpu_max": 2.0}


@given(polls=st.lists(readings, max_size=8), extra=readings)
@same_each_time
def test_a_mean_lies_within_what_was_polled(polls: list[dict[str, float]], extra: dict[str, float]) -> None:
    window = Window(frozenset("ab"))
    for poll in polls:
        window.add(poll)
    closed = window.close({f"extra_{key}": value for key, value in extra.items()})
    assert all(map(math.isfinite, closed.values()))
    for key in "abc":
        had = [poll[key] for poll in polls if math.isfinite(poll.get(key, math.nan))]
        assert (key in closed) == bool(had)
        assert (f"{key}_max" in closed) == (bool(had) and key in "ab")
        assert (f"extra_{key}" in closed) == math.isfinite(extra.get(key, math.nan))
        if had:
            assert min(had) <= closed[key] <= max(had)
            assert closed.get(f"{key}_max", max(had)) == max(had)


INTERVALS = [
    (0, 5), (1, 5), (4_999, 5), (5_000, 5), (5_001, 5.001), (DAY, 86.4), (7 * DAY, 604.8), (365 * DAY, 31_536),
]  # fmt: skip


@pytest.mark.parametrize(("elapsed", "interval"), INTERVALS)
def test_how_long_a_window_is(elapsed: float, interval: float) -> None:
    assert interval_seconds(elapsed) == pytest.approx(interval)


@given(a=st.floats(0, 1e9), b=st.floats(0, 1e9))
@same_each_time
def test_windows_only_grow_and_stay_a_thousandth(a: float, b: float) -> None:
    assert interval_seconds(min(a, b)) <= interval_seconds(max(a, b))
    assert 5 <= interval_seconds(a) <= max(5, a / 1_000)


@pytest.mark.parametrize(
    ("length", "fewest", "most"),
    [(3, 1, 1), (60, 12, 13), (5_000, 1_000, 1_001), (DAY, 3_500, 4_200), (7 * DAY, 5_500, 6_500),
     (365 * DAY, 9_000, 10_000)],
)  # fmt: skip
def test_how_many_windows_a_run_has(length: float, fewest: int, most: int) -> None:
    started, count = 1_000_000.0, 1
    due = started
    while (due := next_due(started, due, due + 0.2)) < started + length:
        count += 1
    assert fewest <= count <= most


DUE = [
    ("the first", 100, 100, 100, 105),
    ("in time", 100, 110, 110.2, 115),
    ("late, but within the window", 100, 110, 114.9, 115),
    ("just as the next is due", 100, 110, 115, 120),
    ("one missed", 100, 110, 117, 120),
    ("a machine that slept an hour", 100, 110, 3_712, 3_715),
    ("woken early", 100, 110, 109.9, 115),
    ("woken much too early", 100, 110, 90, 115),
    ("a day later", 100, 86_500, 86_501, 86_586.4),
    ("a day later, one missed", 100, 86_500, 86_590, 86_672.8),
]


@pytest.mark.parametrize(("started", "due", "now", "expected"), [case[1:] for case in DUE], ids=[c[0] for c in DUE])
def test_when_a_window_is_due(started: float, due: float, now: float, expected: float) -> None:
    assert next_due(started, due, now) == pytest.approx(expected)


@given(elapsed=st.floats(0, 1e8), late=st.floats(-10, 1e6))
@same_each_time
def test_a_window_is_due_within_one_interval_and_never_in_the_past(elapsed: float, late: float) -> None:
    due, now = 50 + elapsed, 50 + elapsed + late
    following, interval = next_due(50, due, now), interval_seconds(due - 50)
    assert following >= due + interval * 0.999999
    assert now - 1e-6 <= following <= max(now, due) + interval * 1.000001


def test_windows_do_not_drift() -> None:
    due, random_ = 0.0, random.Random(3)
    for _ in range(700):
        due = next_due(0, due, due + random_.uniform(0, 4.9))
    assert due == 3_500


def test_a_summary_weighs_by_the_seconds() -> None:
    windows = [(5.0, 5.0, {"gpu": 10.0, "once": 3.0}), (10.0, 5.0, {"gpu": 30.0}), (100.0, 90.0, {"gpu": 80.0})]
    summary = summarise(iter(windows))
    assert summary["gpu"] == Stat(pytest.approx(74.0), 10, 80, 80, 100)
    assert summary["once"] == Stat(3, 3, 3, 3, 5)
    assert set(summary) == {"gpu", "once"}


def test_the_last_value_is_the_latest_one_in_whatever_order_they_come() -> None:
    assert summarise([(30, 5, {"a": 3.0}), (10, 5, {"a": 1.0}), (20, 5, {"a": 2.0})])["a"].last == 3
    assert summarise([(10, 5, {"a": 1.0}), (10, 5, {"a": 2.0})])["a"].last == 2


def test_nothing_gives_nothing() -> None:
    assert summarise([]) == {}
    assert summarise([(0, 5, {}), (5, 5, {"a": math.nan})]) == {}


@pytest.mark.parametrize("seconds", [0.0, -5.0, *NOT_FINITE])
def test_a_window_of_no_length_weighs_nothing_but_is_seen(seconds: float) -> None:
    odd = (3.0, seconds, {"a": 9.0})
    assert summarise([(1.0, 5.0, {"a": 1.0}), odd]) == {"a": Stat(1, 1, 9, 9, 5)}
    assert summarise([odd, (5.0, 5.0, {"a": 1.0})]) == {"a": Stat(1, 1, 9, 1, 5)}
    assert summarise([(2.0, seconds, {"a": 4.0}), odd]) == {"a": Stat(9, 4, 9, 9, 0)}


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0.01, 1e6), st.floats(-1e9, 1e9) | st.sampled_from(NOT_FINITE))))
@same_each_time
def test_a_summary_is_what_numpy_says(windows: list[tuple[float, float, float]]) -> None:
    summary = summarise((at, seconds, {"a": value}) for at, seconds, value in windows)
    kept = [window for window in windows if math.isfinite(window[2])]
    assert set(summary) == ({"a"} if kept else set())
    if kept:
        _, seconds, values = map(numpy.array, zip(*kept, strict=True))
        stat = summary["a"]
        assert stat.mean == pytest.approx(numpy.average(values, weights=seconds), rel=1e-9, abs=1e-4)
        assert (stat.minimum, stat.maximum) == (values.min(), values.max())
        assert stat.minimum <= stat.mean <= stat.maximum
        assert stat.seconds == pytest.approx(seconds.sum())
        assert stat.last in [value for at, _, value in kept if at == max(kept)[0]]


@given(st.lists(st.tuples(anything, anything, readings)))
@same_each_time
def test_whatever_the_windows_are_a_summary_is_finite(windows: list[tuple[float, float, dict[str, float]]]) -> None:
    for stat in summarise(windows).values():
        assert stat.minimum <= stat.mean <= stat.maximum
        assert stat.minimum <= stat.last <= stat.maximum
        assert math.isfinite(stat.mean)
        assert stat.seconds >= 0


def test_a_mean_of_many_windows_keeps_its_digits() -> None:
    values = numpy.random.default_rng(1).uniform(0, 100, 20_000)
    stat = summarise((i, 5.0, {"a": value}) for i, value in enumerate(values.tolist()))["a"]
    assert stat.mean == pytest.approx(values.mean(), rel=1e-12)
