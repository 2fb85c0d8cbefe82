"""Opening a store: the address resolved, the database and the experiment there."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlflow_dovetail.errors import StoreRefused
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.store import creation
from mlflow_dovetail.store.address import artifact_location, database_path, resolve_uri
from mlflow_dovetail.store.asking import TIMEOUT_SECONDS, asking
from mlflow_dovetail.store.mlflow_store import MlflowStore
from mlflow_dovetail.store.reach import DATABASE_PORTS

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open(
    tracking_uri: str | None = None,
    experiment: str | None = None,
    location: str | None = None,
    *,
    timeout_seconds: int = TIMEOUT_SECONDS,
    retries: int = 1,
) -> MlflowStore:
    """Open the project's store, or the one that is named.

    Args:
        tracking_uri: As `resolve_uri` takes it.
        experiment: The experiment in which runs are created, made on first use with an absolute artifact location
            beside a sqlite database; a server chooses its own. None opens the store for reading and makes nothing.
        location: The URI of another artifact location, for an experiment that is made now.
        timeout_seconds: For each request but uploads and downloads.
        retries: After the first try of each request.

    Raises:
        StoreUnavailable: The store does not answer, cannot be made, or is not there to be read.
        StoreRefused: The experiment has been deleted. It is not restored silently: someone meant to delete it.
    """
    uri = resolve_uri(tracking_uri)
    database = database_path(uri)
    connect = partial(_connect, uri, experiment, location, timeout_seconds, retries)
    if database is None:
        return connect()
    if creation.is_settled(database, experiment):
        return connect()
    if experiment is None and creation.is_empty(database):
        raise creation.missing(database)
    with creation.creating(database):
        with asking(f"Cannot create the database {database}", uri):
            creation.make_schema(uri, database)
        if experiment and location is None:
            location = artifact_location(database, experiment)
        return _connect(uri, experiment, location, timeout_seconds, retries)


def _connect(uri: str, experiment: str | None, location: str | None, timeout_seconds: int, retries: int) -> MlflowStore:
    from mlflow import MlflowClient

    with asking(f"Cannot open {strip_url_credentials(uri)}", uri, timeout_seconds=timeout_seconds, retries=retries):
        _knock(uri)
        client = MlflowClient(uri)
        experiment_id = _experiment_id(client, uri, experiment, location) if experiment else None
    return MlflowStore(client, experiment, experiment_id, timeout_seconds=timeout_seconds, retries=retries)


def _knock(uri: str) -> None:
    """Fail now where no database server listens: MLflow would try ten times, for 100 s (3.17)."""
    parts = urlsplit(uri)
    port = parts.port or DATABASE_PORTS.get(parts.scheme.partition("+")[0])
    if port and parts.hostname and not parts.scheme.startswith("http"):
        socket.create_connection((parts.hostname, port), TIMEOUT_SECONDS).close()


def _experiment_id(client: MlflowClient, uri: str, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, location))
        except MlflowException:
            # Another process may have made it since.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise _deleted(uri, name, found.experiment_id)
    return str(found.experiment_id)


def _deleted(uri: str, name: str, experiment_id: str) -> StoreRefused:
    address = strip_url_credentials(uri)
    return StoreRefused(
        f"Cannot use the experiment {name!r} of {address}.",
        "It has been deleted, and its name is still taken.",
        f"Restore it: MLFLOW_TRACKING_URI={address} mlflow experiments restore --experiment-id {experiment_id}; "
        "or choose another name.",
    )
