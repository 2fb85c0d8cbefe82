"""Which link files, lock files and pipelines a commit has, and their bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link.locks import LOCK_FILE, PIPELINE_FILE
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.repository import Git, GitFailed

_NAMED = "|".join(re.escape(name) for name in (LOCK_FILE, PIPELINE_FILE, names.RUN_LINK_FILE))
_ENTRY = re.compile(rf"(?:^|(?<=\0))\d+ blob ([0-9a-f]+)\t((?:[^\0]*/)?(?:{_NAMED}))(?=\0)".encode())


class Object(NamedTuple):
    """What `git cat-file --batch-check` says of one name."""

    oid: str
    kind: str
    size_bytes: int


def list_named(tree: bytes) -> dict[str, str]:
    """Path → blob of the files that matter, in the output of `git ls-tree -r -z`."""
    return {path_text(match[2]): match[1].decode() for match in _ENTRY.finditer(tree)}


def read_blobs(git: Git, oids: Iterable[str]) -> dict[str, bytes]:
    """The bytes of blobs; what is missing is left out.

    Raises:
        DovetailError: The clone is partial, and they are where nobody is asked.
        GitFailed: git gives no answer.
    """
    wanted = list(dict.fromkeys(oids))
    if not wanted:
        return {}
    output = _cat_file(git, "--batch", wanted)
    return dict(_parse_batch(output))


def check_names(git: Git, asked: list[str]) -> list[Object | None]:
    """What git has under names such as `<commit>:<path>`, in their order; None under a name that has nothing.

    Raises:
        DovetailError: As `read_blobs`.
        GitFailed: As `read_blobs`.
    """
    if not asked:
        return []
    # A line is a question: git has no way to ask for a name with a line's end in it before version 2.38.
    questions = [name.replace("\n", "?") for name in asked]
    output = _cat_file(git, "--batch-check=%(objectname) %(objecttype) %(objectsize)", questions)
    return [_object(line) for line in output.split(b"\n")[: len(asked)]]


def path_text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _cat_file(git: Git, mode: str, asked: list[str]) -> bytes:
    try:
        return git.run("cat-file", mode, feed="\n".join([*asked, ""]).encode("utf-8", "surrogateescape"))
    except GitFailed as error:
        if "promisor" in error.cause:
            what, why = "Cannot read the link files of this history.", "This clone was made without all files."
            raise DovetailError(what, why, "Run: git fetch --refetch --no-filter") from error
        raise


def _object(line: bytes) -> Object | None:
    oid, kind, size, *_ = [*line.decode("utf-8", "replace").rsplit(" ", 2), "", ""]
    return Object(oid, kind, int(size)) if kind in ("blob", "commit", "tree", "tag") else None


def _parse_batch(output: bytes) -> Iterator[tuple[str, bytes]]:
    position = 0
    while position < len(output):
        end = output.index(b"\n", position)
        header = output[position:end].split(b" ")
        position = end + 1
        if len(header) == 3:  # else "<name> missing"
            size = int(header[2])
            yield header[0].decode(), output[position : position + size]
            position += size + 1
