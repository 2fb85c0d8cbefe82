"""A run's patches, proved in a repository without touching it, and applied to a work tree."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlflow_dovetail.git_patch.recipes import (
    CannotRestore,
    Fetch,
    Proof,
    codes_of,
    compare,
    git_in,
    recipe_for,
    refusing,
    root_of,
    work_tree_of,
)
from mlflow_dovetail.git_patch.records import Code, CodeState, shown
from mlflow_dovetail.git_patch.trees import APPLY, APPLY_SETTINGS, applied, text, tree_of, with_objects
from mlflow_dovetail.repository import Git, GitFailed


def verify(state: CodeState, folder: Path, fetch: Fetch) -> list[Proof]:
    """Apply a run's patches in indexes of our own, and compare the trees. The repository is not touched.

    Args:
        state: Of the run.
        folder: In a repository that has the commit, or the nearest one that a remote had.
        fetch: Of the run.

    Raises:
        CannotRestore: A commit is not here, or a patch does not give its tree.
        GitFailed: Git gives no answer.
    """
    codes = codes_of(state)
    root = root_of(folder)
    if root is None:
        raise CannotRestore(
            "Cannot verify the code.", f"{folder} is in no git repository.", "Go to a clone of the run's repository."
        )
    return [_proved(git_in(_place(root, code)), code, fetch) for code in codes]


def apply(state: CodeState, folder: Path, fetch: Fetch) -> list[Proof]:
    """Apply a run's patches to the work tree, all or none; the index stays as it is.

    Raises:
        CannotRestore: As `verify`; or the work tree differs where the patch changes it.
        GitFailed: Git gives no answer.
    """
    root = work_tree_of(folder)
    proofs = verify(state, root, fetch)
    patches = []
    for code in codes_of(state):
        git = git_in(root / code.path).given(*APPLY_SETTINGS)
        patch = recipe_for(git, code, fetch).patch
        if patch is not None:
            patches.append((git, patch))
    for step in (("--check",), ()):
        for git, patch in patches:
            try:
                git.run(*APPLY, *step, "--", str(patch))
            except GitFailed as error:
                raise CannotRestore(
                    "The patch does not apply to this work tree.",
                    f"{error.cause}.",
                    "Commit or undo your own changes there; or restore the code in a folder of its own: "
                    "dovetail restore RUN DIR.",
                ) from error
    return proofs


def _place(root: Path, code: Code) -> Path:
    place = root / code.path
    if code.path and not (place.resolve().is_relative_to(root.resolve()) and (place / ".git").exists()):
        raise CannotRestore(
            f"The submodule {shown(code.path)} is not here.",
            "It has not been checked out.",
            f"Do that: git submodule update --init -- {shown(code.path)}.",
        )
    return place


def _proved(git: Git, code: Code, fetch: Fetch) -> Proof:
    recipe = recipe_for(git, code, fetch)
    base = tree_of(git, recipe.commit or None)
    tree = base
    if recipe.patch:
        with tempfile.TemporaryDirectory(prefix="dovetail-") as own:
            theirs = Path(text(git.run("rev-parse", "--path-format=absolute", "--git-path", "objects")))
            clean = with_objects(git, Path(own, "objects"), theirs)
            patch = recipe.patch
            tree = refusing(recipe, lambda: applied(clean, base, patch, Path(own, "index")))
    compare(recipe, tree)
    return Proof(code.path, recipe.commit, tree, tree == code.tree)


def stat(patch: Path) -> bytes:
    """How much of each file a patch changes, as git tells it.

    Raises:
        GitFailed: Git cannot read the patch.
    """
    with tempfile.TemporaryDirectory(prefix="dovetail-") as nowhere:  # in a repository, git tells of its folder alone
        git = git_in(Path(nowhere)).given(GIT_CEILING_DIRECTORIES=str(Path(nowhere).parent))
        return git.run("apply", "--stat", "--", str(patch.resolve()))
