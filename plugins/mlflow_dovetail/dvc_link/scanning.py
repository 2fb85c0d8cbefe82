"""One pass over a repository's history: which commits brought which link file, and which tips still have it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link.blobs import check_names, path_text, read_blobs
from mlflow_dovetail.dvc_link.identity import decode_link, link_token
from mlflow_dovetail.dvc_link.locks import LOCK_FILE
from mlflow_dovetail.repository import Git

# What DVC keeps for itself: queued and failed experiments, what an apply has put aside, temporary workspaces.
_HIDDEN = (
    "refs/exps/exec/",
    "refs/exps/celery/",
    "refs/exps/stash",
    "refs/exps/apply/",
    "refs/exps/temp/",
    "refs/stash",
)
_EXCLUDED = [f"--exclude={name}*" for name in _HIDDEN]
_LOG = (
    "log", "--full-history", "-c", "--raw", "-z", "--root", "--no-renames", "--no-abbrev", "--no-relative",
    "--no-show-signature", "--ignore-missing", "--no-color", "--no-mailmap", "--format=%x01%H %ct",
)  # fmt: skip
_EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38,})/([^/]+)")
_HEAD = re.compile(r"^worktree (.*)\nHEAD ([0-9a-f]+)$", re.MULTILINE)
_CHANGE = re.compile(rb":+(?:[0-7]{6} )+((?:[0-9a-f]{40,64} )+)[A-Z]+[0-9]*\0([^\0]+)\0")
_NAMED = re.compile(rb"%s['\"]?\s" % re.escape(names.RUN_LINK_FILE.encode()))
_IDS = re.compile(rb"\b[0-9a-f]{32}\b")


Reader = Callable[[bytes], tuple[str, ...]]


class Tip(msgspec.Struct, frozen=True, array_like=True):
    """A commit that refs point at.

    Attributes:
        commit: Peeled.
        refs: Their full names; HEAD where no branch has it.
        files: Path → blob of the files that were looked for.
    """

    commit: str
    refs: tuple[str, ...]
    files: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """As git and DVC name them."""
        return tuple(map(short_name, self.refs))

    @property
    def experiments(self) -> list[tuple[str, str]]:
        """Baseline and name of each DVC experiment among the refs."""
        found = map(_EXPERIMENT.fullmatch, self.refs)
        return [(match[1] + match[2], match[3]) for match in found if match]


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """A content that a commit has at this path, and none of its parents had there.

    Attributes:
        time_seconds: At which the commit was made, since the epoch.
        blob: The content.
        gone: What its parents had there; for a content that left another path, itself.
    """

    commit: str
    time_seconds: int
    path: str
    blob: str
    gone: tuple[str, ...]


class Index(msgspec.Struct, frozen=True, array_like=True):
    """All files of one name in a history.

    Attributes:
        arrivals: The latest commit first.
        tips: In no order.
        ids: By blob: every id and md5 in it, and of a link file its own md5.
        locks: The paths at which there ever was a dvc.lock.
    """

    arrivals: list[Arrival]
    tips: list[Tip]
    ids: dict[str, tuple[str, ...]]
    locks: list[str]


class Refs(NamedTuple):
    """What a history begins from.

    Args:
        commits: Full name → object; tags are not peeled.
        head: Of the work tree that is asked in; empty before the first commit.
        other_heads: Those of other work trees.
        key: Changes with each of them.
    """

    commits: dict[str, str]
    head: str
    other_heads: tuple[str, ...]
    key: str


REFS_CALLS = (("for-each-ref", "--format=%(objectname) %(refname)"), ("worktree", "list", "--porcelain"))


def parse_refs(top: Path, listed: bytes, trees: bytes) -> Refs:
    """All refs but DVC's own, and the heads of all work trees.

    Args:
        top: Of the work tree that is asked in.
        listed: The output of the first of `REFS_CALLS`.
        trees: That of the second.
    """
    lines = (line.partition(" ") for line in path_text(listed).splitlines())
    commits = {name: oid for oid, _, name in lines if not name.startswith(_HIDDEN)}
    heads = {match[1]: match[2] for match in _HEAD.finditer(path_text(trees)) if match[2].strip("0")}
    key = hashlib.sha256(repr((str(top), heads)).encode("utf-8", "surrogateescape") + listed).hexdigest()
    own = heads.pop(str(top), "")
    return Refs(commits, own, tuple(heads.values()), key)


def short_name(ref: str) -> str:
    """A ref as git and DVC name it."""
    experiment = _EXPERIMENT.fullmatch(ref)
    return experiment[3] if experiment else re.sub(r"^refs/(?:heads/|tags/|remotes/)?", "", ref)


def scan_links(git: Git, refs: Refs) -> Index:
    """Read the link files of the whole history.

    Raises:
        GitFailed: git gives no answer, for instance by the deadline.
    """
    arrivals, locks = _read_log(git, refs, names.RUN_LINK_FILE, LOCK_FILE)
    return _index(git, refs, arrivals, sorted({arrival.path for arrival in locks}), ids_of_link)


def scan_locks(git: Git, refs: Refs) -> Index:
    """Read the dvc.lock files of the whole history: for links that git does not have. Twice as slow."""
    (arrivals,) = _read_log(git, refs, LOCK_FILE)
    return _index(git, refs, arrivals, sorted({arrival.path for arrival in arrivals}), ids_of_lock)


def ids_of_link(content: bytes) -> tuple[str, ...]:
    """What a link file is about: its md5, and the ids in it, also of one that is half written."""
    try:
        link = decode_link(content)
        return link_token(content), link.run_id, link.token
    except ValueError:
        return link_token(content), *map(path_text, _IDS.findall(content[:4096]))


def ids_of_lock(content: bytes) -> tuple[str, ...]:
    """The md5s that a dvc.lock may have of link files; not parsed, so there may be others among them."""
    at = (match.end() for match in _NAMED.finditer(content))
    return tuple(path_text(found) for end in at for found in _IDS.findall(content[end : end + 200])[:1])


def _index(git: Git, refs: Refs, arrivals: list[Arrival], locks: list[str], read: Reader) -> Index:
    tips = _read_tips(git, refs, sorted({arrival.path for arrival in arrivals}))
    blobs = {arrival.blob for arrival in arrivals}.union(*(tip.files.values() for tip in tips))
    return Index(arrivals, tips, {oid: read(content) for oid, content in read_blobs(git, blobs).items()}, locks)


def _read_tips(git: Git, refs: Refs, paths: list[str]) -> list[Tip]:
    by_object: dict[str, list[str]] = {}
    for name, oid in refs.commits.items():
        by_object.setdefault(oid, []).append(name)
    for oid in filter(None, (refs.head, *refs.other_heads)):
        by_object.setdefault(oid, ["HEAD"] if oid == refs.head else [])
    asked = [question for oid in by_object for question in (f"{oid}^{{commit}}", *(f"{oid}:{path}" for path in paths))]
    answers = iter(check_names(git, asked))
    tips: dict[str, Tip] = {}
    for oid_refs in by_object.values():
        commit = next(answers)
        found = {path: there.oid for path, there in zip(paths, answers, strict=False) if there and there.kind == "blob"}
        if commit:  # else a tag of a tree or a file
            before = tips[commit.oid].refs if commit.oid in tips else ()
            tips[commit.oid] = Tip(commit.oid, (*before, *oid_refs), found)
    return list(tips.values())


def _read_log(git: Git, refs: Refs, *files: str) -> list[list[Arrival]]:
    """The arrivals of the files of each name."""
    found: dict[str, list[Arrival]] = {name: [] for name in files}
    if refs.commits or refs.head:
        paths = [f":(glob)**/{name}" for name in files]
        # `--all` has the heads of all work trees too.
        for arrival in _parse_log(git.run(*_LOG, *_EXCLUDED, "--all", "--", *paths)):
            found[arrival.path.rpartition("/")[2]].append(arrival)
    return list(found.values())


def _parse_log(output: bytes) -> Iterator[Arrival]:
    """`--raw -z`: commits begin with byte 1; a merge has the blobs of all parents, and only what differs from each."""
    for part in output.split(b"\x01")[1:]:
        commit, _, time_seconds = path_text(part[: part.index(b"\0")]).partition(" ")
        changes = [(match[1].decode().split(), path_text(match[2])) for match in _CHANGE.finditer(part)]
        left = {oid for (*olds, _), _ in changes for oid in olds} if len(changes) > 1 else set()
        for (*olds, blob), path in changes:
            if blob.strip("0"):
                gone = (*(old for old in olds if old.strip("0")), *({blob} & left))
                yield Arrival(commit, int(time_seconds), path, blob, gone)
