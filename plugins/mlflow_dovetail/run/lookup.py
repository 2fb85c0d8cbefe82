"""From revisions, files and hashes to the runs, and from a run to its revisions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlflow_dovetail import dvc_link, names, store
from mlflow_dovetail.dvc_link import DvcState, LinkAt, RevOfRun, RunFacts
from mlflow_dovetail.errors import DovetailError, RunNotFound, StoreRefused
from mlflow_dovetail.records import Run as StoredRun
from mlflow_dovetail.store import RunStore

MD5 = "md5:"
_READS, _WRITES = "reads", "writes"


@dataclass(frozen=True)
class FoundRun:
    """A run that answers to a revision, a file or a hash.

    Attributes:
        run_id: MLflow's; empty where the link file says none.
        token: Dovetail's.
        verdict: On the revision's link, see `dvc_link.judge`; of a file "reads" or "writes".
        details: What is stale or tampered with; where a link that dangles says its run is; of a file its path in the
            stage.
        rev: The commit, or "workspace"; empty when a file was asked for.
        stage: The address of the stage that made the run.
        models: Registered models made from the run, each `name/version`.
    """

    run_id: str
    token: str
    name: str = ""
    status: str = ""
    verdict: str = ""
    details: tuple[str, ...] = ()
    rev: str = ""
    stage: str = ""
    models: tuple[str, ...] = ()


def runs(
    rev: str | None = None,
    *,
    path: str | None = None,
    md5: str | None = None,
    tracking_uri: str | None = None,
    folder: Path | None = None,
) -> list[FoundRun]:
    """The runs that made a revision, or that read or wrote a file.

    Args:
        rev: A commit, branch, tag, DVC experiment, also one that failed, or "workspace"; with `path`, where the file is
            looked at.
        path: A file or folder that DVC tracks.
        md5: DVC's hash of it, with or without `.dir`.
        tracking_uri: `MLFLOW_TRACKING_URI` when left out, else `mlflow.db` in the project.
        folder: In the project; the working directory when left out.

    Raises:
        DovetailError: The revision is not there; the file is not tracked there; the store does not answer.
    """
    here = (folder or Path.cwd()).resolve()
    if path is not None:
        at = None if rev in (None, "workspace") else rev
        md5 = dvc_link.digest_at(here, path, at)
        if not md5:
            raise DovetailError(
                f"Nobody knows {path} at {at or 'the work tree'}.",
                "DVC tracks no such file or folder there.",
                "Name one that a .dvc file or dvc.lock has, or its hash: md5:HASH.",
            )
    with store.open(tracking_uri) as opened:
        if md5 is not None:
            return list(_with_hash(opened, md5.removeprefix(MD5)))
        rev = rev or "workspace"
        failed = list(_failed_in(opened, rev))
        try:
            links = dvc_link.links_at(here, rev)
        except DovetailError:
            if failed:  # an experiment without a result is no revision
                return failed
            raise
        return [*(_of_link(opened, link) for link in links), *failed]


def revs(run: str, *, tracking_uri: str | None = None, folder: Path | None = None) -> list[RevOfRun]:
    """The revisions that have a run's result, each with its verdict; none: the run is an orphan.

    Args:
        run: A run id or token, the beginning of one, a unique run name, or a registered model.
        tracking_uri: As in `runs`.
        folder: As in `runs`.

    Raises:
        RunNotFound: None or several runs answer to it.
        DovetailError: There is no repository, or the store does not answer.
    """
    with store.open(tracking_uri) as opened:
        facts = facts_of(opened, opened.find_run(run))
    return dvc_link.revs_of((folder or Path.cwd()).resolve(), facts)


def facts_of(opened: RunStore, run: StoredRun) -> RunFacts:
    """What the store knows of a run's place in DVC."""
    state = state_of(opened, run)
    return RunFacts(
        token=run.token or "",
        run_id=run.run_id,
        status=run.status,
        link_token=run.tags.get(names.TAG_DVC_LINK, ""),
        input_id=run.tags.get(names.TAG_DVC_INPUT_ID, ""),
        outs=_digests(run.tags.get(names.TAG_DVC_OUTPUTS)),
        experiment=run.tags.get(names.TAG_DVC_EXPERIMENT, ""),
        baseline=run.tags.get(names.TAG_DVC_BASELINE_REV, ""),
        deps={dep.path: dep.digest for dep in state.deps} if state else {},
        params=state.params if state else {},
        command=state.command if state else "",
    )


def state_of(opened: RunStore, run: StoredRun) -> DvcState | None:
    """The stage and the data of a run, as they were; None of one without."""
    if names.TAG_DVC_DEPENDENCIES not in run.tags:
        return None
    with tempfile.TemporaryDirectory(prefix="dovetail-") as into:
        try:
            file = opened.read_artifact(run.run_id, names.ARTIFACT_DVC, Path(into))
            return msgspec.json.decode(file.read_bytes(), type=DvcState)
        except (StoreRefused, msgspec.DecodeError):
            return None


def _failed_in(opened: RunStore, experiment: str) -> Iterator[FoundRun]:
    """The runs that failed in a DVC experiment of this name: DVC shows their baseline's run in its row."""
    for run in opened.search(names.TAG_DVC_EXPERIMENT, experiment):
        if run.status in ("FAILED", "KILLED"):
            stage = run.tags.get(names.TAG_DVC_STAGE, "")
            yield FoundRun(run.run_id, run.token or "", run.name, run.status, "failed", stage=stage)


def _of_link(opened: RunStore, link: LinkAt) -> FoundRun:
    run = _run_of(opened, link)
    verdict, details = dvc_link.judge(link, facts_of(opened, run) if run else None)
    known = link.link
    return FoundRun(
        run_id=run.run_id if run else known.run_id if known else "",
        token=(run.token or "") if run else known.token if known else "",
        name=run.name if run else "",
        status=run.status if run else "",
        verdict=verdict,
        details=details or ((link.cause,) if link.cause else ()) or ((known.store,) if known and run is None else ()),
        rev=link.rev,
        stage=link.stage,
        models=tuple(opened.models_of(run.run_id)) if run else (),
    )


def _run_of(opened: RunStore, link: LinkAt) -> StoredRun | None:
    if link.link is None:
        found = opened.search(names.TAG_DVC_LINK, link.lock_token) if link.lock_token else []
        return found[0] if found else None
    found = opened.search(names.TAG_TOKEN, link.link.token)
    if found:
        return found[0]
    try:
        return opened.get_run(link.link.run_id)
    except RunNotFound:
        return None


def _with_hash(opened: RunStore, md5: str) -> Iterator[FoundRun]:
    """Runs that read or wrote it; the oldest first."""
    found: dict[str, tuple[StoredRun, str, str]] = {}
    for tag, verdict in ((names.TAG_DVC_OUTPUTS, _WRITES), (names.TAG_DVC_DEPENDENCIES, _READS)):
        for run in opened.search(tag, md5, within=True):
            paths = [path for path, digest in _digests(run.tags.get(tag)).items() if _is(digest, md5)]
            for path in paths[:1]:
                found.setdefault(run.run_id, (run, verdict, path))
    for digest in dict.fromkeys((md5, f"{md5.removesuffix('.dir')}.dir")):
        for run in opened.search_data(digest):
            paths = [one.name for one in run.inputs if one.digest == digest]
            found.setdefault(run.run_id, (run, _READS, paths[0] if paths else ""))
    for run, verdict, path in sorted(found.values(), key=lambda one: one[0].start_time_ms):
        yield FoundRun(
            run_id=run.run_id,
            token=run.token or "",
            name=run.name,
            status=run.status,
            verdict=verdict,
            details=(path,),
            stage=run.tags.get(names.TAG_DVC_STAGE, ""),
            models=tuple(opened.models_of(run.run_id)),
        )


def _is(digest: str, md5: str) -> bool:
    return digest.removesuffix(".dir") == md5.removesuffix(".dir")


def _digests(tag: str | None) -> dict[str, str]:
    try:
        found = json.loads(tag or "{}")
    except ValueError:
        return {}
    return {str(path): str(digest) for path, digest in found.items()} if isinstance(found, dict) else {}


def ask(text: str, *, tracking_uri: str | None = None, folder: Path | None = None) -> list[FoundRun]:
    """The runs that `REV`, `PATH`, `PATH@REV` or `md5:HASH` means; see `runs`.

    A text that is both a path that DVC tracks and a revision means the path.
    """
    here = (folder or Path.cwd()).resolve()
    if text.startswith(MD5):
        return runs(md5=text, tracking_uri=tracking_uri, folder=here)
    path, at, rev = text.rpartition("@")
    if at and path and dvc_link.repository_of(here) and not rev.startswith("{"):  # HEAD@{1} is a revision
        return runs(rev, path=path, tracking_uri=tracking_uri, folder=here)
    if dvc_link.repository_of(here) and text != "workspace" and dvc_link.digest_at(here, text):
        return runs(path=text, tracking_uri=tracking_uri, folder=here)
    return runs(text, tracking_uri=tracking_uri, folder=here)
