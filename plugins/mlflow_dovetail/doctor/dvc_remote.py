"""DVC's default remote: set, and there. A network is asked for a few seconds only."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

from mlflow_dovetail.doctor.dvc_project import nearest_folder, read_settings
from mlflow_dovetail.doctor.records import Finding, Place, Step, Told, ok, problem, warning
from mlflow_dovetail.errors import causes
from mlflow_dovetail.redact import mask_text, strip_url_credentials

NETWORK_SECONDS = 5.0
_REFUSED = (401, 403)
# As DVC says which package it needs for a kind of remote.
_PACKAGE = re.compile(r"requires '(dvc-\w+)' to be installed")


def check(place: Place) -> Told:
    """Nothing where another check says that DVC is not there or not set up."""
    try:
        settings = read_settings(place.root) if (place.root / ".dvc").is_dir() else None
    except ImportError:
        return
    if not isinstance(settings, dict):
        return
    name = settings.get("core", {}).get("remote")
    if name not in settings.get("remote", {}):
        yield _unset(name, sorted(settings.get("remote", {})))
        return
    yield Step(f"looking at the DVC remote {name}")
    yield _look(name, settings)


def _unset(name: str | None, known: list[str]) -> Finding:
    if name:
        return problem(
            f"DVC's default remote {name!r} is not defined.",
            f"Known are: {', '.join(known) or 'none'}. `dvc push` and `dvc pull` stop.",
            f"Run: dvc remote add {name} URL",
        )
    return warning(
        "DVC has no default remote.",
        "The data are on this machine only: nobody can pull them, and a lost disk loses them.",
        f"Run: dvc remote default {known[0]}" if known else "Run: dvc remote add --default storage URL",
    )


def _look(name: str, settings: dict[str, Any]) -> Finding:
    from dvc.fs import get_cloud_fs

    try:
        make, config, path = get_cloud_fs(settings, name=name)
    except Exception as error:  # noqa: BLE001 - each kind of remote has errors of its own
        missing = _PACKAGE.search(str(error))
        remedy = f"Run: pip install {missing[1]}" if missing else "Mend .dvc/config: dvc remote list; dvc remote modify"
        return problem(f"DVC's remote {name!r} cannot be used.", _first_line(error), remedy)
    if make.protocol == "local":
        return _folder(name, Path(path))
    return _network(name, strip_url_credentials(str(settings["remote"][name]["url"])), make, config, path)


def _folder(name: str, path: Path) -> Finding:
    if path.is_dir():
        if os.access(path, os.W_OK | os.X_OK):
            return ok(f"DVC's default remote {name!r} is there: {path}")
        return problem(
            f"DVC's remote {name!r} cannot be written.",
            f"{path} is not writable for you.",
            "Ask its owner for the right.",
        )
    there = nearest_folder(path)
    if there == path.parent and there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return warning(
            f"DVC's remote {name!r} is not there: {path}",
            "Nothing has been pushed yet, or the folder is gone; the data are in this machine's cache only.",
            "Run: dvc push",
        )
    has = "is no folder" if there.is_file() else "cannot be written" if there == path.parent else "has no more of it"
    return problem(
        f"DVC's remote {name!r} is gone: {path}",
        f"{there} is there of this path, and {has}. A `dvc push` would make it anew, perhaps on another disk.",
        f"Mount or restore it; or choose another: dvc remote modify {name} url PATH; then dvc push",
    )


def _network(name: str, url: str, make: Any, config: dict[str, Any], path: str) -> Finding:  # noqa: ANN401 - DVC's
    answer: list[Exception | None] = []

    def ask() -> None:
        try:
            make(**config).info(path)
            answer.append(None)
        except Exception as error:  # noqa: BLE001 - each kind of remote has errors of its own
            answer.append(error)

    # In a thread: no remote's own time limits bound all that it does.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NETWORK_SECONDS)
    remedy = f"Check the network, the address and your credentials, and try: dvc status --cloud --remote {name}"
    if not answer:
        return problem(
            f"DVC's remote {name!r} does not answer: {url}", f"It was given {NETWORK_SECONDS:.0f} s.", remedy
        )
    if failure := _failure(answer[0]):
        return problem(f"DVC's remote {name!r} cannot be reached: {url}", _first_line(failure), remedy)
    return ok(f"DVC's default remote {name!r} answers: {url}")


def _failure(error: Exception | None) -> BaseException | None:
    """What keeps the remote from answering. That nothing is there is an answer: object stores have no empty folders.

    A web server that refuses, or is not there at all, is "file not found" too, with the true cause behind it.
    """
    if not isinstance(error, FileNotFoundError):
        return error
    behind = [one for one in causes(error) if not isinstance(one, FileNotFoundError)]
    return next((one for one in behind if isinstance(one, OSError) or getattr(one, "status", 0) in _REFUSED), None)


def _first_line(error: BaseException) -> str:
    return mask_text((str(error).splitlines() or [type(error).__name__])[0][:300]).rstrip(".") + "."
