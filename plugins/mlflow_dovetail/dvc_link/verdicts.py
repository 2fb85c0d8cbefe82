"""What a link file at a revision is worth: whether the revision has a run's result, as the run has left it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link.identity import digest_of, link_token
from mlflow_dovetail.dvc_link.records import Link, Verdict
from mlflow_dovetail.records import RunStatus

WORKSPACE = "workspace"
_ENDED_BADLY = ("FAILED", "KILLED")


class RunFacts(msgspec.Struct, frozen=True):
    """What a store knows of a run; all but the first three may be missing, and then are not compared.

    Attributes:
        token: Dovetail's.
        run_id: MLflow's; the token while it was offline.
        status: MLflow's.
        link_token: The md5 of the link file that the run wrote.
        input_id: See `identity.input_id`.
        outs: Path → digest at the run's end; an empty digest is not compared.
        experiment: The DVC experiment that it was executed in.
        baseline: The commit that the experiment began from.
        deps: Path → digest; with `params` and `command` it says what is stale when `input_id` differs.
        params: By file.
        command: Of the stage.
    """

    token: str
    run_id: str
    status: RunStatus
    link_token: str = ""
    input_id: str = ""
    outs: dict[str, str] = {}
    experiment: str = ""
    baseline: str = ""
    deps: dict[str, str] = {}
    params: dict[str, Any] = {}
    command: str | list[str] = ""

    @property
    def has_failed(self) -> bool:
        return self.status in _ENDED_BADLY


class LinkAt(msgspec.Struct, frozen=True):
    """A link file, or the claim of a dvc.lock that there is one, at a revision.

    Attributes:
        rev: The commit, or "workspace".
        path: Of the link file in the repository.
        lock: The dvc.lock that has it; empty when none has.
        stage: Its address there, such as `train@cnn` or `models/dvc.yaml:train`.
        entry: All that dvc.lock has of the stage.
        input_id: Computed from the entry.
        deps: Path → digest, as dvc.lock has them.
        outs: Path → digest, the link file's own among them.
        folder: The stage's working directory in the repository, to which these paths are; None where nobody can tell.
        edited: The dependencies whose files at the revision are not those that dvc.lock has, see `edited.py`.
        lock_token: The md5 that dvc.lock has of the link file.
        content: The file's bytes; None when git has none.
        link: What they say; None when they say nothing.
        cause: Why there is no link.
    """

    rev: str
    path: str
    lock: str = ""
    stage: str = ""
    entry: dict[str, Any] = {}
    input_id: str = ""
    deps: dict[str, str] = {}
    outs: dict[str, str] = {}
    folder: str | None = None
    edited: tuple[str, ...] = ()
    lock_token: str = ""
    content: bytes | None = None
    link: Link | None = None
    cause: str = ""

    @property
    def token(self) -> str:
        """The md5 of the bytes; what dvc.lock says of them where they are unknown."""
        return self.lock_token if self.content is None else link_token(self.content)


class Judgement(NamedTuple):
    """A verdict and what differs."""

    verdict: Verdict
    details: tuple[str, ...] = ()


def judge(found: LinkAt, run: RunFacts | None) -> Judgement:
    """Compare a link with the run that it names.

    Args:
        found: The link.
        run: What the store has of that run; None when no store has it.

    Returns:
        The first of these that holds:

        - `dangling`: no store has the run, and dvc.lock vouches for the link.
        - `tampered`: the bytes do not have the md5 that the run has of its link file.
        - `failed`: the run ended as FAILED or KILLED, whatever dvc.lock says.
        - `tampered`: the bytes do not have the md5 that dvc.lock says.
        - `stale`: dvc.lock has other inputs or other outputs than the run, or the revision another file than dvc.lock;
          the details are their paths, "command", "params", "dvc.lock" when no stage there has the link, and "inputs"
          when the run has no more than their id.
        - `exact`: it has the very result of the run.

        Never `uncommitted`, `reused` or `orphan`, which need more than one revision to tell.
    """
    is_other = found.content is not None and found.lock_token not in ("", found.token)
    if run and run.link_token and found.token != run.link_token:
        return Judgement("tampered", (found.path,))
    if run and run.has_failed:
        return Judgement("failed")
    if is_other:
        return Judgement("tampered", (found.path, found.lock))
    if run is None:
        return Judgement("dangling")
    stale = tuple(_stale(found, run))
    return Judgement("stale", stale) if stale else Judgement("exact")


def _stale(found: LinkAt, run: RunFacts) -> list[str]:
    if not found.entry:
        return ["dvc.lock"]
    expected = run.input_id or (found.link.input_id if found.link else "")
    inputs = _stale_inputs(found, run) if expected and expected != found.input_id else []
    outs = [path for path in sorted({*run.outs} & {*found.outs}) if posixpath.basename(path) != names.RUN_LINK_FILE]
    others = [path for path in outs if run.outs[path] and run.outs[path] != found.outs[path]]
    return list(dict.fromkeys([*inputs, *others, *found.edited]))


def _stale_inputs(found: LinkAt, run: RunFacts) -> list[str]:
    paths = differing(run.deps, found.deps) if run.deps else []
    if run.command and run.command != found.entry.get("cmd"):
        paths.append("command")
    if (run.params or run.deps) and run.params != (found.entry.get("params") or {}):
        paths.append("params")
    if run.outs and set(run.outs) != set(found.outs):
        paths.extend(sorted(set(run.outs) ^ set(found.outs)))
    return paths or ["inputs"]


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The paths that have another digest, or that one side alone has; sorted."""
    return sorted(path for path in {*one, *other} if one.get(path) != other.get(path))


def digests(items: object) -> dict[str, str]:
    """Path → digest of the `deps` or `outs` of dvc.lock."""
    listed = items if isinstance(items, list) else []
    return {str(item["path"]): digest_of(item) for item in listed if isinstance(item, dict) and "path" in item}
