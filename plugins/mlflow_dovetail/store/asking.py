"""Asking MLflow: bounded waiting, and MLflow's errors turned into Dovetail's."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow_dovetail.errors import DovetailError, RunNotFound, StoreRefused, StoreUnavailable, causes
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.store.creation import REMEDY_FOR_DAMAGE

TIMEOUT_SECONDS = 10
UPLOAD_TIMEOUT_SECONDS = 120

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# A bar a file: a table of predictions has several, and most are there at once.
_PROGRESS_BAR = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
# SQLITE_CORRUPT and SQLITE_NOTADB, which have no numbers in Python 3.10.
_DAMAGED = ("malformed", "not a database")
_UNAVAILABLE_HTTP = frozenset({429, 500, 502, 503, 504})


class _Patience:
    """MLflow's request limits, and no progress bars, set in the environment while a verb runs and put back afterwards.

    MLflow reads them from the environment on every request and takes them from nowhere else (3.17). Its own are
    7 retries of 120 s: 247 s when refused, 1,205 s when the server hangs. A value that the user has set stays.
    While verbs overlap in several threads, the most patient one counts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active = 0
        self._set: dict[str, int] = {}

    @contextmanager
    def limited(self, timeout_seconds: int, retries: int) -> Iterator[None]:
        with self._lock:
            self._active += 1
            self._raise_to(_TIMEOUT, timeout_seconds)
            self._raise_to(_RETRIES, retries)
            self._raise_to(_PROGRESS_BAR, 0)
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1
                if not self._active:
                    self._put_back()

    def _raise_to(self, name: str, value: int) -> None:
        if name in self._set or name not in os.environ:
            self._set[name] = max(value, self._set.get(name, 0))
            os.environ[name] = str(self._set[name])

    def _put_back(self) -> None:
        for name in self._set:
            os.environ.pop(name, None)
        self._set.clear()


_patience = _Patience()


@contextmanager
def asking(what: str, uri: str, *, timeout_seconds: int = TIMEOUT_SECONDS, retries: int = 1) -> Iterator[None]:
    """Run a call to MLflow with bounded waiting.

    Args:
        what: What could not be done, should it fail: a sentence without its full stop.
        uri: The store that is asked.
        timeout_seconds: For each request.
        retries: After the first try of each request.

    Raises:
        StoreUnavailable: The store does not answer, or says that it cannot now.
        StoreRefused: The store answers and says no.
        RunNotFound: The store has no such run.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _patience.limited(timeout_seconds, retries):
            yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise _translated(error, what, uri) from error


def _translated(error: Exception, what: str, uri: str) -> DovetailError:
    why = _first_line(error)
    if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
        return RunNotFound(
            f"{what}.", why, f"Check the id, and that {strip_url_credentials(uri)} is the store you mean."
        )
    if isinstance(error, ImportError):
        return StoreUnavailable(f"{what}.", why, "Install the package that this kind of store needs.")
    if "out-of-date database schema" in why:
        return StoreUnavailable(
            f"{what}.",
            "Another version of MLflow made this database.",
            "Back it up, then run `mlflow db upgrade` with its address; if a newer one made it, update MLflow here.",
        )
    if damage := _damage(error):
        return StoreUnavailable(f"{what}.", f"Its database is damaged: {damage}.", REMEDY_FOR_DAMAGE)
    if _is_unavailable(error):
        return StoreUnavailable(f"{what}.", f"{strip_url_credentials(uri)} does not answer: {why}", _remedy(uri))
    return StoreRefused(f"{what}.", why, "Correct what the message names, then try again.")


def _damage(error: Exception) -> str:
    """What SQLite says of a file that it cannot read; empty where that is not the cause."""
    return next(
        (
            str(cause)
            for cause in causes(error)
            if isinstance(cause, sqlite3.DatabaseError) and any(word in str(cause) for word in _DAMAGED)
        ),
        "",
    )


def _is_unavailable(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return True
    # A failed connection is a plain MlflowException; what the server has said is a RestException with a status.
    return error.get_http_status_code() in _UNAVAILABLE_HTTP  # type: ignore[no-untyped-call]


def _remedy(uri: str) -> str:
    if uri.startswith(("http:", "https:")):
        return "Check that the server runs and that the address is right, or name another with --tracking-uri."
    return "Check that the database is there, whole and writable, or name another store with --tracking-uri."


def _first_line(error: Exception) -> str:
    # A refused connection is wrapped five deep; the innermost has the plain word for it.
    text = str(_root(error)).strip()
    line = (text.splitlines() or [type(error).__name__])[0][:500]
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _root(error: BaseException) -> BaseException:
    """The first cause of a failed connection, else the error itself."""
    return next((cause for cause in causes(error) if isinstance(cause, (ConnectionError, TimeoutError))), error)
