"""Trees and patches between them, made in indexes and object folders of our own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mlflow_dovetail.repository import Git

# What a user's settings may not change in a patch.
_PATCH = (
    *("diff-tree", "-p", "-r", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv"),
    *("--no-color", "--src-prefix=a/", "--dst-prefix=b/", "-U3", "--inter-hunk-context=0", "--submodule=short"),
    *("--diff-algorithm=myers", "--no-indent-heuristic", "--ignore-submodules=none", "--no-relative"),
)
APPLY = ("apply", "--binary", "--whitespace=nowarn")
APPLY_SETTINGS = ("apply.whitespace=nowarn", "apply.ignoreWhitespace=no")
_HERE = (
    *("rev-list", "--no-walk", "--objects", "--no-object-names", "--missing=allow-any", "--ignore-missing"),
    "--stdin",  # after what it heeds
)
GITLINK = "160000"
_REMOVED = "0" * 6


class Change(NamedTuple):
    """One path that differs between two trees; mode "000000" where it is not there."""

    path: str
    old_mode: str
    old_object: str
    new_mode: str
    new_object: str


def with_objects(git: Git, objects: Path, *alternates: Path) -> Git:
    """Git that writes its objects to a folder of ours, and reads those of `alternates` too."""
    objects.mkdir(parents=True, exist_ok=True)
    others = ":".join(_quoted(str(path)) for path in alternates)
    return git.given(GIT_OBJECT_DIRECTORY=str(objects), GIT_ALTERNATE_OBJECT_DIRECTORIES=others)


def with_index(git: Git, index: Path) -> Git:
    """Git with an index of ours."""
    return git.given(GIT_INDEX_FILE=str(index))


def empty_tree(git: Git) -> str:
    """The empty tree's hash, in the repository's own hash function."""
    return text(git.run("hash-object", "-t", "tree", "--stdin"))


def tree_of(git: Git, commit: str | None) -> str:
    """The tree of a commit; the empty one for None."""
    return (
        text(git.run("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")) if commit else empty_tree(git)
    )


def write_tree(git: Git) -> str:
    """The tree of git's index. Its objects need not all be here: of a partial clone they are not."""
    return text(git.run("write-tree", "--missing-ok"))


def changes(git: Git, old: str, new: str) -> list[Change]:
    """What differs between two trees, in the order of a patch."""
    fields = names(git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-relative", old, new))
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [_change(entry, path) for entry, path in pairs]


def write_patch(git: Git, old: str, new: str, target: Path) -> None:
    """Write the binary patch from one tree to another."""
    git.write(target, *_PATCH, old, new)


def applied(git: Git, old: str, patch: Path, index: Path) -> str:
    """The tree that a patch makes of another one, in an index of its own.

    Raises:
        GitFailed: It does not apply, or has a path that git refuses.
    """
    own = with_index(git, index)
    own.run("read-tree", old)
    return apply_to_index(own, patch)


def apply_to_index(git: Git, patch: Path) -> str:
    """The tree of git's index after a patch.

    Raises:
        GitFailed: It does not apply, or has a path that git refuses.
    """
    if patch.stat().st_size:
        git.given(*APPLY_SETTINGS).run(*APPLY, "--cached", "--", str(patch))
    return write_tree(git)


def without(git: Git, old: str, new: str, paths: Iterable[str], index: Path) -> str:
    """The tree `new`, with some of its paths as they are in `old`."""
    own = with_index(git, index)
    own.run("read-tree", new)
    wanted = set(paths)
    set_entries(own, [change for change in changes(git, old, new) if change.path in wanted])
    return write_tree(own)


def set_entries(git: Git, reverted: Iterable[Change]) -> None:
    """Put paths of git's index back to how they are in the old tree, also those in conflict."""
    lines = []
    for change in reverted:
        lines.append(f"0 {'0' * len(change.old_object)}\t{change.path}\0")
        if change.old_mode != _REMOVED:
            lines.append(f"{change.old_mode} {change.old_object} 0\t{change.path}\0")
    if lines:
        feed = "".join(lines).encode("utf-8", "surrogateescape")
        git.run("update-index", "-z", "--replace", "--index-info", feed=feed)


def staged_objects(git: Git, paths: Iterable[str]) -> dict[str, str]:
    """The objects that git's index has for these paths."""
    listed = names(git.run("--literal-pathspecs", "ls-files", "-s", "-z", "--", *paths))
    parts = (entry.partition("\t") for entry in listed)
    return {path: told.split(" ")[1] for told, _, path in parts}


def unchanged(git: Git, paths: list[str]) -> set[str]:
    """Which tracked files only look changed: another time stamp on the same content."""
    if not paths:
        return set()
    known = staged_objects(git, paths)
    files = [path for path in paths if path in known and "\n" not in path]
    if not files:
        return set()
    feed = "".join(f"{path}\n" for path in files).encode("utf-8", "surrogateescape")
    hashes = text(git.run("hash-object", "--stdin-paths", feed=feed)).split("\n")
    return {path for path, name in zip(files, hashes, strict=True) if known[path] == name}


def sizes(git: Git, objects: Iterable[str]) -> dict[str, int]:
    """Bytes of each blob; one that is not here is missing."""
    wanted = list(dict.fromkeys(objects))
    if not wanted:
        return {}
    feed = "".join(f"{name}\n" for name in wanted).encode()
    check = ("cat-file", "--batch-check")
    (answer,) = git.ask(check, feed=feed)
    # Of a partial clone, git stops at the first that is not here.
    output = git.run(*check, feed=git.run(*_HERE, feed=feed)) if answer.cause else answer.output
    found = (line.split() for line in output.decode().splitlines())
    return {parts[0]: int(parts[2]) for parts in found if len(parts) == 3 and parts[1] == "blob"}


def names(output: bytes) -> list[str]:
    """Entries that end in NUL."""
    return [entry for entry in output.decode("utf-8", "surrogateescape").split("\0") if entry]


def text(output: bytes) -> str:
    """Without the end of the last line; a folder's name may end in one too."""
    return output.decode("utf-8", "surrogateescape").removesuffix("\n")


def _change(entry: str, path: str) -> Change:
    old_mode, new_mode, old_object, new_object, _ = entry.lstrip(":").split(" ")
    return Change(path, old_mode, old_object, new_mode, new_object)


def _quoted(path: str) -> str:
    """A path among others that are divided by colons (git(1), GIT_ALTERNATE_OBJECT_DIRECTORIES)."""
    if ":" not in path and not path.startswith('"'):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
