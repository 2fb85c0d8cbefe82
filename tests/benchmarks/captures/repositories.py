"""Repositories of any size, changed by any number of files, whose index git has nothing left to look up in."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FILES_A_FOLDER, FOLDERS_A_FOLDER = 25, 10
ONE_IN_THIS_MANY_IS_BINARY = 50
SETTINGS = {"user.name": "Bench", "user.email": "bench@example.org", "gc.auto": "0", "init.defaultBranch": "main"}


@dataclass(frozen=True)
class Change:
    """How much of a repository is changed.

    Args:
        files: Half of them tracked ones, with three lines changed, as far as there are so many; the others untracked.
        has_binary: One of the tracked ones is binary.
    """

    files: int
    has_binary: bool = False

    def __str__(self) -> str:
        return f"{self.files:,}{', one of them binary' if self.has_binary else ''}" if self.files else "clean"


def git(root: Path, *arguments: str, feed: bytes = b"", **environment: str) -> str:
    """The standard output of one call.

    Raises:
        subprocess.CalledProcessError: It failed; what it said is in `stderr`.
    """
    variables = {**os.environ, **environment}
    done = subprocess.run(["git", *arguments], cwd=root, env=variables, input=feed, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape")


def no_other_settings(home: Path) -> Mapping[str, str]:
    """An environment in which git has the settings of this benchmark, and nobody's own."""
    lines = (
        f"[{section}]\n\t{key} = {value}\n" for name, value in SETTINGS.items() for section, key in [name.split(".")]
    )
    (home / ".gitconfig").write_text("".join(lines))
    return {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}


def make_repository(root: Path, files: int) -> None:
    """One commit, in one pack, checked out."""
    git(root.parent, "init", "--quiet", root.name)
    git(root, "fast-import", "--quiet", feed=b"".join(_commit(files)))
    git(root, "reset", "--quiet", "--hard")
    settle(root)


def change(root: Path, how: Change) -> None:
    """Change a clean repository."""
    tracked = git(root, "ls-files", "-z").split("\0")[:-1]
    texts = [path for path in tracked if path.endswith(".py")]
    count = min(how.files // 2, len(texts))
    chosen = [texts[number * len(texts) // count] for number in range(count)]
    for path in chosen[how.has_binary :]:
        lines = (root / path).read_text().splitlines(keepends=True)
        lines[10:12] = ["    changed = True\n", "    and_longer = 'than it was'\n", "    return changed\n"]
        (root / path).write_text("".join(lines))
    if how.has_binary:
        binary = next(path for path in tracked if path.endswith(".bin"))
        (root / binary).write_bytes(_binary(1 << 40))
    for number in range(how.files - count):
        beside = root / texts[number * 7 % len(texts)]
        (beside.parent / f"new_{number}.py").write_text(_text(-number))
    settle(root)


def undo(root: Path) -> None:
    """Make a changed repository clean."""
    git(root, "reset", "--quiet", "--hard")
    git(root, "clean", "--quiet", "-fd")
    settle(root)


def settle(root: Path) -> None:
    """Make the index younger than the files, for git reads again what is as young as its index (`racy`)."""
    time.sleep(1.1)
    git(root, "status", "--porcelain")


def racy(root: Path) -> int:
    """How many unchanged files git would read again to know that they are."""
    written = int((root / ".git" / "index").stat().st_mtime)
    changed = {line[3:] for line in git(root, "status", "--porcelain", "-z").split("\0")}
    tracked = git(root, "ls-files", "-z").split("\0")[:-1]
    return sum(int((root / path).stat().st_mtime) >= written for path in tracked if path not in changed)


def whole_tree(root: Path, scratch: Path) -> str:
    """The tree of all that is in the work tree, by `git add --all` in an index and an object folder beside it."""
    objects, index = scratch / "objects", scratch / "index"
    objects.mkdir(parents=True)
    index.write_bytes((root / ".git" / "index").read_bytes())
    variables = {
        "GIT_INDEX_FILE": str(index),
        "GIT_OBJECT_DIRECTORY": str(objects),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(root / ".git" / "objects"),
    }
    git(root, "add", "--all", **variables)
    return git(root, "write-tree", **variables).strip()


def restored_tree(root: Path, patch: bytes, clone: Path) -> str:
    """The tree of a clean clone with a patch.

    Raises:
        subprocess.CalledProcessError: It does not apply; what git says is in `stderr`.
    """
    git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone))
    git(clone, "read-tree", "HEAD")
    if patch:
        git(clone, "apply", "--cached", "--binary", "--whitespace=nowarn", "-", feed=patch)
    return git(clone, "write-tree").strip()


def what_differs(clone: Path, restored: str, whole: str, scratch: Path) -> str:
    """In words; empty when two trees are the same."""
    if restored == whole:
        return ""
    objects = str(scratch / "objects")
    changes = git(clone, "diff-tree", "-r", "--name-status", restored, whole, GIT_ALTERNATE_OBJECT_DIRECTORIES=objects)
    letters = [line[0] for line in changes.splitlines()]
    told = {"A": "new", "M": "changed", "D": "removed", "T": "of another type"}
    return ", ".join(f"{letters.count(letter):,} {word}" for letter, word in told.items() if letter in letters)


def _commit(files: int) -> Iterator[bytes]:
    yield b"commit refs/heads/main\ncommitter Bench <bench@example.org> 1700000000 +0000\ndata 3\nall\n"
    for number in range(files):
        is_binary = number % ONE_IN_THIS_MANY_IS_BINARY == 1
        content = _binary(number) if is_binary else _text(number).encode()
        yield f"M 100644 inline {_path(number, 'bin' if is_binary else 'py')}\ndata {len(content)}\n".encode()
        yield content + b"\n"


def _path(number: int, ending: str) -> str:
    folder = number // FILES_A_FOLDER
    parts = []
    while folder:
        folder, digit = divmod(folder, FOLDERS_A_FOLDER)
        parts.append(f"package_{digit}")
    return "/".join([*reversed(parts), f"module_{number}.{ending}"])


def _text(number: int) -> str:
    """About 2 KiB of what looks like code."""
    steps = (f"    step_{line} = compute(step_{line - 1}, {number + line}, scale={line}.5)\n" for line in range(1, 40))
    return f'"""Module {number}."""\n\n\ndef run(step_0):\n{"".join(steps)}    return step_39\n'


def _binary(number: int) -> bytes:
    return b"\0\x01" + random.Random(number).randbytes(2046)
