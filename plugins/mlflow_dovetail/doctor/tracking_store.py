"""The tracking store: which one, from where, whether it answers, and whether this MLflow can use it."""

from __future__ import annotations

import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from importlib import metadata
from importlib.util import find_spec
from urllib.parse import urlsplit

from mlflow_dovetail import names, store
from mlflow_dovetail.doctor import database
from mlflow_dovetail.doctor.git_repository import users_git
from mlflow_dovetail.doctor.records import Finding, Place, Step, Told, listed, note, ok, problem, warning
from mlflow_dovetail.redact import strip_url_credentials

ANSWER_SECONDS = 5.0
SKEW_SECONDS = 120.0
_RELATIVE = re.compile(r"sqlite:///(?![/{$:])[^\s\"']+|^(?:\./)?mlruns/?$|^file:(?!///)")
# A relative address where a store's is set: git grep's extended expression.
_IN_CODE = r"(tracking_uri|TRACKING_URI).*[\"'= ](sqlite:///[A-Za-z0-9_.]|\.?/?mlruns[\"'])"
# What SQLAlchemy needs for each kind of database.
_DRIVERS = {"postgresql": "psycopg2", "postgresql+psycopg2": "psycopg2", "mysql+pymysql": "pymysql", "mysql": "MySQLdb"}


def check(place: Place) -> Told:
    """The store that `dovetail` and training use here."""
    uri = store.resolve_uri(place.tracking_uri)
    given, origin = _given(place)
    shown = strip_url_credentials(uri)
    yield from _relative(given, origin, uri)
    yield from _relative_in_code(place)
    path = store.database_path(uri)
    if path is not None:
        yield Step(f"reading {path}")
        yield from database.look(path, origin)
        return
    yield Step(f"asking {shown}")
    if uri.startswith(("http:", "https:")):
        yield from _server(uri, shown, origin)
    else:
        yield from _other(uri, shown, origin)


def _given(place: Place) -> tuple[str | None, str]:
    if place.tracking_uri:
        return place.tracking_uri, "--tracking-uri"
    if uri := os.environ.get(names.ENV_TRACKING_URI):
        return uri, names.ENV_TRACKING_URI
    env_file = place.root / ".env"
    if env_file.is_file():
        from dotenv import dotenv_values

        if uri := dotenv_values(env_file).get(names.ENV_TRACKING_URI):
            return uri, ".env"
    return None, "the project's own"


def _relative(given: str | None, origin: str, uri: str) -> Iterator[Finding]:
    if given and origin != "--tracking-uri" and _RELATIVE.search(given):
        yield warning(
            f"The store's address is relative: {given} (from {origin}).",
            "Dovetail takes it from the project's root. MLflow alone takes it from the working directory: what it "
            "writes in a queued experiment (`dvc exp run --queue`) is lost with its temporary workspace.",
            f"Leave it out to use the project's mlflow.db, or write {uri}",
        )


def _relative_in_code(place: Place) -> Iterator[Finding]:
    kinds = ("*.py", "*.yaml", "*.yml", "*.toml", "*.cfg", "*.ini", "*.sh", "*.ipynb")
    (answer,) = users_git(place.root).ask(("grep", "-n", "-I", "-E", "--no-color", _IN_CODE, "--", *kinds))
    lines = answer.output.decode("utf-8", "replace").splitlines()
    found = [":".join(line.split(":", 2)[:2]) for line in lines]
    if found:
        yield warning(
            f"A relative address of a store is set at {listed(found)}.",
            "Where MLflow gets it, it is taken from the working directory: in a queued experiment the runs are lost "
            "with the temporary workspace.",
            "Leave it out: Dovetail then uses the project's mlflow.db everywhere, or MLFLOW_TRACKING_URI.",
        )


def _server(uri: str, shown: str, origin: str) -> Iterator[Finding]:
    begun = time.monotonic()
    if not store.is_reachable(uri, ANSWER_SECONDS):
        yield _silent(shown, origin, time.monotonic() - begun)
        return
    version, told_time = _ask_server(uri)
    here = metadata.version("mlflow-skinny" if find_spec("mlflow") is None else "mlflow")
    if version and version.split(".")[0] != here.split(".")[0]:
        yield warning(
            f"The server is MLflow {version}, and here is {here}.",
            "Across major versions not every request is understood.",
            f'Install the server\'s: pip install "mlflow=={version}"',
        )
    skew = time.time() - told_time if told_time else 0.0
    if abs(skew) > SKEW_SECONDS:
        yield warning(
            f"This machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's.",
            "Runs of several machines stand in a false order.",
            "Have the clock set from the network (NTP).",
        )
    yield ok(f"{shown} answers{f', MLflow {version}' if version else ''} (from {origin}).")


def _ask_server(uri: str) -> tuple[str, float]:
    """The server's MLflow version and its time; empty and 0 where it does not tell."""
    parts = urlsplit(uri)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/version"
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer:
            text, date = answer.read(100).decode("ascii", "replace"), answer.headers.get("Date", "")
    except (OSError, ValueError, urllib.error.HTTPError):
        return "", 0.0
    version = text if re.fullmatch(r"\d+(\.\w+)+", text) else ""
    try:
        return version, parsedate_to_datetime(date).timestamp()
    except ValueError:
        return version, 0.0


def _other(uri: str, shown: str, origin: str) -> Iterator[Finding]:
    scheme = urlsplit(uri).scheme
    driver = _DRIVERS.get(scheme)
    if driver and find_spec(driver) is None:
        yield problem(
            f"{shown} cannot be used from here.",
            f"The package {driver} is not installed, and MLflow needs it for this kind of database.",
            f"Run: pip install {'psycopg2-binary' if driver == 'psycopg2' else driver}",
        )
    begun = time.monotonic()
    if not store.is_reachable(uri, ANSWER_SECONDS):
        yield _silent(shown, origin, time.monotonic() - begun)
    elif driver:
        yield ok(f"{shown} answers (from {origin}).")
    else:
        yield note(f"The store is {shown} (from {origin}).", "Of its kind, Dovetail cannot tell whether it answers.")


def _silent(shown: str, origin: str, seconds: float) -> Finding:
    refused = "There was no connection, or an error for an answer."
    waited = f"It was asked for {seconds:.1f} s." if seconds >= ANSWER_SECONDS else refused
    return problem(
        f"The tracking store does not answer: {shown} (from {origin}).",
        f"{waited} Training goes on all the same: its runs are kept here until it answers.",
        "Start it, or correct the address. Then run: dovetail sync",
    )
