"""`dovetail show` of a sweep's parent: its children with what they returned, the best first."""

from __future__ import annotations

import pytest

from mlflow_dovetail import names
from mlflow_dovetail.cli.sweep import best_first, child_fields, child_rows, sweep_rows
from mlflow_dovetail.records import Run


def run(name, status="FINISHED", value=None, **tags):
    tags = {**tags, **({names.TAG_SWEEP_VALUE: value} if value is not None else {})}
    return Run(name, None, name, status, "1", "jobs", 0, None, "", tags=tags)


CHILDREN = [
    run("low", value="0.25", **{names.TAG_SWEEP_PARAMS: "lr=0.1"}),
    run("failed", "FAILED", "9.0", **{names.TAG_END_CAUSE: "exception: ValueError: lr"}),
    run("none"),
    run("high", value="0.75"),
    run("odd", value="inf"),
]


@pytest.mark.parametrize(
    ("direction", "order"),
    [
        ("maximize", ["high", "low", "failed", "none", "odd"]),
        ("minimize", ["low", "high", "failed", "none", "odd"]),
    ],
)
def test_the_best_comes_first_and_what_failed_never_does(direction, order):
    parent = run("parent", **{names.TAG_SWEEP_DIRECTION: direction})
    assert [child.name for child in best_first(parent, CHILDREN)] == order
    assert [field["value"] for field in child_fields(parent, CHILDREN)][:2] == sorted(
        [0.25, 0.75], reverse="max" in direction
    )


def test_children_stand_in_columns():
    low, failed, none = CHILDREN[:3]
    assert child_rows(run("parent"), [none, failed, low]) == [
        ("low", "low     FINISHED  0.25  lr=0.1"),
        ("none", "none    FINISHED"),
        ("failed", "failed  FAILED    9             exception: ValueError: lr"),
    ]
    assert child_rows(run("parent"), []) == []
    running = run("a", "RUNNING", **{names.TAG_SWEEP_PARAMS: "x=1"})
    assert child_rows(run("parent"), [running]) == [("a", "a  RUNNING  x=1")]


def test_a_sweep_says_how_far_it_is():
    tags = {names.TAG_SWEEP: "lr=1,2", names.TAG_SWEEP_PROGRESS: "1 of 2", "team": "vision"}
    assert sweep_rows(tags) == [("varies", "lr=1,2"), ("progress", "1 of 2")]
    assert sweep_rows({}) == []
