"""Where the artifacts of a local database's experiments go: a place that stays, or one that is lost."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow_dovetail.doctor.dvc_project import nearest_folder
from mlflow_dovetail.doctor.records import Finding, listed, problem, warning

_EXPERIMENTS = """
SELECT name, artifact_location, (SELECT count(*) FROM runs WHERE runs.experiment_id = experiments.experiment_id)
FROM experiments WHERE lifecycle_stage = 'active' ORDER BY experiment_id
"""
# Where DVC runs queued and `--temp` experiments.
_WORKSPACE = re.compile(r"/\.dvc/tmp/exps/")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def locations(connection: sqlite3.Connection, database: Path) -> Iterator[Finding]:
    """Experiments whose artifacts are in a relative place, in a workspace that is deleted, or gone."""
    gone: dict[Path, list[str]] = {}
    for name, location, runs in connection.execute(_EXPERIMENTS):
        if not _SCHEME.match(location) and not location.startswith("/"):
            if runs:
                yield _relative(name, location)
        elif (path := _local(location)) and _WORKSPACE.search(f"{path}/"):
            yield _temporary(name, path)
        elif path and runs and not path.is_dir():
            gone.setdefault(path.parent, []).append(name)
    for folder, experiments in gone.items():
        yield _gone(folder, experiments, database)


def _local(location: str) -> Path | None:
    if location.startswith("/"):
        return Path(location)
    return Path(unquote(urlsplit(location).path)) if location.startswith("file:") else None


def _relative(name: str, location: str) -> Finding:
    return warning(
        f"The artifacts of the experiment {name!r} have a relative place: {location}.",
        "MLflow takes it from the working directory of whoever writes or reads: they are scattered, and in a queued "
        "experiment they are lost with its temporary workspace.",
        "Use another experiment: Dovetail makes it with an absolute place.",
    )


def _temporary(name: str, path: Path) -> Finding:
    return problem(
        f"The artifacts of the experiment {name!r} go to a temporary workspace: {path}",
        "It was first made by MLflow in a queued experiment. DVC deletes the workspace, with all artifacts in it.",
        "Use another experiment, made through Dovetail or outside the queue.",
    )


def _gone(folder: Path, experiments: list[str], database: Path) -> Finding:
    names = listed([repr(name) for name in experiments])
    there = nearest_folder(folder)
    beside = database.parent / folder.name
    if not os.access(there, os.W_OK | os.X_OK):
        return problem(
            f"The artifacts of {names} are gone, and new ones cannot be written: {folder}",
            f"{there} is the last folder on the way that is there, and it is not writable for you.",
            f"Mount or restore it, or link it: ln -s {beside} {folder}",
        )
    return warning(
        f"The artifacts of {names} are not where they were: {folder}",
        "The project was moved or copied, or they were deleted. MLflow keeps the old place and writes new ones there.",
        f"Link the old place to the new one: mkdir -p {folder.parent} && ln -s {beside} {folder}"
        if beside.is_dir() and beside != folder
        else "Put them back there.",
    )
