"""The link files of one revision, each with what dvc.lock says of it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link.blobs import path_text
from mlflow_dovetail.dvc_link.identity import decode_link, input_id, link_token
from mlflow_dovetail.dvc_link.locks import LOCK_FILE, PIPELINE_FILE, BrokenLock, Claim, read_claims
from mlflow_dovetail.dvc_link.records import Link
from mlflow_dovetail.dvc_link.verdicts import WORKSPACE, LinkAt, digests

# A link has 300 bytes; what is much longer is another file of that name.
_LONGEST_BYTES = 1 << 20
_NAMED = (LOCK_FILE, PIPELINE_FILE, names.RUN_LINK_FILE)

_OUT = re.compile(rb"^\s*- path: (.*%s)$" % re.escape(names.RUN_LINK_FILE.encode()), re.MULTILINE)
_FOLDER = re.compile(rb"^\s*wdir: (\S+)\s*$", re.MULTILINE)
_MISSING = ("git does not have the link file; DVC's cache may", "The work tree does not have the link file")

OnBroken = Callable[[str, BrokenLock], None]


def links_in(rev: str, files: Mapping[str, bytes], on_broken: OnBroken) -> list[LinkAt]:
    """Every link of a revision, sorted by path.

    Args:
        rev: A commit, or "workspace".
        files: Path → bytes of its link files, its dvc.lock files and the dvc.yaml files beside them.
        on_broken: Told the path and the cause of a dvc.lock that cannot be read.
    """
    links = {path: content for path, content in files.items() if posixpath.basename(path) == names.RUN_LINK_FILE}
    found = [_claimed(rev, claim, links) for claim in _claims(files, on_broken)]
    unclaimed = set(links) - {each.path for each in found}
    found.extend(_unclaimed(rev, path, links[path]) for path in unclaimed)
    return sorted(found, key=lambda each: (each.path, each.stage))


WORKSPACE_CALL = (
    *("ls-files", "-z", "--full-name", "--cached", "--others", "--exclude-standard", "--"),
    *(f":(top,glob)**/{name}" for name in _NAMED),
)


def workspace_files(top: Path, listed: bytes) -> dict[str, bytes]:
    """What `links_in` needs of a work tree: what git tracks or would track, and the links that DVC hides from it.

    Args:
        top: Of the work tree.
        listed: The output of `WORKSPACE_CALL`.
    """
    found = _read_all(top, set(path_text(listed).split("\0")) - {""})
    return found | _read_all(top, set(_candidates(found)) - set(found))


def _candidates(files: Mapping[str, bytes]) -> Iterator[str]:
    """Where links may lie by what dvc.lock says; not parsed, so that looking at them costs next to nothing."""
    for path, content in files.items():
        folder = posixpath.dirname(path)
        if posixpath.basename(path) == LOCK_FILE:
            folders = ["", *map(path_text, _FOLDER.findall(files.get(posixpath.join(folder, PIPELINE_FILE), b"")))]
            outs = set(map(path_text, _OUT.findall(content)))
            yield from (_inside(posixpath.join(folder, wdir, out)) for wdir in folders for out in outs)


def _inside(path: str) -> str:
    """The normal form of a path in the repository; empty for what lies outside."""
    path = posixpath.normpath(path)
    return "" if path.startswith(("../", "/")) else path


def _read_all(top: Path, paths: Iterable[str]) -> dict[str, bytes]:
    contents = ((path, _read(top / path)) for path in paths)
    return {path: content for path, content in contents if content is not None}


def _claims(files: Mapping[str, bytes], on_broken: OnBroken) -> list[Claim]:
    claims: list[Claim] = []
    for path, content in files.items():
        if posixpath.basename(path) == LOCK_FILE:
            pipeline = files.get(posixpath.join(posixpath.dirname(path), PIPELINE_FILE), b"")
            try:
                claims.extend(read_claims(path, content, pipeline))
            except BrokenLock as error:
                on_broken(path, error)
    return claims


def _claimed(rev: str, claim: Claim, links: Mapping[str, bytes]) -> LinkAt:
    path = next((path for path in links if claim.is_about(path, link_token(links[path]))), None)
    link, cause = _decoded(links[path]) if path is not None else (None, _MISSING[rev == WORKSPACE])
    return LinkAt(
        rev=rev,
        path=path or claim.path or claim.out,
        lock=claim.lock,
        stage=claim.stage,
        entry=dict(claim.entry),
        input_id=input_id(claim.entry),
        deps=digests(claim.entry.get("deps")),
        outs=digests(claim.entry.get("outs")),
        folder=claim.folder,
        lock_token=claim.digest,
        content=None if path is None else links[path],
        link=link,
        cause=cause,
    )


def _unclaimed(rev: str, path: str, content: bytes) -> LinkAt:
    link, cause = _decoded(content)
    return LinkAt(rev, path, content=content, link=link, cause=cause)


def _decoded(content: bytes) -> tuple[Link | None, str]:
    try:
        return decode_link(content), ""
    except ValueError as error:
        return None, f"The link file is half written, or no link: {error}"


def _read(path: Path) -> bytes | None:
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST_BYTES * (1 if path.name == names.RUN_LINK_FILE else 64):
            return None
        return path.read_bytes()
    except OSError:
        return None
