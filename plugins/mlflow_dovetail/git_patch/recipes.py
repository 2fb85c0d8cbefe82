"""How a run's code is made again: a commit that is here, and the patch from there, which has to give the tree.

What is restored may come from a server that others write to. A commit must be a hash, a remote is asked over git's
usual transports only, and git refuses a path that leads out of the tree or through a link. Hooks are never run.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.git_patch.records import Code, CodeState, Patch, shown
from mlflow_dovetail.git_patch.trees import text
from mlflow_dovetail.repository import Git, GitFailed, advice

# From a patch among the artifacts to its file, and the tree that this gives; the file is None where nothing is changed.
Fetch = Callable[[Code, Patch], "tuple[Path | None, str]"]

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PATIENCE_SECONDS = 3600.0
# Whole work trees, byte for byte; large files stay pointers, which `git lfs pull` replaces.
_SETTINGS = (
    *("core.sparseCheckout=false", "core.safecrlf=false", "advice.detachedHead=false"),
    *(f"filter.lfs.{key}" for key in ("smudge=", "process=", "required=false")),
)
# What looking at a repository forbids, and who restores wants: remotes. Nobody is asked for a password.
_REACHING = {
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_NO_LAZY_FETCH": "0",
    "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
}


class CannotRestore(DovetailError):
    """The code of a run cannot be had here."""


class Proof(NamedTuple):
    """One repository's code, found to be what it was.

    Args:
        path: Of a submodule; empty for the outermost repository.
        commit: That the patch begins from; empty for nothing.
        tree: That it gives: looked at, not believed.
        is_exact: Whether that is all of the captured tree, and not what is left without its secrets.
    """

    path: str
    commit: str
    tree: str
    is_exact: bool


class Recipe(NamedTuple):
    """How one tree is made: a commit, or nothing, and a patch, or none."""

    commit: str
    patch: Path | None
    tree: str


def codes_of(state: CodeState) -> list[Code]:
    if not state.repositories or state.repositories[0].patch is None:
        raise CannotRestore(
            "The run's code was not captured.",
            f"Its verdict is {state.verdict!r}.",
            f"Download the artifact {state.script}: it is what ran."
            if state.script
            else "See what else is known of the run: dovetail show RUN.",
        )
    return state.repositories


def git_in(folder: Path) -> Git:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    return Git(folder, deadline=deadline, settings=_SETTINGS, environment=_REACHING)


def root_of(folder: Path) -> Path | None:
    """The work tree that a folder lies in; of a bare repository that folder itself; None outside one.

    Raises:
        CannotRestore: Git is not there, or refuses the repository.
    """
    top, inside = git_in(folder).ask(("rev-parse", "--show-toplevel"), ("rev-parse", "--absolute-git-dir"))
    if not top.cause:
        return Path(text(top.output))
    if not inside.cause:
        return folder
    if inside.cause.startswith("not a git repository"):
        return None
    raise CannotRestore(
        "Cannot look at the repository here.", f"{advice(inside.cause)}.", "Mend that, or go to another clone."
    )


def work_tree_of(folder: Path) -> Path:
    """The root of the work tree, whose files may be written; in a repository's own folder there is none."""
    (top,) = git_in(folder).ask(("rev-parse", "--show-toplevel"))
    if top.cause:
        raise CannotRestore(
            "Cannot apply the patch here.", f"{advice(top.cause)}.", "Go to a work tree of the run's repository."
        )
    return Path(text(top.output))


def recipe_if_here(git: Git, code: Code, fetch: Fetch) -> Recipe | None:
    """From HEAD where that is here, else from the ancestor that a remote had."""
    for patch in (code.patch, code.published):
        if patch is None:
            continue
        if patch.commit and not _HASH.fullmatch(patch.commit):
            raise CannotRestore(
                "Will not use the run's code/state.json.",
                f"It names {patch.commit!r} as a commit.",
                "It has been changed since: do not trust it.",
            )
        if not patch.commit or not git.ask(("cat-file", "-e", f"{patch.commit}^{{tree}}"))[0].cause:
            return Recipe(patch.commit, *fetch(code, patch))
    return None


def recipe_for(git: Git, code: Code, fetch: Fetch) -> Recipe:
    found = recipe_if_here(git, code, fetch)
    if found is None:
        raise not_here(code, f"and {git.folder} has no commit that its patches begin from")
    return found


def refusing(recipe: Recipe, do: Callable[[], str]) -> str:
    try:
        return do()
    except GitFailed as error:
        raise CannotRestore(
            f"The run's patch does not apply to {recipe.commit[:12] or 'nothing'}.",
            f"{error.cause}.",
            "It has been changed since the capture, which had proved it: do not trust it.",
        ) from error


def compare(recipe: Recipe, tree: str) -> None:
    if tree != recipe.tree:
        raise CannotRestore(
            "The run's patch does not give the run's code.",
            f"Its tree is {tree}, and the run's was {recipe.tree}.",
            "It has been changed since the capture, which had proved it: do not trust it.",
        )


def not_here(code: Code, why: str) -> CannotRestore:
    place = f" of the submodule {shown(code.path)}" if code.path else ""
    bases = [patch.commit[:12] for patch in (code.patch, code.published) if patch and patch.commit]
    return CannotRestore(
        "Cannot restore the code here.",
        f"The commit {' or '.join(bases)}{place} is not in the repository, {why}.",
        "Go to a clone that has it, after `git fetch --all`.",
    )
