"""What a user calls a revision, as a commit: git's names, and those of DVC's experiments."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlflow_dovetail.dvc_link.blobs import path_text
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.repository import Git, GitAnswer, advice

_NAME = re.compile(r"[\w.][\w./-]*")
_FAILED, _QUEUED = "refs/exps/celery/failed", "refs/exps/celery/stash"
_ENTRY = re.compile(r"([0-9a-f]+)\0(?:commit: )?dvc-exp:[0-9a-f]+:([0-9a-f]+):([^:\0]*)")


class Unfinished(NamedTuple):
    """An experiment of DVC's queue that has no result.

    Args:
        name: DVC's of it.
        commit: In which DVC has put it aside: its inputs, with the results of its baseline.
        baseline: The commit that it begins from.
        has_failed: False while it waits in the queue.
    """

    name: str
    commit: str
    baseline: str
    has_failed: bool


def open_repository(
    folder: Path, *calls: Sequence[str], limit_seconds: float, verify: Sequence[str] = ()
) -> tuple[Git, list[GitAnswer]]:
    """Git in the work tree that a folder belongs to, and what calls gave that were made beside asking for it.

    Args:
        folder: In the work tree.
        calls: Arguments after `git`.
        limit_seconds: For all that is asked of what is given back.
        verify: More arguments of `git rev-parse`; then the first answer is what it says of them.

    Raises:
        DovetailError: It is in none.
    """
    git = Git(folder, deadline=time.monotonic() + limit_seconds)
    top, *answers = git.ask(("rev-parse", "--show-toplevel", *verify), *calls)
    if not top.output:
        raise DovetailError(
            f"Cannot read the history of {folder}.",
            f"{advice(top.cause).capitalize()}.",
            "Name a folder of a project that is in git, or run: git init",
        )
    path, _, rest = top.output.rstrip(b"\n").partition(b"\n")
    git.folder = Path(path_text(path))
    return git, [top._replace(output=rest), *answers] if verify else answers


def naming_calls(rev: str) -> list[Sequence[str]]:
    """What `resolve` asks git: first the arguments of `git rev-parse`, then a call if the name may be of two refs.

    Raises:
        DovetailError: It cannot be a name.
    """
    if not rev or rev.startswith("-") or "\n" in rev or "\0" in rev:
        raise _unknown(rev, "It is no name of a revision")
    calls: list[Sequence[str]] = [("--verify", f"{rev}^{{commit}}")]
    if _NAME.fullmatch(rev) and rev != "HEAD":
        refs = [f"refs/heads/{rev}", f"refs/tags/{rev}"]
        calls.append(("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", *refs))
    return calls


def resolve(git: Git, rev: str, commit: GitAnswer, refs: GitAnswer | None = None) -> str:
    """The commit that a revision means: what git says, and where git knows none, DVC's experiment of that name.

    Args:
        git: In the repository.
        rev: The revision.
        commit: What the first of `naming_calls` gave.
        refs: What the second gave, if there is one.

    Raises:
        DovetailError: There is none, or more than one.
    """
    if commit.code == 0:
        _be_sure(rev, [line.split() for line in path_text(refs.output if refs else b"").splitlines()])
        return commit.output.decode().strip()
    if "ambiguous" in commit.cause:
        raise DovetailError(
            f"Cannot tell which revision {rev} is.", f"{commit.cause.capitalize()}.", "Give more of its digits."
        )
    return _resolve_experiment(git, rev, f"Git says: {commit.cause}")


def unfinished_experiments(git: Git) -> list[Unfinished]:
    """The experiments that failed or wait in DVC's queue, the latest first. They have no ref of their own."""
    failed, queued = git.ask(*(("log", "-g", "-z", "--format=%H%x00%gs", ref, "--") for ref in (_FAILED, _QUEUED)))
    return [
        Unfinished(match[3], match[1], match[2], answer is failed)
        for answer in (failed, queued)
        for match in _ENTRY.finditer(path_text(answer.output))
    ]


def _be_sure(rev: str, refs: list[list[str]]) -> None:
    """git itself takes the tag when a branch has the same name, with a warning that nobody sees."""
    same = {line[-1] for line in refs if line[0] in (f"refs/heads/{rev}", f"refs/tags/{rev}")}
    if len(same) > 1:
        raise DovetailError(
            f"Cannot tell which revision {rev} is.",
            "A branch and a tag have that name, and they are different commits.",
            f"Write refs/heads/{rev} or refs/tags/{rev}.",
        )


def _resolve_experiment(git: Git, rev: str, cause: str) -> str:
    pattern = f"refs/exps/*/*/{rev}" if _NAME.fullmatch(rev) and "/" not in rev else "refs/exps/?"
    refs, head = git.ask(("for-each-ref", "--format=%(objectname) %(refname)", pattern), ("rev-parse", "HEAD"))
    commits = {
        name.split("/")[2] + name.split("/")[3]: oid
        for oid, name in map(str.split, path_text(refs.output).splitlines())
    }
    on_head = commits.get(head.output.decode().strip())
    if len(commits) > 1 and not on_head:
        raise DovetailError(
            f"Cannot tell which experiment {rev} is.",
            f"{len(commits)} have that name, on other commits: {', '.join(base[:7] for base in sorted(commits))}.",
            "Give the experiment's commit, which `dvc exp list --all-commits` shows, or its ref.",
        )
    if commits:
        return on_head or next(iter(commits.values()))
    raise _without_result(git, rev) or _unknown(rev, cause)


def _without_result(git: Git, rev: str) -> DovetailError | None:
    for each in unfinished_experiments(git):
        if each.name == rev or (len(rev) > 6 and each.commit.startswith(rev)):
            happened, remedy = ("failed", "queue logs") if each.has_failed else ("has not run yet", "queue status of")
            return DovetailError(
                f"The experiment {rev} has no result.",
                f"It {happened}; what `dvc exp show` has in its row is of its baseline {each.baseline[:7]}.",
                f"Find its run by its tag dovetail.dvc.experiment, or run: dvc {remedy} {rev}",
            )
    return None


def _unknown(rev: str, cause: str) -> DovetailError:
    return DovetailError(
        f"Cannot find the revision {rev!r}.",
        f"No commit, branch, tag or DVC experiment of this repository has that name. {cause}.",
        "If it is on another machine, run: git fetch --all, or for an experiment: dvc exp pull <remote> <name>",
    )
