"""Which paths of a repository are written by DVC: the outs of `dvc.yaml`, `dvc.lock` and `*.dvc` files.

DVC itself is not asked: it may not be installed, and its import takes seconds. The files are plain YAML, and MLflow
brings PyYAML. Left undone: an out named by a `${...}` template counts only once `dvc.lock` has its real name, and a
`wdir` that is a template counts as none.
"""

from __future__ import annotations

import importlib
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK_FILE = "dvc.lock"
PIPELINE_FILE = "dvc.yaml"
_OUT_KINDS = ("outs", "metrics", "plots")


@dataclass(frozen=True)
class DvcOuts:
    """Paths that DVC writes, relative to the repository's root, with forward slashes.

    Args:
        paths: Files and folders; what lies in a folder belongs to it.
        cause: Why some may be missing; None when all could be read.
        uncached: Those under `outs` that DVC does not cache, so that only git can keep them: a composed `params.yaml`.
    """

    paths: frozenset[str]
    cause: str | None = None
    uncached: frozenset[str] = frozenset()

    def own(self, path: str) -> bool:
        """Whether DVC writes this path, or this folder as a whole."""
        path = path.rstrip("/")
        # DVC adds every cached out to the .gitignore beside it.
        if posixpath.basename(path) == LOCK_FILE or (self.paths and posixpath.basename(path) == ".gitignore"):
            return True
        return any(part in self.paths for part in _with_ancestors(path))

    def are_data(self, path: str, *, is_there: bool) -> bool:
        """Whether this path is data or a result, which DVC keeps; DVC removes all of a stage's outs before it runs."""
        parts = list(_with_ancestors(path))
        return any(part in self.paths for part in parts) and not (is_there and self.uncached.intersection(parts))

    def lie_in(self, folder: str) -> bool:
        """Whether an out lies somewhere in this folder."""
        return any(path.startswith(folder.rstrip("/") + "/") for path in self.paths)


def is_dvc_file(path: str) -> bool:
    """Whether outs are named in this file."""
    return posixpath.basename(path) in (PIPELINE_FILE, LOCK_FILE) or path.endswith(".dvc")


def read_dvc_outs(root: Path, dvc_files: Iterable[str], changed: Iterable[str], *, deadline: float) -> DvcOuts:
    """Read the outs that may explain a change.

    Args:
        root: The repository's root; `dvc_files` and `changed` are relative to it.
        changed: A `*.dvc` file is read only if one of these lies beside or below it: a project may have thousands.
        deadline: On `time.monotonic()`'s clock.
    """
    above = {folder for path in changed for folder in _with_ancestors(posixpath.dirname(path.rstrip("/")))} | {""}
    paths: set[str] = set()
    uncached: set[str] = set()
    for file in sorted(dvc_files):
        if file.endswith(".dvc") and posixpath.dirname(file) not in above:
            continue
        if time.monotonic() > deadline:
            return DvcOuts(frozenset(paths), "too many DVC files to read in time")
        try:
            for path, is_cached in _read_outs(root, file):
                paths.add(path)
                if not is_cached:
                    uncached.add(path)
        except ImportError:
            return DvcOuts(frozenset(paths), "PyYAML is missing, so the outs of DVC's stages are unknown")
        except (OSError, ValueError):
            continue  # a file that DVC cannot read either makes no outs
    return DvcOuts(frozenset(paths) - {""}, uncached=frozenset(uncached))


def _read_outs(root: Path, file: str) -> Iterator[tuple[str, bool]]:
    """Each out's path, and whether DVC, not git, keeps it."""
    folder = posixpath.dirname(file)
    document = _load(root / file)
    if file.endswith(".dvc"):
        found = _named(document.get("outs"), _text(document.get("wdir")))
    elif file.endswith(LOCK_FILE):
        found = _outs_of_stages(document.get("stages", document), _working_folders(root, folder))
    else:
        found = _outs_of_stages(document.get("stages"), _own_working_folder)
    inside = ((_inside(posixpath.join(folder, out)), is_cached) for out, is_cached in found)
    return ((path, is_cached) for path, is_cached in inside if path)


def _outs_of_stages(stages: object, working_folder: Callable[[str, dict[str, Any]], str]) -> Iterator[tuple[str, bool]]:
    for name, stage in _mapping(stages).items():
        body = _mapping(_mapping(stage).get("do", stage))  # a `foreach` stage has its body under `do`
        for kind in _OUT_KINDS:
            for path, is_cached in _named(body.get(kind), working_folder(name, body)):
                yield path, is_cached or kind != "outs"


def _own_working_folder(_name: str, stage: dict[str, Any]) -> str:
    return _text(stage.get("wdir"))


def _working_folders(root: Path, folder: str) -> Callable[[str, dict[str, Any]], str]:
    """dvc.lock holds paths relative to a stage's `wdir`, and only dvc.yaml says which folder that is."""
    pipeline = root / folder / PIPELINE_FILE
    stages = _mapping(_load(pipeline).get("stages")) if pipeline.exists() else {}

    def find(name: str, _stage: dict[str, Any]) -> str:
        stage = _mapping(stages.get(name.partition("@")[0]))
        return _text(_mapping(stage.get("do", stage)).get("wdir"))

    return find


def _named(outs: object, working_folder: str) -> Iterator[tuple[str, bool]]:
    """Names in any of DVC's three spellings, `- a`, `- a: {cache: false}`, `- path: a`, and whether they are cached."""
    for out in outs if isinstance(outs, list) else []:
        entry = _mapping(out)
        path = out if isinstance(out, str) else entry.get("path") or next(iter(entry), "")
        if isinstance(path, str) and "${" not in path:
            settings = entry if "path" in entry else _mapping(entry.get(path))
            yield posixpath.join(working_folder, path), settings.get("cache") != "false"


def _inside(path: str) -> str:
    """The normal form of a path in the repository; empty for what lies outside."""
    path = posixpath.normpath(path)
    return "" if path.startswith(("../", "/")) or path == ".." or ":/" in path else path


def _with_ancestors(path: str) -> Iterator[str]:
    while path:
        yield path
        path = posixpath.dirname(path)


def _load(file: Path) -> dict[str, Any]:
    # Only now: a clean repository needs no YAML. BaseLoader keeps every scalar a string, as a file name has to be.
    yaml = importlib.import_module("yaml")
    try:
        return _mapping(yaml.load(file.read_bytes(), Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader)))
    except yaml.YAMLError as error:
        raise ValueError(f"{file.name} is not YAML") from error


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) and "${" not in value else ""
