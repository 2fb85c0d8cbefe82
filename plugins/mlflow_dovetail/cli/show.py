"""`dovetail show RUN`: one run, readably."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_dovetail import names
from mlflow_dovetail.cli.hardware import read_hardware
from mlflow_dovetail.cli.page import Section, duration, moment, render_page, size, wants_colour
from mlflow_dovetail.cli.sweep import child_fields, child_rows, sweep_rows
from mlflow_dovetail.errors import DovetailError, RunNotFound
from mlflow_dovetail.records import Artifact, Run

if TYPE_CHECKING:
    from mlflow_dovetail.dvc_link import Item
    from mlflow_dovetail.store import RunStore

_CODE = {
    "verdict": names.TAG_CODE_VERDICT,
    "commit": names.TAG_GIT_COMMIT,
    "branch": names.TAG_GIT_BRANCH,
    "dirty": names.TAG_GIT_DIRTY,
    "remote": names.TAG_GIT_REMOTE,
    "tree": names.TAG_CODE_TREE,
    "command": names.TAG_COMMAND,
}
_MACHINE = {
    "host": names.TAG_HOST,
    "os": names.TAG_OS,
    "python": names.TAG_PYTHON,
    "cuda": names.TAG_CUDA,
    "gpus": names.TAG_GPUS,
    "gpu driver": names.TAG_GPU_DRIVER,
    "slurm job": names.TAG_SLURM_JOB,
}
_DVC = {
    "stage": names.TAG_DVC_STAGE,
    "experiment": names.TAG_DVC_EXPERIMENT,
    "baseline rev": names.TAG_DVC_BASELINE_REV,
    "changed inputs": names.TAG_DVC_CHANGED,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `dovetail show`."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run id or token, the beginning of one, a unique run name, or a registered model: models:/name@alias",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the run.

    Raises:
        DovetailError: There is no such run, or the store does not answer.
    """
    from mlflow_dovetail import store

    with store.open(arguments.tracking_uri) as opened:
        view = read_view(opened, arguments.run)
    print(as_json(view) if arguments.json else as_page(view, colour=wants_colour()))
    return 0


@dataclass(frozen=True)
class RunView:
    """A run with what belongs to it. `parent` has no name where the parent is gone."""

    run: Run
    artifacts: Sequence[Artifact]
    parent: tuple[str, str] | None
    children: Sequence[Run]
    revs: Sequence[tuple[str, str]] = ()
    data: Sequence[tuple[str, str]] = ()
    hardware: Sequence[tuple[str, str]] = ()


def read_view(store: RunStore, text: str) -> RunView:
    """Read the run that `text` means, its artifacts, parent and children.

    Artifacts that cannot be listed are missing, and standard error says why.
    """
    found = store.find_run(text)
    return RunView(
        run=found,
        artifacts=_artifacts(store, found.run_id),
        parent=_parent(store, found.tags.get(names.TAG_MLFLOW_PARENT)),
        children=store.search(names.TAG_MLFLOW_PARENT, found.run_id),
        revs=_revs(store, found),
        data=_data(store, found),
        hardware=read_hardware(store, found),
    )


def as_json(view: RunView) -> str:
    """One object; a value that is not a number is the string "NaN", because JSON has none."""
    fields = asdict(view.run)
    fields["metrics"] = {key: value if math.isfinite(value) else str(value) for key, value in view.run.metrics.items()}
    fields["artifacts"] = [asdict(one) for one in view.artifacts]
    fields["revs"] = [{"rev": rev, "verdict": verdict} for rev, verdict in view.revs]
    fields["parent_run_id"] = view.parent[0] if view.parent else None
    fields["children"] = child_fields(view.run, view.children)
    return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False)


def as_page(view: RunView, *, colour: bool) -> str:
    """The run for a reader at a terminal."""
    run, tags = view.run, view.run.tags
    sections = [
        Section("", _summary(view)),
        Section("Notes", [("", line) for line in tags.get(names.TAG_MLFLOW_NOTE, "").splitlines()]),
        Section("Params", sorted(run.params.items())),
        Section("Metrics, last value", _metrics(run)),
        Section("Code", _known(tags, _CODE)),
        Section("Machine", [*_known(tags, _MACHINE), *view.hardware]),
        Section("DVC", _known(tags, _DVC)),
        Section("Revisions", [(rev, verdict) for rev, verdict in view.revs]),
        Section("Data", view.data),
        Section("Tags", _own(tags)),
        Section("Artifacts", _listed(view.artifacts)),
        Section("Sweep", sweep_rows(tags)),
        Section("Children", child_rows(run, view.children)),
    ]
    return render_page(f"{run.name}  {run.status}", sections, colour=colour)


def _summary(view: RunView) -> list[tuple[str, str]]:
    run = view.run
    ended = run.status != "RUNNING" and run.end_time_ms is not None
    rows = [
        ("run", run.run_id),
        ("token", run.token or ""),
        ("experiment", f"{run.experiment_name} ({run.experiment_id})"),
        ("parent", "  ".join(view.parent or ())),
        ("started", moment(run.start_time_ms)),
        ("attempt", run.tags.get(names.TAG_ATTEMPT, "")),
        ("ended by", run.tags.get(names.TAG_END_CAUSE, "")),
        ("took", duration((run.end_time_ms or 0) - run.start_time_ms) if ended else ""),
    ]
    return [row for row in rows if row[1]]


def _metrics(run: Run) -> list[tuple[str, str]]:
    """Those of the run's own; the machine's are told otherwise."""
    own = {key: value for key, value in run.metrics.items() if not key.startswith(names.METRIC_SYSTEM_PREFIX)}
    return [(key, f"{value:.6g}") for key, value in sorted(own.items())]


def _revs(store: RunStore, run: Run) -> list[tuple[str, str]]:
    """Where the result of a run that DVC has made is, in the repository here."""
    if names.TAG_DVC_LINK not in run.tags:
        return []
    from mlflow_dovetail import dvc_link
    from mlflow_dovetail.run.lookup import facts_of

    try:
        found = dvc_link.revs_of(Path.cwd(), facts_of(store, run))
    except DovetailError:
        return []  # in no repository, or in another one: `dovetail revs` says it
    return [(one.rev[:12], "  ".join((one.verdict, *one.names, *one.details))) for one in found]


def _data(store: RunStore, run: Run) -> list[tuple[str, str]]:
    """What the run has read: with DVC, and whether it can be had again; else its datasets."""
    from mlflow_dovetail.run.lookup import state_of

    state = state_of(store, run)
    if state is None:
        return [(one.context or "input", f"{one.name}  {one.digest}  {one.source}") for one in run.inputs]
    remote = f"the remote {state.remote}" if state.remote else "the remote"
    return [(item.path, "  ".join(filter(None, _described(item, remote)))) for item in state.deps]


def _described(item: Item, remote: str) -> Iterator[str]:
    yield item.digest or "missing"
    yield f"{item.files} files" if item.files else ""
    yield size(item.size_bytes)
    if item.in_cache is None:
        return  # what git keeps
    yield "in the cache" if item.in_cache else "not in the cache"
    if item.on_remote is not None:
        yield f"on {remote}" if item.on_remote else f"not on {remote}: dvc push"
    yield f"from {item.repo_rev[:12]}" if item.repo_rev else ""


def _known(tags: Mapping[str, str], rows: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(label, tags[tag]) for label, tag in rows.items() if tags.get(tag)]


def _own(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """The user's tags, and Dovetail's word on how each part of the capture went."""
    return [
        (tag.removeprefix("dovetail."), value)
        for tag, value in sorted(tags.items())
        if tag.startswith(names.TAG_STATUS_PREFIX) or not tag.startswith(("dovetail.", "mlflow."))
    ]


def _listed(artifacts: Sequence[Artifact]) -> list[tuple[str, str]]:
    """Each file; of a prediction table, which may have hundreds, one line."""
    lines: dict[str, list[Artifact]] = {}
    for one in artifacts:
        parts = one.path.split("/")
        is_of_table = parts[0] == names.ARTIFACT_PREDICTIONS and len(parts) > 2
        lines.setdefault("/".join((*parts[:2], "")) if is_of_table else one.path, []).append(one)
    return [(path, _size_of(files, is_folder=path.endswith("/"))) for path, files in lines.items()]


def _size_of(files: Sequence[Artifact], *, is_folder: bool) -> str:
    total = size(sum(one.size_bytes or 0 for one in files))
    return f"{total}  {len(files)} files" if is_folder else size(files[0].size_bytes)


def _artifacts(store: RunStore, run_id: str) -> Sequence[Artifact]:
    try:
        return store.list_artifacts(run_id)
    except DovetailError as error:
        print(f"dovetail: {error}", file=sys.stderr)
        return ()


def _parent(store: RunStore, run_id: str | None) -> tuple[str, str] | None:
    if run_id is None:
        return None
    try:
        return run_id, store.get_run(run_id).name
    except RunNotFound:
        return run_id, ""
