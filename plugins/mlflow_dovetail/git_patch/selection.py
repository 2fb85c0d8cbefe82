"""Which changed files of a work tree are captured: code is, what runs and DVC write is not, and size has its bounds."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from mlflow_dovetail.git_patch.limits import Limits
from mlflow_dovetail.git_patch.records import LeftOut, shown
from mlflow_dovetail.names import DOVETAIL_FOLDER
from mlflow_dovetail.repository import DvcOuts, is_left_by_a_run

_HYDRA_FOLDER = ".hydra"


class NotCode:
    """Knows what in a work tree is no code: stores, run folders, Hydra's output, DVC's data.

    Args:
        root: Of the work tree.
        leave_out: Absolute files and folders, such as the store's database.
        outs: DVC's.
        untracked: All of them; Hydra's output folders are known by the `.hydra` in them.
        tracked: Paths of the index, each before a NUL.
    """

    def __init__(
        self, root: Path, leave_out: Iterable[Path], outs: DvcOuts, untracked: Iterable[str], tracked: bytes
    ) -> None:
        self._root = root
        self._outs = outs
        inside = [path for path in leave_out if path != root and path.is_relative_to(root)]
        self._paths = {path.relative_to(root).as_posix() for path in inside} | set(_hydra_folders(untracked, tracked))
        # Somebody who has git track a file in a store's folder means it; a database is none's code.
        self._never = {path.relative_to(root).as_posix() for path in inside if _is_never_code(path)}

    def has(self, path: str, *, is_untracked: bool) -> bool:
        """Whether a path is none."""
        if is_untracked and is_left_by_a_run(path):
            return True
        paths = self._paths if is_untracked else self._never
        if any(part in paths for part in _with_ancestors(path.rstrip("/"))):
            return True
        return self._outs.are_data(path, is_there=os.path.lexists(self._root / path))


def bounded(root: Path, changed: Collection[str], untracked: Collection[str], limits: Limits) -> dict[str, LeftOut]:
    """What of these is over the bounds, or cannot be read, by path; of folders with too many files, all files.

    The smallest files come first: code is small. A path that is gone is within all bounds.
    """
    left_out: dict[str, LeftOut] = {}
    sizes: dict[str, int] = {}
    for path in (*changed, *untracked):
        try:
            state = os.lstat(root / path)
        except OSError:
            continue
        if stat.S_ISREG(state.st_mode):
            sizes[path] = state.st_size
            if not os.access(root / path, os.R_OK):
                left_out[path] = LeftOut(shown(path), "cannot be read", state.st_size)
        elif stat.S_ISDIR(state.st_mode):
            if path.endswith("/"):
                left_out[path] = LeftOut(shown(path), "a repository of its own")
        elif not stat.S_ISLNK(state.st_mode):
            left_out[path] = LeftOut(shown(path), "neither a file nor a link")
    over = too_large({path: size for path, size in sizes.items() if path not in left_out}, limits)
    left_out |= {path: LeftOut(shown(path), why, sizes[path]) for path, why in over.items()}
    return left_out | _too_many([path for path in untracked if path not in left_out], sizes, limits)


def too_large(sizes: Mapping[str, int], limits: Limits) -> dict[str, str]:
    """Which files are too large, alone or together, and the bound that says so."""
    over: dict[str, str] = {}
    total = 0
    for path, size in sorted(sizes.items(), key=lambda one: one[1]):
        total += size
        if size > limits.file_bytes:
            over[path] = f"over {_mib(limits.file_bytes)}"
        elif total > limits.total_bytes:
            over[path] = f"over {_mib(limits.total_bytes)} in all"
    return over


def _too_many(untracked: list[str], sizes: Mapping[str, int], limits: Limits) -> dict[str, LeftOut]:
    """Whole folders, the fullest first, until few enough files are left."""
    excess = len(untracked) - limits.untracked
    if excess <= 0:
        return {}
    left_out: dict[str, LeftOut] = {}
    full = Counter(posixpath.dirname(path) for path in untracked)
    for folder, count in full.most_common():
        if excess <= 0:
            break
        excess -= count
        files = sorted(path for path in untracked if posixpath.dirname(path) == folder)
        listing = "".join(f"{sizes.get(path, 0)} {path}\n" for path in files).encode("utf-8", "surrogateescape")
        told = LeftOut(
            shown(f"{folder}/" if folder else "./"),
            f"over {limits.untracked} untracked files",
            sum(sizes.get(path, 0) for path in files),
            count,
            hashlib.sha256(listing).hexdigest(),
        )
        left_out |= dict.fromkeys(files, told)
    return left_out


def _is_never_code(path: Path) -> bool:
    return path.name == DOVETAIL_FOLDER or not path.is_dir()


def _hydra_folders(untracked: Iterable[str], tracked: bytes) -> set[str]:
    """Hydra's output folders; where Hydra writes beside code, only its own notes are none."""
    found = set()
    for path in untracked:
        parts = path.split("/")
        if _HYDRA_FOLDER in parts[:-1]:
            depth = parts.index(_HYDRA_FOLDER)
            folder = "/".join(parts[:depth])
            has_code = not folder or b"\t" + os.fsencode(folder) + b"/" in tracked
            found.add("/".join(parts[: depth + 1]) if has_code else folder)
    return found


def _with_ancestors(path: str) -> Iterable[str]:
    while path:
        yield path
        path = posixpath.dirname(path)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):g} MiB"
