"""To which store a run folder goes."""

from __future__ import annotations

import os

from mlflow_dovetail import names, store
from mlflow_dovetail.errors import StoreUnavailable
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.run_folder import RunFolder
from mlflow_dovetail.store.address import database_path

_KNOCK_SECONDS = 5.0
# For a run that somebody else has created, and whose experiment only its own store knows.
_DEFAULT_EXPERIMENT = "Default"


def explicit_store(tracking_uri: str | None) -> str | None:
    """The address that the user has named, by argument or environment; None when none was.

    Raises:
        StoreUnavailable: It cannot be used.
    """
    given = tracking_uri or os.environ.get(names.ENV_TRACKING_URI)
    return store.resolve_uri(given) if given else None


class Destination:
    """The store that the user has named, else the one that the run was meant for.

    Args:
        folder: Of the run.
        given: By the user, resolved.

    Attributes:
        uri: With the credentials that the environment or the project's `.env` may have.
        address: Without them.
    """

    def __init__(self, folder: RunFolder, given: str | None) -> None:
        self._folder, self._about = folder, folder.describe()
        self._is_given = given is not None
        self.uri = given or _with_credentials(self._about.tracking_uri)
        self.address = strip_url_credentials(self.uri)

    def answers(self) -> bool:
        """Whether somebody is there."""
        return store.is_reachable(self.uri, _KNOCK_SECONDS)

    def open(self) -> store.RunStore:
        """The store, bound to the run's experiment.

        Raises:
            StoreUnavailable: It does not answer, or is on another machine.
            StoreRefused: The experiment has been deleted.
        """
        database = database_path(self.uri)
        if database and not database.parent.is_dir() and not self._is_given:
            raise self.unavailable("is on another machine, or has been moved.")
        if not self.answers():
            raise self.unavailable("does not answer.")
        is_home = self.address == self._about.tracking_uri
        experiment = self._about.experiment or (None if is_home else _DEFAULT_EXPERIMENT)
        return store.open(self.uri, experiment, self._about.artifact_location if is_home else None)

    def unavailable(self, why: str) -> StoreUnavailable:
        """The error for a store that is not there."""
        return StoreUnavailable(
            f"Cannot send {self._folder.path}.",
            f"{self.address} {why}",
            f"Start it, or name another store with --tracking-uri or {names.ENV_TRACKING_URI}.",
        )


def _with_credentials(address: str) -> str:
    try:
        of_project = store.resolve_uri()
    except StoreUnavailable:
        return address
    return of_project if strip_url_credentials(of_project) == address else address
