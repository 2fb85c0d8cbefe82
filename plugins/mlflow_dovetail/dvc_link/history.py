"""From a revision to its runs, and from a run to its revisions: git read, no store asked, neither written to.

The link is content: `mlflow_run.json` names the run, and `dvc.lock` has that file's md5. So it does not matter what a
commit or an experiment is called, or on which commit the work tree was while the run went on: a run made on a dirty
commit A and committed as B is found at B.

A link file that git does not have, because DVC's cache keeps it or because it was not added, is found by dvc.lock
alone; `revs_of` looks for it in this way only where git has no link file of the run in any revision. Not looked at:
other work trees than the folder's own (their commits are).
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link.blobs import check_names, list_named, read_blobs
from mlflow_dovetail.dvc_link.cache import HistoryCache, cache_root
from mlflow_dovetail.dvc_link.edited import find_edited, find_edited_here
from mlflow_dovetail.dvc_link.links import WORKSPACE_CALL, links_in, workspace_files
from mlflow_dovetail.dvc_link.locks import PIPELINE_FILE, BrokenLock
from mlflow_dovetail.dvc_link.records import RevOfRun
from mlflow_dovetail.dvc_link.reuse import find_reused
from mlflow_dovetail.dvc_link.revisions import (
    Unfinished,
    naming_calls,
    open_repository,
    resolve,
    unfinished_experiments,
)
from mlflow_dovetail.dvc_link.scanning import (
    REFS_CALLS,
    Arrival,
    Index,
    Refs,
    ids_of_link,
    parse_refs,
    scan_links,
    scan_locks,
)
from mlflow_dovetail.dvc_link.verdicts import WORKSPACE, Judgement, LinkAt, RunFacts, judge
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.repository import Git

__all__ = ["Judgement", "LinkAt", "RunFacts", "judge", "links_at", "revs_of", "unfinished_at"]

_TREE = ("ls-tree", "-r", "-z", "--full-tree")

log = logging.getLogger("mlflow_dovetail")

LIMIT_SECONDS = 60.0


def links_at(folder: Path, rev: str, *, limit_seconds: float = LIMIT_SECONDS) -> list[LinkAt]:
    """Every link of a revision: which runs have made it.

    Args:
        folder: In the repository.
        rev: A commit, branch, tag, short hash or whatever git takes; the name of a DVC experiment; "workspace".

    Returns:
        One for each stage with a link file in a dvc.lock, then for each link file that no dvc.lock has; sorted by
        path. `judge(link, run)` says what it is worth.

    Raises:
        DovetailError: The revision is not there or not only one; a dvc.lock is broken; git or DVC is missing.
    """

    def refuse(path: str, error: BrokenLock) -> None:
        raise DovetailError(
            f"Cannot read {path} of {rev}.", f"DVC cannot either: {error}.", "Run `dvc repro`, or repair it by hand."
        ) from error

    if rev == WORKSPACE:
        git, (listed,) = open_repository(Path(folder), WORKSPACE_CALL, limit_seconds=limit_seconds)
        return find_edited_here(git.folder, links_in(WORKSPACE, workspace_files(git.folder, listed.output), refuse))
    verify, *more = naming_calls(rev)
    calls = ((*_TREE, rev), *more)
    git, (named, tree, *refs) = open_repository(Path(folder), *calls, limit_seconds=limit_seconds, verify=verify)
    commit = resolve(git, rev, named, *refs)
    # Unless it is a name that DVC alone knows, the tree is there already.
    files = list_named(tree.output if named.code == tree.code == 0 else git.run(*_TREE, commit))
    blobs = read_blobs(git, files.values())
    return find_edited(git, links_in(commit, {path: blobs[oid] for path, oid in files.items() if oid in blobs}, refuse))


def revs_of(
    folder: Path, run: RunFacts, *, cache: Path | None = None, limit_seconds: float = LIMIT_SECONDS
) -> list[RevOfRun]:
    """The revisions that have a run's result, or had it first.

    Args:
        folder: In the repository.
        run: What the store knows of it.
        cache: The folder in which `.dovetail/cache/` is; by default `DOVETAIL_DIR`, or the project's root.

    Returns:
        One for each link file of the run in each commit that brought it there, the latest commit first; then in each
        other tip of a branch, tag, remote branch, experiment or work tree that has it; then in the work tree; then
        the DVC experiments in which the run has failed. An empty list: the run is an orphan. The verdicts are those
        of `judge`, or where that says `exact`,

        - `reused`: the run was not executed for this revision, see `reuse.find_reused`.
        - `uncommitted`: the work tree alone has it, no revision.

    Raises:
        DovetailError: The folder is in no repository; DVC is not there to read dvc.lock.
        GitFailed: git gives no answer.
    """
    calls = (*REFS_CALLS, WORKSPACE_CALL)
    git, (*answers, listed) = open_repository(Path(folder), *calls, limit_seconds=limit_seconds)
    refs = parse_refs(git.folder, *(answer.output for answer in answers))
    files = workspace_files(git.folder, listed.output)
    kept = HistoryCache(cache or cache_root(Path(folder), git.folder), refs.key)
    here = find_edited_here(git.folder, _links_here(files, run))
    answer = kept.answer(run, here)
    if answer is None:
        answer = _revs(git, refs, kept, run, here)
        kept.keep_answer(run, here, answer)
    return [*answer, *_failures(git, refs, run, answer)]


def unfinished_at(folder: Path, *, limit_seconds: float = LIMIT_SECONDS) -> list[Unfinished]:
    """The queued and failed experiments, in whose rows DVC shows their baseline's run."""
    return unfinished_experiments(open_repository(Path(folder), limit_seconds=limit_seconds)[0])


def _revs(git: Git, refs: Refs, kept: HistoryCache, run: RunFacts, here: list[LinkAt]) -> list[RevOfRun]:
    index = kept.index("links", lambda: scan_links(git, refs))
    paths = {arrival.path for arrival in index.arrivals}
    arrivals, commits = _places(index, {run.token, run.run_id, run.link_token}, lambda _arrival, _about: True)
    if not commits and run.link_token:
        index = kept.index("locks", lambda: scan_locks(git, refs))
        # A dvc.lock changes also for the sake of other stages.
        arrivals, commits = _places(index, {run.link_token}, lambda each, about: about.isdisjoint(each.gone))
    links = _links_of_commits(git, commits, index.locks, paths, run)
    again_at = refs.head if here and refs.head not in commits else ""
    reused = find_reused(git, index, arrivals, run, again_at)
    called = {tip.commit: tip.names for tip in index.tips}
    return [_rev(link, run, called.get(link.rev, ()), reused, bool(links)) for link in [*links, *here]]


def _places(
    index: Index, ids: set[str], is_new: Callable[[Arrival, set[str]], bool]
) -> tuple[list[Arrival], list[str]]:
    """Where one of these ids came into a file, and all commits that are to be looked at."""
    blobs = {oid for oid, found in index.ids.items() if not (ids - {""}).isdisjoint(found)}
    arrivals = [each for each in index.arrivals if each.blob in blobs and is_new(each, blobs)]
    tips = (tip.commit for tip in index.tips if not blobs.isdisjoint(tip.files.values()))
    return arrivals, list(dict.fromkeys([*(arrival.commit for arrival in arrivals), *tips]))


def _rev(link: LinkAt, run: RunFacts, called: tuple[str, ...], reused: set[str], is_committed: bool) -> RevOfRun:
    verdict, details = judge(link, run)
    if verdict == "exact" and link.rev == WORKSPACE and not is_committed:
        verdict = "uncommitted"
    elif verdict == "exact" and link.rev in reused:
        verdict = "reused"
    return RevOfRun(link.rev, called, verdict, details, link.path)


def _links_of_commits(
    git: Git, commits: list[str], locks: list[str], paths: Iterable[str], run: RunFacts
) -> list[LinkAt]:
    """The run's links in commits, with what the commits' dvc.lock files say of them."""
    beside = [*locks, *map(_pipeline, locks), *sorted(paths)]
    answers = check_names(git, [f"{commit}:{path}" for commit in commits for path in beside])
    oids = read_blobs(git, (there.oid for there in answers if there and there.kind == "blob"))
    rest = iter(answers)
    broken = _Broken()
    found: list[LinkAt] = []
    for commit in commits:
        named = {path: there.oid for path, there in zip(beside, rest, strict=False) if there}
        files = {path: oids[oid] for path, oid in named.items() if oid in oids}
        found.extend(link for link in links_in(commit, files, broken.at(commit)) if _is_of(link, run))
    broken.tell()
    return find_edited(git, found)


def _links_here(files: Mapping[str, bytes], run: RunFacts) -> list[LinkAt]:
    """The run's links in the work tree."""
    wanted = {run.token, run.run_id, run.link_token} - {""}
    links = (content for path, content in files.items() if posixpath.basename(path) == names.RUN_LINK_FILE)
    if not any(not wanted.isdisjoint(ids_of_link(content)) for content in links):
        return []  # so that DVC's parser is not loaded
    broken = _Broken()
    found = links_in(WORKSPACE, files, broken.at(WORKSPACE))
    broken.tell()
    return [link for link in found if link.content is not None and _is_of(link, run)]


def _is_of(link: LinkAt, run: RunFacts) -> bool:
    ids = {link.lock_token, *(ids_of_link(link.content) if link.content is not None else ())}
    return not ids.isdisjoint({run.token, run.run_id, run.link_token} - {""})


class _Broken:
    """Counts the dvc.lock files that cannot be read: they must not hide all other revisions."""

    def __init__(self) -> None:
        self._found: dict[str, BrokenLock] = {}

    def at(self, rev: str) -> Callable[[str, BrokenLock], None]:
        return lambda lock, error: self._found.update({f"{lock} of {rev[:9]}": error})

    def tell(self) -> None:
        for place, error in list(self._found.items())[:1]:
            log.warning("%d dvc.lock files cannot be read, such as %s: %s", len(self._found), place, error)


def _failures(git: Git, refs: Refs, run: RunFacts, found: list[RevOfRun]) -> list[RevOfRun]:
    """The experiments in which a run has failed: theirs is the link of the baseline, so their name finds them."""
    if not run.has_failed or not run.experiment:
        return []
    ends = [(ref.split("/"), commit) for ref, commit in refs.commits.items() if ref.startswith("refs/exps/")]
    named = [(parts[2] + parts[3], commit) for parts, commit in ends if parts[-1] == run.experiment and len(parts) == 5]
    put_aside = [each for each in unfinished_experiments(git) if each.has_failed and each.name == run.experiment]
    named.extend((each.baseline, each.commit) for each in put_aside)
    known = {rev.rev for rev in found}
    commits = dict.fromkeys(commit for base, commit in named if run.baseline in ("", base) and commit not in known)
    return [RevOfRun(commit, (run.experiment,), "failed") for commit in commits]


def _pipeline(lock: str) -> str:
    return posixpath.join(posixpath.dirname(lock), PIPELINE_FILE)
