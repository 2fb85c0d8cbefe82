"""A page of aligned columns for a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

_LONGEST_VALUE = 200
_BOLD, _PLAIN = "\033[1m", "\033[0m"


@dataclass(frozen=True)
class Section:
    """A heading over rows of a name and a value. An empty section is not printed."""

    heading: str
    rows: Sequence[tuple[str, str]]


def render_page(title: str, sections: Sequence[Section], *, colour: bool) -> str:
    """The page as text, without a trailing newline. Control characters in values are shown, never sent."""
    blocks = [_heading(safe(title), colour)]
    for section in sections:
        if section.rows:
            heading = [_heading(section.heading, colour)] if section.heading else []
            blocks.append("\n".join([*heading, *_aligned(section.rows)]))
    return "\n\n".join(blocks)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns under their heads, without a trailing newline."""
    shown = [[safe(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[number]) for row in shown) for number in range(len(heads))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )


def wants_colour() -> bool:
    """Only on a terminal, and not with NO_COLOR (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def safe(text: str) -> str:
    """The text on one line: control characters escaped, cut at 200 characters."""
    line = escaped(text)
    return line if len(line) <= _LONGEST_VALUE else f"{line[:_LONGEST_VALUE]}… (cut; --json has all of it)"


def escaped(text: str, keep: str = "") -> str:
    """The text without control characters, but for those to keep: each is shown as Python writes it."""
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )


def moment(time_ms: int) -> str:
    """A time in the reader's own time zone."""
    return datetime.fromtimestamp(time_ms / 1000).astimezone().isoformat(sep=" ", timespec="seconds")


def duration(span_ms: int) -> str:
    """A duration in its two largest units."""
    seconds = span_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def size(size_bytes: int | None) -> str:
    """A size in its largest decimal unit; empty where unknown."""
    if size_bytes is None:
        return ""
    amount, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    shown = [(safe(name), safe(value)) for name, value in rows]
    width = max(len(name) for name, _ in shown)
    return [f"  {name:<{width}}  {value}".rstrip() for name, value in shown]


def _heading(text: str, colour: bool) -> str:
    return f"{_BOLD}{text}{_PLAIN}" if colour else text
