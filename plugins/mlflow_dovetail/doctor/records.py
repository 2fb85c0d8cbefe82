"""What a check is given, and what it tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Level = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True)
class Place:
    """What is examined. A check runs in a process of its own, whose working directory is the folder.

    Args:
        folder: That the user has named.
        root: Of the project around it.
        tracking_uri: That the user has given with the command; None when none was.
        part: Which part of the check this process does; empty for a check in one piece.
    """

    folder: Path
    root: Path
    tracking_uri: str | None = None
    part: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found.

    Args:
        level: "ok"; "note", worth knowing; "warning", it works and may hurt; "problem", it fails or loses something.
        what: One sentence.
        why: The cause or the consequence; empty when all is well.
        do: What the user can do; empty when there is nothing to do.
        check: The name of the check; filled in by `examine`.
    """

    level: Level
    what: str
    why: str = ""
    do: str = ""
    check: str = ""


@dataclass(frozen=True)
class Step:
    """What a check does next: told before something that may hang or crash, so that it can be named."""

    doing: str


Told: TypeAlias = Iterator["Finding | Step"]


@dataclass(frozen=True)
class Check:
    """A check: the module of this room whose `check(place)` tells.

    Args:
        name: Under which its findings stand.
        module: Of this room.
        seconds: After which it is given up; its own limits are shorter.
        part: Which of its parts.
    """

    name: str
    module: str
    seconds: float = 20.0
    part: str = ""


def ok(what: str) -> Finding:
    """All is well."""
    return Finding("ok", what)


def note(what: str, why: str, do: str = "") -> Finding:
    """Worth knowing."""
    return Finding("note", what, why, do)


def warning(what: str, why: str, do: str) -> Finding:
    """It works and may hurt."""
    return Finding("warning", what, why, do)


def problem(what: str, why: str, do: str) -> Finding:
    """It fails or loses something."""
    return Finding("problem", what, why, do)


def listed(found: list[str], most: int = 3) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(found[:most])
    return f"{shown} and {len(found) - most} more" if len(found) > most else shown
