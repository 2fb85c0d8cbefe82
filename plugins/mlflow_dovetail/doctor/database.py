"""A local `mlflow.db`, read with SQLite alone and never written: MLflow's own client migrates what it opens."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow_dovetail.doctor import schema
from mlflow_dovetail.doctor.artifacts import locations
from mlflow_dovetail.doctor.dvc_project import nearest_folder
from mlflow_dovetail.doctor.records import Finding, Told, listed, note, ok, problem, warning

BUSY_SECONDS = 2.0
# Reading a large database whole takes long; a look of so many seconds finds most damage.
CHECK_SECONDS = 3.0
_STEPS_BETWEEN_LOOKS = 100_000
_WAL = b"\x02\x02"


def look(path: Path, origin: str) -> Told:
    """Whether runs can be kept in the database at `path`, and where their artifacts go."""
    found = [*_place(path)]
    yield from found
    if any(one.level == "problem" for one in found):
        return
    if not path.exists() or path.stat().st_size == 0:
        yield ok(f"The store is {path} (from {origin}); the first run makes it.")
        return
    try:
        with _open(path) as connection:
            found = [*_inside(connection, path)]
    except sqlite3.OperationalError as error:
        yield _refused(path, error)
        return
    except sqlite3.DatabaseError as error:
        yield broken(path, str(error))
        return
    yield from found
    if not any(one.level == "problem" for one in found):
        yield ok(f"The store is {path} (from {origin}), {path.stat().st_size / 1e6:.1f} MB.")


def broken(path: Path, why: str) -> Finding:
    """The finding about a database that SQLite cannot read."""
    return problem(
        f"The database {path} is damaged.",
        f"SQLite says: {why.rstrip('.')}. Training goes on all the same: its runs are kept in .dovetail/ until there "
        "is a sound one.",
        f"Put back a backup; without one, move it away: mv {path} {path.with_name('damaged.db')}. Then run: dovetail "
        "sync. It sends every run that is kept here and that the database does not have.",
    )


def _place(path: Path) -> Iterator[Finding]:
    if path.is_dir():
        yield problem(
            f"{path} is a folder.",
            "The database of the runs belongs there.",
            "Move it away; the next run makes the file.",
        )
        return
    folder = nearest_folder(path.parent)
    why = "is not writable for you, and SQLite writes its journal there" if folder.is_dir() else "is no folder"
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        yield problem(
            f"The database {path} cannot be written.",
            f"{folder} {why}.",
            "Make it writable, or set MLFLOW_TRACKING_URI to a store elsewhere.",
        )
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield problem(
            f"The database {path} cannot be {'written' if os.access(path, os.R_OK) else 'read'}.",
            "You have not the right to do so.",
            f"Run: chmod u+rw {path}; or ask its owner.",
        )


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that makes and changes no file beside the database.

    In WAL mode SQLite makes an index where there is none. So a database without a log is opened as one that nobody
    writes, and one with a log and no index, which was copied from elsewhere, is copied once more.
    """
    with path.open("rb") as file, ExitStack() as stack:
        is_wal = file.read(20)[18:20] == _WAL
        log, index = (path.with_name(f"{path.name}-{one}") for one in ("wal", "shm"))
        if is_wal and log.exists() and not index.exists():
            folder = Path(stack.enter_context(TemporaryDirectory()))
            path, _ = (Path(shutil.copy(one, folder)) for one in (path, log))
        address = f"{path.as_uri()}?mode=ro{'' if log.exists() or not is_wal else '&immutable=1'}"
        yield stack.enter_context(closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)))


def _inside(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "experiments" not in tables:
        yield from _without_runs(tables, path)
        return
    damage = _damage(connection)
    if damage:
        yield broken(path, damage)
        return
    yield from schema.compare(connection.execute("SELECT version_num FROM alembic_version").fetchall(), path)
    yield from locations(connection, path)


def _without_runs(tables: set[str], path: Path) -> Iterator[Finding]:
    if "alembic_version" in tables:
        yield problem(
            f"The database {path} is another program's, such as Optuna's.",
            "It keeps its version where MLflow keeps its own, in the table alembic_version: MLflow refuses it.",
            "Give each a file of its own: move this one away, or set MLFLOW_TRACKING_URI to another.",
        )
    elif tables:
        yield warning(
            f"The database {path} has tables that are not MLflow's.",
            f"Such as {listed(sorted(tables))}. The first run adds MLflow's to them.",
            "If that is not meant: set MLFLOW_TRACKING_URI to another file.",
        )


def _damage(connection: sqlite3.Connection) -> str:
    """What SQLite's own check finds; empty when it finds nothing, or has not come to an end in time."""
    until = time.monotonic() + CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
    try:
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return ""
        raise
    finally:
        connection.set_progress_handler(None, 0)
    return "" if answer == "ok" else " ".join(str(answer).split())


def _refused(path: Path, error: sqlite3.OperationalError) -> Finding:
    text = str(error)
    if "locked" in text or "busy" in text:
        return warning(
            f"The database {path} is locked.",
            f"Another program has written to it for {BUSY_SECONDS:.0f} s and more. Runs wait for it in .dovetail/.",
            f"Look who has it: fuser {path}; a backup or `mlflow db upgrade` may take a while.",
        )
    if "readonly" in text:
        return note(
            f"A program that was killed has left half a change in {path}.",
            "Whoever opens it next takes that back; it has not been looked into.",
            "Run any command that reads runs, such as: dovetail show RUN",
        )
    return broken(path, text)
