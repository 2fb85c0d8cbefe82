"""How values read, the same as the page's script writes them."""

from __future__ import annotations

import math
import re

# Tab and new line aside.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


def visible(text: str) -> str:
    """A text with a picture (U+2400 and on) for each control character: NUL is nothing that HTML could hold."""
    return _CONTROL.sub(lambda found: chr(0x2421 if found[0] == "\x7f" else 0x2400 + ord(found[0])), text)


def count(number: int, noun: str = "") -> str:
    """A count with its noun: `1 row`, `12,345 rows`."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}" if noun else f"{number:,}"


def number(value: float | str) -> str:
    """A number with four digits after the point; very small and very large ones with an exponent.

    Args:
        value: A text is a whole number that a script cannot hold, and stays as it is.
    """
    if isinstance(value, str):
        return value.replace("-", "−")
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "NaN")
    size = abs(value)
    if float(value).is_integer() and size < 1e15:
        text = f"{value:,.0f}"
    elif size < 1e-3 or size >= 1e9:
        text = re.sub(r"e([+-])0*", r"e\1", f"{value:.2e}")
    else:
        text = f"{value:,.1f}" if size >= 1000 else f"{value:.4f}"
    return text.replace("-", "−", 1) if value < 0 else text


def percent(share: float) -> str:
    """A share in percent, without the sign; what is not quite nothing or all is not rounded to it."""
    if 0 < share < 0.0005:
        return "<0.1"
    if 0.9995 <= share < 1:
        return ">99.9"
    return f"{share * 100:.1f}"


def epoch(value: float) -> str:
    """`epoch 3`."""
    return f"epoch {number(value)}"
