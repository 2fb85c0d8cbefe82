"""What changed between two runs: against a plain reading of the same rows, and against values worked out by hand."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_dovetail.cli.page import Section, render_page
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.comparison_text import as_json, as_text, meaning, notes
from prediction_tables.two_runs import diff, run

CLASSES = ("cat", "dog", "eel")


def ids(examples, limit=1000):
    return [one.id for one in examples.first(limit)]


def plain_last(rows):
    """By id, its last row of the last epoch: dictionaries, one row at a time."""
    epochs = [row["epoch"] for row in rows if row["epoch"] is not None]
    kept = [row for row in rows if not epochs or row["epoch"] == max(epochs)]
    return {row["id"]: row for row in kept if row["id"] is not None}


def plain_diff(rows_a, rows_b):
    a, b = plain_last(rows_a), plain_last(rows_b)
    found = Counter(only_in_a=len(a.keys() - b.keys()), only_in_b=len(b.keys() - a.keys()))
    lists = {"newly_right": set(), "newly_wrong": set(), "changed": set(), "relabelled": set()}
    for name in a.keys() & b.keys():
        label, before, after = a[name]["label"], a[name]["prediction"], b[name]["prediction"]
        if None in (label, b[name]["label"], before, after):
            found["unanswered"] += 1
        elif label != b[name]["label"]:
            lists["relabelled"].add(name)
        else:
            right = before == label, after == label
            found["examples"] += 1
            found["right_a"] += right[0]
            found["right_b"] += right[1]
            found["both_right"] += all(right)
            found["both_wrong"] += not any(right)
            if right == (False, True):
                lists["newly_right"].add(name)
            elif right == (True, False):
                lists["newly_wrong"].add(name)
            elif right == (False, False) and before != after:
                lists["changed"].add(name)
    return found, lists


def rows(answers):
    return st.lists(
        st.fixed_dictionaries(
            {
                "id": st.one_of(st.none(), st.sampled_from("abcdefgh")),
                "label": st.one_of(st.none(), answers, answers, answers),
                "prediction": st.one_of(st.none(), answers, answers, answers),
                "epoch": st.one_of(st.none(), st.integers(0, 2)),
            }
        ),
        min_size=1,
        max_size=30,
    )


def table_of(rows, kind, **options):
    columns = {name: [row[name] for row in rows] for name in ("id", "label", "prediction", "epoch")}
    a, manifest = run(columns, **options)
    for name in ("label", "prediction"):  # a column of None alone has no type of its own
        a = a.set_column(a.schema.get_field_index(name), name, pa.array(columns[name], kind))
    return a, manifest


@pytest.mark.parametrize(
    ("answers", "kind"), [(st.sampled_from(CLASSES), pa.string()), (st.integers(0, 2), pa.int64())], ids=["str", "int"]
)
def test_it_agrees_with_a_plain_reading_of_the_rows(answers, kind):
    @settings(max_examples=300, deadline=None)
    @given(rows(answers), rows(answers))
    def check(rows_a, rows_b):
        found, lists = plain_diff(rows_a, rows_b)
        runs = table_of(rows_a, kind), table_of(rows_b, kind)
        if not found["examples"]:
            with pytest.raises(DovetailError):
                diff(*runs)
            return
        told = as_json(diff(*runs))
        for name in ("newly_right", "newly_wrong", "changed"):
            assert {one["id"] for one in told[name]} == lists[name]
            assert told["counts"][name] == len(lists[name])
        assert set(told["relabelled_ids"]) == lists["relabelled"]
        for name in ("only_in_a", "only_in_b", "unanswered", "examples"):
            assert told[name] == found[name]
        for name in ("both_right", "both_wrong"):
            assert told["counts"][name] == found[name]
        accuracy = {"a": found["right_a"] / found["examples"], "b": found["right_b"] / found["examples"]}
        assert told["accuracy"] == pytest.approx(accuracy)

    check()


def digits(seed=0, n=200):
    """Two runs of 200 examples with everything in it."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 3, n)
    runs = []
    for accuracy in (0.6, 0.8):
        prediction = np.where(draw.random(n) < accuracy, label, draw.integers(0, 3, n))
        columns = {
            "id": [f"img/{i}.png" for i in range(n)],
            "image": [f"{i:032x}" for i in range(n)],
            "label": label,
            "prediction": prediction,
            "probabilities": draw.dirichlet(np.ones(3), n).astype("float32").tolist(),
            "site": [["north", "south"][i % 2] for i in range(n)],
            "age": (np.arange(n) % 37) / 3,
            "step": np.arange(n) // 10,
        }
        runs.append(run(columns, classes=CLASSES))
        runs[-1] = (runs[-1][0].drop_columns("step"), runs[-1][1])
    return runs


@pytest.mark.parametrize("seed", range(5))
def test_order_split_and_workers_change_nothing(seed):
    a, b = digits()
    order = np.random.default_rng(seed)
    shuffled = [(table.take(order.permutation(table.num_rows)), manifest) for table, manifest in (a, b)]
    cuts = [0, *sorted(order.integers(0, 200, 6).tolist()), 200]
    split = [
        (pa.concat_tables([table.slice(i, j - i) for i, j in itertools.pairwise(cuts)]), manifest)
        for table, manifest in shuffled
    ]
    assert as_json(diff(*split)) == as_json(diff(a, b))
    assert as_json(diff(*split))["counts"]["newly_right"] > 10


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_a_regression_changes_nothing(seed):
    draw = np.random.default_rng(7)
    columns = {"id": [f"{i}" for i in range(300)], "label": draw.normal(size=300) * 1e3, "site": list("xyz") * 100}
    numbers = {"label": "number", "prediction": "number"}
    a, b = (run({**columns, "prediction": draw.normal(size=300)}, kinds=numbers) for _ in "ab")
    order = np.random.default_rng(seed).permutation(300)
    assert as_json(diff((a[0].take(order), a[1]), b)) == as_json(diff(a, b))


# Of n examples that only one run has right, the rarer k times: 2 * sum of C(n, 0..k) / 2^n, and 1 at most.
MCNEMAR = [
    (5, 1, 14 / 64),
    (1, 5, 14 / 64),
    (10, 0, 2 / 1024),
    (0, 10, 2 / 1024),
    (3, 3, 1.0),
    (1, 0, 1.0),
    (0, 0, 1.0),
    (9, 2, 2 * (1 + 11 + 55) / 2048),
]


def counted(better, worse, same=4):
    n = better + worse + same
    before = ["dog"] * better + ["cat"] * worse + ["cat"] * same
    after = ["cat"] * better + ["dog"] * worse + ["cat"] * same
    names = [f"x{i}" for i in range(n)]
    return (run({"id": names, "label": ["cat"] * n, "prediction": said}) for said in (before, after))


@pytest.mark.parametrize(("better", "worse", "p_value"), MCNEMAR)
def test_mcnemar_by_hand(better, worse, p_value):
    found = diff(*counted(better, worse))
    assert (len(found.better), len(found.worse)) == (better, worse)
    assert found.p_value == pytest.approx(p_value)


MEANINGS = [
    (10, 0, ["new is right where old is wrong on 10 examples", "once in 512 comparisons", "new is better"]),
    (0, 10, ["and the reverse on 10", "once in 512 comparisons", "old is better"]),
    (3, 2, ["3 examples", "in about 100 of 100 comparisons", "too often to say"]),
    (1, 0, ["on 1 example,"]),
    (0, 0, ["nothing tells them apart"]),
    (300, 100, ["less than once in a million comparisons", "new is better"]),
]


@pytest.mark.parametrize(("better", "worse", "words"), MEANINGS)
def test_the_meaning_in_words(better, worse, words):
    said = " ".join(meaning(diff(*counted(better, worse)), ("old", "new")))
    assert [word for word in words if word not in said] == []


def test_only_the_last_epoch_else_the_last_step_takes_part():
    columns = {"id": list("ababa"), "label": ["cat"] * 5, "prediction": ["dog", "dog", "cat", "cat", "dog"]}
    plain = run({"id": ["a", "b"], "label": ["cat"] * 2, "prediction": ["cat"] * 2})
    by_epoch = diff(run({**columns, "epoch": [1, 1, 2, 2, None], "step": [9, 9, 1, 1, 9]}), plain)
    assert (by_epoch.a.taken, by_epoch.score_a, by_epoch.a.repeated) == ("epoch 2", 1.0, 0)
    by_step = diff(run({**columns, "step": [10, 10, 500, 500, 499]}), plain)
    assert (by_step.a.taken, by_step.score_a, by_step.a.rows) == ("step 500", 1.0, 5)
    assert (by_step.b.taken, by_step.b.rows) == ("all rows", 2)


@pytest.mark.parametrize("name", ["epoch", "step"])
@pytest.mark.parametrize("values", [["best", "last"], [float("nan")] * 2, [None, None]])
def test_an_epoch_that_is_no_number_is_none(name, values):
    columns = {"id": ["a", "b"], "label": ["cat"] * 2, "prediction": ["cat"] * 2}
    table, manifest = run({**columns, name: [1, 2]})
    odd = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    found = diff((odd, manifest), run(columns))
    assert (found.a.taken, found.examples) == ("all rows", 2)


def test_an_id_seen_twice_counts_once_by_its_highest_step_else_its_last_row():
    columns = {"id": ["a", "b", "a", "a"], "label": ["cat"] * 4, "prediction": ["cat", "cat", "cat", "dog"]}
    plain = run({"id": ["a", "b"], "label": ["cat"] * 2, "prediction": ["cat"] * 2})
    found = diff(run(columns), plain)
    assert (ids(found.better), found.a.repeated) == (["a"], 2)
    assert "2 rows of A put aside: a later row has the same id." in notes(found)
    stepped = diff(run({**columns, "epoch": [3] * 4, "step": [7, 5, 5, 6]}), plain)
    assert (len(stepped.better), stepped.a.repeated) == (0, 2)


def test_what_is_left_out_is_counted_and_named():
    a = {"id": ["a", "b", "c", "d", None], "label": ["cat", "cat", None, "cat", "cat"], "prediction": ["cat"] * 5}
    b = {"id": ["e", "a", "b", "c"], "label": ["cat", "cat", "dog", "cat"], "prediction": ["cat", "dog", "cat", "cat"]}
    found = diff(run(a, policy="worst 500 by loss"), run(b, table="test"))
    assert (found.examples, found.relabelled, found.relabelled_ids, found.unanswered) == (1, 1, ("b",), 1)
    assert notes(found, ("old", "new")) == [
        "1 example left out: the label differs between the runs (b).",
        "1 example left out: no label or no prediction in one of the runs.",
        "The tables have different names: val and test.",
        "1 example only in old.",
        "1 row of old put aside: no id.",
        "old kept only some rows (worst 500 by loss): the scores are of those, not of the whole split.",
        "1 example only in new.",
    ]


def test_many_labels_that_differ_are_counted_whole_and_named_in_part():
    names = [f"{i:02}" for i in range(31)]
    a = run({"id": names, "label": ["cat"] * 31, "prediction": ["cat"] * 31})
    b = run({"id": names, "label": ["cat"] + ["dog"] * 30, "prediction": ["cat"] * 31})
    found = diff(a, b)
    assert (found.relabelled, len(found.relabelled_ids)) == (30, 20)
    assert "(01, 02," in notes(found)[0] and notes(found)[0].endswith("20, …).")


def predicted(values, classes=(), **columns):
    n = len(values)
    return run(
        {"id": [f"{i}" for i in range(n)], "label": [0] * n, "prediction": values, **columns},
        classes=classes,
    )


def answers(found):
    return [(one.label, one.prediction_a, one.prediction_b) for one in found.worse.first(9)]


CLASS_FORMS = [
    ("numbers stay", predicted([0, 0]), predicted([0, 1]), [(0, 0, 1)]),
    ("names", predicted([0, 0], CLASSES), predicted([0, 1], CLASSES), [("cat", "cat", "dog")]),
    ("A alone names", predicted([0, 0], CLASSES), predicted([0, 1]), [("cat", "cat", "dog")]),
    ("B alone names", predicted([0, 0]), predicted([0, 1], CLASSES), [("cat", "cat", "dog")]),
    ("another order", predicted([0, 0], CLASSES), predicted([0, 1], ("cat", "eel")), [("cat", "cat", "eel")]),
    (
        "strings and numbers",
        run({"id": ["0", "1"], "label": ["cat", "cat"], "prediction": ["cat", "cat"]}),
        predicted([0, 1], CLASSES),
        [("cat", "cat", "dog")],
    ),
    ("no such class", predicted([0, 0], CLASSES), predicted([0, 7], CLASSES), [("cat", "cat", "7 (no name)")]),
    ("below zero", predicted([0, 0], CLASSES), predicted([0, -1], CLASSES), [("cat", "cat", "-1 (no name)")]),
    ("a name twice", predicted([0, 0], ("x", "x")), predicted([0, 1], ("x", "x")), [("x (0)", "x (0)", "x (1)")]),
]


@pytest.mark.parametrize(
    ("a", "b", "expected"), [case[1:] for case in CLASS_FORMS], ids=[case[0] for case in CLASS_FORMS]
)
def test_classes_in_every_form(a, b, expected):
    assert answers(diff(a, b)) == expected


def test_texts_are_right_when_they_are_the_same():
    kinds = {"label": "text", "prediction": "text"}
    a = run({"id": ["a", "b"], "label": ["Paris", "Rome"], "prediction": ["Paris", "rome"]}, kinds=kinds)
    b = run({"id": ["a", "b"], "label": ["Paris", "Rome"], "prediction": ["paris", "Rome"]}, kinds=kinds)
    assert (ids(diff(a, b).better), ids(diff(a, b).worse)) == (["b"], ["a"])


def test_examples_have_confidences_images_and_text_the_most_confident_mistake_first():
    names = list("abcd")
    columns = {"id": names, "label": [0] * 4, "text": ["one", None, "three", "four"]}
    a = run({**columns, "prediction": [0] * 4, "probabilities": [[0.75, 0.25]] * 4, "image": list("ABCD")})
    lists = [[0.25, 0.75], [0.5], [0.125, 0.875], None]
    b = run({**columns, "prediction": [1] * 4, "probabilities": lists, "image": ["A", "B", None, "d"]})
    found = diff(a, b).worse.first(9)
    assert [one.id for one in found] == ["c", "a", "b", "d"]
    assert [(one.confidence_a, one.confidence_b) for one in found] == [
        (0.75, 0.875),
        (0.75, 0.75),
        (0.75, None),
        (0.75, None),
    ]
    assert [(one.image_a, one.image_b) for one in found] == [("C", None), ("A", "A"), ("B", "B"), ("D", "d")]
    assert [one.text for one in found] == ["three", "one", None, "four"]


def test_each_list_is_ordered_by_its_own_mistake():
    columns = {"id": list("abcd"), "label": [0] * 4}
    sure = [[0.1, 0.6, 0.3], [0.1, 0.9, 0.0]]
    a = run({**columns, "prediction": [1, 1, 1, 1], "probabilities": [*sure, *sure]})
    other = [[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.2, 0.3, 0.5]]
    b = run({**columns, "prediction": [0, 0, 2, 2], "probabilities": other})
    found = diff(a, b)
    assert (ids(found.better), ids(found.changed)) == (["b", "a"], ["c", "d"])


CONFIDENCES = [
    ("names of a string", ["dog"], [[0.25, 0.75]], ("cat", "dog"), 0.75),
    ("nobody says which", ["dog"], [[0.25, 0.75]], (), None),
    ("an unknown name", ["owl"], [[0.25, 0.75]], ("cat", "dog"), None),
    ("too short a list", [1], [[0.5]], (), None),
    ("a number below zero", [-1], [[0.5, 0.5]], (), None),
    ("scores, not probabilities", [1], [[-3.0, 7.5]], (), None),
    ("NaN", [1], [[0.5, float("nan")]], (), None),
    ("null in the list", [1], [[0.5, None]], (), None),
    ("a hair above one", [1], [[0.0, 1.0000008]], (), 1.0),
]


@pytest.mark.parametrize(
    ("said", "lists", "classes", "expected"), [case[1:] for case in CONFIDENCES], ids=[case[0] for case in CONFIDENCES]
)
def test_the_confidence_of_the_own_prediction(said, lists, classes, expected):
    label = "cat" if isinstance(said[0], str) else 0
    a = run({"id": ["a"], "label": [label], "prediction": [label]}, classes=classes)
    b = run({"id": ["a"], "label": [label], "prediction": said, "probabilities": lists}, classes=classes)
    (one,) = diff(a, b).worse.first(1)
    assert one.confidence_b == expected


def test_confidences_of_a_slice_of_a_table_are_those_of_its_rows():
    lists = [[1.0, 0.0], [0.5, 0.5], [0.25, 0.75], [0.125, 0.875]]
    b, manifest = run({"id": list("abcd"), "label": [0] * 4, "prediction": [1] * 4, "probabilities": lists})
    a = run({"id": list("abcd"), "label": [0] * 4, "prediction": [0] * 4})
    found = diff(a, (b.slice(2), manifest)).worse.first(9)
    assert [(one.id, one.confidence_b) for one in found] == [("d", 0.875), ("c", 0.75)]


def grouped(groups):
    return {group.value: (group.examples, group.better, group.worse, group.score_a, group.score_b) for group in groups}


def test_by_class_against_a_plain_count():
    a, b = digits()
    found = diff(a, b)
    label, before, after = (
        np.array(table[name]) for table, name in ((a[0], "label"), (a[0], "prediction"), (b[0], "prediction"))
    )
    expected = {}
    for number, name in enumerate(CLASSES):
        mine = label == number
        right_a, right_b = (before == label)[mine], (after == label)[mine]
        gained, lost = int((right_b & ~right_a).sum()), int((right_a & ~right_b).sum())
        expected[name] = (int(mine.sum()), gained, lost, right_a.mean(), right_b.mean())
    assert grouped(found.classes) == expected
    assert list(grouped(found.classes)) == list(CLASSES)


def sliced(values, kind, **options):
    n = len(values)
    columns = {"id": [f"{i:03}" for i in range(n)], "label": [0] * n, "what": values}
    a = run({**columns, "prediction": [0] * n}, kinds={"what": kind})
    b = run({**columns, "prediction": [1] + [0] * (n - 1)}, kinds={"what": kind})
    return diff(a, b, **options)


SLICES = [
    ("strings", ["x", "y", "x", None], "class", {"x": 2, "y": 1, None: 1}),
    ("texts", ["x", "y", "x", "y"], "text", {"x": 2, "y": 2}),
    ("truth", [0, 1, 1, 1], "number", {0: 1, 1: 3}),
    ("few numbers", [2.5, float("nan"), None, 2.5], "number", {2.5: 2, None: 2}),
    ("quartiles", list(range(1, 13)), "number", {"1 to 3": 3, "4 to 6": 3, "7 to 9": 3, "10 to 12": 3}),
    ("classes by number are no quartiles", list(range(12)) * 2, "class", dict.fromkeys(range(12), 2)),
    (
        "quartiles with ties and gaps",
        [0.0] * 20 + [float(i) for i in range(1, 12)] + [None],
        "number",
        {"0 to 0": 20, "1 to 4": 4, "5 to 11": 7, None: 1},
    ),
]


@pytest.mark.parametrize(
    ("values", "kind", "expected"), [case[1:] for case in SLICES], ids=[case[0] for case in SLICES]
)
def test_slices(values, kind, expected):
    (found,) = sliced(values, kind).slices
    assert {group.value: group.examples for group in found.groups} == expected
    assert [group.value for group in found.groups] == list(expected)
    assert sum(group.worse for group in found.groups) == 1


def test_an_infinite_number_is_in_the_highest_quartile():
    (found,) = sliced([float(i) for i in range(11)] + [float("inf")], "number").slices
    assert found.groups[-1].value == "9 to inf"


def test_a_slice_of_a_class_column_has_its_names():
    columns = {"id": ["a", "b"], "label": [0, 0], "prediction": [0, 0], "site": [1, 0]}
    table, manifest = run(columns)
    described = tuple(
        msgspec.structs.replace(column, classes=("north", "south")) if column.name == "site" else column
        for column in manifest.columns
    )
    named = (table, msgspec.structs.replace(manifest, columns=described))
    assert [group.value for group in diff(named, named).slices[0].groups] == ["north", "south"]


def test_a_column_with_a_value_an_example_is_named_and_not_shown():
    found = sliced([f"caption {i}" for i in range(40)], "text")
    assert (found.slices, found.unsliced) == ((), ("what",))
    assert notes(found) == ["Not shown by what: too many values."]


def test_slices_that_are_asked_for():
    a, b = digits()
    assert [one.column for one in diff(a, b).slices] == ["site", "age"]
    assert [one.column for one in diff(a, b, slices=["age"]).slices] == ["age"]
    for name in ("nowhere", "image", "probabilities", "label"):
        with pytest.raises(DovetailError, match="Columns that serve: `site`, `age`"):
            diff(a, b, slices=[name])


def test_a_regression():
    numbers = {"label": "number", "prediction": "number"}
    columns = {"id": list("abcdefg"), "label": [0.0] * 5 + [1.0, 1.0]}
    a = run(
        {**columns, "prediction": [1.0, -2.0, 3.0, 4.0, 5.0, 1.0, float("inf")], "site": list("xxxyyyy")}, kinds=numbers
    )
    b = run({**columns, "prediction": [0.5, 1.0, -1.0, 0.0, 0.0, 1.0, 1.0], "site": list("xxxyyyy")}, kinds=numbers)
    found = diff(a, b)
    assert (found.examples, found.unanswered, found.score_a, found.score_b) == (6, 1, 2.5, pytest.approx(2.5 / 6))
    assert ids(found.better) == ["e", "d", "c", "b", "a"]
    # Five differences of one sign, one of none: 2 / 2^5.
    assert found.p_value == pytest.approx(0.0625)
    told = as_json(found)
    assert told["mean_absolute_error"] == {"a": 2.5, "b": pytest.approx(2.5 / 6)}
    assert told["counts"] == {"better": 5, "worse": 0}
    assert told["better"][0] == {"id": "e", "label": 0.0, "prediction_a": 5.0, "prediction_b": 0.0}
    assert told["by_slice"]["site"][0]["mean_absolute_error_a"] == 2.0
    assert "accuracy" not in told and told["by_class"] == []
    assert diff(a, a).p_value == 1.0


def test_labels_that_differ_by_rounding_alone_are_the_same():
    numbers = {"label": "number", "prediction": "number"}
    a = run({"id": ["a", "b"], "label": [0.1, 0.1], "prediction": [0.0, 0.0]}, kinds=numbers)
    b = run({"id": ["a", "b"], "label": [float(np.float32(0.1)), 0.11], "prediction": [0.0, 0.0]}, kinds=numbers)
    assert (diff(a, b).examples, diff(a, b).relabelled_ids) == (1, ("b",))


FINE = {"id": ["a", "b"], "label": ["x", "y"], "prediction": ["x", "y"]}
NUMBERS = {"label": "number", "prediction": "number"}


def without(name):
    return run({key: values for key, values in FINE.items() if key != name})


REFUSED = [
    ("no rows", run({**FINE, "id": [], "label": [], "prediction": []}), "of B has no rows"),
    ("no id", without("id"), "of B has no column `id`"),
    ("no label", without("label"), "of B has no column `label`"),
    ("no prediction", without("prediction"), "of B has no column `prediction`"),
    ("other ids", run({**FINE, "id": ["batch-1", "batch-2"]}), "ids of A look like 'a', 'b', ids of B like 'batch-1'"),
    ("ids missing", run({**FINE, "id": [None, None]}), "every id is missing"),
    ("numbers", run({**FINE, "label": [1.0, 2.0], "prediction": [1.0, 2.0]}, kinds=NUMBERS), "B's one of regression"),
    ("json", run(FINE, kinds={"label": "json"}), "of kind json and class"),
    ("mixed", run({**FINE, "prediction": [0.5, 0.5]}, kinds={"prediction": "number"}), "of kind class and number"),
    ("other labels", run({**FINE, "label": ["y", "x"]}), "none has the same label in both: 2 have another"),
    ("no answers", run({**FINE, "prediction": pa.nulls(2, pa.string())}), "none has a label and a prediction in both"),
]


@pytest.mark.parametrize(("b", "why"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_it_says_why_runs_cannot_be_joined(b, why):
    with pytest.raises(DovetailError) as refused:
        diff(run(FINE), b)
    assert why in refused.value.why
    assert refused.value.remedy.endswith(".")


def test_json_is_bounded_and_its_counts_whole():
    found = diff(*digits())
    told = as_json(found, limit=3)
    json.dumps(told, allow_nan=False)
    assert len(told["newly_right"]) == 3 < told["counts"]["newly_right"] == len(found.better)
    assert told["newly_right"] == as_json(found)["newly_right"][:3]
    assert set(told["by_slice"]) == {"site", "age"}
    assert sum(group["examples"] for group in told["by_class"]) == told["examples"] == 200


HOSTILE = "<script>alert(1)</script>\x1b[31m\x00\u202egnp.exe =cmd()" + "long " * 100


def crowded():
    """Two runs with more of everything than a terminal's page takes; one text is of a megabyte."""
    names = [f"{i:03}{HOSTILE}" for i in range(119)] + ["x" * 1_000_000]
    label = [f"{i % 30}{HOSTILE}" for i in range(120)]
    said = [
        [right if i % 3 == turn else wrong for i, right in enumerate(label)] for turn, wrong in ((0, "no"), (1, "nay"))
    ]
    kinds = {**{f"s{i}": "class" for i in range(9)}, "caption": "text"}
    columns = {"id": [*names, None, "q", "q"], "label": [*label, *"qqq"], "caption": [*names, *"qqq"]}
    columns |= {f"s{i}": [*label, *"qqq"] for i in range(9)}
    a = run({**columns, "prediction": [*said[0], *"qqq"], "epoch": [4] * 123}, kinds=kinds, policy="first 9")
    columns["id"] = [*names, None, "r", "r"]
    b = run({**columns, "prediction": [*said[1], *"qqq"]}, kinds=kinds, policy="first 9", table="other")
    return a, b


def test_a_terminal_page_has_sixty_lines_at_most_and_no_control_characters():
    sections = as_text(diff(*crowded()), (HOSTILE, HOSTILE))
    page = render_page("dovetail predictions diff", [Section(*one) for one in sections], colour=False)
    assert 55 < len(page.splitlines()) <= 60
    assert max(map(len, page.splitlines())) < 320
    assert all(char.isprintable() or char == "\n" for char in page)
    assert "and 6 more notes" in page


def test_a_terminal_page_has_the_figures():
    page = render_page("diff", [Section(*one) for one in as_text(diff(*counted(10, 1)), ("old", "new"))], colour=False)
    for line in (
        "accuracy of old   33.33 %",
        "newly right       10",
        "newly wrong       1",
        "p-value           0.0117",
    ):
        assert line in page
    assert "x10  cat → dog, label cat" in page


@pytest.mark.parametrize("seed", range(2))
def test_many_rows_in_many_shards(seed):
    n = 100_000
    draw = np.random.default_rng(seed)
    label, names = draw.integers(0, 10, n), [f"img/{i:06}.png" for i in range(n)]
    runs, right = [], []
    for _ in range(2):
        said = np.where(draw.random(n) < 0.9, label, draw.integers(0, 10, n))
        table, manifest = run({"id": names, "label": label, "prediction": said})
        table = table.take(draw.permutation(n))
        runs.append((pa.concat_tables([table.slice(i, 1000) for i in range(0, n, 1000)]), manifest))
        right.append(said == label)
    found = diff(*runs)
    assert len(found.better) == np.count_nonzero(right[1] & ~right[0])
    assert len(found.worse) == np.count_nonzero(right[0] & ~right[1])
    assert (found.score_a, found.score_b) == (right[0].mean(), right[1].mean())
    assert set(ids(found.better, n)) == {names[i] for i in np.flatnonzero(right[1] & ~right[0])}
