"""What changed between two runs' predictions on the same examples, and whether chance alone would do that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.answers import (
    Answers,
    Mask,
    Task,
    Values,
    class_names,
    read_answers,
    read_confidences,
    task_of,
)
from mlflow_dovetail.prediction_tables.grouping import Group, Slice, group_by, slices_of
from mlflow_dovetail.prediction_tables.joining import Rows, Side, flat, join
from mlflow_dovetail.prediction_tables.judging import judge_classes, judge_numbers
from mlflow_dovetail.prediction_tables.schema import IMAGE, TEXT, Manifest

_NAMED_IDS = 20


class Example(msgspec.Struct, frozen=True, omit_defaults=True):
    """An example in both runs.

    Attributes:
        id: As both runs have it.
        label: The class's name, or its number where nobody has named it; of a regression the value.
        prediction_a: As `label`; so is `prediction_b`.
        confidence_a: The probability, 0 to 1, that A gave to its own prediction; so is `confidence_b` of B.
        image_a: The digest of the image that A has kept; so is `image_b` of B.
        text: The input, where it is a text: B's, else A's.
    """

    id: str
    label: str | int | float
    prediction_a: str | int | float
    prediction_b: str | int | float
    confidence_a: float | None = None
    confidence_b: float | None = None
    image_a: str | None = None
    image_b: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Examples:
    """Examples in order, the one that says most first, however many; in Arrow, with the columns of `Example`."""

    rows: pa.Table

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def first(self, limit: int) -> list[Example]:
        """The first ones, at most so many."""
        return [Example(**row) for row in self.rows.slice(0, limit).to_pylist()]


@dataclass(frozen=True)
class Comparison:
    """Two runs on the examples that both have.

    Args:
        task: What the tables are about. It says what `better`, `worse` and the scores mean.
        tables: Their names, A's and B's.
        a: What of A takes part.
        b: What of B takes part.
        relabelled: Examples whose label is not the same in both runs: left out of all that follows.
        relabelled_ids: The first 20 of them.
        unanswered: Examples that lack a label or a prediction, or have one that is not finite: left out as well.
        examples: How many are compared.
        score_a: A's accuracy, 0 to 1; of a regression its mean absolute error.
        score_b: B's.
        better: Newly right, the most confident mistakes of A first; of a regression, where B's error is the smaller.
        worse: Newly wrong, the most confident mistakes of B first; of a regression, where B's error is the larger.
        changed: Wrong in both, each time another answer; the most confident mistakes of B first. Empty of a regression.
        classes: By label; None of a regression, or of too many labels.
        slices: By the values of further columns.
        unsliced: Columns that have too many values to be shown by.
        p_value: 0 to 1, two-sided: of the exact McNemar test; of a regression, of Wilcoxon's signed-rank test.
    """

    task: Task
    tables: tuple[str, str]
    a: Side
    b: Side
    relabelled: int
    relabelled_ids: tuple[str, ...]
    unanswered: int
    examples: int
    score_a: float
    score_b: float
    better: Examples
    worse: Examples
    changed: Examples
    classes: tuple[Group, ...] | None
    slices: tuple[Slice, ...]
    unsliced: tuple[str, ...]
    p_value: float

    @property
    def both_right(self) -> int:
        """How many examples both have right; meaningless in a regression."""
        return round(self.score_a * self.examples) - len(self.worse)

    @property
    def both_wrong(self) -> int:
        """How many examples both have wrong, those of `changed` among them; meaningless in a regression."""
        return self.examples - self.both_right - len(self.better) - len(self.worse)


def compare(
    a: pa.Table, b: pa.Table, *, manifest_a: Manifest, manifest_b: Manifest, slices: Sequence[str] = ()
) -> Comparison:
    """Join two tables by `id` and say what B does better and worse than A.

    The result does not depend on the order of the rows, how they were split into files, or which worker logged them.

    Args:
        a: The rows of `manifest_a`, without media; those of earlier epochs are not needed.
        b: The rows of `manifest_b`.
        slices: Columns that both have; every fitting one where none is named. Numbers of more than ten values are
            cut into quartiles. The values are A's.

    Raises:
        DovetailError: The tables cannot be joined or compared: no rows, no label, no prediction, no id in common,
            other kinds, no example with the same label in both; or a column of `slices` that does not serve.
    """
    manifests = (manifest_a, manifest_b)
    task = task_of((a, b), manifests)
    pairs = join(a, b, manifests)
    all_answers = read_answers(task, [(a, manifest_a, pairs.rows_a), (b, manifest_b, pairs.rows_b)])
    kept = all_answers.same & all_answers.answered
    relabelled = pc.filter(pairs.ids, pa.array(all_answers.answered & ~all_answers.same))
    if not kept.any():
        raise _nothing_to_compare(len(pairs.ids), len(relabelled))
    rows_a, rows_b, answers = pairs.rows_a[kept], pairs.rows_b[kept], all_answers.filter(kept)
    confidences = (read_confidences(a, manifest_a)[rows_a], read_confidences(b, manifest_b)[rows_b])
    verdict = judge_numbers(answers) if task == "regression" else judge_classes(answers, *confidences)
    inputs = _Inputs(a, b, rows_a, rows_b, pc.filter(pairs.ids, pa.array(kept)), answers, confidences)
    by_class = group_by(answers.labels, verdict, class_names(manifest_a) or class_names(manifest_b))
    found, unsliced = slices_of(a, b, manifest_a, rows_a, verdict, slices)
    return Comparison(
        task=task,
        tables=(manifest_a.table, manifest_b.table),
        a=pairs.a,
        b=pairs.b,
        relabelled=len(relabelled),
        relabelled_ids=tuple(relabelled[:_NAMED_IDS].to_pylist()),
        unanswered=int(np.count_nonzero(~all_answers.answered)),
        examples=len(rows_a),
        score_a=float(np.mean(verdict.score_a)),
        score_b=float(np.mean(verdict.score_b)),
        better=_select(inputs, verdict.better, verdict.better_by),
        worse=_select(inputs, verdict.worse, verdict.worse_by),
        changed=_select(inputs, verdict.changed, verdict.worse_by),
        classes=by_class if task == "classification" else None,
        slices=found,
        unsliced=unsliced,
        p_value=verdict.p_value,
    )


@dataclass(frozen=True)
class _Inputs:
    """What examples are made of; the arrays are of the compared examples."""

    a: pa.Table
    b: pa.Table
    rows_a: Rows
    rows_b: Rows
    ids: pa.Array
    answers: Answers
    confidences: tuple[Values, Values]


def _select(inputs: _Inputs, which: Mask, weights: Values) -> Examples:
    """The examples of a mask, by falling weight; the ones without a weight last, equals by id."""
    places = np.flatnonzero(which)
    places = places[np.argsort(-weights[places], kind="stable")]
    taken, rows_a, rows_b = pa.array(places), inputs.rows_a[places], inputs.rows_b[places]
    answers, (confidence_a, confidence_b) = inputs.answers, inputs.confidences
    columns = {
        "id": inputs.ids.take(taken),
        "label": answers.labels.take(taken),
        "prediction_a": answers.predictions_a.take(taken),
        "prediction_b": answers.predictions_b.take(taken),
        "confidence_a": _known(confidence_a[places]),
        "confidence_b": _known(confidence_b[places]),
        "image_a": _texts(inputs.a, IMAGE, rows_a),
        "image_b": _texts(inputs.b, IMAGE, rows_b),
        "text": pc.coalesce(_texts(inputs.b, TEXT, rows_b), _texts(inputs.a, TEXT, rows_a)),
    }
    return Examples(pa.table(columns))


def _known(numbers: Values) -> pa.Array:
    # What was logged as float32 has no more than these digits.
    return pa.array(np.round(numbers, 6), from_pandas=True)


def _texts(table: pa.Table, name: str, rows: Rows) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(len(rows), pa.large_string())
    return flat(table[name].cast(pa.large_string()).take(pa.array(rows)))


def _nothing_to_compare(common: int, relabelled: int) -> DovetailError:
    what = "Cannot compare the two runs' predictions."
    if relabelled:
        return DovetailError(
            what,
            f"The runs share {common:,} ids, and none has the same label in both: {relabelled:,} have another one.",
            "Give `id` a value that comes from the data, not its place in a batch or a shuffled split.",
        )
    return DovetailError(
        what,
        f"The runs share {common:,} ids, and none has a label and a prediction in both.",
        "Log `label` and `prediction` for the same examples in both runs.",
    )
