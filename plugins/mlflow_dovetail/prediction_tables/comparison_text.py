"""A comparison in words: what it means, what was left out, as JSON and for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mlflow_dovetail.prediction_tables.comparing import Comparison, Example, Examples
from mlflow_dovetail.prediction_tables.grouping import Group
from mlflow_dovetail.prediction_tables.joining import Side

Section = tuple[str, list[tuple[str, str]]]
"""A heading over rows of a name and a value."""

_SIDES = ("A", "B")
_SIGNIFICANT = 0.05
# A terminal's page of 60 lines is shared out among the sections.
_MOST_NOTES, _MOST_GROUPS, _MOST_WRONG, _MOST_OTHERS = 5, 6, 5, 3
_LONGEST = 40
TESTS = {
    "classification": "exact McNemar test, two-sided",
    "regression": "Wilcoxon's signed-rank test, two-sided",
}


def meaning(comparison: Comparison, names: tuple[str, str] = _SIDES) -> list[str]:
    """What the p-value says, in sentences for people who have no statistics."""
    better, worse = len(comparison.better), len(comparison.worse)
    if not better + worse:
        return ["Both runs do equally well on every example: nothing tells them apart."]
    a, b = names
    claim = "right where {} is wrong" if comparison.task == "classification" else "nearer than {}"
    return [
        f"{b} is {claim.format(a)} on {_count(better, 'example')}, and the reverse on {worse:,}.",
        f"Were both equally good, chance alone would make a difference this large {_often(comparison.p_value)} "
        f"({TESTS[comparison.task]}).",
        f"{_verdict(comparison, names)} It speaks of these two models, not of a training with another seed.",
    ]


def _verdict(comparison: Comparison, names: tuple[str, str]) -> str:
    if comparison.p_value >= _SIGNIFICANT:
        return "That is too often to say that one is better."
    higher = comparison.score_b > comparison.score_a
    winner = names[higher if comparison.task == "classification" else not higher]
    return f"So the difference is hardly chance: {winner} is better on examples like these."


def _often(p_value: float) -> str:
    if p_value < 1e-6:
        return "less than once in a million comparisons"
    if p_value < 0.1:
        return f"about once in {1 / p_value:,.0f} comparisons"
    return f"in about {p_value * 100:.0f} of 100 comparisons"


def p_text(p_value: float) -> str:
    """The p-value with three digits."""
    return f"{p_value:.3g}" if p_value > 1e-300 else "below 1e-300"


def notes(comparison: Comparison, names: tuple[str, str] = _SIDES) -> list[str]:
    """What was left out of the comparison, and what to mind when reading it: sentences, maybe none."""
    return [*_notes_on_examples(comparison), *_notes_on_sides(comparison, names)]


def _notes_on_examples(comparison: Comparison) -> Iterator[str]:
    if comparison.relabelled:
        more = ", …" if comparison.relabelled > len(comparison.relabelled_ids) else ""
        ids = ", ".join(shortened(one) for one in comparison.relabelled_ids)
        yield f"{_count(comparison.relabelled, 'example')} left out: the label differs between the runs ({ids}{more})."
    if comparison.unanswered:
        yield f"{_count(comparison.unanswered, 'example')} left out: no label or no prediction in one of the runs."
    for column in comparison.unsliced:
        yield f"Not shown by {shortened(column)}: too many values."
    if comparison.tables[0] != comparison.tables[1]:
        yield f"The tables have different names: {comparison.tables[0]} and {comparison.tables[1]}."


def _notes_on_sides(comparison: Comparison, names: tuple[str, str]) -> Iterator[str]:
    for name, side in zip(names, (comparison.a, comparison.b), strict=True):
        if side.alone:
            yield f"{_count(side.alone, 'example')} only in {name}."
        if side.repeated:
            yield f"{_count(side.repeated, 'row')} of {name} put aside: a later row has the same id."
        if side.unnamed:
            yield f"{_count(side.unnamed, 'row')} of {name} put aside: no id."
        if side.policy != "all":
            yield f"{name} kept only some rows ({side.policy}): the scores are of those, not of the whole split."


def as_json(comparison: Comparison, *, limit: int = 1000) -> dict[str, Any]:
    """The comparison as plain values.

    Args:
        limit: Each list of examples has at most so many; the counts are whole.

    Returns:
        Of a classification the lists `newly_right`, `newly_wrong` and `changed`, and `accuracy`; of a regression the
        lists `better` and `worse`, and `mean_absolute_error`. Shares are 0 to 1.
    """
    lists = _lists(comparison)
    score = score_name(comparison)
    counts = {name: len(examples) for name, examples in lists.items()}
    if comparison.task == "classification":
        counts |= {"both_right": comparison.both_right, "both_wrong": comparison.both_wrong}
    return {
        "task": comparison.task,
        "a": _side(comparison.a, comparison.tables[0]),
        "b": _side(comparison.b, comparison.tables[1]),
        "examples": comparison.examples,
        "only_in_a": comparison.a.alone,
        "only_in_b": comparison.b.alone,
        "relabelled": comparison.relabelled,
        "relabelled_ids": list(comparison.relabelled_ids),
        "unanswered": comparison.unanswered,
        score: {"a": comparison.score_a, "b": comparison.score_b},
        "p_value": comparison.p_value,
        "test": TESTS[comparison.task],
        "meaning": " ".join(meaning(comparison)),
        "notes": notes(comparison),
        "counts": counts,
        "limit": limit,
        **{name: [msgspec.to_builtins(one) for one in examples.first(limit)] for name, examples in lists.items()},
        "by_class": [_group(comparison, group) for group in comparison.classes or ()],
        "by_slice": {one.column: [_group(comparison, group) for group in one.groups] for one in comparison.slices},
        "unsliced": list(comparison.unsliced),
    }


def score_name(comparison: Comparison) -> str:
    """`accuracy` or `mean_absolute_error`."""
    return "accuracy" if comparison.task == "classification" else "mean_absolute_error"


def _lists(comparison: Comparison) -> dict[str, Examples]:
    if comparison.task == "regression":
        return {"better": comparison.better, "worse": comparison.worse}
    return {"newly_right": comparison.better, "newly_wrong": comparison.worse, "changed": comparison.changed}


def _group(comparison: Comparison, group: Group) -> dict[str, Any]:
    better, worse, *_ = _lists(comparison)
    score = score_name(comparison)
    return {
        "value": group.value,
        "examples": group.examples,
        better: group.better,
        worse: group.worse,
        f"{score}_a": group.score_a,
        f"{score}_b": group.score_b,
    }


def _side(side: Side, table: str) -> dict[str, Any]:
    return {"table": table, **{name: getattr(side, name) for name in side.__dataclass_fields__}}


def as_text(comparison: Comparison, names: tuple[str, str] = _SIDES) -> list[Section]:
    """The comparison for a terminal: headings over rows, 60 lines at most with their blank lines and a title."""
    named = (shortened(names[0]), shortened(names[1]))
    said = notes(comparison, named)
    more = f"and {len(said) - _MOST_NOTES + 1} more notes: --json has them"
    kept = said if len(said) <= _MOST_NOTES else [*said[: _MOST_NOTES - 1], more]
    return [
        ("", list(_overview(comparison, named))),
        ("What it means", [("", sentence) for sentence in meaning(comparison, named)]),
        ("To mind", [("", note) for note in kept]),
        _groups(comparison, "By class", [("", group) for group in comparison.classes or ()]),
        _groups(
            comparison, "By slice", [(f"{one.column} ", group) for one in comparison.slices for group in one.groups]
        ),
        *_example_sections(comparison),
    ]


def _overview(comparison: Comparison, names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    yield "examples in both", f"{comparison.examples:,}"
    if (comparison.a.taken, comparison.b.taken) != ("all rows", "all rows"):
        yield "rows compared", f"{comparison.a.taken} of {names[0]}, {comparison.b.taken} of {names[1]}"
    for name, score in zip(names, (comparison.score_a, comparison.score_b), strict=True):
        yield f"{score_name(comparison).replace('_', ' ')} of {name}", score_text(comparison, score)
    if comparison.task == "classification":
        yield "both right", f"{comparison.both_right:,}"
        yield "both wrong", f"{comparison.both_wrong:,}, of them {len(comparison.changed):,} with another answer"
    for name, examples in [*_lists(comparison).items()][:2]:
        yield name.replace("_", " "), f"{len(examples):,}"
    yield "p-value", p_text(comparison.p_value)


def _groups(comparison: Comparison, heading: str, groups: Sequence[tuple[str, Group]]) -> Section:
    """The groups in which most has changed, in aligned columns."""
    changing = sorted((one for one in groups if one[1].better + one[1].worse), key=_changes)[:_MOST_GROUPS]
    if not changing:
        return heading, []
    better, worse, *_ = (name.replace("_", " ") for name in _lists(comparison))
    cells = [["examples", "A", "B", better, worse], *(_cells(comparison, group) for _, group in changing)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells]
    titles = ["", *(f"{column}{value_text(group.value)}" for column, group in changing)]
    shown = f" (most changes: {len(changing)} of {len(groups):,})" if len(changing) < len(groups) else ""
    return f"{heading}{shown}", [(shortened(title), row) for title, row in zip(titles, rows, strict=True)]


def _changes(one: tuple[str, Group]) -> int:
    return -one[1].better - one[1].worse


def _cells(comparison: Comparison, group: Group) -> list[str]:
    scores = (score_text(comparison, score) for score in (group.score_a, group.score_b))
    return [f"{group.examples:,}", *scores, f"{group.better:,}", f"{group.worse:,}"]


def _example_sections(comparison: Comparison) -> Iterator[Section]:
    lists = _lists(comparison)
    worst_first = sorted(lists, key=lambda name: "worse" not in name and "wrong" not in name)
    for name, most in zip(worst_first, (_MOST_WRONG, _MOST_OTHERS, _MOST_OTHERS), strict=False):
        heading = f"{name.replace('_', ' ').capitalize()} ({min(most, len(lists[name]))} of {len(lists[name]):,})"
        yield heading, [(shortened(one.id), _example(one)) for one in lists[name].first(most)]


def _example(one: Example) -> str:
    before = shortened(value_text(one.prediction_a)) + percent_text(one.confidence_a)
    after = shortened(value_text(one.prediction_b)) + percent_text(one.confidence_b)
    return f"{before} → {after}, label {shortened(value_text(one.label))}"


def score_text(comparison: Comparison, score: float) -> str:
    """An accuracy in percent, or an error with four digits."""
    return f"{score * 100:.2f} %" if comparison.task == "classification" else f"{score:.4g}"


def percent_text(confidence: float | None) -> str:
    """A confidence in brackets; empty where it is not known."""
    return "" if confidence is None else f" ({confidence * 100:.1f} %)"


def value_text(value: str | int | float | None) -> str:
    """A class, a number or a slice's value."""
    if value is None:
        return "(none)"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def shortened(text: str, most: int = _LONGEST) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
