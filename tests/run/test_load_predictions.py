"""Rows of several runs in one table."""

from __future__ import annotations

import pytest

import mlflow_dovetail as dt
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables import Class

pytestmark = pytest.mark.usefixtures("alone")


def test_a_class_is_the_same_in_all_runs_and_a_number_in_each():
    for name, classes, labels in (("one", ["cat", "dog"], [0, 1]), ("two", ["dog", "cat"], [1, 0])):
        with dt.start_run(run_name=name) as run:
            run.table("val", {"label": Class(classes)}).append({"id": ["a", "b"], "label": labels})
    assert dt.load_predictions(["one", "two"]).label.tolist() == ["cat", "dog"] * 2
    assert dt.load_predictions("two").label.tolist() == [1, 0]


def test_no_run_is_an_error():
    with pytest.raises(DovetailError, match="empty") as refused:
        dt.load_predictions([])
    assert "one run at least" in str(refused.value)
