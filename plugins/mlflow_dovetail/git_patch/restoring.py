"""A run's code again in a folder of its own: a worktree of the repository here, else a fresh clone."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mlflow_dovetail.git_patch.recipes import (
    CannotRestore,
    Fetch,
    Proof,
    codes_of,
    compare,
    git_in,
    not_here,
    recipe_for,
    recipe_if_here,
    refusing,
    root_of,
)
from mlflow_dovetail.git_patch.records import Code, CodeState, shown
from mlflow_dovetail.git_patch.trees import GITLINK, apply_to_index, names, write_tree
from mlflow_dovetail.repository import GitFailed


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
    codes = codes_of(state)
    root = root_of(folder)
    place = _Target(target)
    source = _Source(root, place.path, fetch, tell)
    with ExitStack() as on_error:
        on_error.callback(lambda: place.put_back(root if source.has_worktree else None))
        proofs = [source.outermost(codes[0])]
        for code in codes[1:]:
            if code.patch is None:
                tell(f"The submodule {shown(code.path)} is left empty: {code.fault}.")
            else:
                proofs.append(source.submodule(code, codes))
        on_error.pop_all()
    return proofs


class _Target:
    """A folder that is empty, or not there yet.

    Args:
        path: As it was given; a link to an empty folder means that folder.

    Raises:
        CannotRestore: There is something.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._mode = self.path.stat().st_mode & 0o7777 if self.path.is_dir() else None
        what = "It is no folder" if os.path.lexists(path) and self._mode is None else ""
        if self._mode is not None and any(self.path.iterdir()):
            what = "It is not empty"
        if what:
            raise CannotRestore(
                f"Will not restore into {path}.", f"{what}.", "Name a folder that is empty, or not there."
            )
        self._made = [one for one in self.path.parents if not one.exists()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotRestore(
                f"Cannot restore into {path}.", f"{error.strerror}.", "Name a folder that can be made."
            ) from error

    def put_back(self, root: Path | None) -> None:
        """Make everything as it was, also in the repository that has a worktree here; Ctrl-C waits meanwhile."""
        with _undisturbed():
            if root:
                # Twice: git keeps one that is half made from being removed.
                git_in(root).ask(("worktree", "remove", "--force", "--force", "--", str(self.path)))
            shutil.rmtree(self.path, ignore_errors=True)
            if self._mode is not None:
                self.path.mkdir(exist_ok=True)
                self.path.chmod(self._mode)
            for parent in self._made:
                with suppress(OSError):
                    parent.rmdir()


@contextmanager
def _undisturbed() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
        self.has_worktree = False

    def outermost(self, code: Code) -> Proof:
        if not code.commit:
            formats = ("--object-format=sha256",) if len(code.tree) == 64 else ()
            git_in(self._target.parent).run("init", "--quiet", *formats, "--", str(self._target))
        elif self._root and (recipe := recipe_if_here(git_in(self._root), code, self._fetch)):
            git = git_in(self._root)
            known = git.run("worktree", "list", "--porcelain", "-z").split(b"\0")
            if b"worktree " + os.fsencode(self._target) in known:
                raise CannotRestore(
                    f"Will not restore into {self._target}.",
                    "The repository still has a worktree there, whose folder is gone.",
                    "Forget those that are gone with `git worktree prune`, or name another folder.",
                )
            self.has_worktree = True
            git.run("worktree", "add", "--quiet", "--no-checkout", "--detach", "--", str(self._target), recipe.commit)
        else:
            self._clone(code, self._target)
        return self._fill(code, self._target)

    def submodule(self, code: Code, codes: list[Code]) -> Proof:
        above = max((one.path for one in codes if _is_below(code.path, one.path)), key=len)
        parent, path = self._target / above, code.path[len(above) :].lstrip("/")
        entries = names(git_in(parent).run("--literal-pathspecs", "ls-files", "-s", "-z", "--", path))
        place = self._target / code.path
        is_submodule = any(entry.startswith(GITLINK) for entry in entries)
        if not is_submodule or place.resolve() != self._target.resolve() / code.path:
            raise CannotRestore(
                f"Will not restore a submodule at {shown(code.path)}.",
                "The restored tree has none there.",
                "The run's code/state.json has been changed since: do not trust it.",
            )
        here = self._root / code.path if self._root else None
        if here and (here / ".git").exists() and recipe_if_here(git_in(here), code, self._fetch):
            git_in(parent).run("clone", "--quiet", "--no-checkout", "--", str(here), str(place))
            if code.remote:
                git_in(place).run("remote", "set-url", "--", "origin", code.remote)
        else:
            self._clone(code, place)
        return self._fill(code, place)

    def _clone(self, code: Code, place: Path) -> None:
        if not code.remote:
            raise not_here(code, "and its repository had no remote")
        self._tell(f"Cloning {code.remote}")
        try:
            git_in(place.parent).run("clone", "--quiet", "--no-checkout", "--", code.remote, str(place))
        except GitFailed as error:
            raise not_here(code, f"and {code.remote} cannot be cloned: {error.cause}") from error

    def _fill(self, code: Code, place: Path) -> Proof:
        git = git_in(place)
        recipe = recipe_for(git, code, self._fetch)
        git.run("read-tree", "--no-sparse-checkout", *([recipe.commit] if recipe.commit else ["--empty"]))
        patch = recipe.patch
        if patch:
            refusing(recipe, lambda: apply_to_index(git, patch))
        compare(recipe, write_tree(git))
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


def _is_below(path: str, above: str) -> bool:
    return path != above and (not above or path.startswith(f"{above}/"))
