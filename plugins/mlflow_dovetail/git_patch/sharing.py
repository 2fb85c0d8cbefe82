"""What of a patch leaves this machine: a file with a secret in it stays here whole, so that the rest still applies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlflow_dovetail import redact
from mlflow_dovetail.git_patch.records import Withheld, shown
from mlflow_dovetail.git_patch.trees import GITLINK, Change
from mlflow_dovetail.redact import Finding
from mlflow_dovetail.repository import Git, GitFailed

_NAME_PARTS = re.compile(r"[/.\s-]+")
_SECTION = b"diff --git "
_BINARY = b"\nGIT binary patch\n"  # at the begin of a line: content has its mark there
UNCHECKED = "not checked for secrets in time"


def withheld(git: Git, own: Path, changes: Sequence[Change], deadline: float) -> dict[str, Withheld]:
    """The files of a patch that must not leave this machine, by path.

    Each is looked at whole, as it was and as it is: a patch also shows what is around a change.

    Args:
        git: With the objects of both trees.
        own: A folder of ours, for contents on their way.
        changes: What the patch changes.
        deadline: On `time.monotonic()`'s clock; what is not checked by then is withheld.

    Raises:
        GitFailed: An object is not here.
        OSError: There is no room.
    """
    found = {change.path: told for change in changes if (told := _by_name(change)) is not None}
    left = [change for change in changes if change.path not in found]
    objects: dict[str, str] = {}  # the path that each is looked at under: its ending says what it is
    for change in left:
        objects |= dict.fromkeys(_blobs(change), shown(change.path))
    findings = _find(git, own / "contents", objects, deadline)
    for change in left:
        hits = [findings[name] for name in _blobs(change) if findings.get(name)]
        if hits and hits[0]:
            found[change.path] = Withheld(shown(change.path), hits[0].rule, hits[0].line)
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


def _by_name(change: Change) -> Withheld | None:
    path = shown(change.path)
    rule = redact.secret_file(path)
    if rule:
        return Withheld(path, rule)
    # As a whole, and in its parts: a form begins where a word begins.
    for part in (path, *_NAME_PARTS.split(path)):
        for finding in redact.find_secrets(part):
            return Withheld(path.replace(part, redact.MASK), f"{finding.rule} in its name")
    return None


def _blobs(change: Change) -> list[str]:
    """The new content first."""
    sides = ((change.new_mode, change.new_object), (change.old_mode, change.old_object))
    return [name for mode, name in sides if mode != GITLINK and name.strip("0")]


def _find(git: Git, contents: Path, objects: Mapping[str, str], deadline: float) -> dict[str, Finding | None]:
    """The first secret in each object."""
    if not objects:
        return {}
    found: dict[str, Finding | None] = {}
    try:
        git.write(contents, "cat-file", "--batch", feed="".join(f"{name}\n" for name in objects).encode())
        with contents.open("rb") as file:
            for name, path in objects.items():
                head = file.readline().split()
                if len(head) != 3:
                    raise GitFailed("cat-file", f"the object {name} is not here")
                content = file.read(int(head[2]))
                file.read(1)
                if time.monotonic() > deadline:
                    found[name] = Finding(UNCHECKED, 0)
                    continue
                # A file in UTF-16 as the text that it is.
                text = content.replace(b"\0", b"").decode("utf-8", "replace")
                hit = next(iter(redact.find_secrets(text, path)), None)
                found[name] = Finding(hit.rule, 0) if hit and b"\0" in content else hit
    finally:
        contents.unlink(missing_ok=True)
    return found


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
