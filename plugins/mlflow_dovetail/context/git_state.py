"""The code state of the working directory's repository, in few git calls."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from mlflow_dovetail.context.work_tree import read_dirty
from mlflow_dovetail.repository import SETTINGS_CALL, RepositorySettings, advice, ask_git, branch_name

WHOLE_LIMIT_SECONDS = 2.0

_COMMIT = ("rev-parse", "--show-toplevel", "HEAD")
_BRANCH = ("symbolic-ref", "-q", "HEAD")


@dataclass(frozen=True)
class GitState:
    """What git says; None where it says nothing.

    Args:
        commit: The full hash of HEAD; None before the first commit.
        branch: The short name; None on a detached HEAD.
        dirty: None when it cannot be told.
        remote: The current branch's remote, else origin, else the first; without credentials.
        cause: Why something that should be there is missing; None when nothing is.
    """

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    remote: str | None = None
    cause: str | None = None


def read_git_state() -> GitState:
    """Read the code state of the working directory.

    Returns:
        In 2.2 s at most, whatever git does; normally in three short calls and one `git status`.

    Source:
        git-status(1), "Porcelain Format Version 2".
    """
    deadline = time.monotonic() + WHOLE_LIMIT_SECONDS
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:
        return GitState(cause="the working directory is gone")
    head, branch, settings = ask_git([_COMMIT, _BRANCH, SETTINGS_CALL], folder, deadline=deadline)
    root, _, commit = head.output.decode("utf-8", "surrogateescape").strip().rpartition("\n")
    if not root:
        return GitState(cause=advice(head.cause or "git does not know the repository's root"))
    name = branch_name(branch.output)
    known = RepositorySettings.parse(settings.output)
    state = read_dirty(Path(root), known.filters, deadline=deadline)
    return GitState(
        commit=commit if head.code == 0 else None,  # before the first commit, git has no HEAD and says so
        branch=name,
        dirty=state.dirty,
        remote=known.remote(name),
        cause=state.cause,
    )
