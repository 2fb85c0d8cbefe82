"""Where a project's runs are kept: from argument, environment or place to an absolute tracking URI."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from mlflow_dovetail import names
from mlflow_dovetail.errors import StoreUnavailable

_SQLITE = "sqlite:///"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
# MLflow takes these words for a whole address.
_BARE_WORDS = frozenset({"databricks", "databricks-uc", "uc"})


def project_root() -> Path:
    """The project that the working directory belongs to.

    `DVC_ROOT` comes first: DVC sets it to the user's project also while a queued experiment runs in a temporary
    workspace. Then the nearest parent with `.dvc/`, then the nearest with a database, `.git` or `pyproject.toml`,
    else the working directory.
    """
    dvc_root = os.environ.get(names.ENV_DVC_ROOT)
    if dvc_root and Path(dvc_root).is_dir():
        return Path(dvc_root).resolve()
    here = Path.cwd().resolve()
    return _nearest(here, _is_dvc_project) or _nearest(here, _is_project) or here


def resolve_uri(tracking_uri: str | None = None) -> str:
    """The tracking URI to use: the argument, else `MLFLOW_TRACKING_URI`, else that of the project's `.env`, else its
    `mlflow.db`.

    A relative sqlite path is taken from the project's root, so that all working directories of a project, queued
    experiments included, share one database.

    Raises:
        StoreUnavailable: The address is a folder (`./mlruns`, `file:`) or cannot be written as a sqlite URI; or `.env`
            cannot be read.
    """
    uri = tracking_uri or os.environ.get(names.ENV_TRACKING_URI) or _of_project() or _SQLITE + names.DATABASE_FILE
    if uri not in _BARE_WORDS and (not _SCHEME.match(uri) or uri.startswith("file:")):
        raise _refused_folder(uri)
    return _absolute(uri) if _is_sqlite_file(uri) else uri


def _of_project() -> str | None:
    env_file = project_root() / ".env"
    if not env_file.is_file():
        return None
    from dotenv import dotenv_values  # MLflow brings it

    try:
        return dotenv_values(env_file).get(names.ENV_TRACKING_URI)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(
            f"Cannot read {env_file}.", f"{error}.", "Make it a readable text file in UTF-8, or remove it."
        ) from error


def database_path(uri: str) -> Path | None:
    """The file behind a resolved sqlite URI; None for every other store."""
    return Path(uri[len(_SQLITE) :].partition("?")[0]) if _is_sqlite_file(uri) else None


def artifact_location(database: Path, experiment: str) -> str:
    """The absolute URI, beside the database, where an experiment's artifacts go."""
    folder = re.sub(r"[^\w.-]+", "_", experiment).strip("._")[:100] or "experiment"
    return (database.parent / names.ARTIFACT_ROOT / folder).as_uri()


def _is_sqlite_file(uri: str) -> bool:
    return uri.startswith(_SQLITE) and not uri.startswith((_SQLITE + ":memory:", _SQLITE + "?")) and uri != _SQLITE


def _absolute(uri: str) -> str:
    path, mark, query = uri[len(_SQLITE) :].partition("?")
    absolute = (project_root() / path).resolve()
    if "?" in str(absolute):
        raise StoreUnavailable(
            f"Cannot keep runs in {absolute}.",
            "A sqlite address cannot hold a question mark in its path.",
            "Move the project to a folder without one, or set MLFLOW_TRACKING_URI to a database elsewhere.",
        )
    return _SQLITE + absolute.as_posix() + mark + query


def _nearest(here: Path, fits: Callable[[Path], bool]) -> Path | None:
    return next((folder for folder in (here, *here.parents) if fits(folder)), None)


def _is_dvc_project(folder: Path) -> bool:
    return (folder / ".dvc").is_dir()


def _is_project(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in (names.DATABASE_FILE, ".git", "pyproject.toml"))


def _refused_folder(uri: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"Cannot keep runs in the folder {uri!r}.",
        "MLflow's filesystem store is in maintenance mode and refuses new runs.",
        "Unset MLFLOW_TRACKING_URI and --tracking-uri to use the project's mlflow.db, "
        "or give sqlite:///mlflow.db or the http address of a server.",
    )
