"""The figures of a table, over all rows of its last epoch: totals, confusion matrix, precision and recall a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlflow_dovetail.prediction_tables.page import wording
from mlflow_dovetail.prediction_tables.page.outcomes import Array, Outcomes

MATRIX_CLASSES = 50
LISTED_CLASSES = 1000


@dataclass(frozen=True)
class ClassScore:
    """One class: how many rows have it as label, as prediction, and as both."""

    code: int
    support: int
    predicted: int
    hits: int

    @property
    def precision(self) -> float | None:
        """0 to 1; None where the class was never predicted."""
        return self.hits / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """0 to 1; None where no row has the class as label."""
        return self.hits / self.support if self.support else None


@dataclass(frozen=True)
class Confusion:
    """Counts of label (rows) by prediction (columns) of the classes shown, k of all; k is `MATRIX_CLASSES` at most."""

    codes: tuple[int, ...]
    counts: Array
    classes: int


@dataclass(frozen=True)
class Scores:
    """Of a classification: every class that the names tell or that a row has, and the matrix."""

    classes: tuple[ClassScore, ...]
    confusion: Confusion


@dataclass(frozen=True)
class Figure:
    """One figure of the page's head: what it is, its value with its unit, and what it stands on."""

    name: str
    value: str
    note: str = ""


def score_classes(outcomes: Outcomes) -> Scores | None:
    """Count label by prediction; None where the task is no classification or no row has both."""
    rows = outcomes.rows_of_last_epoch()
    rows = rows[outcomes.correct[rows] >= 0]
    if outcomes.task != "classification" or not len(rows):
        return None
    size = len(outcomes.names)
    pairs, counts = np.unique(outcomes.label[rows] * size + outcomes.prediction[rows], return_counts=True)
    label, prediction = np.divmod(pairs, size)
    support, predicted = (np.bincount(one, counts, size).astype(int) for one in (label, prediction))
    hits = np.bincount(label, counts * (label == prediction), size).astype(int)
    met = np.flatnonzero(support + predicted) if size > MATRIX_CLASSES else np.arange(size)
    classes = tuple(ClassScore(*map(int, (code, support[code], predicted[code], hits[code]))) for code in met)
    return Scores(classes, _confusion(met, support + predicted - 2 * hits, label, prediction, counts))


def head_figures(outcomes: Outcomes) -> list[Figure]:
    """What is said first of a table."""
    rows = outcomes.rows_of_last_epoch()
    last = outcomes.last_epoch()
    figures = [Figure("Rows", wording.count(len(rows)), "" if last is None else f"of {wording.epoch(last)}, the last")]
    if outcomes.task == "regression":
        figures += _errors(outcomes.label[rows], outcomes.prediction[rows])
    elif outcomes.task != "none":
        figures += _shares(outcomes, rows)
    loss = outcomes.loss[rows]
    known = loss[np.isfinite(loss)]
    if len(known):
        figures.append(Figure("Mean loss", wording.number(float(known.mean())), _over(len(known), len(rows))))
    return figures


def _confusion(met: Array, mistakes: Array, label: Array, prediction: Array, counts: Array) -> Confusion:
    shown = met
    if len(met) > MATRIX_CLASSES:
        shown = np.sort(met[np.argsort(-mistakes[met], kind="stable")[:MATRIX_CLASSES]])
    place = np.full(int(met.max()) + 1, -1)
    place[shown] = np.arange(len(shown))
    within = (place[label] >= 0) & (place[prediction] >= 0)
    matrix = np.zeros((len(shown), len(shown)), np.int64)
    matrix[place[label][within], place[prediction][within]] = counts[within]
    return Confusion(tuple(map(int, shown)), matrix, len(met))


def _shares(outcomes: Outcomes, rows: Array) -> list[Figure]:
    correct = outcomes.correct[rows]
    right, wrong = int((correct == 1).sum()), int((correct == 0).sum())
    if not right + wrong:
        return []
    name = "Accuracy" if outcomes.task == "classification" else "Exact matches"
    note = f"{wording.count(right)} of {wording.count(right + wrong)}"
    return [
        Figure(name, f"{wording.percent(right / (right + wrong))} %", note),
        Figure("Wrong", wording.count(wrong), _over(right + wrong, len(rows))),
    ]


def _errors(label: Array, prediction: Array) -> list[Figure]:
    both = np.isfinite(label) & np.isfinite(prediction)
    if not both.any():
        return []
    error, spread = (prediction - label)[both], np.square(label[both] - label[both].mean()).sum()
    figures = [
        Figure("Mean absolute error", wording.number(float(np.abs(error).mean())), _over(int(both.sum()), len(both))),
        Figure("Root mean square error", wording.number(float(np.sqrt(np.square(error).mean())))),
    ]
    return [*figures, Figure("R²", wording.number(float(1 - np.square(error).sum() / spread)))] if spread else figures


def _over(known: int, rows: int) -> str:
    return "" if known == rows else f"over {wording.count(known, 'row')}"
