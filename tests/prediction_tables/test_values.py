"""What users hand over is read back as it was, and what does not fit is refused with the earlier rows intact."""

from __future__ import annotations

import datetime
import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.columns import Class, Image, Json, Number, Probabilities, Text
from mlflow_dovetail.prediction_tables.compaction import compact
from mlflow_dovetail.prediction_tables.reading import read_table
from mlflow_dovetail.prediction_tables.writer import TableWriter

READ_AS = [
    ("floats", [0.5, 1.5], [0.5, 1.5], "number"),
    ("whole", [1, 2], [1, 2], "number"),
    ("truth", [True, False], [1, 0], "number"),
    ("missing", [1.0, None], [1.0, None], "number"),
    ("int8", np.array([-1, 2], np.int8), [-1, 2], "number"),
    ("half", np.array([0.5, 1], np.float16), [0.5, 1.0], "number"),
    ("single", np.array([0.5, 1], np.float32), [0.5, 1.0], "number"),
    ("strided", np.arange(4.0)[::2], [0.0, 2.0], "number"),
    ("tensor", torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0], "number"),
    ("bfloat16", torch.tensor([1.5, 2.5], dtype=torch.bfloat16), [1.5, 2.5], "number"),
    ("float8", torch.tensor([1.5, 2.0]).to(torch.float8_e4m3fn), [1.5, 2.0], "number"),
    ("tensors", [torch.tensor(1.0), torch.tensor(2.0)], [1.0, 2.0], "number"),
    ("conj", torch.tensor([1 + 2j, 3j]).conj().imag, [-2.0, -3.0], "number"),
    ("series", pd.Series([1.5, math.inf]), [1.5, math.inf], "number"),
    ("nullable", pd.Series([1, None], dtype="Int64"), [1, None], "number"),
    ("categories", pd.Series(["a", "b"], dtype="category"), ["a", "b"], "text"),
    ("arrow", pa.chunked_array([[1], [2]]), [1, 2], "number"),
    ("range", range(2), [0, 1], "number"),
    ("one value", 7, [7, 7], "number"),
    ("one tensor", torch.tensor(7), [7, 7], "number"),
    ("one text", "x", ["x", "x"], "text"),
    ("text", ["a", None], ["a", None], "text"),
    ("NumPy's text", np.array(["a", "b"]), ["a", "b"], "text"),
    ("bytes", [b"a", b"\xff"], ["a", "\\xff"], "text"),
    ("objects", np.array(["a", "b"], dtype=object), ["a", "b"], "text"),
    ("id", [1, "x"], ["1", "x"], "id"),
    ("label", [3, 4], [3, 4], "class"),
    ("prediction", ["cat", "dog"], ["cat", "dog"], "class"),
    ("target", torch.tensor([3, 4]), [3, 4], "class"),
    ("loss", torch.tensor([3.0, 4.0]), [3.0, 4.0], "number"),
    ("probabilities", torch.tensor([[0.5, 0.5], [0.25, 0.75]]), [[0.5, 0.5], [0.25, 0.75]], "probabilities"),
    ("vectors", np.array([[1, 2], [3, 4]]), ["[1,2]", "[3,4]"], "json"),
    ("mappings", [{"a": np.float32(1)}, {"b": torch.tensor([1, 2])}], ['{"a":1.0}', '{"b":[1,2]}'], "json"),
    ("mixed", [1, "a"], ["1", '"a"'], "json"),
    ("nothing", [None, None], [None, None], "json"),
    ("tuple keys", [{(1, 2): 3}, []], ['{"(1, 2)":3}', "[]"], "json"),
    ("dates", np.array(["2026-01-01", "2026-01-02"], "datetime64[D]"), ["2026-01-01", "2026-01-02"], "text"),
    ("one date", datetime.date(2026, 1, 1), ['"2026-01-01"'] * 2, "json"),
]


@pytest.mark.parametrize(("name", "given", "read", "kind"), READ_AS, ids=[one[0] for one in READ_AS])
def test_values_are_read_back_as_they_were(table, name, given, read, kind):
    table.writer().append({name: given, "row": [0, 1]})
    manifest = table.compact()
    assert table.column(name) == read
    assert manifest.column(name).kind == kind


SAID = [
    (Text(), "a", "text"),
    (Text, ["a", "b"], "text"),
    (Class(["cat", "dog"]), [0, 1], "class"),
    (Class(["cat", "dog"]), ["cat", "dog"], "class"),
    (Probabilities(["cat", "dog"]), [[0.5, 0.5], None], "probabilities"),
    (Number(), [1, 2], "number"),
    (Number(is_whole=True), [1.0, 2.0], "number"),
    (Json, [1, [2]], "json"),
    (Image, np.zeros((2, 4, 4), np.int64), "image"),
]


@pytest.mark.parametrize(("said", "given", "kind"), SAID, ids=[str(one[0]) for one in SAID])
def test_a_kind_that_is_said_holds(table, said, given, kind):
    table.writer(columns={"x": said}).append({"x": given, "row": [0, 1]})
    column = table.compact().column("x")
    assert (column.kind, column.classes) == (kind, tuple(getattr(said, "names", ())))


REGRESSIONS = [
    ("labels of a regression", {"label": [1, 2], "prediction": [0.5, 1.5]}),
    ("predictions of a regression", {"label": torch.tensor([0.5, 1.5]), "prediction": torch.tensor([1, 2])}),
    ("said of one", {"label": np.array([1, 2]), "prediction": [1, 2]}),
]


@pytest.mark.parametrize("batch", [one[1] for one in REGRESSIONS], ids=[one[0] for one in REGRESSIONS])
def test_whole_numbers_beside_fractions_are_numbers(table, batch):
    said = {"prediction": Number} if batch["prediction"] == [1, 2] else None
    writer = table.writer(columns=said)
    writer.append(batch)
    writer.append({"label": [2.5, 3], "prediction": [3, 2.25]})
    manifest = table.compact()
    assert [one.kind for one in manifest.columns] == ["number", "number"]
    assert table.column("label")[2:] == [2.5, 3.0]
    assert table.column("prediction")[2:] == [3.0, 2.25]


def test_classes_stay_classes_where_it_is_said(table):
    table.writer(columns={"label": Class(["a", "b"])}).append({"label": [0, 1], "prediction": [0.1, 0.9]})
    assert [one.kind for one in table.compact().columns] == ["class", "number"]


def test_a_fraction_among_what_began_as_classes_says_what_to_do(table):
    writer = table.writer()
    writer.append({"label": [1], "prediction": [2]})
    with pytest.raises(DovetailError, match=r"'prediction' are no class \(int64\).*say the column's kind when"):
        writer.append({"label": [1], "prediction": [2.5]})


def test_what_is_no_kind_is_refused_when_the_table_is_made(table):
    with pytest.raises(DovetailError, match="Give one of Image, Text, Class"):
        table.writer(columns={"x": "image"})


def test_nan_and_infinity_stay_and_none_is_null(table):
    table.writer().append({"x": [math.nan, math.inf, -math.inf, None], "s": pd.Series([math.nan, 1.0, 2.0, 3.0])})
    table.compact()
    first, *others = table.column("x")
    assert math.isnan(first)
    assert others == [math.inf, -math.inf, None]
    assert math.isnan(table.column("s")[0])


REFUSED = [
    ({"x": [1.0, 2.0], "t": ["a"]}, "'x' has 2, 't' has 1.*one value a row"),
    ({"x": [1.0]}, "it has no 't'.*the same columns"),
    ({"x": [1.0], "t": ["a"], "new": [1]}, "'new' is new.*the same columns"),
    ({"x": ["a"], "t": ["a"]}, "'x' are no number.*the first batch had"),
    ({"x": [1.0], "t": [1]}, "'t' are no text.*the first batch had"),
    ({"x": [1.0], "t": np.array([1])}, "'t' are no text.*the first batch had"),
    ({"x": np.zeros((1, 2)), "t": ["a"]}, "'x' are no number.*the first batch had"),
    ({"x": [1j], "t": ["a"]}, "'x' are no number.*the first batch had"),
    ({"x": [1.0], "t": ["a" * (65 << 20)]}, "more than 64 MiB.*artifact"),
]


@pytest.mark.parametrize(("batch", "message"), REFUSED, ids=[one[1] for one in REFUSED])
def test_what_does_not_fit_is_refused_and_the_rows_before_and_after_are_kept(table, batch, message):
    writer = table.writer()
    writer.append({"x": [0.5], "t": ["before"]})
    with pytest.raises(DovetailError, match=message):
        writer.append(batch)
    writer.append({"x": [1], "t": ["after"]})
    table.compact()
    assert table.read().to_pydict() == {"x": [0.5, 1.0], "t": ["before", "after"]}


WHOLE_REFUSED = [[0.5], [math.nan], [2**63], np.array([2**63], np.uint64), ["1"]]


@pytest.mark.parametrize("values", WHOLE_REFUSED, ids=str)
def test_whole_numbers_are_not_cut_to_fit(table, values):
    writer = table.writer()
    writer.append({"n": [1]})
    with pytest.raises(DovetailError, match="say the column's kind"):
        writer.append({"n": values})


def test_a_first_batch_that_is_refused_settles_nothing(table):
    writer = table.writer()
    with pytest.raises(DovetailError, match="different lengths"):
        writer.append({"x": [1, 2], "y": [1]})
    writer.append({"z": [1]})
    table.compact()
    assert table.read().to_pydict() == {"z": [1]}


HOSTILE = [
    "<script>alert(1)</script>",
    '=HYPERLINK("http://x")',
    "\u202eabc\u2066",
    "a\0b",
    "lone \udcff",
    "\r\n\t\x1b[31m",
    "",
    "x" * (1 << 20),
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:20]))
def test_hostile_text_is_kept_whole_in_every_field(table, text):
    kinds = {"text": Text, "label": Class, "other": Json}
    table.writer(columns=kinds).append({"id": [text], "text": [text], "label": [text], "other": [{text: text}]})
    table.compact()
    expected = text.replace("\udcff", "\\udcff")
    assert table.read(["id", "text", "label"]).to_pylist() == [{"id": expected, "text": expected, "label": expected}]
    assert json.loads(table.column("other")[0]) == {text: text}


COLUMN_NAMES = ["", ".", "a.b", "a", "../x", "a\0b", "\udcff", "x" * 5000, "a`b", "item", "<b>"]


def test_hostile_names_of_columns_are_data(table):
    table.writer().append({name: [index] for index, name in enumerate(COLUMN_NAMES)})
    table.compact()
    assert [values[0] for values in table.read().to_pydict().values()] == list(range(len(COLUMN_NAMES)))
    assert table.read(["a"]).to_pydict() == {"a": [3]}
    assert table.read(["a.b"]).to_pydict() == {"a.b": [2]}


VALUES = {
    "number": st.floats(width=64) | st.none(),
    "whole": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "text": st.text() | st.none(),
    "label": st.text(max_size=5),
    "probabilities": st.lists(st.floats(width=32, allow_nan=False), max_size=4) | st.none(),
}
SAID_VALUES = {
    "number": Number,
    "whole": Number(is_whole=True),
    "text": Text,
    "label": Class,
    "probabilities": Probabilities,
}


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_was_appended_is_what_is_read(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("law")
    names = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, unique=True))
    sizes = data.draw(st.lists(st.integers(0, 5), max_size=4))
    writer = TableWriter(folder, "t", columns={name: SAID_VALUES[name] for name in names})
    expected = {name: [] for name in names}
    for size in sizes:
        batch = {name: data.draw(st.lists(VALUES[name], min_size=size, max_size=size)) for name in names}
        writer.append(batch)
        for name in names:
            expected[name] += batch[name]
    compact(writer.folder, folder / "out", is_over=True)
    found = read_table(folder / "out").to_pydict()
    assert repr(found) == repr(expected)  # NaN equals nothing, and -0.0 is not 0.0
