"""`dovetail doctor [DIR]`: what is wrong here, and what to do."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_dovetail.cli.page import escaped, wants_colour

if TYPE_CHECKING:
    from mlflow_dovetail.doctor import Finding

_COLOURS = {"ok": "\033[32m", "note": "\033[36m", "warning": "\033[33m", "problem": "\033[31m"}
_PLAIN = "\033[0m"
_LEVEL_WIDTH, _CHECK_WIDTH = 9, 11
_NARROWEST, _WIDEST = 50, 110


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `dovetail doctor`."""
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=_folder, default=".", help="a project (default: this folder)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what was found: 1 when something is a problem, else 0."""
    from mlflow_dovetail.doctor import examine

    # As the user's shell has it, without what this command has set for itself.
    found = examine(arguments.directory, arguments.tracking_uri, environment=arguments.shell)
    if arguments.json:
        print(
            json.dumps(
                {"findings": [{"check": one.check, **asdict(one)} for one in found]}, indent=2, ensure_ascii=False
            )
        )
    else:
        print(as_page(found, width=shutil.get_terminal_size().columns, colour=wants_colour()))
    return int(any(one.level == "problem" for one in found))


def as_page(found: Sequence[Finding], *, width: int, colour: bool) -> str:
    """A line a finding, wrapped at the terminal's width; why and what to do stand under it; the sum at the end."""
    lines = [line for one in found for line in _lines(one, min(max(width, _NARROWEST), _WIDEST), colour)]
    return "\n".join([*lines, "", _sum(found)])


def _lines(one: Finding, width: int, colour: bool) -> Iterator[str]:
    level = f"{one.level:<{_LEVEL_WIDTH}}"
    shown = f"{_COLOURS[one.level]}{level}{_PLAIN}" if colour else level
    indent = " " * (_LEVEL_WIDTH + _CHECK_WIDTH)
    for number, line in enumerate(_wrapped(one.what, width - len(indent))):
        yield (indent if number else f"{shown}{one.check:<{_CHECK_WIDTH}}") + line
    for head, text in (("why  ", one.why), ("do   ", one.do)):
        for number, line in enumerate(_wrapped(text, width - len(indent) - len(head)) if text else ()):
            yield indent + (" " * len(head) if number else head) + line


def _wrapped(text: str, width: int) -> list[str]:
    """Commands and paths stay whole, to be copied."""
    return textwrap.wrap(escaped(text), width, break_long_words=False, break_on_hyphens=False)


def _sum(found: Sequence[Finding]) -> str:
    count = Counter[str](one.level for one in found)
    told = [
        f"{count[level]} {word if count[level] == 1 else word + 's'}"
        for level, word in (("problem", "problem"), ("warning", "warning"), ("note", "note"))
        if count[level]
    ]
    return f"{', '.join(told)}; nothing was changed." if told else "All is well."


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return path
