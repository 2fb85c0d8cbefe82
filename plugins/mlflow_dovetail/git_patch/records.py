"""What is known of a run's code: as it was captured, and as it can be restored. Both are stored as JSON.

Paths are relative to the repository's root. A byte of a name that is no UTF-8 is shown as `\\xNN`.
"""

from __future__ import annotations

from typing import Any

import msgspec

VERSION = 1


class LeftOut(msgspec.Struct, omit_defaults=True):
    """Something of the work tree that is not in the patch.

    Attributes:
        path: A file; a folder when it ends in a slash.
        why: One phrase.
        size_bytes: Of all its files.
        files: How many they are.
        sha256: Of the content; of a folder, of the sorted names and sizes. Empty when it could not be read in time.
    """

    path: str
    why: str
    size_bytes: int = 0
    files: int = 1
    sha256: str = ""


class Withheld(msgspec.Struct):
    """A file that does not leave this machine.

    Attributes:
        path: Of the file.
        rule: What was found in it, or what its name says; never the value.
        line: Of the file; 0 for a rule about names, and in a binary file.
    """

    path: str
    rule: str
    line: int = 0


class Captured(msgspec.Struct, omit_defaults=True):
    """One repository's code at one moment: its tree, whose new objects lie in the capture's own folder.

    Attributes:
        path: Of a submodule, relative to the outermost root; empty for that one.
        root: Absolute.
        commit: HEAD; None before the first commit.
        branch: None on a detached HEAD.
        remote: Without credentials.
        tree: Of commit, staged, unstaged and untracked changes together.
        objects: The folder of the new objects, relative to the capture's folder.
        left_out: What is not in the tree.
    """

    path: str
    root: str
    tree: str
    objects: str
    commit: str | None = None
    branch: str | None = None
    remote: str | None = None
    left_out: list[LeftOut] = []


class Capture(msgspec.Struct, omit_defaults=True):
    """What the trainer's process has captured.

    Attributes:
        attempt: Of the run.
        time_ms: When, since the epoch, UTC.
        took_ms: How long.
        repositories: The outermost first, then its submodules.
        cause: Why there is no repository; empty when there is one.
        script: The copy of what ran, where there is no repository; relative to the capture's folder.
        version: Of the format.
    """

    attempt: int
    time_ms: int
    took_ms: int = 0
    repositories: list[Captured] = []
    cause: str = ""
    script: str = ""
    version: int = 0


class Patch(msgspec.Struct):
    """A binary patch among the run's artifacts.

    Attributes:
        commit: That it applies to; empty for the empty tree.
        tree: That it gives.
        path: Of the artifact; empty when commit and tree have the same content.
        sha256: Of the file.
        is_proved: Whether applying it to the commit, in an index of its own, gave the tree.
    """

    commit: str
    tree: str
    path: str = ""
    sha256: str = ""
    is_proved: bool = False


class Code(msgspec.Struct, omit_defaults=True):
    """How one repository's code can be had again.

    Attributes:
        path: Of a submodule, relative to the outermost root; empty for that one.
        commit: HEAD; None before the first commit.
        tree: The exact one.
        patch: From HEAD, without what is withheld.
        is_published: Whether a remote had HEAD when it was last asked.
        published: From the nearest ancestor of HEAD that a remote had, where it had not HEAD; None where it had none.
        withheld: Files that are in the exact tree, and in no patch that is uploaded.
        left_out: What is in no patch.
        fault: Why the patch could not be made or proved; empty when all is well.
    """

    path: str
    tree: str
    commit: str | None = None
    branch: str | None = None
    remote: str | None = None
    patch: Patch | None = None
    is_published: bool = False
    published: Patch | None = None
    withheld: list[Withheld] = []
    left_out: list[LeftOut] = []
    fault: str = ""


class CodeState(msgspec.Struct, omit_defaults=True):
    """The artifact `code/state.json`.

    Attributes:
        verdict: `exact`, `exact here, redacted elsewhere: …`, `partial: …` or `none: …`.
        attempt: Of the run.
        captured_ms: When, since the epoch, UTC.
        repositories: The outermost first, then its submodules.
        script: The artifact with what ran, where there is no repository.
        version: Of the format.
    """

    verdict: str
    attempt: int
    captured_ms: int
    repositories: list[Code] = []
    script: str = ""
    version: int = 0


def as_dict(state: CodeState) -> dict[str, Any]:
    """As it is in JSON."""
    fields: dict[str, Any] = msgspec.to_builtins(state)
    return fields


def shown(path: str) -> str:
    """A name as text: `surrogateescape`d bytes become `\\xNN`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
