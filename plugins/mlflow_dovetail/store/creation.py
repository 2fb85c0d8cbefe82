"""A local database and its experiment, made once however many processes start together.

MLflow alone dies in its schema migration when two processes open a fresh database at once (3.17, 3 tries of 3).
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mlflow_dovetail import names
from mlflow_dovetail.errors import StoreUnavailable
from mlflow_dovetail.store.address import artifact_location

LOCK_TIMEOUT_SECONDS = 60
REMEDY_FOR_DAMAGE = (
    "Put back a copy of it from a backup, or move it away so that a new one is made; `dovetail doctor` says more."
)


def is_settled(database: Path, experiment: str | None) -> bool:
    """Whether MLflow can open the database without changing it, so that no lock is needed.

    The experiment is made last: where it is there, an earlier process has finished.

    Raises:
        StoreUnavailable: The file is there and is no sqlite database.
    """
    if is_empty(database):
        return False
    import mlflow.store.db.utils  # noqa: F401 - fills Base with every table, the model registry's too
    from mlflow.store.db.base_sql_model import Base

    with _reading(database) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables.issuperset(Base.metadata.tables):
            return False
        return experiment is None or bool(
            connection.execute("SELECT 1 FROM experiments WHERE name = ?", (experiment,)).fetchone()
        )


def is_empty(database: Path) -> bool:
    """Whether there is nothing to read: no file, or one that SQLite has not written yet."""
    return not database.exists() or (database.is_file() and database.stat().st_size == 0)


@contextmanager
def creating(database: Path) -> Iterator[None]:
    """Hold the file lock beside the database, and make its folder.

    Raises:
        StoreUnavailable: The folder cannot be written, or another process has held the lock for a minute.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(f"{database}.lock", timeout=LOCK_TIMEOUT_SECONDS)
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise _locked(database) from error
    except OSError as error:
        raise _unwritable(database, error) from error
    try:
        yield
    finally:
        lock.release()


def make_schema(uri: str, database: Path) -> None:
    """Bring the database to MLflow's schema, with an absolute artifact root for MLflow's own experiment "Default".

    MLflow would write `./mlruns` there, which in a queued experiment lies in a workspace that is deleted.

    Raises:
        StoreUnavailable: The database belongs to another program that versions its tables, such as Optuna, or to an
            MLflow that is not known here.
    """
    from alembic.util.exc import CommandError
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if _is_foreign(database):
        raise _not_ours(
            database, "It is another program's, such as Optuna's, which keeps its version where MLflow does."
        )
    root = artifact_location(database, "x").rpartition("/")[0]
    try:
        if not is_empty(database):
            SqlAlchemyStore(uri, root).engine.dispose()  # type: ignore[no-untyped-call]
            return
        # Made beside it and moved there whole: what a full disk or a kill leaves half-made is taken by no MLflow.
        new = database.with_name(f"{database.name}.new")
        new.unlink(missing_ok=True)
        SqlAlchemyStore(f"sqlite:///{new}", root).engine.dispose()  # type: ignore[no-untyped-call]
        if database.exists():
            shutil.copymode(database, new)
        new.replace(database)
    except CommandError as error:
        raise _not_ours(database, f"Its tables are of an MLflow that is not known here: {error}.") from error


def _is_foreign(database: Path) -> bool:
    """Whether MLflow would add tables, and only then see that their version is not its own."""
    if is_empty(database):
        return False
    with _reading(database) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return "alembic_version" in tables and "experiments" not in tables


def _not_ours(database: Path, why: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"Cannot keep runs in the database {database}.",
        why,
        f"Set {names.ENV_TRACKING_URI} to another file, or install the MLflow that has made it.",
    )


@contextmanager
def _reading(database: Path) -> Iterator[sqlite3.Connection]:
    try:
        # A look makes no file. It is no mere reading: SQLite may have to roll back what a killed process has left;
        # a file that cannot be written is opened for reading all the same.
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=20)) as connection:
            yield connection
    except sqlite3.OperationalError as error:
        raise _unread(database, error) from error
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(
            f"Cannot read the database {database}.", f"SQLite says: {error}.", REMEDY_FOR_DAMAGE
        ) from error


def _unread(database: Path, error: sqlite3.OperationalError) -> StoreUnavailable:
    what = f"Cannot read the database {database}."
    if database.is_dir():
        return StoreUnavailable(what, "It is a folder.", "Move it away so that a new one is made.")
    return StoreUnavailable(
        what,
        f"SQLite says: {error}.",
        "If another process is using it, wait for that one; else check that the file can be read. Then try again.",
    )


def missing(database: Path) -> StoreUnavailable:
    """The error for a database that is to be read and is not there."""
    return StoreUnavailable(
        f"There is no database {database}.",
        "No run has been recorded in this project yet, or the project's root is another one.",
        f"Make a run first, or name the store with --tracking-uri or {names.ENV_TRACKING_URI}.",
    )


def _locked(database: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"Cannot open the database {database}.",
        f"Another process has been creating it for {LOCK_TIMEOUT_SECONDS} s.",
        f"Wait for it or end it. If there is none, remove {database}.lock.",
    )


def _unwritable(database: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"Cannot create the database {database}.",
        f"Its folder cannot be written: {error.strerror or error}.",
        f"Make the folder writable, or set {names.ENV_TRACKING_URI} to a database elsewhere.",
    )
