"""Whether a stage's dependencies at a revision are those that its dvc.lock has: who edits the code after the stage has
run, and commits both, has a commit with a result that its code did not make.

Compared are files that git has, and in the work tree every file, of at most 4 MiB: code. Not compared are folders,
links, and what a filter such as Git LFS keeps elsewhere. `dvc status` looks at all of it.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from mlflow_dovetail.dvc_link.blobs import Object, check_names, read_blobs
from mlflow_dovetail.dvc_link.verdicts import LinkAt
from mlflow_dovetail.repository import Git

_MOST_BYTES = 4 << 20
_KEPT_ELSEWHERE = (b"version https://git-lfs", b"\0GITCRYPT")


def find_edited(git: Git, links: Sequence[LinkAt]) -> list[LinkAt]:
    """The links of commits, each with what was edited there."""
    asked = [(number, dep, path) for number, link in enumerate(links) for dep, path in _files(link)]
    there = check_names(git, [f"{links[number].rev}:{path}" for number, _, path in asked])
    blobs = {one.oid: one for one in there if one and one.kind == "blob" and one.size_bytes <= _MOST_BYTES}
    contents = read_blobs(git, blobs)
    edited = [
        (number, dep, path, one)
        for (number, dep, path), one in zip(asked, there, strict=True)
        if one and one.oid in contents and not _is(contents[one.oid], links[number].deps[dep])
    ]
    links_of_files = _symbolic(git, [(links[number].rev, path, one) for number, _, path, one in edited])
    found: dict[int, list[str]] = {}
    for number, dep, path, one in edited:
        if (path, one.oid) not in links_of_files:
            found.setdefault(number, []).append(dep)
    return [_with(link, found.get(number, [])) for number, link in enumerate(links)]


def find_edited_here(top: Path, links: Sequence[LinkAt]) -> list[LinkAt]:
    """The links of a work tree, each with what was edited there."""
    return [_with(link, [dep for dep, path in _files(link) if _differs(top / path, link.deps[dep])]) for link in links]


def _files(link: LinkAt) -> Iterator[tuple[str, str]]:
    """Each dependency that may be a file, and its path in the repository."""
    for dep, digest in link.deps.items():
        path = posixpath.normpath(posixpath.join(link.folder or "", dep))
        if link.folder is not None and digest and not digest.endswith(".dir") and not path.startswith(("/", "../")):
            yield dep, path


def _differs(path: Path, digest: str) -> bool:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return False
        return not _is(path.read_bytes(), digest)
    except OSError:
        return False


def _is(content: bytes, digest: str) -> bool:
    """Git may keep other line ends than the work tree had, and DVC 2 hashed a text without its carriage returns."""
    if content.startswith(_KEPT_ELSEWHERE):
        return True
    plain = content.replace(b"\r\n", b"\n")
    forms = (content, plain, plain.replace(b"\n", b"\r\n"))
    return any(hashlib.md5(form, usedforsecurity=False).hexdigest() == digest for form in forms)


def _symbolic(git: Git, files: Sequence[tuple[str, str, Object]]) -> set[tuple[str, str]]:
    """Those that are symbolic links, by path and blob: of these DVC has hashed what they lead to."""
    places = {(path, one.oid): rev for rev, path, one in files}
    calls = [("ls-tree", "--full-tree", rev, "--", path) for (path, _), rev in places.items()]
    answers = git.run_all(*calls) if calls else []
    return {place for place, answer in zip(places, answers, strict=True) if answer.startswith(b"120000")}


def _with(link: LinkAt, edited: list[str]) -> LinkAt:
    return msgspec.structs.replace(link, edited=tuple(edited)) if edited else link
