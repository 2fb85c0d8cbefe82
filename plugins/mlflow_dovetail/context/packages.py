"""The installed packages of a run as a requirements file, so that they can be installed again."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mlflow_dovetail import redact
from mlflow_dovetail.context.machine import read_machine

if TYPE_CHECKING:
    from importlib import metadata

_HEADER = """\
# {python} on {system}
# To have these packages again: pip install --no-deps -r requirements.txt
"""
# What `pip freeze` leaves out.
_OLDER_TOOLS = {"setuptools", "wheel", "distribute"} if sys.version_info < (3, 12) else set()
_TOOLS = {"pip", "python", "wsgiref", "argparse"} | _OLDER_TOOLS
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(
    r"v?(?:\d+!)?\d+(?:\.\d+)*(?:[-_.]?(?:a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?(?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?"
    r"(?:[-_.]?dev[-_.]?\d*)?(?P<local>\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?",
    re.IGNORECASE,
)
_HASH = re.compile(r"\w+=[0-9a-f]+")


def read_packages(path: Iterable[str] | None = None) -> str:
    """The installed distributions as a requirements file that pip can install.

    A distribution that several folders have is the one that `import` would find. A package from a repository is
    pinned to its commit, without credentials; one from a folder or file of this machine cannot be had elsewhere and
    stands as a comment, and so does the local part of a version (`+cu128`), which the index does not know.

    Args:
        path: Folders to look in instead of `sys.path`.

    Source:
        PEP 440 (versions), PEP 503 (equal names), PEP 610 (`direct_url.json`); pip, "Requirements File Format".
    """
    from importlib import metadata  # 20 ms, which the tags of a run's creation have no use for

    found = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    lines: dict[str, str] = {}
    for distribution in found:
        name, version = _read_name_and_version(distribution)
        key = re.sub(r"[-_.]+", "-", name).lower()
        if _NAME.fullmatch(name) and key not in _TOOLS and key not in lines:
            lines[key] = _write_requirement(name, version, distribution)
    machine = read_machine()
    return _HEADER.format(python=machine.python, system=machine.system) + "".join(
        f"{lines[key]}\n" for key in sorted(lines)
    )


def _read_name_and_version(distribution: metadata.Distribution) -> tuple[str, str]:
    # pip renames what it could not remove to "~name"; importlib.metadata lists it all the same.
    folder = getattr(distribution, "_path", None)
    if folder is not None and folder.name.startswith("~"):
        return "", ""
    text = next(filter(None, (_read_text(distribution, file) for file in ("METADATA", "PKG-INFO", ""))), "")
    # Parsing it all as a message, as `Distribution.metadata` does, takes 15 times as long.
    fields = dict(
        line.split(": ", 1) for line in text.partition("\n\n")[0].splitlines() if re.match("Name: |Version: ", line)
    )
    return fields.get("Name", "").strip(), fields.get("Version", "").strip()


def _write_requirement(name: str, version: str, distribution: metadata.Distribution) -> str:
    origin = _read_origin(distribution)
    url = str(origin.get("url", ""))
    if not origin or _read_text(distribution, "INSTALLER").strip() == "conda":
        # conda's builds name a folder of the machine that built them.
        return _write_pin(name, version, _find_source_folder(distribution))
    if url.startswith("file:") or "://" not in url:
        kind = "an editable install" if _part(origin, "dir_info").get("editable") else "installed"
        return f"# {name}=={version} is {kind} from {_one_line(unquote(url.removeprefix('file://')))}"
    return f"{name} @ {_write_url(url, origin)}"


def _write_pin(name: str, version: str, source_folder: Path | None) -> str:
    if source_folder:
        return f"# {name}=={version} is used from its sources in {_one_line(str(source_folder))}"
    known = _VERSION.fullmatch(version)
    if not known:
        return f"{name}==={version}" if version and not re.search(r"[\s;#]", version) else f"# {name} has no version"
    local = known["local"]
    return f"{name}=={version.removesuffix(local)}  # {version}" if local else f"{name}=={version}"


def _write_url(url: str, origin: Mapping[str, object]) -> str:
    vcs, archive = _part(origin, "vcs_info"), _part(origin, "archive_info")
    address = _one_line(redact.strip_url_credentials(url))
    fragments = [_find_hash(archive)]
    if vcs:
        address = f"{vcs.get('vcs')}+{address}@{vcs.get('commit_id') or vcs.get('requested_revision') or ''}".rstrip(
            "@"
        )
    if subdirectory := origin.get("subdirectory"):
        fragments.append(f"subdirectory={_one_line(str(subdirectory))}")
    fragment = "&".join(filter(None, fragments))
    return f"{address}#{fragment}" if fragment else address


def _find_hash(archive: Mapping[str, object]) -> str:
    hashes = (f"{name}={value}" for name, value in _part(archive, "hashes").items())
    return next((text for text in (str(archive.get("hash", "")), *hashes) if _HASH.fullmatch(text)), "")


def _read_origin(distribution: metadata.Distribution) -> Mapping[str, object]:
    try:
        origin = json.loads(_read_text(distribution, "direct_url.json") or "{}")
    except ValueError:
        return {}
    return origin if isinstance(origin, dict) else {}


def _read_text(distribution: metadata.Distribution, file: str) -> str:
    try:
        return distribution.read_text(file) or ""
    except (OSError, ValueError):  # not UTF-8
        return ""


def _part(origin: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = origin.get(name)
    return part if isinstance(part, dict) else {}


def _find_source_folder(distribution: metadata.Distribution) -> Path | None:
    """A checkout that is on `sys.path`, with the `.egg-info` that a build left in it."""
    if not str(getattr(distribution, "_path", "")).endswith(".egg-info"):
        return None
    folder = Path(str(distribution.locate_file("")))
    return next(
        (at for at in (folder, folder.parent) for name in ("pyproject.toml", "setup.py") if (at / name).is_file()), None
    )


def _one_line(text: str) -> str:
    return re.sub(r"\s", "%20", text)
