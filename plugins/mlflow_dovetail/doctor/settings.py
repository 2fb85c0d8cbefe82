"""What the environment and the project's `.env` tell these tools, where it changes what a user expects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlflow_dovetail import names
from mlflow_dovetail.doctor.dvc_project import nearest_folder
from mlflow_dovetail.doctor.records import Finding, Place, Told, listed, note, ok, problem, warning
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.run_folder import root_for

if TYPE_CHECKING:
    from dotenv.parser import Original

_OFF = ("", "0", "false", "no", "off")
_SWITCHES = {
    names.ENV_DISABLED: "Dovetail records nothing by itself: no tags, no callback in a Trainer.",
    names.ENV_OFFLINE: "Runs stay here until `dovetail sync`.",
    names.ENV_STRICT: "What cannot be recorded stops the training.",
}


def check(place: Place) -> Told:
    """Switches, the place of `.dovetail/`, and `.env`."""
    found = [*_switches(), *_place_of_runs(place), *_env_file(place)]
    yield from found
    if not any(one.level in ("warning", "problem") for one in found):
        env_file = ".env is read" if (place.root / ".env").exists() else "There is no .env"
        yield ok(f"{env_file}; runs are written to {root_for(place.root) / names.DOVETAIL_FOLDER}")


def _switches() -> Iterator[Finding]:
    for name, meaning in _SWITCHES.items():
        if os.environ.get(name, "").strip().lower() not in _OFF:
            yield note(f"{name} is set.", meaning, f"If you do not want that: unset {name}")


def _place_of_runs(place: Place) -> Iterator[Finding]:
    folder = root_for(place.root) / names.DOVETAIL_FOLDER
    there = nearest_folder(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield problem(
            f"Runs cannot be written to {folder}.",
            f"{there} is {'not writable for you' if there.is_dir() else 'no folder'}. They go to the system's "
            "temporary files, which are removed now and then.",
            f"Make it writable, or set {names.ENV_DIR} to a folder with room.",
        )


def _env_file(place: Place) -> Iterator[Finding]:
    path = place.root / ".env"
    if not path.exists():
        return
    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8") as file:
            lines = list(parse_stream(file))
    except (OSError, UnicodeDecodeError) as error:
        yield problem(".env cannot be read.", f"{error}.", "Make it a readable text file in UTF-8.")
        return
    # By its number alone: what stands there without a name may be a pasted password.
    bare = [str(_number(one.original)) for one in lines if one.error or (one.key and one.value is None)]
    if bare:
        yield warning(
            f"{'Line' if len(bare) == 1 else 'Lines'} {listed(bare)} of .env {'gives' if len(bare) == 1 else 'give'} "
            "no name a value.",
            "A line is NAME=value.",
            "Correct it; .env.example shows how.",
        )
    told = {one.key: one.value for one in lines}
    given, here = told.get(names.ENV_TRACKING_URI), os.environ.get(names.ENV_TRACKING_URI)
    if given and here and given != here:
        yield note(
            f"{names.ENV_TRACKING_URI} of .env is not used.",
            f"It says {strip_url_credentials(given)}; the shell says {strip_url_credentials(here)}, and goes first.",
            f"If .env is right: unset {names.ENV_TRACKING_URI}",
        )


def _number(original: Original) -> int:
    """Of the line where a statement begins, behind the empty ones that dotenv takes with it."""
    text = original.string
    return original.line + text[: len(text) - len(text.lstrip())].count("\n")
