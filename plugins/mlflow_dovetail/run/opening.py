"""From what the user has asked for to an open run: in the store when it answers, in the run folder always."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_dovetail import __version__, git_patch, names, store
from mlflow_dovetail.errors import DovetailError, RunFolderInvalid, RunNotFound, StoreUnavailable
from mlflow_dovetail.journal import JournalWriter, Progress, clock_ms
from mlflow_dovetail.journal.entries import AttemptKind, End
from mlflow_dovetail.records import Run as StoredRun
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.run.endings import verdict
from mlflow_dovetail.run.settings import is_offline
from mlflow_dovetail.run_folder import Description, RunFolder, root_for
from mlflow_dovetail.run_folder.layout import VERSION
from mlflow_dovetail.store import RunStore

if TYPE_CHECKING:
    from mlflow.entities import RunInfo

log = logging.getLogger("mlflow_dovetail")

# At the start of a run nobody waits for a store that is not there.
KNOCK_SECONDS = 1.5
ANSWER_SECONDS = 3


@dataclass
class Opening:
    """An open run's parts. `stored` and `store` are None while it is recorded offline."""

    folder: RunFolder
    writer: JournalWriter
    tracking_uri: str
    stored: StoredRun | None
    store: RunStore | None

    def info(self, run_id: str) -> RunInfo:
        """What was known of the run when it was opened, as MLflow tells it."""
        from mlflow.entities import RunInfo

        stored = self.stored
        if stored is None:
            about = self.folder.describe()
            return RunInfo(run_id, "", "", "RUNNING", about.start_time_ms, None, "active", "", about.name)
        return RunInfo(
            run_id=stored.run_id,
            experiment_id=stored.experiment_id,
            user_id=stored.tags.get("mlflow.user", ""),
            status="RUNNING",
            start_time=stored.start_time_ms,
            end_time=None,
            lifecycle_stage="active",
            artifact_uri=stored.artifact_uri,
            run_name=stored.name,
        )


def open_new(
    tracking_uri: str, experiment: str, location: str | None, name: str | None, tags: Mapping[str, str]
) -> Opening:
    """Create a run.

    Raises:
        DovetailError: A setting is no number.
        StoreRefused: The experiment has been deleted.
        RunFolderInvalid: No folder can be written.
    """
    git_patch.Limits.of_environment()  # a wrong setting is told before there is a run
    token = secrets.token_hex(16)
    description = Description(
        version=VERSION,
        token=token,
        tracking_uri=strip_url_credentials(tracking_uri),
        start_time_ms=time.time_ns() // 1_000_000,
        experiment=experiment,
        artifact_location=location,
        name=name,
        tags=dict(tags),
        made_by=__version__,
    )
    folder = _folder(description)
    # Before the store is asked: whoever dies in between leaves a lease to judge by.
    writer = JournalWriter(folder, "create", 1)
    try:
        stored, opened = _create(folder, description, tracking_uri)
    except DovetailError:
        writer.close()
        shutil.rmtree(folder.path, ignore_errors=True)  # the store has said no: there is no run, and nothing in it
        raise
    except BaseException as error:
        # Ctrl-C, or a full disk: the store may have the run already, and `dovetail sync` tells it the end.
        writer.append(End(clock_ms(), *verdict(error)))
        writer.close()
        raise
    return Opening(folder, writer, tracking_uri, stored, opened)


def _create(folder: RunFolder, about: Description, tracking_uri: str) -> tuple[StoredRun, RunStore] | tuple[None, None]:
    opened = _open_store(tracking_uri, about.experiment, about.artifact_location)
    if opened is None:
        return None, None
    try:
        stored = opened.create_run(about.token, name=about.name, tags=about.tags, start_time_ms=about.start_time_ms)
    except StoreUnavailable as error:
        _tell_offline(tracking_uri, error)
        return None, None
    _acknowledge(folder, tracking_uri, stored)
    return stored, opened


def open_known(tracking_uri: str, run_id: str, kind: AttemptKind) -> Opening:
    """Attach to a run that exists: by its id, or by the token of one that is recorded here.

    Raises:
        RunNotFound: The store has no such run.
        RunFolderInvalid: No folder can be written.
    """
    git_patch.Limits.of_environment()
    folder = _find_folder(tracking_uri, run_id)
    opened = _open_store(tracking_uri, None, None)
    stored = None
    if opened is not None:
        stored = _find_run(opened, run_id)
    if folder is None:
        token = (stored.token if stored else None) or secrets.token_hex(16)
        folder = _folder(
            Description(
                version=VERSION,
                token=token,
                tracking_uri=strip_url_credentials(tracking_uri),
                start_time_ms=stored.start_time_ms if stored else time.time_ns() // 1_000_000,
                run_id=run_id,
                made_by=__version__,
            )
        )
    if stored and opened:
        _acknowledge(folder, tracking_uri, stored)
        if stored.token is None:
            opened.set_tags(stored.run_id, {names.TAG_TOKEN: folder.token})
        if kind == "resume":
            opened.set_status(stored.run_id, "RUNNING")
    attempt = max(_attempts_of(folder, tracking_uri, stored) + (kind == "resume"), 1)
    return Opening(folder, JournalWriter(folder, kind, attempt), tracking_uri, stored, opened)


def _find_run(opened: RunStore, run_id: str) -> StoredRun:
    try:
        return opened.get_run(run_id)
    except RunNotFound:
        runs = opened.search(names.TAG_TOKEN, run_id)
        if not runs:
            raise
        return runs[0]


def _attempts_of(folder: RunFolder, tracking_uri: str, stored: StoredRun | None) -> int:
    told = int(stored.tags.get(names.TAG_ATTEMPT, 0)) if stored else 0
    here = Progress.load(folder, tracking_uri).trainings
    trainings = [one.number for one in here]
    # A training whose journal has not been read yet counts as one.
    return max(told, *trainings, 1 if folder.segments() or stored else 0)


def _find_folder(tracking_uri: str, run_id: str) -> RunFolder | None:
    for folder in RunFolder.all_under(root_for(store.project_root())):
        if run_id in (folder.token, Progress.load(folder, tracking_uri).run_id):
            return folder
    return None


def _folder(description: Description) -> RunFolder:
    """The run's folder in the project; where that cannot be written, among the system's temporary files."""
    root = root_for(store.project_root())
    try:
        return RunFolder.make(root, description)
    except RunFolderInvalid as error:
        fallback = Path(tempfile.gettempdir()).resolve()
        if fallback == root:
            raise
        log.warning("%s Until then this run is kept below %s.", error, fallback)
        return RunFolder.make(fallback, description)


def _open_store(tracking_uri: str, experiment: str | None, location: str | None) -> RunStore | None:
    """The store, or None when it cannot be used now, be it a server that is down or a database that is damaged."""
    if is_offline():
        return None
    if not store.is_reachable(tracking_uri, KNOCK_SECONDS):
        _tell_offline(tracking_uri, None)
        return None
    try:
        return store.open(tracking_uri, experiment, location, timeout_seconds=ANSWER_SECONDS, retries=0)
    except StoreUnavailable as error:
        _tell_offline(tracking_uri, error)
        return None


def _tell_offline(tracking_uri: str, error: StoreUnavailable | None) -> None:
    log.warning(
        "%s The run is recorded here and sent when the store can be used; if that is after its end, "
        "run `dovetail sync`.",
        str(error) if error else f"{strip_url_credentials(tracking_uri)} does not answer.",
    )


def _acknowledge(folder: RunFolder, tracking_uri: str, stored: StoredRun) -> None:
    progress = Progress.load(folder, tracking_uri)
    if not progress.run_id:
        progress.begin(stored, folder.describe())
        progress.save(folder)
