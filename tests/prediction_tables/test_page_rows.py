"""What the page says of a table before a browser reads it: names, figures, the choice of rows, and its size."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow.compute as pc
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mlflow_dovetail.prediction_tables.page.choice import choose
from mlflow_dovetail.prediction_tables.page.figures import head_figures, score_classes
from mlflow_dovetail.prediction_tables.page.outcomes import read_outcomes
from mlflow_dovetail.prediction_tables.page.render import LIMIT_BYTES
from prediction_tables import page_cases as cases

PAIR = {"label": "class", "prediction": "class"}


def outcomes(case: cases.Case):
    return read_outcomes(case[0], case[1])


def payload(page: bytes) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.decode()).group(1))


@pytest.mark.parametrize(
    ("labels", "predictions", "classes", "names", "correct"),
    [
        ([0, 1, None], [0, 0, 1], (), ("0", "1"), [1, 0, -1]),
        ([0, 1], [0, 1], ("cat", "dog", "owl"), ("cat", "dog", "owl"), [1, 1]),
        (["dog", "cat"], ["dog", "dog"], (), ("cat", "dog"), [1, 0]),
        ([1, 0], ["dog", "dog"], ("cat", "dog"), ("cat", "dog"), [1, 0]),
        ([0, 7], [-2, 7], ("cat",), ("cat", "7", "-2"), [0, 1]),
        ([0, 1], [1, 1], ("cat", "cat"), ("cat", "cat (1)"), [0, 1]),
        (["10", "9", "b"], ["9", "9", "a"], (), ("9", "10", "a", "b"), [0, 1, 0]),
        ([None], [None], (), (), [-1]),
    ],
)
def test_classes_are_compared_by_name(labels, predictions, classes, names, correct):
    read = outcomes(cases.make(PAIR, list(zip(labels, predictions, strict=True)), classes))
    assert read.names == names
    assert read.correct.tolist() == correct
    assert [names[code] for code, value in zip(read.label, labels, strict=True) if value is not None] == [
        names[value] if value in range(len(names)) and classes else str(value) for value in labels if value is not None
    ]


def test_confidence_is_what_the_model_gave_to_its_prediction():
    shares = [[0.25, 0.75], [0.5, 0.5], None, [1.0], [float("nan"), 0.5], [0.5, None]]
    rows = list(zip([0] * 6, [1, 0, 1, 1, 0, 1], shares, strict=True))
    read = outcomes(cases.make({**PAIR, "probabilities": "probabilities"}, rows))
    np.testing.assert_array_equal(read.confidence, [0.75, 0.5, np.nan, np.nan, np.nan, np.nan])


def test_figures_are_those_of_scikit_learn():
    case = cases.digits(2)
    scores = score_classes(outcomes(case))
    last = case[0].filter(pc.equal(case[0]["epoch"], 1))
    label, prediction = (last[name].to_numpy() for name in PAIR)
    np.testing.assert_array_equal(scores.confusion.counts, confusion_matrix(label, prediction))
    precision, recall, _, support = precision_recall_fscore_support(label, prediction)
    np.testing.assert_allclose([one.precision for one in scores.classes], precision)
    np.testing.assert_allclose([one.recall for one in scores.classes], recall)
    assert [one.support for one in scores.classes] == support.tolist()
    shown = {figure.name: figure for figure in head_figures(outcomes(case))}
    assert shown["Accuracy"].value == f"{(label == prediction).mean() * 100:.1f} %"
    assert shown["Rows"].note == "of epoch 1, the last"


def test_a_class_without_rows_has_no_recall_and_one_without_predictions_no_precision():
    scores = score_classes(outcomes(cases.make(PAIR, [(0, 1), (1, 1)], ("a", "b", "c"))))
    assert [(one.precision, one.recall) for one in scores.classes] == [(None, 0), (0.5, 1), (None, None)]


def test_of_many_classes_the_matrix_has_the_most_confused():
    case = cases.many_classes(200, 5000)
    read = outcomes(case)
    confusion = score_classes(read).confusion
    assert (len(confusion.codes), confusion.classes) == (50, 200)
    wrong = read.correct == 0
    mistakes = np.bincount(read.label[wrong], minlength=200) + np.bincount(read.prediction[wrong], minlength=200)
    others = np.setdiff1d(np.arange(200), confusion.codes)
    assert mistakes[list(confusion.codes)].min() >= mistakes[others].max() > 0
    assert "The 50 most confused of 200 classes" in cases.render(case).decode()


def test_regression_and_text_have_the_figures_that_apply():
    label, prediction = np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 5, 4])
    numbers = cases.make({"label": "number", "prediction": "number"}, list(zip(label, prediction, strict=True)))
    shown = {figure.name: figure.value for figure in head_figures(outcomes(numbers))}
    assert shown == {"Rows": "4", "Mean absolute error": "0.5000", "Root mean square error": "1", "R²": "0.2000"}
    shown = {figure.name: figure.value for figure in head_figures(outcomes(cases.texts()))}
    assert shown["Exact matches"] == "50.0 %"


def test_mistakes_come_first_the_surest_before_all():
    rows = [(0, 0, 0.9), (0, 1, 0.6), (1, 1, 0.55), (1, 0, 0.99), (None, 1, 0.7)]
    rows = [(a, b, [c, 1 - c] if b == 0 else [1 - c, c], 1.0) for a, b, c in rows]
    kinds = {**PAIR, "probabilities": "probabilities", "loss": "number"}
    choice = choose(outcomes(cases.make(kinds, rows)))
    assert (choice.rows.tolist(), choice.order) == ([3, 1, 2, 0, 4], "Most confident mistakes first")


LOSSES = {**PAIR, "loss": "number"}
NUMBERS = {"label": "number", "prediction": "number"}


@pytest.mark.parametrize(
    ("kinds", "rows", "order", "words"),
    [
        (LOSSES, [(0, 0, 9), (0, 1, 1), (0, 1, 2)], [2, 1, 0], "Mistakes with the highest loss first"),
        (PAIR, [(0, 0), (0, 1), (1, 1), (1, 0)], [1, 3, 0, 2], "Mistakes first"),
        (NUMBERS, [(0.0, 1.0), (0.0, -3.0), (None, 2.0)], [1, 0, 2], "Largest errors first"),
        ({"loss": "number"}, [(1.0,), (float("nan"),), (3.0,)], [2, 0, 1], "Highest loss first"),
        ({"id": "id"}, [("b",), ("a",)], [0, 1], "As logged"),
    ],
)
def test_without_probabilities_the_order_is_what_can_be_had(kinds, rows, order, words):
    choice = choose(outcomes(cases.make(kinds, rows)))
    assert (choice.rows.tolist(), choice.order) == (order, words)


def test_a_page_of_few_rows_has_all_epochs_and_begins_with_the_last():
    read = outcomes(cases.many_rows(4000, epochs=4))
    choice = choose(read)
    assert sorted(choice.rows) == list(range(4000))
    assert set(read.epoch[choice.rows[:1000]]) == {3}
    by_rank = choice.rows[np.argsort(choice.rank)]
    wrong = read.correct[by_rank] == 0
    assert wrong[: wrong.sum()].all()
    assert (np.diff(read.confidence[by_rank][wrong]) <= 0).all()


def test_a_page_of_many_rows_has_the_last_epoch():
    choice = choose(outcomes(cases.many_rows(9000, epochs=3)))
    assert sorted(choice.rows) == list(range(6000, 9000))
    assert choice.rule == (
        "The page holds all 3,000 rows of epoch 2, the last. The 6,000 rows of earlier epochs are not in it."
    )


def test_of_an_epoch_too_large_it_has_the_worst_and_an_even_sample():
    case = cases.many_rows(40_000, epochs=2)
    read = outcomes(case)
    choice = choose(read)
    last = np.arange(20_000, 40_000)
    wrong = last[read.correct[last] == 0]
    surest = wrong[np.argsort(-read.confidence[wrong])][:2000]
    assert set(surest) <= set(choice.rows)
    others = np.setdiff1d(last, surest)
    assert set(others[np.argsort(-read.loss[others])][:1000]) <= set(choice.rows)
    assert len(set(choice.rows)) == 5000
    assert set(choice.rows) <= set(last)
    sample = np.setdiff1d(choice.rows, surest)
    assert abs(np.histogram(sample, 4, (20_000, 40_000))[0] - 750).max() < 100
    assert choice.rule == (
        "The page holds 5,000 of the 20,000 rows of epoch 1, the last: the 2,000 most confident mistakes, the 1,000 "
        "others with the highest loss, and 2,000 drawn evenly at random from the others (seed 0). "
        "The 20,000 rows of earlier epochs are not in it."
    )
    page = cases.render(case)
    assert "20,000 <small>of epoch 1, the last</small>" in page.decode()
    counts = map(int, re.findall(r'data-count="(\d+)"', page.decode()))
    assert sum(counts) == 20_000
    assert len(payload(page)["rows"]) == 5000


def test_an_image_is_in_the_page_once():
    case = cases.digits(2)
    page = cases.render(case)
    assert page.count(b"data:image/png;base64,") == len(case[2])


def test_a_second_row_with_an_image_refers_to_the_first():
    image = cases.png(np.zeros((8, 8), np.uint8))
    page = cases.render(cases.make({"id": "id", "image": "image"}, [("a", "x"), ("b", "x")], images={"x": image}))
    assert page.count(b"data:image/png;base64,") == page.count(b">as above<") == 1
    assert payload(page)["columns"][0]["values"] == [0, 0]


def test_the_same_table_gives_the_same_bytes():
    case = cases.digits()
    backwards = (case[0], case[1], dict(reversed(case[2].items())))
    assert cases.render(case) == cases.render(backwards)


def test_images_without_room_are_left_out_from_the_end_and_counted():
    rows = [(f"{i:032x}",) for i in range(5000)]
    image = b"\x89PNG\r\n\x1a\n" + bytes(4400)
    page = cases.render(cases.make({"image": "image"}, rows, images={name: image for (name,) in rows}))
    assert len(page) <= LIMIT_BYTES
    said = int(re.search(r"([\d,]+) images found no room", page.decode()).group(1).replace(",", ""))
    embedded = page.count(b"data:image/png;base64,")
    assert embedded + said == 5000
    assert embedded > 3000
    images = payload(page)["images"]
    assert all(images[100:embedded])
    assert not any(images[embedded:])


def test_long_texts_are_shortened_until_the_page_is_small_enough():
    rows = [(f"e{i}", "wörd <" * 1000) for i in range(5000)]
    page = cases.render(cases.make({"id": "id", "text": "text"}, rows))
    assert len(page) <= LIMIT_BYTES
    assert "5,000 texts of more than 250 characters end there." in page.decode()
    assert "… (6,000 characters in all)" in page.decode()


def test_columns_beyond_the_fortieth_are_counted():
    kinds = {f"extra {i}": "number" for i in range(60)} | {"id": "id", "label": "class"}
    page = cases.render(cases.make(kinds, [(*range(60), "a", 1)]))
    shown = [column["name"] for column in payload(page)["columns"]]
    assert shown == ["id", "label", *(f"extra {i}" for i in range(38))]
    assert "It shows the first 40 of 62 columns." in page.decode()


def test_what_was_left_out_while_logging_is_said():
    case = cases.make(
        {"id": "id"}, [("a",)], policy="worst 500 by loss an epoch", left_out={"rows by the policy": 1200}
    )
    page = cases.render(case).decode()
    assert "worst 500 by loss an epoch" in page
    assert "1,200 (rows by the policy)" in page


def test_a_run_without_a_name_has_no_empty_line():
    page = cases.render(cases.plain(), run={"run": "", "token": "ab"}).decode()
    assert page.count("<div><dt>token</dt>") == 1 and "<dt>run</dt>" not in page


def test_a_million_rows_take_seconds():
    read = outcomes(cases.many_rows(1_000_000))
    assert len(choose(read).rows) == 5000
    assert score_classes(read).confusion.counts.sum() == 1_000_000
