"""DVC: its settings and its cache. They are read without a `Repo`, which would make folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlflow_dovetail.doctor.records import Finding, Place, Told, note, ok, problem

# DVC's own order, where nothing is set.
_LINKS = ["reflink", "copy"]


def check(place: Place) -> Told:
    """Nothing but a note in a folder that is no DVC project."""
    if not (place.root / ".dvc").is_dir():
        yield note("This is no DVC project.", "Data and models have no versions.", "If they should: dvc init")
        return
    if find_spec("dvc") is None:
        yield problem("DVC is not installed here.", "The project needs it.", "Run: pip install -r requirements.txt")
        return
    settings = read_settings(place.root)
    if isinstance(settings, Finding):
        yield settings
        return
    cache = cache_folder(place.root, settings)
    found = [*_cache(cache), *_links(place.root, cache, _link_types(settings))]
    yield from found
    if not found:
        yield ok(f"DVC's cache is {_shown(cache, place.root)}, files are linked by {_told(_link_types(settings))}.")


def read_settings(root: Path) -> dict[str, Any] | Finding:
    """DVC's settings of all levels, or what is wrong with them."""
    from dvc.config import Config, ConfigError

    try:
        return dict(Config(str(root / ".dvc")))
    except ConfigError as error:
        why = " ".join(str(error).split())
        return problem("DVC's settings cannot be read.", f"{why}.", "Mend .dvc/config, or .dvc/config.local.")


def cache_folder(root: Path, settings: dict[str, Any]) -> Path:
    """Where DVC keeps content; relative settings are already absolute."""
    given = settings.get("cache", {}).get("dir")
    return Path(given) if given else root / ".dvc" / "cache"


def nearest_folder(path: Path) -> Path:
    """The path, or the first folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _cache(cache: Path) -> Iterator[Finding]:
    there = nearest_folder(cache)
    if not there.is_dir():
        yield problem(
            f"DVC's cache {cache} cannot be.", f"{there} is no folder.", "Move it away, or set cache.dir: dvc cache dir"
        )
    elif not os.access(there, os.W_OK | os.X_OK):
        yield problem(
            f"DVC's cache {cache} cannot be written.",
            f"{there} is not writable for you: `dvc repro`, `dvc add` and `dvc pull` fail.",
            f"Have its owner give you the right, or set one of your own: dvc cache dir --local {Path.home()}/dvc-cache",
        )


def _link_types(settings: dict[str, Any]) -> list[str]:
    return list(settings.get("cache", {}).get("type") or _LINKS)


def _links(root: Path, cache: Path, types: list[str]) -> Iterator[Finding]:
    is_elsewhere = nearest_folder(cache).stat().st_dev != root.stat().st_dev
    if not is_elsewhere or "copy" in types or "symlink" in types:
        return
    yield problem(
        f"DVC cannot link files by {_told(types)}.",
        f"The cache {cache} and the project are on different file systems.",
        "Run: dvc config cache.type symlink,copy; or move the cache beside the project.",
    )


def _told(types: list[str]) -> str:
    return f"{', '.join(types[:-1])} or {types[-1]}" if len(types) > 1 else types[0]


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
