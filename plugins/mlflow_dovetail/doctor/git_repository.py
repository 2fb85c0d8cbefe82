"""Git: there, a repository that it reads, a commit, and somebody to commit as."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mlflow_dovetail.doctor.records import Place, Told, ok, problem, warning
from mlflow_dovetail.repository.git_call import Git, GitAnswer

_SECONDS = 10.0
# What decides whom git takes the user for and whose folders it trusts.
_USERS_OWN = ("GIT_CONFIG_", "GIT_AUTHOR_", "GIT_COMMITTER_")


def users_git(folder: Path) -> Git:
    """Git as the user has set it, read only."""
    own = {name: value for name, value in os.environ.items() if name.startswith(_USERS_OWN)}
    return Git(folder, deadline=time.monotonic() + _SECONDS, environment=own)


def check(place: Place) -> Told:
    """What `git commit` and the capture of code need."""
    top, head, branch, identity = users_git(place.folder).ask(
        ("rev-parse", "--show-toplevel"),
        ("rev-parse", "--short", "--verify", "--quiet", "HEAD"),
        ("symbolic-ref", "--short", "--quiet", "HEAD"),
        ("var", "GIT_COMMITTER_IDENT"),
    )
    if top.cause:
        yield from _no_repository(top.cause, place.folder)
        return
    on = _text(branch) or "no branch"
    if head.cause:
        yield warning(
            "The repository has no commit.",
            "Runs cannot say on which commit they were made, and `dvc exp run` refuses.",
            'Run: git add . && git commit -m "First commit"',
        )
    if identity.cause:
        yield problem(
            "Git does not know who commits.",
            f"`git commit` and `dvc exp run` stop: {identity.cause}.",
            'Run: git config --global user.name "Your Name"; git config --global user.email you@example.com',
        )
    if not head.cause:
        who = "" if identity.cause else f", committing as {_text(identity).rpartition(' <')[0]}"
        yield ok(f"A repository, on {on} at {_text(head)}{who}.")


def _no_repository(cause: str, folder: Path) -> Told:
    if cause == "git is not on PATH":
        yield problem(
            "Git is not installed.",
            "Runs cannot say which code made them, and DVC's experiments need it.",
            "Install git, and see that it is on PATH.",
        )
    elif "dubious ownership" in cause:
        yield problem(
            "Git does not read this repository.",
            "It belongs to another user (dubious ownership).",
            f"If you trust it: git config --global --add safe.directory {folder}",
        )
    elif cause.startswith("not a git repository"):
        yield warning(
            "This folder is in no git repository.",
            "Runs cannot say which code made them.",
            'Run: git init && git add . && git commit -m "First commit"',
        )
    else:
        yield problem("Git gives no answer.", f"{cause}.", "Run `git status` and mend what it says.")


def _text(answer: GitAnswer) -> str:
    return answer.output.decode("utf-8", "replace").strip()
