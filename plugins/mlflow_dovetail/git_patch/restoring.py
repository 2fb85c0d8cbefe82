"""A run's code again: proved in a repository, applied to a work tree, or restored in a folder of its own.

What is restored may come from a server that others write to. A commit must be a hash, a remote is asked over git's
usual transports only, a submodule lies where its parent has one, and git refuses a path that leads out of the tree or
through a link. Hooks are never run.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.git_patch.records import Code, CodeState, Patch, shown
from mlflow_dovetail.git_patch.trees import (
    GITLINK,
    applied,
    apply_to_index,
    names,
    text,
    tree_of,
    with_objects,
    write_tree,
)
from mlflow_dovetail.repository import Git, GitFailed

# From a patch among the artifacts to its file, and the tree that this gives; the file is None where nothing is changed.
Fetch = Callable[[Code, Patch], "tuple[Path | None, str]"]

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PATIENCE_SECONDS = 3600.0
_APPLY = ("apply", "--binary", "--whitespace=nowarn")
# Whole work trees, byte for byte; large files stay pointers, which `git lfs pull` replaces.
_SETTINGS = (
    *("core.sparseCheckout=false", "core.safecrlf=false", "advice.detachedHead=false"),
    *(f"filter.lfs.{key}" for key in ("smudge=", "process=", "required=false")),
)
# What looking at a repository forbids, and who restores wants: remotes. Nobody is asked for a password.
_REACHING = {
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_NO_LAZY_FETCH": "0",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
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


class _Recipe(NamedTuple):
    """How one tree is made: a commit, or nothing, and a patch, or none."""

    commit: str
    patch: Path | None
    tree: str


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
    codes = _codes(state)
    root = _root(folder)
    if root is None:
        raise CannotRestore(
            "Cannot verify the code.", f"{folder} is in no git repository.", "Go to a clone of the run's repository."
        )
    return [_proved(_git(_place(root, code)), code, fetch) for code in codes]


def apply(state: CodeState, folder: Path, fetch: Fetch) -> list[Proof]:
    """Apply a run's patches to the work tree, all or none; the index stays as it is.

    Raises:
        CannotRestore: As `verify`; or the work tree differs where the patch changes it.
        GitFailed: Git gives no answer.
    """
    proofs = verify(state, folder, fetch)
    root = _root(folder) or folder
    patches = []
    for code in _codes(state):
        git = _git(root / code.path)
        patch = _recipe(git, code, fetch).patch
        if patch is not None:
            patches.append((git, patch))
    for step in (("--check",), ()):
        for git, patch in patches:
            try:
                git.run(*_APPLY, *step, "--", str(patch))
            except GitFailed as error:
                raise CannotRestore(
                    "The patch does not apply to this work tree.",
                    f"{error.cause}.",
                    "Commit or undo your own changes there; or restore the code in a folder of its own: "
                    "dovetail restore RUN DIR.",
                ) from error
    return proofs


def restore(state: CodeState, folder: Path, target: Path, fetch: Fetch, tell: Callable[[str], None]) -> list[Proof]:
    """Make the tree of a run in a folder of its own: a worktree of the repository here, else a fresh clone.

    Its index holds the whole tree, compared by hash before the first file is written.

    Args:
        state: Of the run.
        folder: Where a repository is looked for that has the commit.
        target: Empty, or not there. After an error it is as it was.
        fetch: Of the run.
        tell: Hears what takes long, and what is not restored.

    Raises:
        CannotRestore: The folder is not empty; no repository has the commit; or the tree is another one.
        GitFailed: Git gives no answer.
    """
    codes = _codes(state)
    target = target.absolute()
    was_there = _refuse_unless_empty(target)
    root = _root(folder)
    source = _Source(root, target, fetch, tell)
    try:
        proofs = [source.outermost(codes[0])]
        for code in codes[1:]:
            if code.patch is None:
                tell(f"The submodule {shown(code.path)} is left empty: {code.fault}.")
            else:
                proofs.append(source.submodule(code, codes))
    except BaseException:
        _remove(target, root, was_there)
        raise
    return proofs


class _Source:
    """Brings the repositories of one run to their place.

    Args:
        root: Of the repository here; None where there is none.
        target: The place of the outermost.
    """

    def __init__(self, root: Path | None, target: Path, fetch: Fetch, tell: Callable[[str], None]) -> None:
        self._root = root
        self._target = target
        self._fetch = fetch
        self._tell = tell

    def outermost(self, code: Code) -> Proof:
        if not code.commit:
            formats = ("--object-format=sha256",) if len(code.tree) == 64 else ()
            _git(self._target.parent).run("init", "--quiet", *formats, "--", str(self._target))
        elif self._root and (recipe := _recipe_if_here(_git(self._root), code, self._fetch)):
            git = _git(self._root)
            git.run("worktree", "add", "--quiet", "--no-checkout", "--detach", "--", str(self._target), recipe.commit)
        else:
            self._clone(code, self._target)
        return self._fill(code, self._target)

    def submodule(self, code: Code, codes: list[Code]) -> Proof:
        above = max((one.path for one in codes if _is_below(code.path, one.path)), key=len)
        parent, path = self._target / above, code.path[len(above) :].lstrip("/")
        entries = names(_git(parent).run("--literal-pathspecs", "ls-files", "-s", "-z", "--", path))
        place = self._target / code.path
        is_submodule = any(entry.startswith(GITLINK) for entry in entries)
        if not is_submodule or place.resolve() != self._target.resolve() / code.path:
            raise CannotRestore(
                f"Will not restore a submodule at {shown(code.path)}.",
                "The restored tree has none there.",
                "The run's code/state.json has been changed since: do not trust it.",
            )
        here = self._root / code.path if self._root else None
        if here and (here / ".git").exists() and _recipe_if_here(_git(here), code, self._fetch):
            _git(parent).run("clone", "--quiet", "--no-checkout", "--", str(here), str(place))
            if code.remote:
                _git(place).run("remote", "set-url", "--", "origin", code.remote)
        else:
            self._clone(code, place)
        return self._fill(code, place)

    def _clone(self, code: Code, place: Path) -> None:
        if not code.remote:
            raise _not_here(code, "and its repository had no remote")
        self._tell(f"Cloning {code.remote}")
        try:
            _git(place.parent).run("clone", "--quiet", "--no-checkout", "--", code.remote, str(place))
        except GitFailed as error:
            raise _not_here(code, f"and {code.remote} cannot be cloned: {error.cause}") from error

    def _fill(self, code: Code, place: Path) -> Proof:
        git = _git(place)
        recipe = _recipe(git, code, self._fetch)
        git.run("read-tree", "--no-sparse-checkout", *([recipe.commit] if recipe.commit else ["--empty"]))
        if recipe.patch:
            _refusing(recipe, lambda: apply_to_index(git, recipe.patch or place))
        _compare(recipe, write_tree(git))
        if recipe.commit:
            git.run("update-ref", "--no-deref", "HEAD", recipe.commit)
        git.run("checkout-index", "--all", "--force", "--index", "--quiet")
        other = names(git.run("diff-files", "--name-only", "-z", "--ignore-submodules=all"))
        if other:
            raise CannotRestore(
                f"The files in {place} are not as the run had them.",
                f"Git sees a difference in {', '.join(map(shown, other[:5]))}.",
                "See whether the file system tells names and modes apart as the run's did, and restore elsewhere.",
            )
        return Proof(code.path, recipe.commit, recipe.tree, recipe.tree == code.tree)


def _codes(state: CodeState) -> list[Code]:
    if not state.repositories or state.repositories[0].patch is None:
        raise CannotRestore(
            "The run's code was not captured.",
            f"Its verdict is {state.verdict!r}.",
            f"Download the artifact {state.script}: it is what ran."
            if state.script
            else "See what else is known of the run: dovetail show RUN.",
        )
    return state.repositories


def _git(folder: Path) -> Git:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    return Git(folder, deadline=deadline, settings=_SETTINGS, environment=_REACHING)


def _root(folder: Path) -> Path | None:
    """The work tree that a folder lies in; of a bare repository that folder itself."""
    top, inside = _git(folder).ask(("rev-parse", "--show-toplevel"), ("rev-parse", "--absolute-git-dir"))
    if not top.cause:
        return Path(text(top.output))
    return None if inside.cause else folder


def _place(root: Path, code: Code) -> Path:
    place = root / code.path
    if code.path and not (place.resolve().is_relative_to(root.resolve()) and (place / ".git").exists()):
        raise CannotRestore(
            f"The submodule {shown(code.path)} is not here.",
            "It has not been checked out.",
            f"Do that: git submodule update --init -- {shown(code.path)}.",
        )
    return place


def _recipe_if_here(git: Git, code: Code, fetch: Fetch) -> _Recipe | None:
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
            return _Recipe(patch.commit, *fetch(code, patch))
    return None


def _recipe(git: Git, code: Code, fetch: Fetch) -> _Recipe:
    found = _recipe_if_here(git, code, fetch)
    if found is None:
        raise _not_here(code, f"and {git.folder} has no commit that its patches begin from")
    return found


def _proved(git: Git, code: Code, fetch: Fetch) -> Proof:
    recipe = _recipe(git, code, fetch)
    base = tree_of(git, recipe.commit or None)
    tree = base
    if recipe.patch:
        with tempfile.TemporaryDirectory(prefix="dovetail-") as own:
            theirs = Path(text(git.run("rev-parse", "--path-format=absolute", "--git-path", "objects")))
            clean = with_objects(git, Path(own, "objects"), theirs)
            patch = recipe.patch
            tree = _refusing(recipe, lambda: applied(clean, base, patch, Path(own, "index")))
    _compare(recipe, tree)
    return Proof(code.path, recipe.commit, tree, tree == code.tree)


def _refusing(recipe: _Recipe, do: Callable[[], str]) -> str:
    try:
        return do()
    except GitFailed as error:
        raise CannotRestore(
            f"The run's patch does not apply to {recipe.commit[:12] or 'nothing'}.",
            f"{error.cause}.",
            "It has been changed since the capture, which had proved it: do not trust it.",
        ) from error


def _compare(recipe: _Recipe, tree: str) -> None:
    if tree != recipe.tree:
        raise CannotRestore(
            "The run's patch does not give the run's code.",
            f"Its tree is {tree}, and the run's was {recipe.tree}.",
            "It has been changed since the capture, which had proved it: do not trust it.",
        )


def _not_here(code: Code, why: str) -> CannotRestore:
    place = f" of the submodule {shown(code.path)}" if code.path else ""
    bases = [patch.commit[:12] for patch in (code.patch, code.published) if patch and patch.commit]
    return CannotRestore(
        "Cannot restore the code here.",
        f"The commit {' or '.join(bases)}{place} is not in the repository, {why}.",
        "Go to a clone that has it, after `git fetch --all`.",
    )


def _refuse_unless_empty(target: Path) -> bool:
    """Whether the folder is there."""
    if not target.exists() and not target.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        return False
    if target.is_dir() and not any(target.iterdir()):
        return True
    what = "It is not empty" if target.is_dir() else "It is no folder"
    raise CannotRestore(f"Will not restore into {target}.", f"{what}.", "Name a folder that is empty, or not there.")


def _remove(target: Path, root: Path | None, was_there: bool) -> None:
    if root:
        _git(root).ask(("worktree", "remove", "--force", "--", str(target)))
    shutil.rmtree(target, ignore_errors=True)
    if was_there:
        target.mkdir()


def _is_below(path: str, above: str) -> bool:
    return path != above and (not above or path.startswith(f"{above}/"))
