"""Which of two runs does better on each example, and whether chance alone would do that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from mlflow_dovetail.prediction_tables.answers import Answers, Mask, Values


@dataclass(frozen=True)
class Verdict:
    """Arrays of one value an example; the order puts the example that says most first.

    Args:
        score_a: 1 where A is right and 0 where it is wrong; of a regression A's absolute error.
        score_b: B's.
        better: Where B is right and A wrong; of a regression, where B's error is the smaller.
        worse: Where it is the other way round.
        changed: Where both are wrong, each with another answer; nowhere in a regression.
        better_by: How much an example of `better` says, the greatest first; NaN where that is not known.
        worse_by: The same of `worse` and `changed`.
        p_value: 0 to 1, two-sided.
    """

    score_a: Values
    score_b: Values
    better: Mask
    worse: Mask
    changed: Mask
    better_by: Values
    worse_by: Values
    p_value: float


def judge_classes(answers: Answers, confidence_a: Values, confidence_b: Values) -> Verdict:
    """Right and wrong, and the exact McNemar test; the most confident mistakes first.

    Source:
        McNemar, Psychometrika 12 (1947), in its exact form: a binomial test of the examples that only one has right.
    """
    from scipy import stats  # 0.8 s, which no training is to wait for

    right_a = _equal(answers.predictions_a, answers.labels)
    right_b = _equal(answers.predictions_b, answers.labels)
    other = ~_equal(answers.predictions_a, answers.predictions_b)
    better, worse = right_b & ~right_a, right_a & ~right_b
    counts = int(np.count_nonzero(better)), int(np.count_nonzero(worse))
    return Verdict(
        right_a.astype(float),
        right_b.astype(float),
        better,
        worse,
        changed=other & ~right_a & ~right_b,
        better_by=confidence_a,
        worse_by=confidence_b,
        p_value=float(stats.binomtest(min(counts), sum(counts)).pvalue) if any(counts) else 1.0,
    )


def judge_numbers(answers: Answers) -> Verdict:
    """Absolute errors, and Wilcoxon's signed-rank test of their differences; the greatest differences first.

    Source:
        Wilcoxon, Biometrics Bulletin 1 (1945); ties and exact values as `scipy.stats.wilcoxon` has them.
    """
    from scipy import stats

    labels = answers.labels.to_numpy()
    error_a = np.abs(answers.predictions_a.to_numpy() - labels)
    error_b = np.abs(answers.predictions_b.to_numpy() - labels)
    gain = error_a - error_b
    return Verdict(
        error_a,
        error_b,
        better=gain > 0,
        worse=gain < 0,
        changed=np.zeros(len(gain), bool),
        better_by=gain,
        worse_by=-gain,
        p_value=float(stats.wilcoxon(gain).pvalue) if gain.any() else 1.0,
    )


def _equal(left: object, right: object) -> Mask:
    mask: Mask = pc.equal(left, right).to_numpy(zero_copy_only=False)
    return mask
