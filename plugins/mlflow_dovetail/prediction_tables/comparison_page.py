"""A comparison as one HTML file: no network, both predictions side by side, readable without a script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from mlflow_dovetail.prediction_tables.comparing import Comparison, Example, Examples
from mlflow_dovetail.prediction_tables.comparison_text import (
    meaning,
    notes,
    p_text,
    score_name,
    score_text,
    shortened,
    value_text,
)
from mlflow_dovetail.prediction_tables.grouping import Group

Thumbnails = Callable[[Sequence[str]], Mapping[str, bytes]]
"""From digests to small images, PNG or WebP; a digest that is not known is absent."""

_ASSETS = Path(__file__).parent / "comparison"
_MOST_EXAMPLES = 300
_LONGEST_NAME, _LONGEST_VALUE, _LONGEST_TEXT = 80, 200, 2000
# A control character is shown as its picture (U+2400 and on); tab and new line stay.
_PICTURES = {code: 0x2400 + code for code in (*range(9), *range(11, 32))} | {0x7F: 0x2421}
_TITLES = {
    "classification": {"worse": "Newly wrong", "better": "Newly right", "changed": "Changed"},
    "regression": {"worse": "Farther off", "better": "Nearer"},
}


def render_comparison(comparison: Comparison, *, names: tuple[str, str], thumbnails: Thumbnails) -> bytes:
    """The page of a comparison, UTF-8; the same input gives the same bytes.

    Of each kind of change it shows the first 300 examples, and says how many there are.

    Args:
        names: What the reader calls A and B; any text.
        thumbnails: Asked once, for all that the page shows; what stands first of each kind is asked for first.
    """
    shown = {key: _examples(comparison, key).first(_MOST_EXAMPLES) for key in _TITLES[comparison.task]}
    digests = _digests(shown.values())
    images = thumbnails(digests) if digests else {}
    named = (_visible(shortened(names[0], _LONGEST_NAME)), _visible(shortened(names[1], _LONGEST_NAME)))
    style, script = (_ASSETS / "page.css").read_text("utf-8"), (_ASSETS / "page.js").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((_ASSETS / "page.html").read_text("utf-8"))
    page = template.render(
        comparison=comparison,
        names=named,
        policy=_policy(style, script),
        style=style,
        script=script,
        score=score_name(comparison).replace("_", " "),
        scores=[score_text(comparison, score) for score in (comparison.score_a, comparison.score_b)],
        meaning=meaning(comparison, named),
        p_value=p_text(comparison.p_value),
        notes=[_visible(note) for note in notes(comparison, named)],
        sections=[_section(comparison, key, examples, images) for key, examples in shown.items()],
        shares=list(_shares(comparison)),
        by_class=_rows(comparison, comparison.classes or ()),
        by_slice=[(_visible(one.column), _rows(comparison, one.groups)) for one in comparison.slices],
        labels=[_value(group.value) for group in comparison.classes or ()],
    )
    return page.encode("utf-8", "replace")


@dataclass(frozen=True)
class _Answer:
    """What one run said: the text, whether it is right, and how sure the run was, as text and in percent."""

    value: str
    right: bool | None
    confidence: str
    percent: float | None
    error: str


@dataclass(frozen=True)
class _Card:
    """An example as the page shows it; `images` are data URIs, one where both runs have the same image."""

    id: str
    label: str
    text: str
    answers: tuple[_Answer, _Answer]
    images: tuple[str, ...]
    missing: int


@dataclass(frozen=True)
class _Section:
    """Examples of one kind of change, and how many there are of it."""

    key: str
    title: str
    total: int
    cards: tuple[_Card, ...]


@dataclass(frozen=True)
class _Row:
    """A class or a value in a table; `lost` and `gained` are percent of the widest bar of that table."""

    value: str
    group: Group
    scores: tuple[str, str]
    difference: str
    lost: float
    gained: float


def _digests(shown: Collection[Sequence[Example]]) -> list[str]:
    turns = zip_longest(*shown)
    images = (digest for turn in turns for one in turn if one for digest in (one.image_a, one.image_b))
    return [digest for digest in dict.fromkeys(images) if digest is not None]


def _examples(comparison: Comparison, key: str) -> Examples:
    return {"worse": comparison.worse, "better": comparison.better, "changed": comparison.changed}[key]


def _policy(style: str, script: str) -> str:
    """Only this style and this script, and images that are in the file."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _section(comparison: Comparison, key: str, examples: Sequence[Example], images: Mapping[str, bytes]) -> _Section:
    cards = tuple(_card(comparison, one, images) for one in examples)
    return _Section(key, _TITLES[comparison.task][key], len(_examples(comparison, key)), cards)


def _card(comparison: Comparison, one: Example, images: Mapping[str, bytes]) -> _Card:
    digests = list(dict.fromkeys(digest for digest in (one.image_a, one.image_b) if digest is not None))
    found = [uri for digest in digests if (uri := _data_uri(images.get(digest, b"")))]
    return _Card(
        id=_value(one.id),
        label=_value(one.label),
        text=_visible(shortened(one.text or "", _LONGEST_TEXT)),
        answers=(
            _answer(comparison, one.prediction_a, one.label, one.confidence_a),
            _answer(comparison, one.prediction_b, one.label, one.confidence_b),
        ),
        images=tuple(found),
        missing=len(digests) - len(found),
    )


def _answer(comparison: Comparison, prediction: str | float, label: str | float, confidence: float | None) -> _Answer:
    percent = None if confidence is None else round(confidence * 100, 1)
    sure = "" if percent is None else f"{percent:.1f} %"
    if isinstance(prediction, str) or isinstance(label, str) or comparison.task == "classification":
        return _Answer(_value(prediction), prediction == label, sure, percent, "")
    return _Answer(_value(prediction), None, sure, percent, f"{abs(prediction - label):.4g}")


def _data_uri(image: bytes) -> str:
    """Empty where the bytes are neither PNG nor WebP."""
    if image.startswith(b"\x89PNG"):
        kind = "png"
    elif image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        kind = "webp"
    else:
        return ""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _shares(comparison: Comparison) -> Iterator[tuple[str, str, int, float, float]]:
    """Of the bar over all examples: key, title, count, start and width in percent."""
    if comparison.task == "regression":
        equal = comparison.examples - len(comparison.better) - len(comparison.worse)
        parts = [("better", "nearer", len(comparison.better)), ("same", "as far", equal)]
    else:
        parts = [
            ("right", "both right", comparison.both_right),
            ("better", "newly right", len(comparison.better)),
            ("wrong", "both wrong", comparison.both_wrong),
        ]
    lost = "farther off" if comparison.task == "regression" else "newly wrong"
    start = 0.0
    for key, title, number in [*parts, ("worse", lost, len(comparison.worse))]:
        width = 100 * number / comparison.examples
        yield key, title, number, round(start, 3), round(width, 3)
        start += width


def _rows(comparison: Comparison, groups: Sequence[Group]) -> list[_Row]:
    """What lost most comes first."""
    sign = 1 if comparison.task == "classification" else -1
    widest = max((max(group.better, group.worse) for group in groups), default=0) or 1
    return [
        _Row(
            _value(group.value),
            group,
            (score_text(comparison, group.score_a), score_text(comparison, group.score_b)),
            _difference(comparison, group),
            round(100 * group.worse / widest, 2),
            round(100 * group.better / widest, 2),
        )
        for group in sorted(groups, key=lambda group: sign * (group.score_b - group.score_a))
    ]


def _difference(comparison: Comparison, group: Group) -> str:
    change = group.score_b - group.score_a
    text = f"{change * 100:+.2f}" if comparison.task == "classification" else f"{change:+.3g}"
    return text.replace("-", "−")


def _value(value: str | float | None) -> str:
    return _visible(shortened(value_text(value), _LONGEST_VALUE))


def _visible(text: str) -> str:
    return text.translate(_PICTURES)
