"""Which rows of a table its page holds, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlflow_dovetail.prediction_tables.page import wording
from mlflow_dovetail.prediction_tables.page.outcomes import Array, Outcomes

ROWS = 5000
SEED = 0

# Of a page that cannot hold all: these shares are mistakes and high losses, what is left is drawn at random.
_WORST_SHARE, _LOSS_SHARE = 0.4, 0.2


@dataclass(frozen=True)
class Choice:
    """The rows of the page.

    Args:
        rows: Indices into the table, the last epoch's first, each part in the page's order.
        rank: (n,) where each of `rows` stands in the page's order over all epochs, from 0.
        order: That order in words.
        rule: How the rows were chosen, in words.
    """

    rows: Array
    rank: Array
    order: str
    rule: str


def choose(outcomes: Outcomes, limit: int = ROWS, *, unread: int = 0, before: str = "earlier epochs") -> Choice:
    """Choose at most `limit` rows: all, else the last epoch's, else its worst ones and a sample of the others.

    Args:
        outcomes: Of the table, or of its last epoch.
        limit: Of the page.
        unread: How many rows more the table has.
        before: Whose the rows are that are not of the last epoch, in words.
    """
    given, last = len(outcomes.epoch), outcomes.rows_of_last_epoch()
    total = given + unread
    chosen, rule = np.arange(given), "The page holds every row of the table." if total else "The table has no rows."
    if total > limit:
        chosen, rule = last, f"The page holds all {wording.count(len(last), 'row')}{_of_epoch(outcomes)}."
        if len(last) > limit:
            chosen, rule = _sample(outcomes, last, limit)
        if len(last) < total:
            rule += f" The {wording.count(total - len(last), 'row')} of {before} are not in it."
    order, words = _order(outcomes, chosen)
    in_last = np.isin(chosen[order], last)
    rows = chosen[order]
    places = np.concatenate([np.flatnonzero(in_last), np.flatnonzero(~in_last)])
    return Choice(rows[places], places, words, rule)


def _sample(outcomes: Outcomes, rows: Array, limit: int) -> tuple[Array, str]:
    worst, what = _worst(outcomes, rows)
    worst = worst[: int(limit * _WORST_SHARE)]
    others = _without(rows, worst)
    known = others[np.isfinite(outcomes.loss[others])]
    high = known[np.argsort(-outcomes.loss[known], kind="stable")][: int(limit * _LOSS_SHARE)]
    others = _without(others, high)
    drawn = np.random.default_rng(SEED).choice(others, limit - len(worst) - len(high), replace=False)
    parts = [f"the {wording.count(len(worst))} {what}"] if len(worst) else []
    parts += [f"the {wording.count(len(high))} {'others ' if parts else ''}with the highest loss"] if len(high) else []
    drawn_from = "the others" if parts else "all"
    listed = "".join(f"{part}, " for part in parts) + ("and " if parts else "")
    rule = (
        f"The page holds {wording.count(limit)} of the {wording.count(len(rows), 'row')}{_of_epoch(outcomes)}: "
        f"{listed}{wording.count(len(drawn))} drawn evenly at random from {drawn_from} (seed {SEED})."
    )
    return np.concatenate([worst, high, drawn]), rule


def _without(rows: Array, others: Array) -> Array:
    # `np.setdiff1d` takes seconds for a million.
    return rows[~np.isin(rows, others)]


def _worst(outcomes: Outcomes, rows: Array) -> tuple[Array, str]:
    """The rows that are wrong, worst first, and what they are called."""
    if outcomes.task == "regression":
        error = np.abs(outcomes.prediction - outcomes.label)[rows]
        known = rows[np.isfinite(error)]
        return known[np.argsort(-error[np.isfinite(error)], kind="stable")], "largest errors"
    wrong = rows[outcomes.correct[rows] == 0]
    order, _ = _order(outcomes, wrong)
    sure = np.isfinite(outcomes.confidence[wrong]).any()
    return wrong[order], "most confident mistakes" if sure else "mistakes that come first"


def _order(outcomes: Outcomes, rows: Array) -> tuple[Array, str]:
    """A permutation of `rows` with the worst first, and its name: ties keep the order in which they were logged."""
    correct, loss = outcomes.correct[rows], outcomes.loss[rows]
    confidence = outcomes.confidence[rows]
    group = np.select([correct == 0, correct == 1], [0, 1], 2)
    keys: tuple[Array, ...] = (rows, -loss)
    words = "As logged"
    if outcomes.task == "regression":
        return np.lexsort((rows, -np.abs(outcomes.prediction - outcomes.label)[rows])), "Largest errors first"
    if (correct >= 0).any():
        words = "Mistakes first"
        if np.isfinite(confidence).any():
            # From surely wrong over unsure to surely right.
            keys, words = (*keys, np.where(correct == 0, -confidence, confidence)), "Most confident mistakes first"
        elif np.isfinite(loss).any():
            words = "Mistakes with the highest loss first"
    elif np.isfinite(loss).any():
        words = "Highest loss first"
    return np.lexsort((*keys, group)), words


def _of_epoch(outcomes: Outcomes) -> str:
    last = outcomes.last_epoch()
    return "" if last is None else f" of {wording.epoch(last)}, the last"
