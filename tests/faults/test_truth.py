"""The comparison finds every difference: shown on runs that plain MLflow's client has made."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from faults.trainer import value
from faults.truth import Truth, assert_exact, assert_subset, read_recorded, read_truth

STEPS = 20
Point = tuple[str, float, int, int]


def all_points(steps: int = STEPS) -> list[Point]:
    return [(f"m{index}", value(step, index), 1000 + step, step) for step in range(steps) for index in range(2)]


def logged(uri: str, points: list[Point]) -> str:
    """A run with these points; its token."""
    client, token = MlflowClient(uri), uuid.uuid4().hex
    run = client.create_run("0", tags={"dovetail.token": token})
    client.log_batch(run.info.run_id, metrics=[Metric(*point) for point in [*points, ("best/m0", 1.0, 1, 1)]])
    return token


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    path = tmp_path / "truth.jsonl"
    notes = [{"step": step, "values": {f"m{i}": value(step, i) for i in range(2)}, "seconds": 0} for step in range(20)]
    path.write_text("".join(json.dumps(note) + "\n" for note in notes))
    return read_truth(path)


def test_the_same_points_are_exact(database: str, truth: Truth):
    recorded = read_recorded(database, logged(database, all_points()))
    assert truth.points == 2 * STEPS
    assert_exact(truth, recorded)
    assert assert_subset(truth, recorded, at_most_missing=0) == []


def test_one_whole_step_more_is_allowed_only_when_asked(database: str, truth: Truth):
    recorded = read_recorded(database, logged(database, all_points(STEPS + 1)))
    assert_exact(truth, recorded, more_steps=1)
    with pytest.raises(AssertionError, match="nobody logged"):
        assert_exact(truth, recorded)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (all_points()[2:], "2. logged, 19 there; 1 missing"),
        (all_points()[:-2], "1 missing"),
        (all_points()[:-1], "not there for every key"),
        ([*all_points(), ("m0", value(3, 0), 7777, 3)], "1 twice"),
        ([*all_points(), ("m0", 0.5, 7777, 3)], "1 surplus"),
        ([*all_points()[2:], ("m0", 0.5, 1, 0), ("m1", value(0, 1), 1, 0)], "1 missing.*1 surplus"),
        ([*all_points(), *[("m2", 0.1, 1, step) for step in range(STEPS)]], "surplus"),
        (all_points(STEPS + 2), "nobody logged"),
        ([], "20 missing"),
    ],
)
def test_every_difference_is_found(database: str, truth: Truth, points: list[Point], why: str):
    recorded = read_recorded(database, logged(database, points))
    with pytest.raises(AssertionError, match=why):
        assert_exact(truth, recorded, more_steps=1)


def test_missing_steps_are_counted_and_twice_is_never_allowed(database: str, truth: Truth):
    lacking = read_recorded(database, logged(database, all_points()[:6] + all_points()[8:]))
    assert assert_subset(truth, lacking, at_most_missing=1) == [3]
    with pytest.raises(AssertionError, match="1 steps are missing"):
        assert_subset(truth, lacking, at_most_missing=0)
    doubled = read_recorded(database, logged(database, [*all_points(), ("m0", value(3, 0), 7777, 3)]))
    with pytest.raises(AssertionError, match="twice"):
        assert_subset(truth, doubled, at_most_missing=5)


def test_two_runs_of_one_token_are_found(database: str):
    token = logged(database, [])
    MlflowClient(database).create_run("0", tags={"dovetail.token": token})
    with pytest.raises(AssertionError, match="2 runs"):
        read_recorded(database, token)
