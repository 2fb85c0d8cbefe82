"""Rows of several runs below each other: the same value is the same class."""

from __future__ import annotations

from typing import Any

import pytest

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.stacking import Part, stack
from prediction_tables import page_cases as cases


def part(column: str, values: list[Any], classes: tuple[str, ...] = ()) -> Part:
    kind = "probabilities" if column == "probabilities" else "class"
    table, manifest, _ = cases.make({column: kind}, [(value,) for value in values], classes)
    return table, manifest


CATS, DOGS = ("cat", "dog", "owl"), ("dog", "cat", "owl")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (([0, 1], ()), ([1], ()), [0, 1, 1]),
        (([0, 1], CATS), ([1], CATS), [0, 1, 1]),
        (([0, 1], CATS), ([0, None, 2], DOGS), ["cat", "dog", "dog", None, "owl"]),
        (([0, 1], CATS), ([1], ()), [0, 1, 1]),
        (([0, 7], CATS), (["cat"], ()), ["cat", "7 (no name)", "cat"]),
        (([0], ()), (["cat"], ()), ["0", "cat"]),
        (([0, 1], CATS[:2]), ([0, 2], CATS), ["cat", "dog", "cat", "owl"]),
        (([], CATS), ([1], DOGS), ["cat"]),
    ],
)
def test_a_class_is_the_same_class_in_all_runs(a, b, expected):
    assert stack([part("label", *a), part("label", *b)])["label"].to_pylist() == expected


def test_probabilities_stand_in_the_order_of_the_first_runs_classes():
    first, second = part("probabilities", [[0.5, 0.25, 0.25]], CATS), part("probabilities", [[0.5, 0, 1], None], DOGS)
    assert stack([first, second])["probabilities"].to_pylist() == [[0.5, 0.25, 0.25], [0, 0.5, 1], None]
    unnamed = part("probabilities", [[1.0, 0.0, 0.0]])
    assert stack([unnamed, first])["probabilities"].to_pylist() == [[1, 0, 0], [0.5, 0.25, 0.25]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (CATS, ("cat", "dog")),
        (CATS, ("cat", "dog", "<b>")),
        (("cat", "cat", "dog"), ("cat", "dog", "cat")),  # which of the two is which?
    ],
)
def test_probabilities_of_other_classes_are_refused(first, second):
    parts = [part("probabilities", [[1.0 / len(classes)] * len(classes)], classes) for classes in (first, second)]
    with pytest.raises(DovetailError, match="one by one"):
        stack(parts)


def test_a_column_that_a_run_does_not_have_is_missing_in_its_rows():
    a = cases.make({"id": "id", "loss": "number"}, [("a", 0.5)])[:2]
    b = cases.make({"id": "id", "extra": "text"}, [("b", "words")])[:2]
    assert stack([a, b]).to_pylist() == [
        {"id": "a", "loss": 0.5, "extra": None},
        {"id": "b", "loss": None, "extra": "words"},
    ]


def test_columns_of_different_things_are_refused():
    a = cases.make({"extra": "number"}, [(0.5,)])[:2]
    b = cases.make({"extra": "text"}, [("words",)])[:2]
    with pytest.raises(DovetailError, match="one by one") as refused:
        stack([a, b])
    assert "extra" in refused.value.why
