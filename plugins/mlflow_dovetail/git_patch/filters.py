"""Files that git reads through a program: none is run here, because it may write into the repository."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from mlflow_dovetail.git_patch.records import LeftOut, shown
from mlflow_dovetail.git_patch.trees import names, staged_objects, text
from mlflow_dovetail.repository import Git

_LFS = "lfs"
_POINTER_BEGINS = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024


class Filtered(NamedTuple):
    """What becomes of files with a filter.

    Args:
        entries: Lines for `update-index --index-info`: pointers of Git LFS.
        left_out: By path; of an LFS file its content, of another all.
    """

    entries: bytes
    left_out: dict[str, LeftOut]


def off(filters: Iterable[str]) -> list[str]:
    """Settings that keep these filters from being run."""
    return [f"filter.{name}.{key}" for name in filters for key in ("clean=", "process=", "required=false")]


def read(git: Git, root: Path, paths: Collection[str], filters: Collection[str], into: Path) -> Filtered:
    """Look at the files among `paths` that have one of the filters.

    Args:
        git: With the index and objects of the capture.
        root: Of the work tree.
        paths: Changed files.
        filters: Names of the filter drivers that are configured.
        into: For pointers, on their way into git's objects.

    Raises:
        GitFailed: Git gives no answer.
        OSError: A file is gone, or there is no room.
    """
    if not filters or not paths:
        return Filtered(b"", {})
    feed = "".join(f"{path}\0" for path in paths).encode("utf-8", "surrogateescape")
    attributes = names(git.run("check-attr", "-z", "--stdin", "filter", feed=feed))
    used = {path: name for path, name in zip(attributes[::3], attributes[2::3], strict=True) if name in filters}
    files = {path: name for path, name in used.items() if (root / path).is_file() and not (root / path).is_symlink()}
    others = {
        path: LeftOut(shown(path), f"only the filter {name!r} could tell what git keeps", (root / path).stat().st_size)
        for path, name in files.items()
        if name != _LFS
    }
    pointers = {path: _pointer(root / path) for path, name in files.items() if name == _LFS}
    if not pointers:
        return Filtered(b"", others)
    known = dict(zip(pointers, _hash(git, list(pointers.values()), into), strict=True))
    staged = staged_objects(git, known)
    lines = (f"{_mode(root / path)} {name} 0\t{path}\0" for path, name in known.items())
    entries = "".join(lines).encode("utf-8", "surrogateescape")
    contents = {path: pointers[path] for path, name in known.items() if staged.get(path) != name}
    return Filtered(entries, others | {path: _told(path, pointer) for path, pointer in contents.items()})


def _pointer(file: Path) -> bytes:
    """A file's pointer; a file that is one already is its own.

    Source:
        Git LFS specification, "The Pointer".
    """
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            if not size and block.startswith(_POINTER_BEGINS) and len(block) < _LONGEST_POINTER:
                return block
            digest.update(block)
            size += len(block)
    return _POINTER_BEGINS + b"v1\noid sha256:%s\nsize %d\n" % (digest.hexdigest().encode(), size) if size else b""


def _hash(git: Git, contents: list[bytes], into: Path) -> list[str]:
    into.mkdir(parents=True, exist_ok=True)
    files = [into / str(number) for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    feed = "".join(f"{file}\n" for file in files).encode("utf-8", "surrogateescape")
    return text(git.run("hash-object", "-w", "--no-filters", "--stdin-paths", feed=feed)).split("\n")


def _mode(file: Path) -> str:
    return "100755" if os.access(file, os.X_OK) else "100644"


def _told(path: str, pointer: bytes) -> LeftOut:
    fields = dict(line.split(" ", 1) for line in pointer.decode("utf-8", "replace").splitlines() if " " in line)
    size = fields.get("size", "0")
    return LeftOut(
        shown(path),
        "Git LFS: its pointer is kept, its content is not",
        int(size) if size.isdigit() else 0,
        sha256=fields.get("oid", "").removeprefix("sha256:"),
    )
