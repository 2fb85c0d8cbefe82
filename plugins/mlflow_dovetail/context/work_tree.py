"""Whether the work tree is dirty: would a checkout of the commit give other code than this run had?

So untracked files that git does not ignore count, and these do not: what DVC writes (`dvc_outs`), byte code, and what
a run leaves in the work tree (MLflow's store, Dovetail's folder, Hydra's output folders). An edited `dvc.yaml` or
`*.dvc` file counts. A file marked assume-unchanged or skip-worktree is not looked at, as in `git status`.

Files that git reads through a clean filter (Git LFS, git-crypt) are compared without running it, because a filter may
write into the repository. Where only such files look changed, the flag is left out.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from mlflow_dovetail.repository import DvcOuts, ask_git, is_dvc_file, is_left_by_a_run, read_dvc_outs

# No renames and no ahead/behind: they cost time and do not change the flag. Untracked folders are not descended into.
_STATUS = ("status", "--porcelain=v2", "-z", "--untracked-files=normal", "--no-renames", "--no-ahead-behind")
_DVC_FILES = ("ls-files", "-z", "--", "dvc.yaml", "*/dvc.yaml", "dvc.lock", "*/dvc.lock", "*.dvc")
_UNTRACKED = ("--literal-pathspecs", "ls-files", "-z", "--others", "--exclude-standard", "--")
_FILTERS = ("check-attr", "-z", "--stdin", "filter")
# Fields before the path, by the kind of an entry (git-status(1), "Porcelain Format Version 2").
_FIELDS_BEFORE_PATH = {"1": 8, "u": 10, "?": 1}


class WorkTree(NamedTuple):
    """The flag, None when it cannot be told, and then why."""

    dirty: bool | None
    cause: str | None = None


class Change(NamedTuple):
    """One entry of `git status`.

    Args:
        path: Relative to the root; ends in a slash for a folder with nothing tracked in it.
        edited: Only the content in the work tree looks different, so that a clean filter might undo the difference.
    """

    path: str
    untracked: bool = False
    edited: bool = False


def read_dirty(root: Path, filters: Collection[str], *, deadline: float) -> WorkTree:
    """Compare the work tree with HEAD.

    Args:
        root: The work tree's root.
        filters: Names of configured filter drivers; none of them is run.
        deadline: On `time.monotonic()`'s clock.
    """
    without = [f"filter.{name}.{key}" for name in filters for key in ("clean=", "process=", "required=false")]
    (status,) = ask_git([_STATUS], str(root), deadline=deadline, settings=without)
    if status.cause:
        return WorkTree(None, status.cause)
    changes = [change for change in parse_status(status.output) if not _left_by_a_run(change)]
    if not changes:
        return WorkTree(False)
    outs = _read_outs(root, changes, deadline)
    changes = [change for change in _open_folders(root, changes, outs, deadline) if not outs.own(change.path)]
    if outs.cause and changes:
        return WorkTree(None, outs.cause)
    return _judge(root, changes, filters, deadline)


def parse_status(output: bytes) -> list[Change]:
    """Entries of `git status --porcelain=v2 -z`, without renames.

    Raises:
        ValueError: An entry of a kind that was not asked for.
    """
    return [_parse_entry(entry) for entry in _split(output) if not entry.startswith("# ")]


def _parse_entry(entry: str) -> Change:
    kind = entry[0]
    if kind not in _FIELDS_BEFORE_PATH:
        raise ValueError(f"git status answered with an unknown entry {entry[:20]!r}")
    fields = entry.split(" ", _FIELDS_BEFORE_PATH[kind])
    return Change(fields[-1], untracked=kind == "?", edited=kind == "1" and fields[1] == ".M" and fields[2] == "N...")


def _split(output: bytes) -> list[str]:
    return [entry for entry in output.decode("utf-8", "surrogateescape").split("\0") if entry]


def _left_by_a_run(change: Change) -> bool:
    return change.untracked and is_left_by_a_run(change.path)


def _read_outs(root: Path, changes: list[Change], deadline: float) -> DvcOuts:
    (listed,) = ask_git([_DVC_FILES], str(root), deadline=deadline)
    if listed.cause:
        return DvcOuts(frozenset(), listed.cause)
    paths = [change.path for change in changes]
    present = (path for path in {*_split(listed.output), *paths} if is_dvc_file(path) and (root / path).is_file())
    return read_dvc_outs(root, present, paths, deadline=deadline)


def _open_folders(root: Path, changes: list[Change], outs: DvcOuts, deadline: float) -> list[Change]:
    """Untracked folders with an out in them become their files, because the rest of such a folder counts."""
    folders = [change.path for change in changes if change.path.endswith("/") and outs.lie_in(change.path)]
    if not folders:
        return changes
    (listed,) = ask_git([[*_UNTRACKED, *folders]], str(root), deadline=deadline)
    if listed.cause:
        return changes
    kept = [change for change in changes if change.path not in folders]
    files = [Change(path, untracked=True) for path in _split(listed.output)]
    return kept + [file for file in files if not _left_by_a_run(file)]


def _judge(root: Path, changes: list[Change], filters: Collection[str], deadline: float) -> WorkTree:
    if not changes:
        return WorkTree(False)
    if not filters or not all(change.edited for change in changes):
        return WorkTree(True)
    feed = "".join(f"{change.path}\0" for change in changes).encode("utf-8", "surrogateescape")
    (attributes,) = ask_git([_FILTERS], str(root), deadline=deadline, feed=feed)
    if attributes.cause:
        return WorkTree(None, attributes.cause)
    used = _split(attributes.output)[2::3]  # path, "filter", value; one each for a path
    if not all(name in filters for name in used):
        return WorkTree(True)
    return WorkTree(None, f"only filter {used[0]!r} could tell whether {posixpath.basename(changes[0].path)} changed")
