"""The code state of the working directory's repository, in few git calls."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from mlflow_dovetail.context.work_tree import read_dirty
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.repository import GitAnswer, ask_git

WHOLE_LIMIT_SECONDS = 2.0

_COMMIT = ("rev-parse", "--show-toplevel", "HEAD")
_BRANCH = ("symbolic-ref", "-q", "HEAD")
_SETTINGS = ("config", "-z", "--get-regexp", r"^(remote\..*\.url|branch\..*\.remote|filter\..*\.(clean|process))$")


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
    head, branch, settings = ask_git([_COMMIT, _BRANCH, _SETTINGS], folder, deadline=deadline)
    root, _, commit = head.output.decode("utf-8", "surrogateescape").strip().rpartition("\n")
    if not root:
        return GitState(cause=_advise(head.cause or "git does not know the repository's root"))
    name = _branch_name(branch)
    values = _parse_settings(settings.output)
    state = read_dirty(Path(root), _filter_names(values), deadline=deadline)
    return GitState(
        commit=commit if head.code == 0 else None,  # before the first commit, git has no HEAD and says so
        branch=name,
        dirty=state.dirty,
        remote=_choose_remote(values, name),
        cause=state.cause,
    )


def _advise(cause: str) -> str:
    if cause.startswith("not a git repository"):
        return "the working directory is in no git repository"
    if "dubious ownership" in cause:
        return f"{cause}; trust it with: git config --global --add safe.directory <that folder>"
    return cause


def _branch_name(branch: GitAnswer) -> str | None:
    ref = branch.output.decode("utf-8", "surrogateescape").strip()
    return ref.removeprefix("refs/heads/") or None


def _parse_settings(output: bytes) -> dict[str, str]:
    entries = (entry.partition("\n") for entry in _split(output))
    return {key: value for key, _, value in reversed(list(entries))}


def _split(output: bytes) -> list[str]:
    return [entry for entry in output.decode("utf-8", "surrogateescape").split("\0") if entry]


def _choose_remote(settings: dict[str, str], branch: str | None) -> str | None:
    urls = {key: value for key, value in sorted(settings.items()) if key.startswith("remote.")}
    current = settings.get(f"branch.{branch}.remote")
    chosen = urls.get(f"remote.{current}.url") or urls.get("remote.origin.url") or next(iter(urls.values()), None)
    return strip_url_credentials(chosen) if chosen else None


def _filter_names(settings: dict[str, str]) -> frozenset[str]:
    parts = (key.split(".", 1)[1].rpartition(".")[0] for key in settings if key.startswith("filter."))
    return frozenset(parts)
