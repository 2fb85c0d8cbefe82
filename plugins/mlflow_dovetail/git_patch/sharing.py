"""What of a patch leaves this machine: a file with a secret in it stays here whole, so that the rest still applies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlflow_dovetail import redact
from mlflow_dovetail.git_patch.records import Withheld, shown
from mlflow_dovetail.git_patch.trees import GITLINK, Change
from mlflow_dovetail.repository import Git

_SECTION = b"diff --git "
_BINARY = b"\nGIT binary patch\n"  # at the begin of a line: content has its mark there
_HUNK = re.compile(rb"@@ -\d+(?:,\d+)? \+(\d+)")
UNCHECKED = "not checked for secrets in time"


def withheld(git: Git, patch: Path, changes: Iterable[Change], deadline: float) -> dict[str, Withheld]:
    """The files of a patch that must not leave this machine, by path.

    Args:
        git: With the objects of both trees.
        patch: The whole one.
        changes: What it changes, in its order.
        deadline: On `time.monotonic()`'s clock; what is not checked by then is withheld.

    Raises:
        GitFailed: An object is not here.
        OSError: The patch cannot be read.
    """
    found: dict[str, Withheld] = {}
    sections = _sections(patch)
    for change in changes:
        parts = [next(sections, b"") for _ in range(change.sections)]
        told = _judge(git, change, parts, is_late=time.monotonic() > deadline)
        if told is not None:
            found[change.path] = told
    if next(sections, b""):
        raise ValueError("the patch has more parts than its trees have differences")
    return found


def preview(patch: Path, longest_bytes: int) -> str:
    """A patch as text, for reading only: binary parts named, the end cut."""
    told: list[str] = []
    length = 0
    for section in _sections(patch):
        head, is_binary, _ = section.partition(_BINARY)
        text = head.decode("utf-8", "replace")
        told.append(f"{text}\n(binary, not shown: diff.patch has it)\n" if is_binary else text)
        length += len(told[-1])
        if length > longest_bytes:
            return "".join(told)[:longest_bytes] + "\n… (cut: diff.patch has all of it)\n"
    return "".join(told)


def _judge(git: Git, change: Change, parts: list[bytes], *, is_late: bool) -> Withheld | None:
    path = shown(change.path)
    rule = redact.secret_file(path)
    if rule:
        return Withheld(path, rule)
    if not all(parts):
        raise ValueError(f"the patch has no part for {path}")
    if is_late:
        return Withheld(path, UNCHECKED)
    for part in parts:
        if _BINARY in part:
            for text in _contents(git, change):
                for finding in redact.find_secrets(text, path):
                    return Withheld(path, finding.rule)
            continue
        text, numbers = _without_marks(part)
        for finding in redact.find_secrets(text, path):
            return Withheld(path, finding.rule, numbers[finding.line - 1])
    return None


def _contents(git: Git, change: Change) -> Iterator[str]:
    """Both contents of a binary file; UTF-16 as the text that it is."""
    for mode, name in ((change.old_mode, change.old_object), (change.new_mode, change.new_object)):
        if mode != GITLINK and name.strip("0"):
            yield git.run("cat-file", "blob", name).replace(b"\0", b"").decode("utf-8", "replace")


def _without_marks(section: bytes) -> tuple[str, list[int]]:
    """The lines that a part of a patch shows, without its marks, and the number of each in the new file."""
    shown_lines: list[str] = []
    numbers: list[int] = []
    number: int | None = None  # above the first hunk; 0 in a file that is gone
    for line in section.split(b"\n"):
        hunk = _HUNK.match(line)
        if hunk:
            number = int(hunk.group(1))
        elif number is not None and line[:1] in (b"+", b"-", b" "):
            shown_lines.append(line[1:].decode("utf-8", "replace"))
            numbers.append(number)
            number += line[:1] != b"-"
    return "\n".join(shown_lines), numbers


def _sections(patch: Path) -> Iterator[bytes]:
    """The parts of a patch, one a file; no line of content begins as their headers do."""
    section: list[bytes] = []
    with patch.open("rb") as file:
        for line in file:
            if line.startswith(_SECTION) and section:
                yield b"".join(section)
                section = []
            section.append(line)
    if section:
        yield b"".join(section)
